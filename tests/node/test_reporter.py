"""A winner that signs its ticket again, before real nodes: kept twice, told, reported, burned; threats 51, 59."""

import asyncio
import os
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import pytest_asyncio

from chain.block import Block
from chain.codec import encode
from chain.errors import InvalidTransaction
from chain.genesis import Genesis
from chain.header import Header, compute_header_hash, compute_signing_hash
from chain.ledger.bonds import make_report
from chain.ledger.keys import SUPPLY_KEY, locked_reward_key, miner_key
from chain.ledger.supply import compute_holdings
from chain.primitives import Hash, Signature
from chain.signature import SigningKey
from chain.storage.blob_store import BlobStore
from chain.storage.block_store import open_block_store
from chain.transaction import ReportEquivocation, Transaction, TransactionBody
from chain.transaction import compute_signing_hash as compute_transaction_signing_hash
from node import reporter as module
from node.chain import Chain
from node.network import Endpoint as NetworkEndpoint
from node.network import Network
from node.options import Endpoint
from node.outcomes import ImportResult
from node.reporter import EVIDENCE_MAX, Reporter
from p2p.handshake import NetworkId
from tests.support.importing import make_importer
from tests.support.live_node import HOLDER, MINER, SECOND_MINER, LiveNode, make_genesis, run_live_node
from tests.support.scripted_chain import ScriptedChain

EQUIVOCATIONS = 1_000


def sign_again(live: LiveNode, block: Block, delay_ms: int) -> Block:
    """Return what the same winner could publish for the same ticket at another time."""
    foliage = replace(block.header.foliage, timestamp_ms=block.header.foliage.timestamp_ms + delay_ms)
    chain_id = live.node.parts.chain.header_context.chain_id
    return replace(
        block, header=Header(block.header.trunk, foliage, MINER.sign(compute_signing_hash(chain_id, foliage)))
    )


def get_block(live: LiveNode, height: int) -> Block:
    chain = live.node.parts.chain
    return chain.get_existing_block(chain.head.get_ancestor(height).hash)


@pytest_asyncio.fixture
async def live(tmp_path: Path) -> AsyncIterator[LiveNode]:
    async with run_live_node(tmp_path / "live") as node:
        yield node


