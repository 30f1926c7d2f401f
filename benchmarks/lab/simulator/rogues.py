"""Peers that mean harm: they shake hands as anybody may, and then send what no honest node would.

Each visit draws one kind of malice and a fresh key, for keys cost nothing. A second kind of rogue has a registered key:
it mines as others do and signs a second content for its tickets. They see what any peer can see, and blocks that are
public.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

from benchmarks.lab.simulator.machine import PORT, Machine, World
from benchmarks.lab.simulator.wires import Host, VirtualWire
from chain.block import Block
from chain.codec import encode
from chain.errors import StorageError
from chain.header import Header, compute_header_hash, compute_signing_hash
from chain.primitives import Hash, Signature
from chain.signature import SigningKey
from node.importer import HeadChange
from node.validator import Validator
from p2p.connection import Connection, Established
from p2p.errors import RemoteProtocolError
from p2p.handshake import NetworkId, Role, make_session
from p2p.messages import (
    FRAME_BYTES_MAX,
    BlockMessage,
    GetData,
    GetHeaders,
    Headers,
    Inventory,
    Item,
    ItemKind,
    Message,
    NotFound,
    Ping,
    Status,
    TransactionMessage,
)

VISIT_S = 20.0
TIMEOUT_S = 5.0
FLOOD = 200


@dataclass(frozen=True, slots=True)
class Visit:
    """A rogue's connection after the handshake."""

    wire: VirtualWire
    connection: Connection
    random: Random
    blocks: tuple[Block, ...]

    async def tell(self, message: Message) -> None:
        """Send a message in a good frame."""
        await self.wire.send(self.connection.send(message))


async def visit_nodes(world: World, host: Host, machines: Sequence[Machine], random: Random) -> None:
    """Visit one node after another until cancelled."""
    while True:
        await asyncio.sleep(random.expovariate(1 / TIMEOUT_S))
        machine = random.choice(machines)
        try:
            wire = await world.network.dial(host, machine.host.address, PORT, TIMEOUT_S)
            await _visit(world, wire, random, _get_blocks(machine))
        except (OSError, RemoteProtocolError):
            continue


async def _visit(world: World, wire: VirtualWire, random: Random, blocks: tuple[Block, ...]) -> None:
    try:
        async with asyncio.timeout(VISIT_S):
            connection = await _shake_hands(world, wire, random)
            name = random.choice(sorted(MALICE))
            world.journal.note("malice", name)
            await MALICE[name](Visit(wire, connection, random, blocks))
            while await wire.receive() is not None:
                pass
    finally:
        await wire.close()


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


def _get_blocks(machine: Machine) -> tuple[Block, ...]:
    if machine.validator is None:
        return ()
    chain = machine.validator.parts.chain
    heights = range(max(1, chain.head.height - 3), chain.head.height + 1)
    return tuple(chain.get_existing_block(chain.head.get_ancestor(height).hash) for height in heights)


async def _send_garbage(visit: Visit) -> None:
    await visit.wire.send(visit.random.randbytes(visit.random.randrange(1, 2_000)))


async def _send_a_bomb(visit: Visit) -> None:
    # Arrays that announce four billion members, one in the other; and a frame over every limit.
    await visit.wire.send(b"\xdd\xff\xff\xff\xff" * visit.random.randrange(1, 10_000))
    await visit.wire.send(bytes(FRAME_BYTES_MAX + 1))


async def _send_unasked(visit: Visit) -> None:
    for block in visit.blocks:
        await visit.tell(BlockMessage(encode(block)))
        await visit.tell(Headers((encode(block.header),)))
    await visit.tell(TransactionMessage(visit.random.randbytes(100)))


async def _offer_invalid_blocks(visit: Visit) -> None:
    forged = {}
    for block in visit.blocks:
        spoilt = _spoil(block, visit.random)
        forged[compute_header_hash(spoilt.header)] = spoilt
    await visit.tell(Inventory(tuple(Item(ItemKind.BLOCK, block_hash) for block_hash in forged)))
    while (data := await visit.wire.receive()) is not None:
        visit.connection.receive_data(data)
        message = visit.connection.next_event()
        for item in message.items if isinstance(message, GetData) else ():
            if item.hash in forged:
                await visit.tell(BlockMessage(encode(forged[item.hash])))


async def _claim_work(visit: Visit) -> None:
    await visit.tell(Status(1 << 40, 1 << 250))
    while (data := await visit.wire.receive()) is not None:
        visit.connection.receive_data(data)
        message = visit.connection.next_event()
        if isinstance(message, GetHeaders) and visit.random.random() < 0.5:
            await visit.tell(Headers(tuple(encode(_spoil(block, visit.random).header) for block in visit.blocks)))


async def _promise_and_stall(visit: Visit) -> None:
    for _ in range(FLOOD // 10):
        items = tuple(Item(visit.random.randrange(3), Hash(visit.random.randbytes(32))) for _ in range(FLOOD))
        await visit.tell(Inventory(items))


async def _ask_for_much(visit: Visit) -> None:
    hashes = [compute_header_hash(block.header) for block in visit.blocks] or [Hash(bytes(32))]
    for _ in range(FLOOD):
        await visit.tell(GetData(tuple(Item(ItemKind.BLOCK, visit.random.choice(hashes)) for _ in range(4))))
    await asyncio.sleep(VISIT_S)


async def _chatter(visit: Visit) -> None:
    for number in range(FLOOD):
        await visit.tell(Ping(number))
        await visit.tell(NotFound((Item(ItemKind.BLOCK, Hash(visit.random.randbytes(32))),)))


MALICE: dict[str, Callable[[Visit], Awaitable[None]]] = {
    "garbage": _send_garbage,
    "bomb": _send_a_bomb,
    "unasked content": _send_unasked,
    "invalid blocks": _offer_invalid_blocks,
    "claims of work": _claim_work,
    "stalling": _promise_and_stall,
    "asking for much": _ask_for_much,
    "chatter": _chatter,
}


def _spoil(block: Block, random: Random) -> Block:
    """Return a block that breaks a rule: another root, another time, a signature of nobody, or no opening."""
    header, kind = block.header, random.randrange(4)
    if kind == 0:
        foliage = replace(header.foliage, state_root=Hash(random.randbytes(32)))
        return replace(block, header=replace(header, foliage=foliage))
    if kind == 1:
        foliage = replace(header.foliage, timestamp_ms=header.foliage.timestamp_ms + random.randrange(1, 1 << 40))
        return replace(block, header=replace(header, foliage=foliage))
    if kind == 2:
        return replace(block, header=replace(header, signature=Signature(random.randbytes(64))))
    return replace(block, opening=replace(block.opening, strips_a=()))


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
