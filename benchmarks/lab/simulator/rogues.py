"""Peers that mean harm: they shake hands as anybody may, and then send what no honest node would.

Each visit draws one kind of malice and a fresh key, for keys cost nothing. A second kind of rogue has a registered key:
it mines as others do and signs a second content for its tickets. They see what any peer can see, and blocks that are
public.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from random import Random

from benchmarks.lab.simulator.machine import PORT, Machine, World
from benchmarks.lab.simulator.malice import COSTLY_MALICE, MALICE, VISIT_S
from benchmarks.lab.simulator.visits import Visit
from benchmarks.lab.simulator.wires import Host, VirtualWire
from chain.block import Block
from chain.errors import StorageError
from chain.header import Header, compute_header_hash, compute_signing_hash
from chain.signature import SigningKey
from node.importer import HeadChange
from node.validator import Validator
from p2p.connection import Connection, Established
from p2p.errors import RemoteProtocolError
from p2p.handshake import NetworkId, Role, make_session

TIMEOUT_S = 5.0


async def visit_nodes(
    world: World, host: Host, machines: Sequence[Machine], kinds: Sequence[str], random: Random
) -> None:
    """Visit one node after another until cancelled, each time with one of these kinds of malice."""
    while True:
        await asyncio.sleep(random.expovariate(1 / TIMEOUT_S))
        machine = random.choice(machines)
        with suppress(OSError, RemoteProtocolError):
            wire = await world.network.dial(host, machine.host.address, PORT, TIMEOUT_S)
            try:
                async with asyncio.timeout(VISIT_S):
                    connection = await _shake_hands(world, wire, random)
                    await _harm(world, Visit(wire, connection, random, machine, machines), random.choice(kinds))
            finally:
                await wire.close()


async def _harm(world: World, visit: Visit, name: str) -> None:
    world.journal.note("malice", name)
    await (MALICE | COSTLY_MALICE)[name](visit)
    while await visit.wire.receive() is not None:
        pass


async def _shake_hands(world: World, wire: VirtualWire, random: Random) -> Connection:
    setting, key = world.setting, SigningKey(random.randbytes(32))
    network_id = NetworkId(setting.context.chain_id, setting.genesis_hash)
    connection = Connection(
        make_session(Role.INITIATOR, key, network_id, wire.certificate_hash, random.randbytes(32), 0)
    )
    while True:
        for frame in connection.take_outgoing():
            await wire.send(frame)
        if isinstance(connection.next_event(), Established):
            return connection
        data = await wire.receive()
        if data is None:
            raise ConnectionError("refused")
        connection.receive_data(data)


def sign_twice(machine: Machine, random: Random) -> None:
    """Let the node that has just booted publish a second content for some of its tickets, and report nobody."""
    validator = machine.validator
    assert validator is not None
    validator.parts.importer.admission.equivocation_listeners.clear()

    def on_head(change: HeadChange) -> None:
        _, block, _ = change.connected[-1]
        if block.header.foliage.miner == machine.key.public_key and random.random() < 0.5:
            machine.spawn(_publish_again(machine, validator, block, random))

    validator.parts.importer.listeners.append(on_head)


async def _publish_again(machine: Machine, validator: Validator, block: Block, random: Random) -> None:
    foliage = replace(block.header.foliage, timestamp_ms=block.header.foliage.timestamp_ms + random.randrange(1, 1_000))
    chain_id = machine.world.setting.context.chain_id
    header = Header(block.header.trunk, foliage, machine.key.sign(compute_signing_hash(chain_id, foliage)))
    try:
        await validator.parts.importer.import_block(replace(block, header=header))
    except StorageError:
        return
    machine.world.journal.note("equivocation", machine.name, foliage.height)
    validator.network.announce_block(compute_header_hash(header))
