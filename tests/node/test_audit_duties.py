"""A real node proves the audits that its key is assigned, is paid, and answers for what it has vouched for."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from chain.audit import ProveAudit, RegisterAuditor
from chain.codec import decode
from chain.dispute import AnswerDispute, Demand, DemandDigests, DemandOpening, DemandStrip, DisputeContribution
from chain.genesis import Genesis, Parameters
from chain.ledger.audit_records import Auditor
from chain.ledger.context import get_task_state
from chain.ledger.keys import account_key, auditor_key, contribution_key
from chain.ledger.records import ContributionKey
from chain.ledger.transition import ContributionStatus
from chain.packed import pack_transaction
from chain.primitives import Hash
from chain.state.proof import STATE_PROOF_BYTES_MAX, StateProof, verify_inclusion
from chain.transaction import (
    CommitContribution,
    ProveContribution,
    Transaction,
    TransactionBody,
    Transfer,
    compute_sidecar_hash,
    compute_signing_hash,
)
from ml.backends import get_backend
from ml.program import OpKind
from node.addresses import format_address
from node.cli import main
from node.data_directory import DataDirectory
from node.keystore import write_key
from node.learning import load_task
from node.miner.plan import SegmentPlan
from node.miner.segment import TrainedSegment, open_segment, train_segment
from node.options import Endpoint
from node.outlived import is_spent
from node.rpc.audit_methods import GET_AUDITOR, LIST_ASSIGNMENTS, LIST_AUDITORS, AuditorParams, AuditorView
from node.rpc.client import AsyncRpcClient
from node.rpc.registry import Params
from node.rpc.views import from_hex
from tests.node.test_auditor import make_runner, send
from tests.support.live_node import HOLDER, MINER, SECOND_MINER, LiveNode, make_genesis, run_live_node

PARAMETERS = Parameters(proof_window=3)


def make_network() -> Genesis:
    return replace(make_genesis((MINER, SECOND_MINER)), parameters=PARAMETERS)


@pytest_asyncio.fixture
async def live(tmp_path: Path) -> AsyncIterator[LiveNode]:
    async with run_live_node(tmp_path, genesis=make_network()) as node:
        yield node


async def register(live: LiveNode) -> None:
    """Enter the node's own key as an auditor."""
    await live.node.parts.sender.send(RegisterAuditor(PARAMETERS.auditor_bond))
    await live.mine(1)


async def commit(live: LiveNode) -> TrainedSegment:
    """Put an honest segment of the second miner's into the next block."""
    _, runner = make_runner(live, SECOND_MINER, 0)
    segment = train_segment(runner, SegmentPlan(0, 0, 0))
    task_id = live.node.parts.chain.ledger_context.task_id
    roots = segment.trace_root, segment.delta_root, compute_sidecar_hash(segment.sidecar)
    await send(live, SECOND_MINER, CommitContribution(task_id, 0, 0, 0, segment.seed, *roots), segment.sidecar)
    await live.mine(1)
    return segment


async def open_places(live: LiveNode, segment: TrainedSegment) -> None:
    """Send the openings of the second miner's segment."""
    chain = live.node.parts.chain
    key = contribution_key(chain.ledger_context.task_id, 0, ContributionKey(SECOND_MINER.public_key, 0))
    challenge = chain.view().get_existing(key).challenge
    task = load_task(live.genesis.task)
    openings = open_segment(task, get_backend("cpu"), segment, (challenge, PARAMETERS.places_drawn))
    await send(live, SECOND_MINER, ProveContribution(chain.ledger_context.task_id, 0, 0, openings))


async def wait_for_duties(live: LiveNode, kind: str, count: int) -> None:
    """Wait until the node's auditor has sent so many proofs or answers, and all is in the pool."""
    duties = live.node.validator.auditor.duties
    async with asyncio.timeout(60):
        while duties.counts.counts[kind] < count:
            await asyncio.sleep(0.02)


async def prove(live: LiveNode) -> TrainedSegment:
    """Bring the chain to where the node's audit of the second miner's segment is proven."""
    await register(live)
    segment = await commit(live)
    await live.mine(PARAMETERS.challenge_delay)
    await wait_for_duties(live, "proven", 1)
    await open_places(live, segment)
    await live.mine(1)
    return segment


def get_auditor(live: LiveNode) -> Auditor | None:
    return live.node.parts.chain.view().get(auditor_key(MINER.public_key))


