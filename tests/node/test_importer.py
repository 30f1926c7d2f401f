"""The importer's queue: who leaves before the answer does no harm, and a stop waits for the block under way."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import pytest_asyncio

from chain.block import Block, compute_transactions_root
from chain.hashing import tagged_hash
from chain.header import Header, compute_signing_hash
from chain.ledger.bounds import get_bound
from chain.ledger.context import BlockEffects
from chain.packed import pack_block
from chain.primitives import ZERO_HASH
from chain.signature import SigningKey
from chain.storage.blob_store import BlobStore
from chain.storage.block_store import open_block_store
from chain.transaction import CommitContribution
from consensus.header_chain import ChainEntry
from node import importer
from node.chain import Chain
from node.importer import Importer
from node.outcomes import ImportResult
from node.wallet import sign_action
from tests.support.importing import make_importer
from tests.support.live_node import HOLDER, MINER, LiveNode, run_live_node

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveNode]:
    async with run_live_node(tmp_path_factory.mktemp("live")) as node:
        await node.mine(2)
        yield node


@dataclass
class SlowTickets:
    """A check of tickets that lasts until it is let go."""

    entered: threading.Event = field(default_factory=threading.Event)
    gate: threading.Event = field(default_factory=threading.Event)

    def verify(self, _block: Block, _parent: ChainEntry) -> None:
        self.entered.set()
        assert self.gate.wait(10)


@dataclass
class Follower:
    """A second chain of the live node's network, and its importer."""

    chain: Chain
    importer: Importer
    tickets: SlowTickets
    blocks: list[Block]


@pytest.fixture
def follower(live: LiveNode, tmp_path: Path) -> Iterator[Follower]:
    parts = live.node.parts
    with open_block_store(tmp_path / "database") as store:
        chain, tickets = Chain(store, BlobStore(tmp_path / "blobs"), parts.chain.header_context), SlowTickets()
        blocks = [parts.chain.get_existing_block(parts.chain.head.get_ancestor(height).hash) for height in (1, 2)]
        yield Follower(chain, make_importer(chain, parts.learning, parts.get_time_ms, tickets.verify), tickets, blocks)


async def test_a_caller_that_leaves_does_not_stop_the_queue(follower: Follower) -> None:
    follower.importer.start()
    caller = asyncio.create_task(follower.importer.import_block(follower.blocks[0]))
    await asyncio.to_thread(follower.tickets.entered.wait, 10)
    caller.cancel()
    follower.tickets.gate.set()
    outcome = await asyncio.wait_for(follower.importer.import_block(follower.blocks[1]), 10)
    assert outcome.result is ImportResult.EXTENDED
    assert follower.chain.head.height == 2
    await follower.importer.stop()


async def test_a_stop_waits_for_the_block_under_way(follower: Follower) -> None:
    follower.importer.start()
    caller = asyncio.create_task(follower.importer.import_block(follower.blocks[0]))
    await asyncio.to_thread(follower.tickets.entered.wait, 10)
    asyncio.get_running_loop().call_later(0.2, follower.tickets.gate.set)
    await follower.importer.stop()
    assert follower.chain.head.height == 1
    assert (await caller).result is ImportResult.EXTENDED


async def test_effects_that_lead_elsewhere_are_refused(follower: Follower) -> None:
    follower.importer.start()
    follower.tickets.gate.set()
    effects = BlockEffects(ZERO_HASH, {}, ())
    outcome = await follower.importer.import_block(follower.blocks[0], effects=effects)
    assert (outcome.result, outcome.rule) == (ImportResult.INVALID, "state-root")
    assert follower.chain.head.height == 0
    await follower.importer.stop()


async def test_a_block_of_our_own_is_executed_once(live: LiveNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its assembly has computed is imported; a block of anybody else would have to be encoded and applied here."""
    height = live.node.parts.chain.head.height

    def refuse(*_arguments: object) -> BlockEffects:
        raise AssertionError("executed or encoded again")

    monkeypatch.setattr(importer, "apply_block", refuse)
    monkeypatch.setattr(importer, "pack_block", refuse)
    await live.mine(1)
    assert live.node.parts.chain.head.height == height + 1


async def test_the_block_of_the_head_is_at_hand_and_comes_from_disk_after_a_start(follower: Follower) -> None:
    follower.importer.start()
    follower.tickets.gate.set()
    assert follower.chain.get_head_block() is None
    for block in follower.blocks:
        await follower.importer.import_block(block)
        assert follower.chain.get_head_block() == pack_block(block)
    opened = Chain(follower.chain.store, follower.chain.blobs, follower.chain.header_context)
    assert opened.get_head_block() == follower.chain.get_head_block()
    await follower.importer.stop()


async def test_more_commits_than_votes_could_ever_allow_are_refused_before_the_state_is_asked(
    follower: Follower,
) -> None:
    first, most = follower.blocks[0], get_bound("sidecars_per_block").highest
    for count, rule in ((most, None), (most + 1, "block-sidecars")):
        hashes = [tagged_hash("test.sidecar", number.to_bytes(4, "little")) for number in range(count)]
        commits = tuple(
            CommitContribution(ZERO_HASH, 0, 0, 0, ZERO_HASH, ZERO_HASH, ZERO_HASH, name) for name in hashes
        )
        signed = tuple(sign_action(ZERO_HASH, MINER, place, 0, commit) for place, commit in enumerate(commits))
        foliage = replace(first.header.foliage, transactions_root=compute_transactions_root(signed))
        block = Block(replace(first.header, foliage=foliage), first.opening, signed)
        outcome = follower.importer._check_content(pack_block(block), ZERO_HASH)
        assert (outcome.rule if outcome else None) == rule


def sign_as(follower: Follower, key: SigningKey, delay_ms: int = 0) -> Block:
    """Return the first block as `key` would have signed it."""
    block, chain_id = follower.blocks[0], follower.chain.header_context.chain_id
    time_ms = block.header.foliage.timestamp_ms + delay_ms
    foliage = replace(block.header.foliage, miner=key.public_key, timestamp_ms=time_ms)
    return replace(block, header=Header(block.header.trunk, foliage, key.sign(compute_signing_hash(chain_id, foliage))))


async def test_a_block_beside_the_head_is_kept_when_its_miner_has_something_to_lose(follower: Follower) -> None:
    """Far below the head tickets cost next to nothing: a stranger's would fill the disk, and be told as evidence."""
    follower.tickets.gate.set()
    follower.importer.start()
    for block in follower.blocks:
        await follower.importer.import_block(block)
    follower.tickets.entered.clear()
    outcome = await follower.importer.import_block(sign_as(follower, HOLDER))
    assert (outcome.result, outcome.rule) == (ImportResult.REFUSED, "side-stake")
    assert len(follower.chain.headers) == 3
    assert not follower.tickets.entered.is_set(), "nor is its ticket looked at"
    bonded = await follower.importer.import_block(sign_as(follower, MINER, delay_ms=1))
    assert bonded.result is ImportResult.EVIDENCE
    await follower.importer.stop()


async def test_a_stranger_is_followed_when_its_headers_are_the_heaviest(follower: Follower) -> None:
    """Its bond may stand in that branch alone."""
    follower.tickets.gate.set()
    follower.importer.start()
    other = sign_as(follower, HOLDER)
    await follower.importer.import_headers((other.header,), {0: other.opening})
    assert (await follower.importer.import_block(follower.blocks[0])).result is ImportResult.EXTENDED
    assert (await follower.importer.import_block(other)).result is ImportResult.SIDE_BRANCH
    await follower.importer.stop()
