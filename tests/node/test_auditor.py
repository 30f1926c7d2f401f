"""A real node disputes what others forge, down to the element, and its miner answers what others demand of its own."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from chain.dispute import AnswerDispute, Demand, DemandDigests, DemandOpening, DemandStrip, DisputeContribution
from chain.genesis import Parameters, compute_segment_seed
from chain.ledger import genesis_state
from chain.ledger.accounts import get_account
from chain.ledger.bounds import make_values
from chain.ledger.context import get_task_state
from chain.ledger.keys import beacon_key, contribution_key, dispute_key
from chain.ledger.records import Contribution, ContributionKey, Dispute, DisputeKey
from chain.ledger.transition import ContributionStatus
from chain.primitives import Hash
from chain.signature import SigningKey
from chain.transaction import (
    Action,
    CommitContribution,
    Sidecar,
    Transaction,
    TransactionBody,
    Transfer,
    compute_sidecar_hash,
    compute_signing_hash,
)
from ml.backends import get_backend
from ml.checkpoint import compute_initial_checkpoint
from ml.disputing import Difference, open_digests, open_whole_strip
from ml.lottery import get_lottery
from ml.program import Op, OpKind
from ml.proving import rerun_step
from ml.segment import Runner
from ml.tensor_tree import DIGEST_BYTES, IntArray, compute_tensor_root
from ml.trace import Trace, compute_delta_root, compute_trace_root
from node import auditor
from node.addresses import format_address
from node.cli.main import main
from node.database.exporting import get_needed_blobs
from node.learning import Task, execute_segment, load_task
from node.miner.link import NodeLink
from node.miner.loop import MinerLoop
from node.miner.tools import Tools
from node.rpc.client import AsyncRpcClient
from node.rpc.dispute_methods import LIST_DISPUTES
from node.rpc.methods import GET_WORK
from node.rpc.registry import Params
from tests.support.live_node import HOLDER, MINER, SECOND_MINER, LiveNode, make_genesis, run_live_node

STEP = 10
ROW, COLUMN = 40, 7


@pytest_asyncio.fixture
async def live(tmp_path: Path) -> AsyncIterator[LiveNode]:
    # Long enough for three demands and their answers before anything expires.
    genesis = replace(make_genesis((MINER, SECOND_MINER)), parameters=Parameters(proof_window=8))
    async with run_live_node(tmp_path, genesis=genesis) as node:
        yield node


async def send(live: LiveNode, key: SigningKey, action: Action, sidecar: Sidecar | None = None) -> None:
    parts = live.node.parts
    body = TransactionBody(key.public_key, parts.gate.compute_next_nonce(key.public_key), 0, action)
    signature = key.sign(compute_signing_hash(parts.chain.ledger_context.chain_id, body))
    await parts.gate.admit(Transaction(body, signature), sidecar)


async def settle_down(live: LiveNode, transactions: int) -> None:
    """Wait until so many transactions of the node's own wait in the pool, or for long enough that none will."""
    async with asyncio.timeout(30):
        while len(live.node.parts.mempool) < transactions:
            await asyncio.sleep(0.02)


def get_contribution(live: LiveNode, miner: SigningKey, round_number: int = 0) -> Contribution:
    chain = live.node.parts.chain
    named = ContributionKey(miner.public_key, 0)
    return chain.view().get_existing(contribution_key(chain.ledger_context.task_id, round_number, named))


def get_dispute(live: LiveNode, miner: SigningKey, challenger: SigningKey) -> Dispute | None:
    chain = live.node.parts.chain
    key = DisputeKey(chain.ledger_context.task_id, 0, miner.public_key, 0, challenger.public_key)
    return chain.view().get(dispute_key(key))


def make_runner(live: LiveNode, miner: SigningKey, anchor_height: int) -> tuple[Task, Runner]:
    chain = live.node.parts.chain
    context, task = chain.ledger_context, load_task(live.genesis.task)
    beacon = chain.view().get_existing(beacon_key(anchor_height)).beacon
    seed = compute_segment_seed(context.chain_id, context.task_id, 0, beacon, miner.public_key, 0)
    checkpoint = compute_initial_checkpoint(task.program)
    return task, Runner(task.program, get_backend("cpu"), task.dataset, seed, checkpoint)


