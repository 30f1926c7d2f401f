"""A node that starts from its peers' state: the same chain as theirs, whatever some of them send."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
import pytest_asyncio

from chain.codec import decode, encode
from chain.errors import StorageError
from chain.primitives import Hash
from chain.signature import SigningKey
from chain.state.snapshot import CHUNK_BYTES_MAX, LeafRecord, StateChunk, _iter_boundary, _Range
from chain.storage.blob_store import BlobStore
from chain.storage.block_store import open_block_store
from chain.storage.leveldb import LevelDb
from chain.storage.snapshot_import import SnapshotImport
from consensus.header_chain import ChainEntry
from node.bootstrap.client import Client, PeerLost, connect
from node.bootstrap.headers import HeaderFetch
from node.bootstrap.replay import ReplayRefused, replay
from node.bootstrap.run import BootstrapFailed, Listener, Origin, bootstrap
from node.bootstrap.start import needs_bootstrap
from node.bootstrap.state import RANGES, StateFetch, StateUnavailable, fetch_blob
from node.data_directory import DataDirectory
from node.database.blob_names import compute_blob_names
from node.database.opening import make_context, open_chain
from node.options import Endpoint as ListenEndpoint
from node.surroundings import make_surroundings
from node.threads import spread_in_line
from node.validator import make_ticket_verifier
from p2p.dialling import Endpoint
from p2p.handshake import NetworkId
from p2p.limits import Limits
from p2p.messages import BlobPart, GetBlobPart, GetData, GetHeaders, GetStateChunk, Headers, Message, Ping, Status
from p2p.messages import OpeningMessage as Opening
from p2p.messages import StateChunkMessage as ChunkMessage
from tests.support.live_node import HOLDER, LiveNode, make_genesis, run_live_node

BLOCKS = 100
PIVOT = 64
NEWCOMER = SigningKey(b"\x44" * 32)
M = TypeVar("M", bound=Message)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveNode]:
    genesis = make_genesis()
    # Blocks come at once here: with the usual half-life each would be harder than the last.
    steady = replace(genesis, parameters=replace(genesis.parameters, half_life_ms=2**31))
    async with run_live_node(tmp_path_factory.mktemp("node"), genesis=steady) as node:
        await node.mine(BLOCKS)
        yield node


def get_endpoint(live: LiveNode) -> Endpoint:
    return Endpoint("127.0.0.1", live.node.network._port)


def make_directory(live: LiveNode, root: Path) -> DataDirectory:
    directory = DataDirectory(root)
    directory.create()
    directory.write_genesis(live.genesis)
    return directory


async def run_bootstrap(directory: DataDirectory, *endpoints: Endpoint) -> tuple[int, list[str], list[str]]:
    """Return the height, what was reported and whom was warned of."""
    context, task = make_context(directory)
    reports: list[str] = []
    warnings: list[str] = []
    listener = Listener(lambda what, done, total: reports.append(f"{what} {done}/{total}"), warnings.append)
    origin = Origin(endpoints, NEWCOMER, make_surroundings(Limits()))
    height = await bootstrap(directory, context, task, origin, listener)
    return height, reports, warnings


async def test_a_node_starts_from_a_state_and_goes_on_to_the_head(live: LiveNode, tmp_path: Path) -> None:
    directory = make_directory(live, tmp_path / "late")
    assert needs_bootstrap(directory)
    height, reports, warnings = await run_bootstrap(directory, get_endpoint(live))
    assert height == PIVOT
    assert not warnings
    assert reports[-2:] == [f"state {RANGES}/{RANGES}", "block data 1/1"]
    assert not needs_bootstrap(directory)
    with open_block_store(directory.database_path) as store:
        assert store.get_base_height() == PIVOT
    port = live.node.network._port
    async with run_live_node(tmp_path / "late", NEWCOMER, peers=(ListenEndpoint("127.0.0.1", port),)) as late:
        async with asyncio.timeout(60):
            while late.node.parts.chain.head.hash != live.node.parts.chain.head.hash:
                await asyncio.sleep(0.05)
        chain = late.node.parts.chain
        assert chain.base.height == PIVOT
        assert chain.view().root == live.node.parts.chain.view().root
        port_view, other = late.node.network._chain, live.node.parts.chain
        assert port_view.get_headers_after((other.headers.genesis.hash,), 2_000) == (), "it could not show their work"
        assert port_view.get_headers_after((other.head.get_ancestor(PIVOT - 1).hash,), 2_000) == ()
        assert len(port_view.get_headers_after((chain.base.hash,), 2_000)) == BLOCKS - PIVOT
        balance = late.node.parts.gate.get_account_nonce(HOLDER.public_key)
        assert balance == live.node.parts.gate.get_account_nonce(HOLDER.public_key)


async def test_a_state_that_was_taken_is_replayed_later(live: LiveNode, tmp_path: Path) -> None:
    directory = make_directory(live, tmp_path / "late")
    await run_bootstrap(directory, get_endpoint(live))
    warnings: list[str] = []
    listener = Listener(lambda _what, _done, _total: None, warnings.append)
    with open_chain(directory) as own:
        origin = Origin((get_endpoint(live),), NEWCOMER, make_surroundings(Limits()))
        assert await replay(own, directory, origin, listener) == PIVOT
        assert not (directory.root / "replay").exists()
        assert not warnings


async def test_a_replay_stops_at_what_does_not_hold(live: LiveNode, tmp_path: Path) -> None:
    """Below a state that its miners made up some block must break a rule; here the rules are others than theirs."""
    directory = make_directory(live, tmp_path / "late")
    await run_bootstrap(directory, get_endpoint(live))
    listener = Listener(lambda _what, _done, _total: None, pytest.fail)
    with open_chain(directory) as own, pytest.MonkeyPatch.context() as patch:
        patch.setattr("chain.ledger.subsidy.compute_subsidy", lambda *_: 1)
        origin = Origin((get_endpoint(live),), NEWCOMER, make_surroundings(Limits()))
        with pytest.raises(ReplayRefused, match="state-root"):
            await replay(own, directory, origin, listener)


async def test_one_that_cannot_be_reached_is_left_out(live: LiveNode, tmp_path: Path) -> None:
    directory = make_directory(live, tmp_path / "late")
    height, _, warnings = await run_bootstrap(directory, Endpoint("127.0.0.1", 1), get_endpoint(live))
    assert height == PIVOT
    (warning,) = warnings
    assert warning.startswith("127.0.0.1:1: ")


async def test_without_anybody_nothing_is_begun(live: LiveNode, tmp_path: Path) -> None:
    directory = make_directory(live, tmp_path / "late")
    with pytest.raises(BootstrapFailed, match="none of 1 peers could be reached"):
        await run_bootstrap(directory, Endpoint("127.0.0.1", 1))
    assert needs_bootstrap(directory)


async def test_another_import_that_was_cut_off_is_thrown_away(live: LiveNode, tmp_path: Path) -> None:
    directory = make_directory(live, tmp_path / "late")
    engine = LevelDb(directory.database_path)
    SnapshotImport(engine, Hash(b"\x01" * 32)).put_chunk(3, {})
    engine.close()
    assert needs_bootstrap(directory)
    assert (await run_bootstrap(directory, get_endpoint(live)))[0] == PIVOT


class Scripted:
    """A client whose answers are a real node's, some of them altered."""

    def __init__(self, real: Client, **alter: object) -> None:
        self._real, self._alter = real, alter
        self.place, self.is_good, self.status = "scripted", True, real.status
        self.asked: list[Message] = []
        self.refusals: list[str] = []

    def refuse(self, reason: str) -> None:
        self.is_good = False
        self.refusals.append(reason)

    async def ask(self, question: Message, kind: type[M]) -> M | None:
        self.asked.append(question)
        answer = await self._real.ask(question, kind)
        alter = self._alter.get(kind.__name__)
        return alter(answer) if callable(alter) else answer


