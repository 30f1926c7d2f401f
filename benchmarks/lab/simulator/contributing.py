"""A simulated contributor: it trains the segments that a round asks of its node, commits them, opens what is drawn.

Of posted tasks it trains one segment of each a round, those first that pay best, as `node.miner.loop` does.

What it does follows from the head's state each time it looks, as that state may be another branch's. A forger turns its
deltas around, as in `node.miner.sabotage`, opens what it can and answers no demand. Everything goes through the node's
own submissions.
"""

import asyncio
from collections.abc import Sequence
from random import Random

from benchmarks.lab.simulator.setting import Setting
from chain.audit import RegisterAuditor
from chain.codec import encode
from chain.errors import InvalidProof, InvalidTransaction, MissingData
from chain.genesis import compute_segment_seed
from chain.ledger.keys import auditor_key, posted_task_key
from chain.ledger.learning import Leaf
from chain.ledger.tasks import compute_first_round, make_task_spec
from chain.primitives import Hash
from ml.backends import get_backend
from ml.checkpoint import decode_checkpoint
from ml.segment import Runner
from node.demands import make_answer
from node.learning import Task, load_task
from node.miner.plan import RoundPosition, SegmentPlan, is_commit_open, rank_posted
from node.miner.sabotage import forge_delta
from node.miner.segment import TrainedSegment, open_segment, train_segment
from node.options import BEST_TASK
from node.queries import NodeQueries
from node.rpc.api import ContributionInfo, DemandInfo, MinerWork
from node.rpc.submitted import AnswerSubmission, OpeningsSubmission, SegmentSubmission
from node.rpc.views import from_hex
from node.rpc.work_views import view_work
from node.submissions import NodeSubmissions
from node.validator import Validator

LOOK_S_MEAN = 1.0
"""Between two looks at the node's head: half a block."""
AUDITOR_CHANCE = 0.5


class HeadMoved(Exception):
    """What was to be done speaks of a branch that the node has left meanwhile."""


