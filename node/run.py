"""One validator node as a process: opens the data directory, wires the parts, listens, and stops on a signal.

The composition root: everything else is handed what it needs. Every failure a person can act on is one line and an exit
code of `node.exit_codes`.
"""

import asyncio
import errno
import gc
import json
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chain.errors import DecodeError, InvalidBlock, StorageError
from chain.signature import SigningKey
from chain.storage.blob_store import BlobStore
from chain.storage.block_store import CHECKED_BLOCKS, BlockStore
from chain.storage.engine import CorruptDatabase, Engine
from chain.storage.files import DiskFiles, Files
from chain.storage.guard import DiskGuard, GuardedEngine, GuardedFiles
from chain.storage.leveldb import LevelDb
from consensus.header_rules import make_header_context
from consensus.ticket import compute_ticket_macs
from node.api import Api
from node.bootstrap.start import start_from_peers
from node.chain import Chain
from node.data_directory import DataDirectory, DirectoryLock, write_private
from node.exit_codes import CommandError, ExitCode
from node.first_start import open_node_key, take_genesis
from node.learning import load_task
from node.network import Endpoint, Network
from node.observability.journal import get_log, start_journal
from node.observability.watch import Watch
from node.options import Endpoint as ListenEndpoint
from node.options import NodeOptions
from node.parts import Parts
from node.peer_files import PeerFiles
from node.peering import PeeringOptions
from node.queries import NodeQueries
from node.rpc.api import PeerInfo
from node.rpc.dispatch import Dispatcher
from node.rpc.methods import make_registry
from node.rpc.server import RpcServer, ServerOptions, make_token
from node.signing_record import SigningRecord
from node.submissions import NodeSubmissions
from node.surroundings import make_surroundings
from node.validator import Identity, Validator, make_ticket_verifier, make_validator
from p2p.addresses import make_address
from p2p.limits import Limits

log = get_log("node")


@dataclass(frozen=True, slots=True)
class Disk:
    """Where a node keeps things: what opens its database in a folder, and the file system of everything else."""

    open_engine: Callable[[Path], Engine]
    files: Files


@dataclass(slots=True)
class Node:
    """A validator with its callers served."""

    options: NodeOptions
    validator: Validator
    watch: Watch
    rpc: RpcServer
    guard: DiskGuard

    @property
    def parts(self) -> Parts:
        """The validator's parts."""
        return self.validator.parts

    @property
    def network(self) -> Network:
        """The validator's peers."""
        return self.validator.network

    async def start(self) -> None:
        """Listen to peers and callers; raises CommandError."""
        p2p = self.options.p2p
        try:
            await self.validator.start(Endpoint(p2p.host, p2p.port), _convert(self.options.peers))
        except OSError as error:
            code = ExitCode.PORT_BUSY if error.errno == errno.EADDRINUSE else ExitCode.FAILURE
            raise CommandError(code, f"cannot listen to peers on {p2p.text}: {error.strerror}") from None
        self.watch.heartbeat.start()
        await self.rpc.start()

    async def stop(self) -> None:
        """Stop listening, finish the import under way, close the database."""
        await self.rpc.stop()
        await self.watch.heartbeat.stop()
        await self.validator.stop()


def make_node(options: NodeOptions, directory: DataDirectory, key: SigningKey, disk: Disk | None = None) -> Node:
    """Wire a node on this machine's disk unless another is given; raises StorageError, DecodeError."""
    disk = disk or Disk(LevelDb, DiskFiles())
    genesis = directory.read_genesis()
    task = load_task(genesis.task)
    context = make_header_context(genesis, lambda ticket: compute_ticket_macs(task.program, ticket))
    guard = DiskGuard()
    files = GuardedFiles(disk.files, guard)
    identity, verify = Identity(key, SigningRecord(directory.signed_path, files)), make_ticket_verifier(context, task)
    blobs, kept_states = BlobStore(directory.blobs_path, files), None if options.is_archive else CHECKED_BLOCKS
    store = BlockStore(GuardedEngine(disk.open_engine(directory.database_path), guard), kept_states)
    try:
        chain = Chain(store, blobs, context)
        validator = make_validator(
            chain, task, identity, make_surroundings(Limits()), verify, _make_peering(options, directory)
        )
    except BaseException:
        store.close()
        raise
    queries = NodeQueries(validator.parts, lambda: _describe_peers(validator.network), blobs.get)
    watch = Watch(validator, queries, directory.database_path, is_alone=not (options.peers or options.seeds))
    token = make_token()
    write_private(directory.cookie_path, token.encode("ascii"))
    server = RpcServer(
        Dispatcher(make_registry(), Api(queries, NodeSubmissions(validator.parts, queries))),
        ServerOptions(options.rpc, options.rpc_hosts, options.rpc_origins, token),
        watch.pages,
    )
    return Node(options, validator, watch, server, guard)