async def commit_forged(live: LiveNode) -> tuple[Op, IntArray]:
    """Put a segment of the second miner's into a block, one element of one product wrong; return op and product."""
    await live.mine(1)
    task, runner = make_runner(live, SECOND_MINER, 0)
    honest = execute_segment(runner)
    op = next(op for op in task.program.ops if op.kind is OpKind.LINEAR)
    forged = rerun_step(runner, STEP)[op.outputs[0]].copy()
    forged[ROW, COLUMN] += 1
    place = STEP * len(task.program.get_step_outputs(0)) + task.program.get_step_outputs(0).index(op.outputs[0])
    roots = honest.output_roots
    start, root = place * DIGEST_BYTES, compute_tensor_root(forged)
    sidecar = Sidecar(roots[:start] + root + roots[start + DIGEST_BYTES :], honest.delta)
    trace = Trace(task.program, tuple(map(compute_tensor_root, runner.checkpoint.weights)), sidecar.output_roots)
    task_id = live.node.parts.chain.ledger_context.task_id
    commit = CommitContribution(
        task=task_id,
        round=0,
        index=0,
        anchor_height=0,
        seed=Hash(runner.segment_seed),
        trace_root=compute_trace_root(trace),
        delta_root=compute_delta_root(task.program, sidecar.output_roots),
        sidecar_hash=compute_sidecar_hash(sidecar),
    )
    await send(live, SECOND_MINER, commit, sidecar)
    await live.mine(1)
    return op, forged


async def test_a_forged_element_is_disputed_down_to_its_opening_and_slashed(live: LiveNode) -> None:
    op, forged = await commit_forged(live)
    task_id = live.node.parts.chain.ledger_context.task_id
    before = get_account(live.node.parts.chain.view(), MINER.public_key).balance
    demands: list[Demand] = []
    for _ in range(2):
        await settle_down(live, 1)
        await live.mine(1)
        dispute = get_dispute(live, SECOND_MINER, MINER)
        assert dispute is not None
        assert (dispute.step, dispute.op) == (STEP, op.index)
        demands.append(dispute.demand)
        strip = dispute.demand.strip if isinstance(dispute.demand, DemandStrip) else None
        shown = open_digests(forged) if strip is None else open_whole_strip(forged, strip)
        await send(live, SECOND_MINER, AnswerDispute(task_id, 0, SECOND_MINER.public_key, 0, MINER.public_key, shown))
        await live.mine(1)
    await settle_down(live, 1)
    await live.mine(1)
    last = get_dispute(live, SECOND_MINER, MINER)
    assert last is not None
    assert [*demands, last.demand] == [DemandDigests(0), DemandStrip(0, 1), DemandOpening(ROW, COLUMN, 0)]
    await live.mine(2)
    parameters = live.genesis.parameters
    assert get_contribution(live, SECOND_MINER).status is ContributionStatus.SLASHED
    gained = get_account(live.node.parts.chain.view(), MINER.public_key).balance - before
    # Three demands with the node's fee each; what its blocks have earned is still locked.
    assert gained == parameters.deposit // 2 - 3 * 1_000
    assert live.node.validator.auditor.audits.counts["mismatch"] == 1


