"""A simulated contributor: it trains the segments that a round asks of its node, commits them, opens what is drawn.

What it does follows from the head's state each time it looks, as that state may be another branch's. A forger turns its
deltas around, as in `node.miner.sabotage`, opens what it can and answers no demand. Everything goes through the node's
own submissions.
"""

import asyncio
from random import Random

from benchmarks.lab.simulator.setting import Setting
from chain.audit import RegisterAuditor
from chain.codec import encode
from chain.errors import InvalidProof, InvalidTransaction, MissingData
from chain.genesis import compute_segment_seed
from chain.ledger.keys import auditor_key
from chain.ledger.learning import Leaf
from chain.primitives import Hash
from ml.backends import get_backend
from ml.segment import Runner
from node.demands import make_answer
from node.miner.plan import RoundPosition, SegmentPlan, is_commit_open
from node.miner.sabotage import forge_delta
from node.miner.segment import TrainedSegment, open_segment, train_segment
from node.queries import NodeQueries
from node.rpc.api import ContributionInfo, DemandInfo, MinerWork
from node.rpc.submitted import AnswerSubmission, OpeningsSubmission, SegmentSubmission
from node.submissions import NodeSubmissions
from node.validator import Validator

LOOK_S_MEAN = 1.0
"""Between two looks at the node's head: half a block."""
AUDITOR_CHANCE = 0.5


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

    async def look(self) -> None:
        """Do what the node's head asks for now; raises StorageError."""
        work, parameters = self._submissions.get_work(), self._setting.genesis.parameters
        self._sent = {what: sent for what, sent in self._sent.items() if self._parts.sender.is_waiting(sent)}
        position = RoundPosition(work.task.round, work.task.start_height, work.parent.height)
        try:
            if work.next_index is not None and is_commit_open(position, parameters):
                await self._commit(work, SegmentPlan(position.round, work.next_index, max(position.head_height - 1, 0)))
            for info in work.contributions:
                if info.challenge is not None and info.status == "challenged":
                    await self._open(work, info, info.challenge)
            for demand in work.demands:
                await self._answer(demand)
        except (InvalidTransaction, InvalidProof, MissingData):
            # The head has moved meanwhile, the deposit is not there, or a forged place was drawn.
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

    async def _commit(self, work: MinerWork, plan: SegmentPlan) -> None:
        if ("commit", plan.round, plan.index) in self._sent:
            return
        segment = self._make_segment(work, plan)
        submission = SegmentSubmission(
            work.task.task,
            plan.round,
            plan.index,
            plan.anchor_height,
            segment.trace_root,
            segment.delta_root,
            encode(segment.sidecar),
        )
        self._sent["commit", plan.round, plan.index] = await self._submissions.submit_segment(submission)

    async def _open(self, work: MinerWork, info: ContributionInfo, challenge: Hash) -> None:
        if challenge in self._sent:
            return
        segment = self._make_segment(work, SegmentPlan(info.round, info.index, info.anchor_height))
        drawn = challenge, self._setting.genesis.parameters.places_drawn
        openings = open_segment(self._setting.task, get_backend("cpu"), segment, drawn)
        opened = OpeningsSubmission(work.task.task, info.round, info.index, openings)
        self._sent[challenge] = await self._submissions.submit_openings(opened)

    async def _answer(self, demand: DemandInfo) -> None:
        key, dispute = demand.key, demand.dispute
        if self._is_forger or (key, dispute) in self._sent:
            return
        runner = self._make_runner(demand.seed, key.round)
        answer = make_answer(runner, (Leaf(dispute.step, dispute.op), dispute.demand), None)
        submission = AnswerSubmission(key.task, key.round, key.index, key.challenger, answer)
        self._sent[key, dispute] = await self._submissions.submit_answer(submission)

    def _make_segment(self, work: MinerWork, plan: SegmentPlan) -> TrainedSegment:
        context = self._setting.context
        beacon = next(anchor.beacon for anchor in work.anchors if anchor.height == plan.anchor_height)
        key = self._parts.key.public_key
        seed = compute_segment_seed(context.chain_id, context.task_id, plan.round, beacon, key, plan.index)
        segment = train_segment(self._make_runner(seed, plan.round), plan)
        return forge_delta(self._setting.task.program, segment) if self._is_forger else segment

    def _make_runner(self, seed: Hash, round_number: int) -> Runner:
        info = self._queries.get_checkpoint(round_number)
        assert info is not None, f"found no checkpoint of round {round_number}, expected that of a running round"
        checkpoint, task = (
            self._parts.learning.get_checkpoint(self._setting.genesis.task, info.root),
            self._setting.task,
        )
        return Runner(task.program, get_backend("cpu"), task.dataset, seed, checkpoint)


async def contribute(setting: Setting, validator: Validator, random: Random, *, is_forger: bool) -> None:
    """Contribute until cancelled; raises StorageError when the node cannot write."""
    contributor = Contributor(setting, validator, is_forger=is_forger)
    is_auditor = random.random() < AUDITOR_CHANCE
    while True:
        await asyncio.sleep(random.expovariate(1 / LOOK_S_MEAN))
        await contributor.look()
        if is_auditor:
            await contributor.register_auditor()