@pytest_asyncio.fixture(loop_scope="module")
async def client(live: LiveNode) -> AsyncIterator[Client]:
    chain = live.node.parts.chain
    network = NetworkId(chain.header_context.chain_id, chain.headers.genesis.hash)
    surroundings = make_surroundings(Limits())
    found = await connect(get_endpoint(live), NEWCOMER, network, surroundings, pytest.fail)
    assert found is not None
    yield found
    await found.close()
    await surroundings.dialler.stop()


def make_headers(live: LiveNode, directory: DataDirectory) -> HeaderFetch:
    context, task = make_context(directory)
    genesis = live.node.parts.chain.headers.genesis.header
    verify = make_ticket_verifier(context, task)
    return HeaderFetch(context, genesis, verify, spread_in_line, live.node.parts.get_time_ms)


async def test_headers_are_followed_to_the_heaviest_end(live: LiveNode, client: Client, tmp_path: Path) -> None:
    headers = make_headers(live, make_directory(live, tmp_path / "late"))
    scripted = Scripted(client)
    await headers.fetch([scripted], Hash(bytes(32)), lambda _done, _total: None)  # type: ignore[list-item]
    assert headers.best.hash == live.node.parts.chain.head.hash
    assert sum(not isinstance(question, GetHeaders) for question in scripted.asked) >= 1, "some work was shown"


