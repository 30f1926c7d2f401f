"""Later verification of a state that was taken from peers: every block below it, replayed from genesis.

Blocks and their data come from peers, are imported into a folder beside the node's own chain, and must lead to the very
block whose state was taken. What was cut off goes on where it was. Nothing of the node's own chain is changed.
"""

import asyncio
import shutil
from collections.abc import Sequence

from chain.block import BLOCK_BYTES_MAX, Block, get_sidecar_hashes
from chain.codec import decode
from chain.errors import DecodeError, MathesisError
from chain.header import compute_header_hash
from chain.primitives import Hash
from chain.transaction import Sidecar, compute_sidecar_hash
from consensus.header_chain import ChainEntry
from ml.backends import get_backend
from node.admission import Admission
from node.bootstrap.client import Client, PeerLost
from node.bootstrap.run import Listener, Origin, connect_all
from node.chain import SIDECAR_ENCODED_BYTES_MAX
from node.data_directory import DataDirectory
from node.database.opening import OpenChain, open_chain
from node.importer import Importer
from node.learning import Learning
from node.outcomes import ImportResult
from node.surroundings import Surroundings
from node.validator import make_ticket_verifier
from p2p.messages import BlockMessage, GetData, Item, ItemKind, SidecarMessage

FOLDER = "replay"


class ReplayRefused(MathesisError):
    """A block below the state that was taken does not hold: the state is not what the rules lead to."""


class ReplayStuck(MathesisError):
    """No peer is left that has the next block."""


async def replay(own: OpenChain, directory: DataDirectory, origin: Origin, listener: Listener) -> int:
    """Replay every block up to the one that `own` starts from; return its height.

    Raises BootstrapFailed, ReplayRefused, ReplayStuck, StorageError, DecodeError.
    """
    goal = own.chain.base
    scratch = DataDirectory(directory.root / FOLDER)
    scratch.create()
    if not scratch.genesis_path.exists():
        scratch.write_genesis(own.chain.header_context.genesis)
    clients = await connect_all(own.chain.header_context, own.chain.headers.genesis.header, origin, listener)
    try:
        with open_chain(scratch) as opened:
            await _import_all(opened, goal, (clients, origin.surroundings), listener)
    finally:
        await asyncio.gather(*(client.close() for client in clients))
        await origin.surroundings.dialler.stop()
    shutil.rmtree(scratch.root)
    return goal.height


async def _import_all(
    opened: OpenChain, goal: ChainEntry, sources: tuple[Sequence[Client], Surroundings], listener: Listener
) -> None:
    clients, surroundings = sources
    chain = opened.chain
    verify = make_ticket_verifier(chain.header_context, opened.task)
    learning = Learning(opened.task, get_backend("cpu"), chain.blobs, chain.parameters.places_drawn)
    admission = Admission(chain, verify, surroundings.get_time_ms, surroundings.spread)
    importer = Importer(chain, learning, verify, admission)
    importer.start()
    try:
        for height in range(chain.head.height + 1, goal.height + 1):
            await _import_block(opened, importer, goal.get_ancestor(height).hash, clients)
            listener.report("blocks", height, goal.height)
    finally:
        await importer.stop()
    assert chain.head.hash == goal.hash, "headers of one branch were imported"


async def _import_block(opened: OpenChain, importer: Importer, name: Hash, clients: Sequence[Client]) -> None:
    """Import a block from the first peer that has it right."""
    for client in (client for client in clients if client.is_good):
        try:
            found = await _fetch_block(client, name)
        except (PeerLost, DecodeError) as error:
            client.refuse(str(error))
            continue
        if found is None:
            continue
        outcome = await importer.import_block(*found)
        if outcome.result is ImportResult.EXTENDED:
            return
        reason = f"block {name.hex()} is {outcome.result.name.lower()}: {outcome.rule} {outcome.message}"
        # What the hash does not bind, an opening for instance, may be this peer's own doing.
        if opened.chain.marks.is_poisoned(name):
            raise ReplayRefused(reason)
        client.refuse(reason)
    raise ReplayStuck(f"no peer has block {name.hex()} with its data")


async def _fetch_block(client: Client, name: Hash) -> tuple[Block, tuple[Sidecar, ...]] | None:
    answer = await client.ask(GetData((Item(ItemKind.BLOCK, name),)), BlockMessage)
    if answer is None:
        return None
    block = decode(Block, answer.block, BLOCK_BYTES_MAX)
    if compute_header_hash(block.header) != name:
        raise PeerLost(f"{client.place} sent another block than {name.hex()}")
    return block, tuple([await _fetch_sidecar(client, each) for each in get_sidecar_hashes(block)])


async def _fetch_sidecar(client: Client, name: Hash) -> Sidecar:
    answer = await client.ask(GetData((Item(ItemKind.SIDECAR, name),)), SidecarMessage)
    if answer is None:
        raise PeerLost(f"{client.place} does not have the block data {name.hex()}")
    sidecar = decode(Sidecar, answer.sidecar, SIDECAR_ENCODED_BYTES_MAX)
    if compute_sidecar_hash(sidecar) != name:
        raise PeerLost(f"{client.place} sent other block data than {name.hex()}")
    return sidecar