class Contributor:
    """What one running node's miner contributes."""

    def __init__(self, setting: Setting, validator: Validator, *, is_forger: bool) -> None:
        """Contribute through `validator`, honestly or not."""
        self._setting = setting
        self._parts = validator.parts
        self._queries = NodeQueries(validator.parts, lambda: (), validator.parts.chain.blobs.get)
        self._submissions = NodeSubmissions(validator.parts, self._queries)
        self._is_forger = is_forger
        self._sent: dict[object, Hash] = {}
        """The last transaction about a commit, opening or demand."""
        self._tasks: dict[Hash, tuple[Task, int]] = {}
        """Posted tasks, each with the first round in which it is trained."""

    async def look(self) -> None:
        """Do what the node's head asks for now; raises StorageError."""
        work, parameters = self._submissions.get_work(), self._setting.genesis.parameters
        self._sent = {what: sent for what, sent in self._sent.items() if self._parts.sender.is_waiting(sent)}
        position = RoundPosition(work.task.round, work.task.start_height, work.parent.height)
        anchor_height, is_open = max(position.head_height - 1, 0), is_commit_open(position, parameters)
        try:
            if work.next_index is not None and is_open:
                await self._commit(work, work.task.task, SegmentPlan(position.round, work.next_index, anchor_height))
            if is_open:
                await self._commit_posted(work, SegmentPlan(position.round, 0, anchor_height))
            await self._open(work, work.task.task, work.contributions)
            for posted in work.posted:
                await self._open(work, posted.task.task, posted.contributions)
            for demand in work.demands:
                await self._answer(demand)
        except (HeadMoved, InvalidTransaction, InvalidProof, MissingData):
            # The deposit is not there, or a forged place was drawn, or the head has moved indeed.
            return

    async def register_auditor(self) -> None:
        """Lock a bond as an auditor, unless it is or is about to be; raises StorageError."""
        view, key = self._parts.chain.view(), self._parts.key.public_key
        if view.get(auditor_key(key)) is None and "bond" not in self._sent:
            action = RegisterAuditor(self._setting.genesis.parameters.auditor_bond)
            try:
                self._sent["bond"] = await self._parts.sender.send(action)
            except (InvalidTransaction, MissingData):
                return

    async def _commit_posted(self, work: MinerWork, plan: SegmentPlan) -> None:
        """Commit to the posted task that pays best of those to which nothing of this miner is committed."""
        committed = {posted.task.task for posted in work.posted if posted.contributions}
        posted_views = view_work(work).posted if work.posted else []
        for name in map(from_hex, rank_posted(posted_views, BEST_TASK)):
            if name not in committed and ("commit", name, plan.round, plan.index) not in self._sent:
                await self._commit(work, name, plan)
                return

    async def _commit(self, work: MinerWork, task: Hash, plan: SegmentPlan) -> None:
        if ("commit", task, plan.round, plan.index) in self._sent:
            return
        segment = self._make_segment(work, task, plan)
        submission = SegmentSubmission(
            task,
            plan.round,
            plan.index,
            plan.anchor_height,
            segment.seed,
            segment.trace_root,
            segment.delta_root,
            encode(segment.sidecar),
        )
        self._sent["commit", task, plan.round, plan.index] = await self._submissions.submit_segment(submission)

    async def _open(self, work: MinerWork, task: Hash, contributions: Sequence[ContributionInfo]) -> None:
        for info in contributions:
            challenge = info.challenge
            if challenge is None or info.status != "challenged" or (task, challenge) in self._sent:
                continue
            segment = self._make_segment(work, task, SegmentPlan(info.round, info.index, info.anchor_height))
            drawn = challenge, self._setting.genesis.parameters.places_drawn
            openings = open_segment(self._get_task(task), get_backend("cpu"), segment, drawn)
            opened = OpeningsSubmission(task, info.round, info.index, openings)
            self._sent[task, challenge] = await self._submissions.submit_openings(opened)

    async def _answer(self, demand: DemandInfo) -> None:
        key, dispute = demand.key, demand.dispute
        if self._is_forger or (key, dispute) in self._sent:
            return
        runner = self._make_runner(key.task, demand.seed, key.round)
        answer = make_answer(runner, (Leaf(dispute.step, dispute.op), dispute.demand), None)
        submission = AnswerSubmission(key.task, key.round, key.index, key.challenger, answer)
        self._sent[key, dispute] = await self._submissions.submit_answer(submission)

    def _make_segment(self, work: MinerWork, task: Hash, plan: SegmentPlan) -> TrainedSegment:
        beacon = next(anchor.beacon for anchor in work.anchors if anchor.height == plan.anchor_height)
        key, chain_id = self._parts.key.public_key, self._setting.context.chain_id
        seed = compute_segment_seed(chain_id, task, plan.round, beacon, key, plan.index)
        segment = train_segment(self._make_runner(task, seed, plan.round), plan)
        return forge_delta(self._get_task(task).program, segment) if self._is_forger else segment

    def _make_runner(self, name: Hash, seed: Hash, round_number: int) -> Runner:
        info, task = self._queries.get_checkpoint(round_number, name), self._get_task(name)
        if info is None:
            raise HeadMoved(f"found no checkpoint of round {round_number}, expected that of a running round")
        content = self._queries.get_checkpoint_content(info.root, name)
        assert content is not None, f"found no content of {info.root.hex()}, expected that of a running round"
        checkpoint = decode_checkpoint(task.program, content)
        task_round = round_number - (self._tasks[name][1] if name in self._tasks else 0)
        return Runner(task.program, get_backend("cpu"), task.dataset, seed, checkpoint, task_round=task_round)

    def _get_task(self, name: Hash) -> Task:
        if name == self._setting.context.task_id:
            return self._setting.task
        if name not in self._tasks:
            posted, data = (
                self._queries.get_state_entry(posted_task_key(name)).record,
                self._queries.get_task_data(name),
            )
            if posted is None or data is None:
                raise HeadMoved(f"found no task {name.hex()} with its data, expected a live one")
            first_round = compute_first_round(self._setting.genesis.parameters, posted.posted_height)
            self._tasks[name] = load_task(make_task_spec(posted), data), first_round
        return self._tasks[name][0]


async def contribute(setting: Setting, validator: Validator, random: Random, *, is_forger: bool) -> None:
    """Contribute until cancelled; raises StorageError when the node cannot write."""
    contributor = Contributor(setting, validator, is_forger=is_forger)
    is_auditor = random.random() < AUDITOR_CHANCE
    while True:
        await asyncio.sleep(random.expovariate(1 / LOOK_S_MEAN))
        await contributor.look()
        if is_auditor:
            await contributor.register_auditor()