async def test_known_headers_do_not_hide_new_ones_from_the_draw(live: LiveNode, client: Client, tmp_path: Path) -> None:
    headers = make_headers(live, make_directory(live, tmp_path / "late"))
    whole = await client.ask(GetHeaders((live.genesis_hash,)), Headers)
    assert whole is not None
    for count in (BLOCKS - 2, BLOCKS):
        peer = Scripted(client, Headers=lambda _, count=count: Headers(whole.headers[:count]))
        await headers.fetch([peer], Hash(bytes(32)), lambda _done, _total: None)  # type: ignore[list-item]
        assert headers.best.height == count
    opened = [question.items[0].hash for question in peer.asked if isinstance(question, GetData)]
    head = live.node.parts.chain.head
    assert opened == [head.get_ancestor(BLOCKS - 1).hash, head.hash]


async def test_lies_about_headers_end_a_peers_part(live: LiveNode, client: Client, tmp_path: Path) -> None:
    def cut(answer: Headers) -> Headers:
        return replace(answer, headers=answer.headers[1:])

    def break_one(answer: Headers) -> Headers:
        last = bytearray(answer.headers[-1])
        last[-1] ^= 1
        return replace(answer, headers=(*answer.headers[:-1], bytes(last)))

    def swap(answer: Opening) -> Opening:
        other = live.node.parts.chain.head
        assert other.parent is not None
        stored = live.node.parts.chain.get_existing_block(
            other.hash if answer.block != other.hash else other.parent.hash
        )
        return replace(answer, opening=encode(stored.opening))

    lies: tuple[dict[str, object], ...] = (
        {"Headers": cut},
        {"Headers": break_one},
        {"OpeningMessage": swap},
        {"OpeningMessage": lambda _: None},
    )
    for number, lie in enumerate(lies):
        headers = make_headers(live, make_directory(live, tmp_path / f"late{number}"))
        liar, honest = Scripted(client, **lie), Scripted(client)
        await headers.fetch([liar], Hash(bytes(32)), lambda _done, _total: None)  # type: ignore[list-item]
        assert liar.refusals, lie
        assert headers.best.height == 0
        await headers.fetch([honest], Hash(bytes(32)), lambda _done, _total: None)  # type: ignore[list-item]
        assert headers.best.height == BLOCKS


def get_pivot(live: LiveNode) -> ChainEntry:
    return live.node.parts.chain.head.get_ancestor(PIVOT)


async def fetch_state(live: LiveNode, place: Path, clients: Sequence[object]) -> None:
    engine = LevelDb(place)
    try:
        snapshot = SnapshotImport(engine, Hash(bytes(32)))
        root = get_pivot(live).header.foliage.state_root
        await StateFetch(root, snapshot, lambda _done, _total: None).fetch(clients)  # type: ignore[arg-type]
    finally:
        engine.close()


def alter_chunk(answer: ChunkMessage, **changes: object) -> ChunkMessage:
    chunk = decode(StateChunk, answer.chunk, CHUNK_BYTES_MAX)
    return replace(answer, chunk=encode(replace(chunk, **changes)))  # type: ignore[arg-type]  # fields by name


async def test_wrong_chunks_are_refused_and_another_peer_ends_the_work(
    live: LiveNode, client: Client, tmp_path: Path
) -> None:
    def drop_leaf(answer: ChunkMessage) -> ChunkMessage:
        return alter_chunk(answer, leaves=decode(StateChunk, answer.chunk, CHUNK_BYTES_MAX).leaves[1:])

    def add_coins(answer: ChunkMessage) -> ChunkMessage:
        first, *rest = decode(StateChunk, answer.chunk, CHUNK_BYTES_MAX).leaves
        return alter_chunk(answer, leaves=(LeafRecord(first.key, first.value[:-1] + b"\xff"), *rest))

    def move(answer: ChunkMessage) -> ChunkMessage:
        return alter_chunk(answer, first=Hash(b"\x01" * 32))

    def spoil(answer: ChunkMessage) -> ChunkMessage:
        return replace(answer, chunk=answer.chunk[:-1])

    for number, lie in enumerate((drop_leaf, add_coins, move, spoil, lambda _: None)):
        liar, honest = Scripted(client, StateChunkMessage=lie), Scripted(client)
        with pytest.raises(StateUnavailable):
            await fetch_state(live, tmp_path / f"alone{number}", [liar])
        assert len(liar.refusals) == 1
        await fetch_state(live, tmp_path / f"alone{number}", [honest])
        assert not honest.refusals


