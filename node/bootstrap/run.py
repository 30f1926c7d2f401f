"""Bootstrap of an empty data directory: headers, then the state some blocks back, then what a node needs to go on.

What is trusted is work: the header whose state is taken lies under the heaviest chain that any peer shows, all headers
checked and some tickets of every page opened. Blocks below it are not replayed; the node keeps from where its state
came, and `mathesis db` says so. Until the end there is no head on disk, so nothing starts on a half-done state.
"""

import asyncio
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chain.errors import MathesisError
from chain.hashing import tagged_hash
from chain.header import Header, compute_header_hash
from chain.ledger.context import make_context as make_ledger_context
from chain.ledger.genesis_state import make_genesis_state
from chain.primitives import Hash
from chain.signature import SigningKey
from chain.state.view import StateView
from chain.storage.blob_store import BlobStore
from chain.storage.leveldb import LevelDb
from chain.storage.snapshot_import import SnapshotImport, get_import_name
from consensus.header_chain import ChainEntry, make_genesis_header
from consensus.header_rules import HeaderContext
from node.bootstrap.client import Client, connect
from node.bootstrap.headers import HeaderFetch
from node.bootstrap.state import StateFetch, StateUnavailable, fetch_blob
from node.data_directory import DataDirectory
from node.database.blob_names import compute_blob_names, list_programs, list_tasks
from node.database.exporting import get_needed_blobs, list_headers
from node.learning import Task
from node.surroundings import Surroundings
from node.validator import make_ticket_verifier
from p2p.dialling import Endpoint
from p2p.handshake import NetworkId

DEPTH_BLOCKS = 32
"""Blocks above the state that is taken: a fork as deep as that is not expected."""

PERIOD_BLOCKS = 64
"""States are taken at multiples of this, so that a bootstrap that is started again finds the same one."""

Report = Callable[[str, int, int], None]
"""Hears what is being fetched, how much of it is here, and how much there is."""


class BootstrapFailed(MathesisError):
    """There is nobody to start from, or nothing yet; starting again later, or with a full sync, may help."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Whom to ask, as whom, and with what."""

    endpoints: tuple[Endpoint, ...]
    key: SigningKey
    surroundings: Surroundings


@dataclass(frozen=True, slots=True)
class Listener:
    """Who hears how it goes: `report` of progress, `warn` of peers that are left out."""

    report: Report
    warn: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Goal:
    """Where a state goes, and whose it is: that after the block `pivot`."""

    directory: DataDirectory
    context: HeaderContext
    task: Task
    pivot: ChainEntry

    @property
    def name(self) -> Hash:
        """What the import is called on disk."""
        return tagged_hash("snapshot", self.context.chain_id, self.pivot.hash)


async def bootstrap(
    directory: DataDirectory, context: HeaderContext, task: Task, origin: Origin, listener: Listener
) -> int:
    """Fill an empty directory that holds a genesis record; return the height of its head.

    Raises BootstrapFailed, StateUnavailable, StorageError.
    """
    genesis = make_genesis_header(context.genesis, make_genesis_state(context.genesis)[0])
    clients = await connect_all(context, genesis, origin, listener)
    try:
        surroundings = origin.surroundings
        verify, spread = make_ticket_verifier(context, task), surroundings.spread
        headers = HeaderFetch(context, genesis, verify, spread, surroundings.get_time_ms)
        secret = Hash(surroundings.get_random_bytes(32))
        await headers.fetch(clients, secret, lambda done, total: listener.report("headers", done, total))
        height = max(0, headers.best.height - DEPTH_BLOCKS) // PERIOD_BLOCKS * PERIOD_BLOCKS
        if height == 0:
            raise BootstrapFailed(f"the chain has {headers.best.height} blocks: replay them, which is quick")
        await _take_state(_Goal(directory, context, task, headers.best.get_ancestor(height)), clients, listener)
        return height
    finally:
        await asyncio.gather(*(client.close() for client in clients))
        await origin.surroundings.dialler.stop()


async def connect_all(
    context: HeaderContext, genesis: Header, origin: Origin, listener: Listener
) -> tuple[Client, ...]:
    """Return the peers of `origin` that answer; raises BootstrapFailed when none does."""
    network = NetworkId(context.chain_id, compute_header_hash(genesis))
    dials = [connect(each, origin.key, network, origin.surroundings, listener.warn) for each in origin.endpoints]
    clients = tuple(client for client in await asyncio.gather(*dials) if client is not None)
    if not clients:
        raise BootstrapFailed(f"none of {len(dials)} peers could be reached")
    return clients


async def _take_state(goal: _Goal, clients: Sequence[Client], listener: Listener) -> None:
    root, chain_id = goal.pivot.header.foliage.state_root, goal.context.chain_id
    engine = _open_database(goal.directory, goal.name)
    try:
        snapshot = SnapshotImport(engine, goal.name)
        chunks = StateFetch(root, snapshot, lambda done, total: listener.report("state", done, total))
        await chunks.fetch(clients)
        blobs = BlobStore(goal.directory.blobs_path)
        ledger_context, view = make_ledger_context(goal.context.genesis), StateView(root, snapshot)
        needed, programs = get_needed_blobs(ledger_context, view), list_programs(list_tasks(ledger_context, view))
        for number, name in enumerate(needed, 1):
            await fetch_blob(clients, name, blobs, lambda data: compute_blob_names(data, programs))
            listener.report("block data", number, len(needed))
        await asyncio.to_thread(
            snapshot.finish, chain_id, [goal.pivot.get_ancestor(0).header, *list_headers(goal.pivot)]
        )
    finally:
        engine.close()


def _open_database(directory: DataDirectory, name: Hash) -> LevelDb:
    """Open a database that is empty or holds the import called `name`; another one that was cut off is thrown away."""
    engine = LevelDb(directory.database_path)
    if get_import_name(engine) not in (None, name):
        engine.close()
        shutil.rmtree(directory.database_path)
        engine = LevelDb(directory.database_path)
    return engine


__all__ = ["BootstrapFailed", "Listener", "Origin", "StateUnavailable", "bootstrap", "connect_all"]