async def test_what_another_branch_has_in_place_of_a_forgery_is_not_disputed(
    live: LiveNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head may move while a segment is executed, and a deposit against an honest one is lost."""
    audits, mempool = live.node.validator.auditor, live.node.parts.mempool
    found: list[tuple[auditor._Segment, Difference]] = []
    begin = audits._begin

    async def note(segment: auditor._Segment, fault: Difference) -> None:
        found.append((segment, fault))

    monkeypatch.setattr(audits, "_begin", note)
    await commit_forged(live)
    async with asyncio.timeout(30):
        while not found:
            await asyncio.sleep(0.02)
    segment, fault = found[0]
    other_seed = replace(segment, context=replace(segment.context, seed=Hash(bytes(32))))
    other_data = replace(segment, contribution=replace(segment.contribution, sidecar_hash=Hash(bytes(32))))
    gone = replace(segment, key=replace(segment.key, index=1))
    for each in (other_seed, other_data, gone):
        await begin(each, fault)
        assert len(mempool) == 0
    await begin(segment, fault)
    assert len(mempool) == 1


async def test_a_challenge_locks_the_deposit_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Votes may have moved it away from the one in genesis."""
    in_force = 2 * Parameters().deposit
    monkeypatch.setattr(
        genesis_state, "make_values", lambda parameters: replace(make_values(parameters), deposit=in_force)
    )
    async with run_live_node(tmp_path, genesis=make_genesis((MINER, SECOND_MINER))) as live:
        await commit_forged(live)
        await settle_down(live, 1)
        await live.mine(1)
        dispute = get_dispute(live, SECOND_MINER, MINER)
        assert dispute is not None
        assert dispute.deposit == in_force


async def test_a_node_without_coins_says_once_that_it_cannot_dispute(
    live: LiveNode, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []
    monkeypatch.setattr(auditor.log, "warning", lambda event, **_names: told.append(event))
    parts = live.node.parts
    chain, deposit, audits = parts.chain, parts.chain.parameters.deposit, live.node.validator.auditor
    spare = get_account(chain.view(), MINER.public_key).balance - deposit + 1
    await send(live, MINER, Transfer(HOLDER.public_key, spare))
    await commit_forged(live)
    for _ in range(3):
        await live.mine(1)
        async with asyncio.timeout(30):
            while audits.follower._task is None or not audits.follower._task.done():
                await asyncio.sleep(0.02)
    assert told == ["segment is not what its seed gives, and cannot be disputed"]
    status = ["auditor", "status", format_address(MINER.public_key), "--rpc", live.url]
    assert await asyncio.to_thread(main, status) == 0
    assert "; 4.999999999 coins left, too few for the 5 that a dispute locks" in capsys.readouterr().out
    await send(live, HOLDER, Transfer(MINER.public_key, spare))
    await live.mine(1)
    await settle_down(live, 1)
    assert await asyncio.to_thread(main, [*status, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["can_dispute"] is True
    await live.mine(1)
    assert get_dispute(live, SECOND_MINER, MINER) is not None
    assert told[1:] == ["segment is not what its seed gives, and is disputed"]


async def test_a_miner_answers_a_false_dispute_to_its_end(live: LiveNode) -> None:
    await live.mine(1)
    task = load_task(live.genesis.task)
    link = NodeLink(live.url, lambda: live.token)
    loop = MinerLoop(link, Tools(live.genesis, task, get_backend("cpu"), get_lottery("cpu")))

    async def follow() -> None:
        """Let the miner do once what the node's work asks of it."""
        async with AsyncRpcClient(live.url, live.token) as client:
            work = await client.call(GET_WORK, Params())
        await asyncio.to_thread(loop._prepare, work)

    await follow()
    await live.mine(1)
    assert get_contribution(live, MINER).status is ContributionStatus.COMMITTED
    parts = live.node.parts
    context, deposit = parts.chain.ledger_context, parts.chain.parameters.deposit
    op = next(op for op in task.program.ops if op.kind is OpKind.ADAM).index
    demands: tuple[Demand, ...] = (DemandDigests(0), DemandStrip(0, 0), DemandOpening(1, 1, 0))
    for number, demand in enumerate(demands):
        locked = deposit if number == 0 else 0
        named = get_contribution(live, MINER).sidecar_hash
        action = DisputeContribution(context.task_id, 0, MINER.public_key, 0, named, STEP, op, demand, locked)
        await send(live, HOLDER, action)
        await live.mine(1)
        async with AsyncRpcClient(live.url) as client:
            (shown,) = await client.call(LIST_DISPUTES, Params())
        assert (shown.demand, shown.is_answered) == (type(demand).__name__, False)
        assert get_contribution(live, MINER).sidecar_hash in get_needed_blobs(context, parts.chain.view())
        await follow()
        await live.mine(1)
    assert get_dispute(live, MINER, HOLDER) is None
    holder = get_account(parts.chain.view(), HOLDER.public_key).balance
    assert holder == live.genesis.allocations[-1].amount - deposit
    assert get_contribution(live, MINER).status is ContributionStatus.PROVEN
    await live.mine(live.genesis.parameters.round_blocks - parts.chain.head.height)
    assert get_task_state(context, parts.chain.view()).round == 1
    assert get_contribution(live, MINER).status is ContributionStatus.SETTLED