def _make_peering(options: NodeOptions, directory: DataDirectory) -> PeeringOptions:
    own = options.advertised
    advertised = make_address(own.host, own.port) if own is not None else None
    return PeeringOptions(_convert(options.seeds), advertised, PeerFiles(directory.peers_path))


def _convert(endpoints: tuple[ListenEndpoint, ...]) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(endpoint.host, endpoint.port) for endpoint in endpoints)


def _describe_peers(network: Network) -> tuple[PeerInfo, ...]:
    return tuple(
        PeerInfo(
            key=peer.key,
            address=peer.address,
            listen_port=peer.listen_port,
            is_inbound=peer.is_inbound,
            kind=peer.kind.value,
            origin=peer.origin,
            height=peer.height,
            score=peer.points,
            received_bytes=peer.received_bytes,
            sent_bytes=peer.sent_bytes,
            latency_ms=peer.latency_ms,
            connected_ms=peer.connected_ms,
        )
        for peer in network.get_peers()
    )


async def _serve(node: Node) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    try:
        await node.start()
        _set_aside_what_is_loaded()
        log.info("listening", p2p=node.options.p2p.text, rpc=node.options.rpc.text)
        _say(node)
        failures = [asyncio.create_task(wait) for wait in (node.network.wait_failed(), _wait_disk_failed(node.guard))]
        stopped = asyncio.create_task(stopping.wait())
        await asyncio.wait([*failures, stopped], return_when=asyncio.FIRST_COMPLETED)
        for failed in failures:
            if failed.done() and not stopping.is_set():
                failed.result()
        for waiter in (*failures, stopped):
            waiter.cancel()
    finally:
        await node.stop()


def _set_aside_what_is_loaded() -> None:
    """Leave all objects of now out of the garbage collector's rounds: a full one over them answers nobody for 60 ms."""
    gc.collect()
    gc.freeze()


async def _wait_disk_failed(guard: DiskGuard) -> None:
    """Wait for the first write that fails, or read of the database, and raise its StorageError."""
    loop, failed = asyncio.get_running_loop(), asyncio.Event()
    guard.listeners.append(lambda _error: loop.call_soon_threadsafe(failed.set))
    if guard.failure is None:
        await failed.wait()
    assert guard.failure is not None
    raise guard.failure


def _say(node: Node) -> None:
    chain = node.parts.chain
    facts = {
        "genesis_hash": f"0x{chain.headers.genesis.hash.hex()}",
        "height": chain.head.height,
        "p2p": node.options.p2p.text,
        "rpc": node.options.rpc.url,
    }
    if node.options.output.json:
        print(json.dumps(facts), flush=True)
    else:
        print(" · ".join(f"{name} {value}" for name, value in facts.items()), flush=True)


def run(options: NodeOptions, disk: Disk | None = None) -> int:
    """Run a node until a signal, on this machine's disk unless another is given; returns an exit code."""
    start_journal(options.log_level, is_json=options.output.json)
    directory = DataDirectory(options.directory)
    directory.create()
    try:
        lock = DirectoryLock(directory)
    except StorageError as error:
        raise CommandError(ExitCode.DIRECTORY_IN_USE, str(error)) from None
    try:
        if options.genesis_path is not None:
            take_genesis(directory, options.genesis_path)
        key = open_node_key(directory, options)
        if options.is_snapshot_sync:
            start_from_peers(options, directory, key)
        asyncio.run(_serve(make_node(options, directory, key, disk)))
    except (CorruptDatabase, DecodeError, InvalidBlock) as error:
        # A genesis record whose bits have rotted may still decode, and then its parts do not fit.
        raise CommandError(ExitCode.CORRUPT_DATABASE, str(error)) from None
    except StorageError as error:
        code = ExitCode.DISK_FULL if "No space left" in str(error) else ExitCode.FAILURE
        raise CommandError(code, str(error)) from None
    finally:
        lock.release()
    return int(ExitCode.OK)