async def test_a_node_proves_what_it_is_assigned_and_is_paid(live: LiveNode) -> None:
    await prove(live)
    async with AsyncRpcClient(live.url) as client:
        (assigned,) = await client.call(LIST_ASSIGNMENTS, Params())
        (active,) = (await client.call(LIST_AUDITORS, Params())).auditors
    assert (assigned.miner, assigned.index) == (format_address(SECOND_MINER.public_key), 0)
    assert (assigned.auditor, assigned.is_proven) == (active.auditor, True)
    chain = live.node.parts.chain
    before = get_task_state(chain.ledger_context, chain.view())
    await live.mine(before.start_height + PARAMETERS.round_blocks - chain.head.height)
    auditor = get_auditor(live)
    assert auditor is not None
    assert (auditor.proven, auditor.missed, auditor.bond) == (1, 0, PARAMETERS.auditor_bond)
    key = contribution_key(chain.ledger_context.task_id, 0, ContributionKey(SECOND_MINER.public_key, 0))
    contribution = chain.view().get_existing(key)
    assert contribution.status is ContributionStatus.SETTLED
    macs = contribution.macs * PARAMETERS.audit_pay_bp // 10_000
    pay = before.price * macs >> 40
    assert auditor.paid == pay > 0
    # A node's blocks of operands that nobody trained are not paid: what it gained is the audit's pay less its fees.
    genesis = next(each.amount for each in live.genesis.allocations if each.account == MINER.public_key)
    balance = chain.view().get_existing(account_key(MINER.public_key)).balance
    assert balance == genesis - PARAMETERS.bond - PARAMETERS.auditor_bond - 2 * 1_000 + pay


async def test_a_restarted_node_still_proves(tmp_path: Path) -> None:
    async with run_live_node(tmp_path, genesis=make_network()) as first:
        await register(first)
        segment = await commit(first)
        # The auditor may be anywhere in its work: nothing of it is kept.
        await first.mine(PARAMETERS.challenge_delay)
    async with run_live_node(tmp_path) as again:
        await open_places(again, segment)
        await again.mine(1)
        await wait_for_duties(again, "proven", 1)
        await again.mine(1)
        auditor = get_auditor(again)
        assert auditor is not None
        assert auditor.proven == 1


async def test_a_proof_is_made_anew_on_another_branch(tmp_path: Path) -> None:
    """There another beacon draws other outputs; what was sent for the first branch must not hold up the second."""
    roots = tmp_path / "auditor", tmp_path / "other"
    genesis = make_network()
    async with run_live_node(roots[0], genesis=genesis) as live:
        await register(live)
        await commit(live)
        peer = (Endpoint("127.0.0.1", live.node.network._port),)
        async with run_live_node(roots[1], SECOND_MINER, genesis, peer) as other:
            await wait_for_height(other, 2)
        await live.mine(PARAMETERS.challenge_delay)
        await wait_for_duties(live, "proven", 1)
        async with run_live_node(roots[1], SECOND_MINER) as alone:
            await alone.mine(PARAMETERS.challenge_delay + 1)
        left = live.node.parts.chain.head
        async with run_live_node(roots[1], SECOND_MINER, peers=peer):
            await wait_for_height(live, 5)
        assert live.node.parts.chain.head.get_ancestor(left.height).hash != left.hash
        await wait_for_duties(live, "proven", 2)
        await live.mine(1)
        auditor = get_auditor(live)
        assert auditor is not None
        assert auditor.proven == 1
        assert len(live.node.parts.mempool) == 0


async def wait_for_height(live: LiveNode, height: int) -> None:
    async with asyncio.timeout(60):
        while live.node.parts.chain.head.height < height:
            await asyncio.sleep(0.05)


async def test_a_node_answers_for_what_it_vouched_for_when_the_miner_keeps_silent(live: LiveNode) -> None:
    segment = await prove(live)
    named = compute_sidecar_hash(segment.sidecar)
    context, deposit = live.node.parts.chain.ledger_context, PARAMETERS.deposit
    program = load_task(live.genesis.task).program
    op = next(op for op in program.ops if op.kind is OpKind.ADAM).index
    chain = live.node.parts.chain
    demands: tuple[Demand, ...] = (DemandDigests(0), DemandStrip(0, 0), DemandOpening(1, 1, 0))
    for number, demand in enumerate(demands):
        locked = deposit if number == 0 else 0
        action = DisputeContribution(context.task_id, 0, SECOND_MINER.public_key, 0, named, 10, op, demand, locked)
        await send(live, HOLDER, action)
        await live.mine(1)
        await wait_for_duties(live, "answered", number + 1)
        await live.mine(1)
    holder = chain.view().get_existing(account_key(HOLDER.public_key)).balance
    start = next(each.amount for each in live.genesis.allocations if each.account == HOLDER.public_key)
    assert start - holder == deposit, "the challenger has lost"
    auditor = get_auditor(live)
    assert auditor is not None
    assert auditor.bond == PARAMETERS.auditor_bond


