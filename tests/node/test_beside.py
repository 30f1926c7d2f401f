"""Blocks of bonded keys beside the head: as many as are worth it, none that could be joined no more, all evidence."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import pytest_asyncio

from chain.block import Block, compute_transactions_root
from chain.codec import encode
from chain.hashing import tagged_hash
from chain.header import Header, compute_header_hash, compute_signing_hash
from chain.primitives import ZERO_HASH, Hash
from chain.storage.blob_store import BlobStore
from chain.storage.block_store import BlockStore
from chain.transaction import Sidecar, Transaction, compute_sidecar_hash
from consensus.header_chain import ChainEntry
from consensus.header_rules import HeaderContent, make_header
from node import beside
from node import chain as node_chain
from node.chain import Chain
from node.importer import Importer
from node.outcomes import ImportOutcome, ImportResult
from tests.support.importing import make_importer
from tests.support.live_node import MINER, LiveNode, run_live_node
from tests.support.scripted_chain import make_commit
from tests.support.store import MemoryEngine

pytestmark = pytest.mark.asyncio(loop_scope="module")

BLOCKS = 6
DEPTH = 3
"""How deep a fork may be that is followed, in these tests."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveNode]:
    async with run_live_node(tmp_path_factory.mktemp("live")) as node:
        await node.mine(BLOCKS)
        yield node


@dataclass
class Follower:
    """A chain at the live node's head that believes tickets, and its rows."""

    chain: Chain
    importer: Importer
    engine: MemoryEngine
    reopen: Callable[[], Chain]
    tickets_seen: list[Hash]

    def count_stored(self) -> int:
        return sum(1 for _ in self.engine.iter_rows(b"b"))

    def make_block(self, parent: ChainEntry, salt: int, transactions: tuple[Transaction, ...] = ()) -> Block:
        """Return a bonded miner's block on `parent` under a ticket of its own."""
        ticket = self.chain.get_existing_block(self.chain.head.hash).header.trunk.ticket
        digest = Hash(bytes(16) + tagged_hash("test", parent.hash, salt.to_bytes(4, "big"))[:16])
        mine = replace(ticket, digest=digest, anchor_height=max(0, parent.height - 1))
        time_ms = parent.header.foliage.timestamp_ms + 20_000 + salt
        content = HeaderContent(MINER.public_key, time_ms, ZERO_HASH, compute_transactions_root(transactions))
        header = make_header(self.chain.header_context, parent, mine, content, MINER)
        return Block(header, self.chain.get_existing_block(self.chain.head.hash).opening, transactions)

    async def show(self, block: Block, *sidecars: Sidecar) -> ImportOutcome:
        return await self.importer.import_block(block, sidecars)


def list_blocks(live: LiveNode) -> list[Block]:
    chain = live.node.parts.chain
    return [chain.get_existing_block(chain.head.get_ancestor(height).hash) for height in range(1, BLOCKS + 1)]


@pytest_asyncio.fixture(loop_scope="module")
async def newcomer(live: LiveNode, tmp_path: Path) -> AsyncIterator[Follower]:
    parts, engine, seen = live.node.parts, MemoryEngine(), list[Hash]()

    def open_chain() -> Chain:
        return Chain(BlockStore(engine), BlobStore(tmp_path / "blobs"), parts.chain.header_context)

    def verify(block: Block, _parent: ChainEntry) -> None:
        seen.append(compute_header_hash(block.header))

    chain = open_chain()
    importer = make_importer(chain, parts.learning, lambda: parts.get_time_ms() + 60_000, verify)
    importer.start()
    yield Follower(chain, importer, engine, open_chain, seen)
    await importer.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def follower(live: LiveNode, newcomer: Follower) -> Follower:
    for block in list_blocks(live):
        assert (await newcomer.show(block)).result is ImportResult.EXTENDED
    newcomer.tickets_seen.clear()
    return newcomer


@pytest.fixture
def shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "REORG_BLOCKS", DEPTH)


def sign_again(follower: Follower, block: Block, delay_ms: int) -> Block:
    chain_id = follower.chain.header_context.chain_id
    foliage = replace(block.header.foliage, timestamp_ms=block.header.foliage.timestamp_ms + delay_ms)
    header = Header(block.header.trunk, foliage, MINER.sign(compute_signing_hash(chain_id, foliage)))
    return replace(block, header=header)


@pytest.mark.usefixtures("shallow")
async def test_a_bonded_key_fills_no_disk_with_blocks_on_old_heights(follower: Follower) -> None:
    for height in range(BLOCKS - DEPTH):
        for salt in range(5):
            outcome = await follower.show(follower.make_block(follower.chain.head.get_ancestor(height), salt))
            assert (outcome.result, outcome.rule) == (ImportResult.REFUSED, "side-depth")
    assert follower.tickets_seen == [], "nor is a ticket looked at"
    assert follower.count_stored() == BLOCKS
    assert len(follower.chain.headers) == BLOCKS + 1
    recent = follower.make_block(follower.chain.head.get_ancestor(BLOCKS - DEPTH), 0)
    assert (await follower.show(recent)).result is ImportResult.SIDE_BRANCH