async def test_a_peer_that_cuts_the_state_into_single_paths_holds_nobody_up(
    live: LiveNode, client: Client, tmp_path: Path
) -> None:
    """Each piece is true, and there are 2²⁵⁶ of them."""
    nodes, pieces = live.node.parts.chain.store, list[Hash]()

    def cut(answer: ChunkMessage) -> ChunkMessage:
        pieces.append(answer.first)
        assert len(pieces) < 9, "it would never end"
        place = answer.first, answer.first
        return replace(
            answer, chunk=encode(StateChunk(*place, tuple(_iter_boundary(nodes, answer.root, _Range(*place))), ()))
        )

    liar, honest = Scripted(client, StateChunkMessage=cut), Scripted(client)
    with pytest.raises(StateUnavailable):
        await fetch_state(live, tmp_path / "state", [liar])
    assert len(liar.refusals) == 1
    await fetch_state(live, tmp_path / "state", [honest])
    assert not honest.refusals


async def test_what_is_on_disk_is_not_fetched_again(live: LiveNode, client: Client, tmp_path: Path) -> None:
    await fetch_state(live, tmp_path / "state", [Scripted(client)])
    again = Scripted(client)
    await fetch_state(live, tmp_path / "state", [again])
    assert not [question for question in again.asked if isinstance(question, GetStateChunk)]


async def test_a_blob_comes_in_parts_from_whoever_has_it_right(live: LiveNode, client: Client, tmp_path: Path) -> None:
    directory = make_directory(live, tmp_path / "late")
    _, task = make_context(directory)
    name = task_checkpoint(live)
    blobs = BlobStore(directory.blobs_path)

    def shift(part: BlobPart) -> BlobPart:
        return replace(part, offset=part.offset + 1)

    def alter(part: BlobPart) -> BlobPart:
        return replace(part, data=part.data[:-1] + bytes([part.data[-1] ^ 1]))

    def swell(part: BlobPart) -> BlobPart:
        return replace(part, size_bytes=2**63)

    def shrink(part: BlobPart) -> BlobPart:
        return replace(part, data=b"")

    def trickle(part: BlobPart) -> BlobPart:
        assert part.offset == 0, "it would take for ever"
        return replace(part, data=part.data[:1])

    liars = [Scripted(client, BlobPart=lie) for lie in (shift, alter, swell, shrink, trickle)]
    with pytest.raises(StateUnavailable):
        await fetch_blob(liars, name, blobs, lambda data: compute_blob_names(data, [task.program]))  # type: ignore[arg-type]
    assert all(liar.refusals for liar in liars)
    await fetch_blob([Scripted(client)], name, blobs, lambda data: compute_blob_names(data, [task.program]))  # type: ignore[list-item]
    assert blobs.get(name) == live.node.parts.chain.blobs.get(name)


def task_checkpoint(live: LiveNode) -> Hash:
    return live.genesis.task.checkpoint_root


async def test_a_node_serves_recent_states_and_small_parts_alone(live: LiveNode, client: Client) -> None:
    root = get_pivot(live).header.foliage.state_root
    assert await client.ask(GetStateChunk(root, Hash(bytes(32))), ChunkMessage) is not None
    assert await client.ask(GetStateChunk(Hash(b"\x07" * 32), Hash(bytes(32))), ChunkMessage) is None
    assert await client.ask(GetBlobPart(Hash(b"\x07" * 32), 0), BlobPart) is None
    beyond = await client.ask(GetBlobPart(task_checkpoint(live), 2**63), BlobPart)
    assert beyond is not None
    assert beyond.data == b""


async def test_a_silent_peer_is_lost(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.bootstrap.client.ANSWER_TIMEOUT_S", 0.05)
    with pytest.raises(PeerLost, match="does not answer Ping"):
        await client.ask(Ping(5), Status)
    await client.close()
    with pytest.raises(PeerLost):
        await client.ask(Ping(5), Status)


async def test_a_peer_that_breaks_the_protocol_before_it_is_asked_is_lost(live: LiveNode, client: Client) -> None:
    (theirs,) = live.node.network._links.values()
    await theirs.wire.send(b"garbage")
    await asyncio.wait([client._reader])
    with pytest.raises(PeerLost):
        await client.ask(GetStateChunk(Hash(bytes(32)), Hash(bytes(32))), ChunkMessage)


async def test_a_node_refuses_to_start_on_a_state_half_taken(tmp_path: Path) -> None:
    engine = LevelDb(tmp_path / "database")
    SnapshotImport(engine, Hash(bytes(32))).put_chunk(0, {})
    engine.close()
    with open_block_store(tmp_path / "database") as store, pytest.raises(StorageError):
        store.get_tip()
