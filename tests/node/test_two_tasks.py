"""Posted tasks on a real node: data beside the transaction, two tasks in one round, disputes, and what others fetch."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
import torch
from msgspec import structs

from chain.dispute import Demand, DemandDigests, DemandOpening, DemandStrip, DisputeContribution
from chain.errors import InvalidTransaction, MissingData
from chain.genesis import compute_segment_seed
from chain.hashing import tagged_hash
from chain.ledger.accounts import get_account
from chain.ledger.context import get_task_state
from chain.ledger.keys import contribution_key, dispute_key, shares_key, task_key
from chain.ledger.records import Contribution, ContributionKey, DisputeKey
from chain.ledger.transition import ContributionStatus
from chain.primitives import Hash
from chain.signature import SigningKey
from chain.transaction import CommitContribution, compute_sidecar_hash, compute_transaction_hash
from ml.backends import get_backend
from ml.dataset import load_digits
from ml.lottery import get_lottery
from ml.models import build_program
from ml.program import OpKind
from ml.segment import Runner
from ml.spec import DIGITS, Mlp, encode_spec
from node.cli.main import main
from node.database.blob_names import compute_blob_names, list_programs, list_tasks
from node.database.exporting import get_needed_blobs
from node.exit_codes import ExitCode
from node.learning import load_task
from node.miner import duties
from node.miner.link import NodeLink
from node.miner.loop import MinerLoop
from node.miner.plan import SegmentPlan
from node.miner.sabotage import forge_delta
from node.miner.segment import MineProduct, TrainedSegment, train_segment
from node.miner.tools import Tools
from node.options import Endpoint
from node.rpc.client import AsyncRpcClient
from node.rpc.dispute_methods import LIST_DISPUTES
from node.rpc.methods import GET_CHECKPOINT, GET_WORK, LIST_CONTRIBUTIONS, CheckpointParams, RoundParams
from node.rpc.registry import Params
from node.rpc.task_methods import (
    GET_POSTED,
    GET_TASK,
    GET_TASK_DATA,
    LIST_TASKS,
    PostedParams,
    PostedTaskView,
    TaskParams,
)
from node.rpc.views import HashText, from_hex, to_hex
from node.wallet import sign_action
from tests.node.test_auditor import send, settle_down
from tests.support.live_node import HOLDER, MINER, SECOND_MINER, LiveNode, make_genesis, run_live_node
from tests.support.posting import BUDGET, SPEC, make_digits_task, post


@pytest_asyncio.fixture
async def live(tmp_path: Path) -> AsyncIterator[LiveNode]:
    async with run_live_node(tmp_path, genesis=make_genesis((MINER, SECOND_MINER))) as node:
        yield node


def get_contribution(live: LiveNode, task: Hash, miner: SigningKey, round_number: int) -> Contribution:
    key = contribution_key(task, round_number, ContributionKey(miner.public_key, 0))
    return live.node.parts.chain.view().get_existing(key)


async def test_two_tasks_train_in_one_round_and_everybody_can_read_both(live: LiveNode) -> None:
    name = await post(live, HOLDER, *make_digits_task(live))
    chain = live.node.parts.chain
    await live.mine(live.genesis.parameters.round_blocks - chain.head.height)
    task = load_task(live.genesis.task)
    link = NodeLink(live.url, lambda: live.token)
    loop = MinerLoop(link, Tools(live.genesis, task, get_backend("cpu"), get_lottery("cpu")))

    async def follow() -> None:
        async with AsyncRpcClient(live.url, live.token) as client:
            work = await client.call(GET_WORK, Params())
        await asyncio.to_thread(loop._prepare, work)

    await follow()
    await live.mine(1)
    for _ in range(live.genesis.parameters.round_blocks - 1):
        await follow()
        await live.mine(1)
    mined, own = (get_contribution(live, each, MINER, 1) for each in (chain.ledger_context.task_id, name))
    assert mined.status is own.status is ContributionStatus.SETTLED
    view = chain.view()
    state = view.get_existing(task_key(name))
    assert state.checkpoint_root != view.get_existing(task_key(chain.ledger_context.task_id)).checkpoint_root
    assert own.reward > 0
    assert state.pot == BUDGET - own.reward - 10**9
    assert view.get_existing(shares_key(name, MINER.public_key)).units == build_program(SPEC).segment_macs
    async with AsyncRpcClient(live.url) as rpc:
        genesis, posted = await rpc.call(LIST_TASKS, Params())
        assert (genesis.last_height, posted.task, posted.is_live) == (None, to_hex(name), True)
        assert await rpc.call(GET_TASK, TaskParams(to_hex(name))) == posted
        first = await rpc.call(GET_CHECKPOINT, CheckpointParams(1, content=True, task=to_hex(name)))
        then = await rpc.call(GET_CHECKPOINT, CheckpointParams(2, content=True, task=to_hex(name)))
        assert then.total == 360
        assert from_hex(first.root) in compute_blob_names(first.content or b"", [build_program(SPEC)])
        assert from_hex(then.root) == state.checkpoint_root
        (listed,) = await rpc.call(LIST_CONTRIBUTIONS, RoundParams(1, to_hex(name)))
        assert listed.sidecar_hash == to_hex(own.sidecar_hash)
        shown = await rpc.call(GET_POSTED, PostedParams(to_hex(name)))
        assert shown.funding is not None
        assert [each.amount for each in shown.funding.funders] == [str(BUDGET)]
        data = await rpc.call(GET_TASK_DATA, PostedParams(to_hex(name)))
        assert compute_blob_names(data, ())[0] == load_digits(DIGITS.heldout).root
    # What a snapshot takes along is all there, and each piece has one of the names that are believed.
    programs = list_programs(list_tasks(chain.ledger_context, view))
    for blob in get_needed_blobs(chain.ledger_context, view):
        assert blob in compute_blob_names(chain.blobs.get(blob) or b"", programs)


class OtherBranch(NodeLink):
    """A link to a node whose head has moved to a branch that posted a task at another height."""

    posted_height: int | None = None

    def get_posted(self, task: HashText) -> PostedTaskView:
        posted = super().get_posted(task)
        return posted if self.posted_height is None else structs.replace(posted, posted_height=self.posted_height)


async def test_a_miner_trains_at_the_rate_of_the_branch_that_it_is_on(live: LiveNode) -> None:
    name = to_hex(await post(live, HOLDER, *make_digits_task(live)))
    await live.mine(live.genesis.parameters.round_blocks - live.node.parts.chain.head.height)
    link = OtherBranch(live.url, lambda: live.token)
    tools = Tools(live.genesis, load_task(live.genesis.task), get_backend("cpu"), get_lottery("cpu"))
    own, plan = duties.Duties(link, tools), SegmentPlan(1, 0, live.node.parts.chain.head.height - 1)
    async with AsyncRpcClient(live.url, live.token) as client:
        work = await client.call(GET_WORK, Params())
    rounds = []
    for link.posted_height in (None, 0):
        await asyncio.to_thread(own.train, work, name, plan)
        rounds.append(own.segments[name, 0].task_round)
    assert rounds == [0, 1]


async def test_a_posted_task_that_does_not_fit_in_memory_is_left_alone(
    live: LiveNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = await post(live, HOLDER, *make_digits_task(live))
    chain, tried = live.node.parts.chain, []
    await live.mine(live.genesis.parameters.round_blocks - chain.head.height)

    def train_what_fits(runner: Runner, plan: SegmentPlan, mine: MineProduct | None) -> TrainedSegment:
        if runner.program.spec == SPEC:
            tried.append(plan)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return train_segment(runner, plan, mine)

    monkeypatch.setattr(duties, "train_segment", train_what_fits)
    tools = Tools(live.genesis, load_task(live.genesis.task), get_backend("cpu"), get_lottery("cpu"))
    loop = MinerLoop(NodeLink(live.url, lambda: live.token), tools)
    for _ in range(2):
        async with AsyncRpcClient(live.url, live.token) as client:
            work = await client.call(GET_WORK, Params())
        assert to_hex(name) in {posted.task.task for posted in work.posted}
        await asyncio.to_thread(loop._prepare, work)
        await live.mine(1)
    assert len(tried) == 1
    assert {task for task, _ in loop._duties.segments} == {to_hex(chain.ledger_context.task_id)}


async def test_a_forged_segment_of_a_posted_task_is_disputed_and_slashed(live: LiveNode) -> None:
    name = await post(live, HOLDER, *make_digits_task(live))
    chain, learning = live.node.parts.chain, live.node.parts.learning
    await live.mine(live.genesis.parameters.round_blocks - chain.head.height)
    await live.mine(1)
    posted = next(task for task in list_tasks(chain.ledger_context, chain.view()) if task.name == name)
    loaded, state = learning.get_task(posted.spec), chain.view().get_existing(task_key(name))
    anchor = chain.head.get_ancestor(state.start_height)
    seed = compute_segment_seed(
        chain.ledger_context.chain_id, name, state.round, anchor.beacon, SECOND_MINER.public_key, 0
    )
    runner = Runner(
        loaded.program,
        get_backend("cpu"),
        loaded.dataset,
        seed,
        learning.get_checkpoint(posted.spec, state.checkpoint_root),
    )
    forged = forge_delta(loaded.program, train_segment(runner, SegmentPlan(state.round, 0, anchor.height)))
    commit = CommitContribution(
        name,
        state.round,
        0,
        anchor.height,
        forged.seed,
        forged.trace_root,
        forged.delta_root,
        compute_sidecar_hash(forged.sidecar),
    )
    before = get_account(chain.view(), MINER.public_key).balance
    await send(live, SECOND_MINER, commit, forged.sidecar)
    await live.mine(1)
    await settle_down(live, 1)
    await live.mine(1)
    key = DisputeKey(name, state.round, SECOND_MINER.public_key, 0, MINER.public_key)
    assert chain.view().get(dispute_key(key)) is not None
    await live.mine(3)
    assert get_contribution(live, name, SECOND_MINER, state.round).status is ContributionStatus.SLASHED
    gained = get_account(chain.view(), MINER.public_key).balance - before
    assert gained == live.genesis.parameters.deposit // 2 - 1_000
    assert get_task_state(chain.ledger_context, chain.view()).round == 1


async def test_a_task_needs_its_data_and_keeps_none_that_are_not_those_of_a_good_one(live: LiveNode) -> None:
    terms, sidecar = make_digits_task(live)
    parts = live.node.parts
    chain_id, nonce = parts.chain.ledger_context.chain_id, parts.gate.compute_next_nonce(HOLDER.public_key)
    with pytest.raises(MissingData):
        await parts.gate.admit(sign_action(chain_id, HOLDER, nonce, 0, terms))
    other = replace(sidecar, delta=sidecar.delta + b"x")
    with pytest.raises(InvalidTransaction, match="sidecar-hash"):
        await parts.gate.admit(sign_action(chain_id, HOLDER, nonce, 0, terms), other)
    false = replace(terms, data_hash=compute_sidecar_hash(other))
    with pytest.raises(InvalidTransaction, match="part-root"):
        await parts.gate.admit(sign_action(chain_id, HOLDER, nonce, 0, false), other)
    assert not parts.chain.has_sidecar(false.data_hash)
    await parts.gate.admit(sign_action(chain_id, HOLDER, nonce, 0, terms), sidecar)
    assert parts.chain.has_sidecar(terms.data_hash)


async def test_a_task_that_nobody_could_train_is_not_checked_again_at_every_head(live: LiveNode) -> None:
    terms, sidecar = make_digits_task(live)
    parts = live.node.parts
    chain_id, nonce = parts.chain.ledger_context.chain_id, parts.gate.compute_next_nonce(HOLDER.public_key)
    faults = {
        "task-size": replace(SPEC, model=Mlp((64, 16_000, 10))),
        "task-program": replace(SPEC, heldout=1_797),
        "task-checkpoint": replace(SPEC, init_seed=SPEC.init_seed + 1),
    }
    for rule, spec in faults.items():
        program = encode_spec(spec)
        bad = replace(terms, program=program, model=replace(terms.model, spec_hash=tagged_hash("spec", program)))
        transaction = sign_action(chain_id, HOLDER, nonce, 0, bad)
        with pytest.raises(InvalidTransaction) as refused:
            await parts.gate.admit(transaction, sidecar)
        assert refused.value.rule == rule
        assert not parts.gate.is_waiting(compute_transaction_hash(transaction)), rule


async def test_peers_fetch_the_data_with_the_block_and_a_directory_keeps_all_of_it(tmp_path: Path) -> None:
    async with run_live_node(tmp_path / "one", genesis=make_genesis((MINER, SECOND_MINER))) as live:
        terms, sidecar = make_digits_task(live)
        name = await post(live, HOLDER, terms, sidecar)
        chain = live.node.parts.chain
        await live.mine(live.genesis.parameters.round_blocks - chain.head.height)
        loop = MinerLoop(
            NodeLink(live.url, lambda: live.token),
            Tools(live.genesis, load_task(live.genesis.task), get_backend("cpu"), get_lottery("cpu")),
        )
        for _ in range(live.genesis.parameters.round_blocks + 1):
            async with AsyncRpcClient(live.url, live.token) as client:
                work = await client.call(GET_WORK, Params())
            await asyncio.to_thread(loop._prepare, work)
            await live.mine(1)
        assert get_contribution(live, name, MINER, 1).status is ContributionStatus.SETTLED
        head, port = chain.head.hash, live.node.validator.network._port
        async with run_live_node(
            tmp_path / "two", SECOND_MINER, live.genesis, peers=(Endpoint("127.0.0.1", port),)
        ) as other:
            async with asyncio.timeout(60):
                while other.node.parts.chain.head.hash != head:
                    await asyncio.sleep(0.05)
            assert other.node.parts.chain.has_sidecar(terms.data_hash)
            state = other.node.parts.chain.view().get_existing(task_key(name))
            assert other.node.parts.chain.blobs.has(state.checkpoint_root)
    for kind in ("chain", "state"):
        out, into = str(tmp_path / f"export-{kind}"), str(tmp_path / f"imported-{kind}")
        trusted = ["--trust", to_hex(head)] if kind == "state" else []
        for arguments in (
            ["verify", "--dir", str(tmp_path / "one")],
            ["export", out, "--dir", str(tmp_path / "one"), *(["--state"] if kind == "state" else [])],
            ["import", out, "--dir", into, *trusted],
            ["verify", "--dir", into],
        ):
            assert await asyncio.to_thread(main, ["db", *arguments]) == ExitCode.OK, arguments


async def test_a_miner_answers_a_false_dispute_about_a_posted_task_to_its_end(live: LiveNode) -> None:
    name = await post(live, HOLDER, *make_digits_task(live))
    chain, parameters = live.node.parts.chain, live.genesis.parameters
    await live.mine(parameters.round_blocks - chain.head.height)
    tools = Tools(live.genesis, load_task(live.genesis.task), get_backend("cpu"), get_lottery("cpu"))
    loop = MinerLoop(NodeLink(live.url, lambda: live.token), tools)

    async def follow() -> None:
        async with AsyncRpcClient(live.url, live.token) as client:
            work = await client.call(GET_WORK, Params())
        await asyncio.to_thread(loop._prepare, work)
        await live.mine(1)

    await follow()
    before = get_account(chain.view(), HOLDER.public_key).balance
    op = next(op for op in build_program(SPEC).ops if op.kind is OpKind.ADAM).index
    key = DisputeKey(name, 1, MINER.public_key, 0, HOLDER.public_key)
    demands: tuple[Demand, ...] = (DemandDigests(0), DemandStrip(0, 0), DemandOpening(1, 1, 0))
    for number, demand in enumerate(demands):
        locked = parameters.deposit if number == 0 else 0
        named = get_contribution(live, name, MINER, 1).sidecar_hash
        await send(live, HOLDER, DisputeContribution(name, 1, MINER.public_key, 0, named, 3, op, demand, locked))
        await live.mine(1)
        async with AsyncRpcClient(live.url) as client:
            (shown,) = await client.call(LIST_DISPUTES, Params())
        assert (shown.task, shown.demand, shown.is_answered) == (to_hex(name), type(demand).__name__, False)
        await follow()
    assert chain.view().get(dispute_key(key)) is None
    assert before - get_account(chain.view(), HOLDER.public_key).balance == parameters.deposit
    assert get_contribution(live, name, MINER, 1).status is ContributionStatus.PROVEN