async def test_no_block_is_read_to_say_that_it_is_held(follower: Follower, monkeypatch: pytest.MonkeyPatch) -> None:
    """Peers name a thousand blocks in one message."""
    beside = follower.make_block(follower.chain.head.get_ancestor(BLOCKS - 1), 0)
    ahead = follower.make_block(follower.chain.head, 0)
    assert (await follower.show(beside)).result is ImportResult.SIDE_BRANCH
    follower.importer.admission.admit_earned(ahead.header, compute_header_hash(ahead.header))
    chain, read = follower.reopen(), list[bytes]()
    chain.insert_header(ahead.header)
    for each in (follower.chain, chain):
        held = [each.head.get_ancestor(height).hash for height in range(BLOCKS + 1)] + [
            compute_header_hash(beside.header)
        ]
        with monkeypatch.context() as patch:
            patch.setattr(follower.engine, "get", lambda key: read.append(key[:1]))
            assert [name for name in held if not each.has_body(name)] == []
            assert not each.has_body(compute_header_hash(ahead.header)), "its header alone is here"
            assert not each.has_body(ZERO_HASH)
    assert read == []


@pytest.mark.usefixtures("shallow")
async def test_evidence_is_told_at_any_depth_and_stored_where_it_may_be_joined(
    live: LiveNode, follower: Follower
) -> None:
    told: list[tuple[Header, Header]] = []
    follower.importer.admission.equivocation_listeners.append(lambda *pair: told.append(pair))
    deep, *_, near = list_blocks(live)
    second = sign_again(follower, deep, 1)
    for _ in range(2):
        assert (await follower.show(second)).rule == "side-depth"
    assert told == [(deep.header, second.header)]
    assert follower.tickets_seen.count(compute_header_hash(second.header)) == 1
    assert (await follower.show(sign_again(follower, deep, 2))).rule == "side-depth", "a third is not even evidence"
    assert follower.count_stored() == BLOCKS
    assert (await follower.show(sign_again(follower, near, 1))).result is ImportResult.EVIDENCE
    assert len(told) == 2
    assert follower.count_stored() == BLOCKS + 1


async def test_blocks_beside_the_head_are_bounded_and_the_heaviest_stay(
    live: LiveNode, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, near = follower.chain.head, sign_again(follower, list_blocks(live)[-1], 1)
    monkeypatch.setattr(node_chain, "SIDE_BYTES_MAX", 8 * len(encode(near)))
    await follower.show(near)
    for salt in range(30):
        outcome = await follower.show(follower.make_block(head.get_ancestor(salt % 3), salt))
        assert outcome.result is ImportResult.SIDE_BRANCH
        assert follower.count_stored() <= BLOCKS + 8
    assert follower.chain.has_body(compute_header_hash(near.header)), "what lies near the head goes last"
    assert len(follower.chain.headers) <= 1 + BLOCKS + 8
    again = follower.reopen()
    assert again.head.hash == head.hash
    assert again._side_blocks == follower.chain._side_blocks
    assert len(again.headers) == len(follower.chain.headers)


async def test_a_branch_that_was_left_counts_as_beside(live: LiveNode, newcomer: Follower) -> None:
    first, second = list_blocks(live)[:2]
    other = sign_again(newcomer, first, 1)
    assert (await newcomer.show(other)).result is ImportResult.EXTENDED
    assert (await newcomer.show(first)).result is ImportResult.EVIDENCE
    assert newcomer.chain._side_blocks.keys() == {compute_header_hash(first.header)}
    assert (await newcomer.show(second)).result is ImportResult.REORGED
    assert newcomer.chain._side_blocks.keys() == {compute_header_hash(other.header)}
    assert newcomer.reopen()._side_blocks == newcomer.chain._side_blocks


async def test_what_was_let_go_is_news_when_it_comes_again(
    live: LiveNode, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = sign_again(follower, list_blocks(live)[-1], 1)
    with monkeypatch.context() as patch:
        patch.setattr(node_chain, "SIDE_BYTES_MAX", 0)
        assert (await follower.show(second)).result is ImportResult.EVIDENCE
        assert follower.count_stored() == BLOCKS
        assert len(follower.chain.headers) == BLOCKS + 1
    assert (await follower.show(second)).result is ImportResult.EVIDENCE
    assert follower.count_stored() == BLOCKS + 1


async def test_block_data_go_with_the_last_block_that_named_them(
    follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, shared, needed = (Sidecar(bytes([number]) * 32, b"\x02" * 10) for number in range(3))
    names = [compute_sidecar_hash(each) for each in (own, shared, needed)]
    head = follower.chain.head
    light = follower.make_block(head.get_ancestor(1), 0, tuple(map(make_commit, (own, shared, needed))))
    heavy = follower.make_block(head.get_ancestor(3), 1, (make_commit(shared),))
    assert (await follower.show(light)).missing == tuple(names)
    assert (await follower.show(light, own, shared, needed)).result is ImportResult.SIDE_BRANCH
    assert (await follower.show(heavy)).result is ImportResult.SIDE_BRANCH
    follower.chain.keep_data(names[2:])
    size_bytes = len(encode(heavy))
    for salt, bound, held in ((2, 2 * size_bytes, [False, True, True]), (3, 0, [False, False, True])):
        monkeypatch.setattr(node_chain, "SIDE_BYTES_MAX", bound)
        await follower.show(follower.make_block(head.get_ancestor(1), salt))
        assert [follower.chain.has_sidecar(name) for name in names] == held


async def test_block_data_go_with_a_block_that_turns_out_invalid(follower: Follower) -> None:
    sidecar = Sidecar(b"\x01" * 32, b"\x02" * 10)
    block = follower.make_block(follower.chain.head, 0, (make_commit(sidecar),))
    assert (await follower.show(block, sidecar)).result is ImportResult.INVALID
    assert not follower.chain.has_sidecar(compute_sidecar_hash(sidecar))
    assert follower.count_stored() == BLOCKS