async def test_a_second_answer_holds_up_nothing(live: LiveNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Miner and auditor answer the same demand; whose answer is not in the block sends on with the same nonce."""
    segment = await prove(live)
    chain, mempool = live.node.parts.chain, live.node.parts.mempool
    task_id = chain.ledger_context.task_id
    op = next(op for op in load_task(live.genesis.task).program.ops if op.kind is OpKind.ADAM).index
    place = SECOND_MINER.public_key, 0, compute_sidecar_hash(segment.sidecar), 10, op
    demand = DisputeContribution(task_id, 0, *place, DemandDigests(0), PARAMETERS.deposit)
    await send(live, HOLDER, demand)
    await live.mine(1)
    await wait_for_duties(live, "answered", 1)
    answers = [packed.transaction.body.action for packed in mempool.iter_candidates()]
    (answer,) = [action for action in answers if isinstance(action, AnswerDispute)]
    await send(live, SECOND_MINER, answer)
    assert len(mempool) == 2
    # Whoever makes a block drops what it could not take; here that is what others do who make none.
    monkeypatch.setattr(mempool, "drop", lambda _hash: None)
    await live.mine(1)
    assert len(mempool) == 0
    await send(live, SECOND_MINER, Transfer(HOLDER.public_key, 1))
    before = chain.view().get_existing(account_key(SECOND_MINER.public_key)).nonce
    await live.mine(1)
    assert chain.view().get_existing(account_key(SECOND_MINER.public_key)).nonce == before + 1


async def test_an_answer_waits_for_a_demand_that_another_branch_does_not_have_yet(
    live: LiveNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    await prove(live)
    chain, gate = live.node.parts.chain, live.node.parts.gate
    task_id = chain.ledger_context.task_id
    early = AnswerDispute(task_id, 0, SECOND_MINER.public_key, 0, HOLDER.public_key, b"what will be demanded")
    body = TransactionBody(SECOND_MINER.public_key, 2, 0, early)
    signature = SECOND_MINER.sign(compute_signing_hash(chain.ledger_context.chain_id, body))
    packed = pack_transaction(Transaction(body, signature))
    # As on the branch that has the demand; there it was good.
    live.node.parts.mempool.add(packed, 2, live.node.parts.get_time_ms())
    monkeypatch.setattr(live.node.parts.mempool, "drop", lambda _hash: None)
    await live.mine(1)
    await asyncio.gather(*gate._tasks)
    assert live.node.parts.mempool.get(packed.hash) is None
    assert gate.is_waiting(packed.hash)


async def test_a_proof_of_what_has_expired_is_let_go_of(live: LiveNode) -> None:
    await register(live)
    await commit(live)
    await live.mine(PARAMETERS.challenge_delay)
    await wait_for_duties(live, "proven", 1)
    (proof,) = [packed.transaction for packed in live.node.parts.mempool.iter_candidates()]
    assert isinstance(proof.body.action, ProveAudit)
    chain = live.node.parts.chain
    assert not is_spent(PARAMETERS, chain.view(), proof, chain.head.height + 1)
    await live.mine(PARAMETERS.proof_window)
    assert is_spent(PARAMETERS, chain.view(), proof, chain.head.height + 1)


async def test_the_commands_register_show_and_retire(
    live: LiveNode, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "own"
    root.mkdir()
    write_key(DataDirectory(root).key_path, HOLDER, "", is_development=True)
    place = ["--dir", str(root), "--rpc", live.url, "--json"]

    async def run(*arguments: str) -> dict[str, object]:
        assert await asyncio.to_thread(main, ["auditor", *arguments, *place]) == 0
        shown: dict[str, object] = json.loads(capsys.readouterr().out)
        return shown

    assert (await run("status"))["is_auditor"] is False
    assert (await run("register"))["atoms"] == str(PARAMETERS.auditor_bond)
    await live.mine(1)
    shown = await run("status")
    assert (shown["is_auditor"], shown["coins"], shown["release_height"]) == (True, "20", None)
    assert await asyncio.to_thread(main, ["auditor", "register", *place]) == 1
    assert "auditor-held: found a bond of 20 coins" in capsys.readouterr().err
    # A bond grows once the round has nothing left to draw.
    await live.mine(PARAMETERS.commit_blocks + PARAMETERS.challenge_delay - live.node.parts.chain.head.height)
    assert (await run("register", "--bond", "2.5"))["atoms"] == "2500000000"
    await live.mine(1)
    assert (await run("status"))["coins"] == "22.5"
    assert (await run("retire"))["step"] == "notice"
    await live.mine(1)
    assert (await run("status"))["release_height"] is not None
    assert await asyncio.to_thread(main, ["auditor", "register", *place]) == 1
    assert "auditor-held" in capsys.readouterr().err


async def test_an_auditor_is_shown_with_a_proof(live: LiveNode) -> None:
    await register(live)
    async with AsyncRpcClient(live.url) as client:
        shown: AuditorView = await client.call(GET_AUDITOR, AuditorParams(format_address(MINER.public_key)))
    assert shown.entry.value is not None
    proof = decode(StateProof, shown.entry.proof, STATE_PROOF_BYTES_MAX)
    root = Hash(from_hex(shown.entry.state_root))
    verify_inclusion(root, auditor_key(MINER.public_key).name, shown.entry.value, proof)
    assert decode(Auditor, shown.entry.value, 1024) == get_auditor(live)