async def wait_until(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_thousand_contents_of_one_ticket_leave_two(live: LiveNode) -> None:
    await live.mine(1)
    parts, block = live.node.parts, get_block(live, 1)
    results = []
    for number in range(20):
        results.append((await parts.importer.import_block(sign_again(live, block, number + 1))).result)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(20, EQUIVOCATIONS):
        header = sign_again(live, block, number + 1)
        results.append((await parts.importer.import_block(header)).result)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert results == [ImportResult.EVIDENCE] + [ImportResult.SURPLUS] * (EQUIVOCATIONS - 1)
    assert len(parts.chain.headers) == 3, "genesis and two contents"
    assert len(list(parts.chain.store._rows.iter_rows(b"b"))) == 2
    assert held - before < 64 * 1024
    assert peak - before < 1024 * 1024
    assert parts.chain.head.hash == compute_header_hash(block.header), "the first seen stays the head"


async def test_headers_alone_are_bounded_too(live: LiveNode) -> None:
    await live.mine(1)
    parts, block = live.node.parts, get_block(live, 1)
    for number in range(50):
        await parts.importer.import_headers((sign_again(live, block, number + 1).header,), {0: block.opening})
    assert len(parts.chain.headers) == 3


async def test_a_third_content_is_followed_when_work_builds_on_it(live: LiveNode, tmp_path: Path) -> None:
    """A node that was shown two contents must not part from a network that goes on from a third."""
    await live.mine(2)
    parts, third, child = live.node.parts, get_block(live, 1), get_block(live, 2)
    with open_block_store(tmp_path / "other") as store:
        chain = Chain(store, BlobStore(tmp_path / "blobs"), parts.chain.header_context)
        importer = make_importer(chain, parts.learning, parts.get_time_ms)
        importer.start()
        shown = [await importer.import_block(sign_again(live, third, delay)) for delay in (1, 2)]
        assert [outcome.result for outcome in shown] == [ImportResult.EXTENDED, ImportResult.EVIDENCE]
        assert (await importer.import_block(third)).result is ImportResult.SURPLUS
        assert (await importer.import_block(child)).result is ImportResult.ORPHAN
        shown_work = {0: third.opening}
        forged = replace(child.header, signature=Signature(bytes(64)))
        assert (await importer.import_headers((third.header, forged), shown_work)).result is ImportResult.INVALID
        alone = await importer.import_headers((third.header,), shown_work)
        assert alone.result is ImportResult.ALREADY_KNOWN
        assert len(chain.headers) == 3, "a child that is none lets nothing in"
        both = await importer.import_headers((third.header, child.header), shown_work)
        assert both.result is ImportResult.SIDE_BRANCH
        assert chain.get_missing_blocks(8) == (compute_header_hash(third.header), compute_header_hash(child.header))
        await importer.import_block(third)
        assert (await importer.import_block(child)).result is ImportResult.REORGED
        assert chain.head.hash == parts.chain.head.hash
        await importer.stop()


async def test_evidence_outlives_a_restart(tmp_path: Path) -> None:
    async with run_live_node(tmp_path) as live:
        await live.mine(1)
        block = get_block(live, 1)
        live.node.parts.importer.admission.equivocation_listeners.clear()
        await live.node.parts.importer.import_block(sign_again(live, block, 1))
    async with run_live_node(tmp_path) as live:
        await live.mine(1)
        await wait_until(lambda: len(live.node.parts.mempool) == 1)
        await live.mine(1)
        state = live.node.parts.chain.view()
        assert state.get_existing(miner_key(MINER.public_key)).bond == 0


def make_transaction(live: LiveNode, report: ReportEquivocation, key: SigningKey, nonce: int = 0) -> Transaction:
    body = TransactionBody(key.public_key, nonce, 0, report)
    chain_id = live.node.parts.chain.header_context.chain_id
    return Transaction(body, key.sign(compute_transaction_signing_hash(chain_id, body)))


async def test_one_report_a_miner_waits_and_none_untried(live: LiveNode) -> None:
    await live.mine(1)
    gate, block = live.node.parts.gate, get_block(live, 1)
    one, other = (sign_again(live, block, delay).header for delay in (1, 2))
    good = make_report(one, other, HOLDER.public_key)
    forged = replace(good, first=replace(good.first, signature=Signature(bytes(64))))
    for report, nonce, rule in ((forged, 0, "evidence-signature"), (forged, 1, "nonce"), (good, 1, "nonce")):
        with pytest.raises(InvalidTransaction) as refusal:
            await gate.admit(make_transaction(live, report, HOLDER, nonce))
        assert refusal.value.rule == rule
    await gate.admit(make_transaction(live, good, HOLDER))
    with pytest.raises(InvalidTransaction) as refusal:
        await gate.admit(make_transaction(live, good, SigningKey(b"\x44" * 32)))
    assert refusal.value.rule == "report-waiting"
    assert len(live.node.parts.mempool) == 1
    await live.mine(1)
    assert len(live.node.parts.mempool) == 0
    with pytest.raises(InvalidTransaction) as refusal:
        await gate.admit(make_transaction(live, good, HOLDER, 1))
    assert refusal.value.rule == "evidence-spent"


async def test_pairs_of_strangers_push_out_none_that_cost_their_miner_something(live: LiveNode) -> None:
    await live.mine(1)
    parts, block = live.node.parts, get_block(live, 1)
    reporter = Reporter(parts.chain, parts.gate, HOLDER, os.urandom)
    reporter.on_equivocation(block.header, sign_again(live, block, 1).header)
    for number in range(2 * EVIDENCE_MAX):
        name = Hash(number.to_bytes(32, "big"))
        foliage = replace(block.header.foliage, miner=HOLDER.public_key, trunk_hash=name)
        reporter.on_equivocation(replace(block.header, foliage=foliage), replace(block.header, foliage=foliage))
    await reporter.stop()
    assert len(reporter._evidence) == EVIDENCE_MAX
    assert block.header.foliage.trunk_hash in reporter._evidence


async def test_a_pair_that_is_shown_again_is_no_news(live: LiveNode, monkeypatch: pytest.MonkeyPatch) -> None:
    await live.mine(1)
    parts, block = live.node.parts, get_block(live, 1)
    told = Mock()
    monkeypatch.setattr(module, "log", told)
    reporter = Reporter(parts.chain, parts.gate, HOLDER, os.urandom)
    for delay_ms in (1, 1, 2):
        reporter.on_equivocation(block.header, sign_again(live, block, delay_ms).header)
    await reporter.stop()
    assert told.warning.call_count == 1


async def test_a_report_that_came_too_late_leaves_the_pool(tmp_path: Path) -> None:
    genesis = make_genesis()
    async with (
        run_live_node(tmp_path / "early", MINER, genesis) as early,
        run_live_node(tmp_path / "late", MINER, genesis) as late,
    ):
        await early.mine(1)
        block = get_block(early, 1)
        await late.node.parts.importer.import_block(block)
        for live in (early, late):
            await live.node.parts.importer.import_block(sign_again(early, block, 1))
            await wait_until(lambda live=live: len(live.node.parts.mempool) == 1)  # type: ignore[misc]
        await early.mine(1)
        outcome = await late.node.parts.importer.import_block(get_block(early, 2))
        assert outcome.result is ImportResult.EXTENDED
        assert len(late.node.parts.mempool) == 0, "its account has sent nothing, but nothing is at stake"


@asynccontextmanager
async def run_equivocator(live: LiveNode, block: Block) -> AsyncIterator[None]:
    """Connect a peer that announces and serves one more content of a ticket."""
    chain, parts = ScriptedChain(), live.node.parts.chain
    block_hash = compute_header_hash(block.header)
    chain.blocks[block_hash] = encode(block)
    network = Network(chain, MINER, NetworkId(parts.header_context.chain_id, parts.headers.genesis.hash))
    await network.start("127.0.0.1", 0, (NetworkEndpoint("127.0.0.1", live.node.network._port),))
    try:
        await wait_until(lambda: len(network.get_peers()) == 1)
        network.announce_block(block_hash)
        yield
    finally:
        await network.stop()


@pytest.mark.slow
async def test_threat_59_an_equivocating_miner_is_reported_and_burned_by_a_node_that_it_never_met(
    tmp_path: Path,
) -> None:
    """The miner shows its second content to the first node; the second node hears of it, reports, mines the report."""
    genesis = make_genesis((MINER, SECOND_MINER))
    async with run_live_node(tmp_path / "first", SigningKey(b"\x55" * 32), genesis) as first:
        # The first node only relays: it would report just as well.
        first.node.parts.importer.admission.equivocation_listeners.clear()
        seed = Endpoint("127.0.0.1", first.node.network._port)
        async with run_live_node(tmp_path / "second", SECOND_MINER, genesis, (seed,)) as second:
            chains = [live.node.parts.chain for live in (first, second)]
            block = await mine_elsewhere(tmp_path / "miner", genesis)
            await first.node.parts.importer.import_block(block)
            await wait_until(lambda: chains[1].head.height == 1)
            async with run_equivocator(first, sign_again(first, block, 1)):
                await wait_until(lambda: len(second.node.parts.mempool) == 1)
                await second.mine(1)
                await wait_until(lambda: chains[0].head.height == 2)
            check_burned(first, second)


async def mine_elsewhere(root: Path, genesis: Genesis) -> Block:
    """Return a block of the first miner on genesis."""
    async with run_live_node(root, MINER, genesis) as live:
        await live.mine(1)
        return get_block(live, 1)


def check_burned(first: LiveNode, second: LiveNode) -> None:
    chains = [live.node.parts.chain for live in (first, second)]
    assert chains[0].head.hash == chains[1].head.hash
    view, parameters = chains[0].view(), chains[0].parameters
    assert view.get_existing(miner_key(MINER.public_key)).bond == 0
    assert view.get_existing(locked_reward_key(1)).amount == 0
    reward = parameters.subsidy * 45 // 100
    total = parameters.bond + reward
    assert view.get_existing(SUPPLY_KEY).burned == total - total // 10
    assert compute_holdings(view).is_conserved
    assert Hash(chains[0].head.header.foliage.state_root) == view.root
