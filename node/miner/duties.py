"""What a miner owes for its segments, of whatever task: they are trained, committed, opened where drawn, and shown.

It holds the segments of the running round and the tasks that they are of; a posted task is fetched from the node when
it is first trained. It draws no ticket and decides no plan.
"""

from dataclasses import replace

from chain.codec import decode, encode
from chain.errors import InvalidProof
from chain.genesis import TaskSpec, compute_chain_id, compute_segment_seed
from chain.ledger.learning import Leaf
from chain.ledger.records import Dispute
from chain.ledger.tasks import compute_first_round
from chain.primitives import Hash
from ml.checkpoint import decode_checkpoint
from ml.segment import Runner
from node.addresses import parse_address
from node.backends import get_host_backend, refuse_what_does_not_fit
from node.demands import make_answer
from node.learning import Task, load_task
from node.miner.link import NodeLink
from node.miner.plan import SegmentPlan
from node.miner.sabotage import forge_delta
from node.miner.segment import MineProduct, TrainedSegment, open_segment, train_segment
from node.miner.tools import Tools
from node.observability.journal import get_log
from node.rpc.dispute_methods import AnswerParams
from node.rpc.methods import OpeningsParams, SegmentParams
from node.rpc.views import ContributionView, HashText, from_hex, to_hex
from node.rpc.work_views import DemandView, WorkView

log = get_log("miner")

DISPUTE_BYTES_MAX = 256

Drawn = tuple[HashText, int, int, HashText]
"""Task, round and index of a segment, and the seed or challenge that was drawn for it: another branch draws others."""

Demanded = tuple[HashText, int, int, HashText, str, int, int, str]


class Duties:
    """The segments that are answered for."""

    def __init__(self, link: NodeLink, tools: Tools) -> None:
        """Start without any; `link` submits."""
        self._link = link
        self._tools = tools
        self._chain_id = compute_chain_id(tools.genesis)
        self._posted: dict[HashText, Task] = {}
        self.segments: dict[tuple[HashText, int], TrainedSegment] = {}
        """By task and index."""
        self.opened: set[Drawn] = set()
        """What was opened, or cannot be under this parent."""
        self.answered: set[Demanded] = set()
        self._committed: set[Drawn] = set()
        """Task, round, index and seed of what was handed in."""
        self._refused: set[Drawn | Demanded] = set()
        """What of the three the node has not taken under this parent."""
        self._parent: HashText = ""

    def forget(self, work: WorkView) -> None:
        """Let go the segments of rounds that are over or of a branch that was left, and the tasks that are not live.

        What the node has not taken is owed again under another parent: a deposit burns for what is never shown.
        """
        if work.parent.hash != self._parent:
            self.opened = {name for name in self.opened if name not in self._refused}
            self.answered = {name for name in self.answered if name not in self._refused}
            self._committed = {name for name in self._committed if name not in self._refused}
            self._refused, self._parent = set(), work.parent.hash
        self.segments = {
            key: held
            for key, held in self.segments.items()
            if held.plan.round == work.task.round and held.seed == self._find_seed(work, key[0], held.plan)
        }
        live = {posted.task.task for posted in work.posted} | {demand.dispute.task for demand in work.demands}
        self._posted = {name: task for name, task in self._posted.items() if name in live}

    def train(self, work: WorkView, task: HashText, plan: SegmentPlan, mine: MineProduct | None = None) -> None:
        """Train a planned segment of a task and hold it; raises ModelError if it does not fit in memory."""
        loaded = self._get_task(work, task)
        runner = self._make_runner(work, task, plan.round, self.make_seed(work, task, plan))
        with refuse_what_does_not_fit(f"a segment of task {task[:16]}"):
            segment = train_segment(runner, plan, None if self._tools.is_sabotaging else mine)
        self.segments[task, plan.index] = forge_delta(loaded.program, segment) if self._tools.is_sabotaging else segment

    def make_seed(self, work: WorkView, task: HashText, plan: SegmentPlan) -> Hash:
        """Return the seed of a planned segment, whose anchor is one of the work's."""
        seed = self._find_seed(work, task, plan)
        assert seed is not None
        return seed

    def commit(self, task: HashText, segment: TrainedSegment) -> None:
        """Hand in a segment, once under each parent until the node has taken it."""
        name = task, segment.plan.round, segment.plan.index, to_hex(segment.seed)
        if name in self._committed:
            return
        self._committed.add(name)
        self._refused.add(name)
        params = SegmentParams(
            task=task,
            round=segment.plan.round,
            index=segment.plan.index,
            anchor_height=segment.plan.anchor_height,
            seed=to_hex(segment.seed),
            trace_root=to_hex(segment.trace_root),
            delta_root=to_hex(segment.delta_root),
            sidecar=encode(segment.sidecar),
        )
        if self._link.submit_segment(params):
            self._refused.discard(name)
            log.info("segment committed", task=task[:18], round=segment.plan.round, index=segment.plan.index)

    def open(self, work: WorkView, task: HashText, contributions: list[ContributionView]) -> None:
        """Open those contributions to a task whose places are drawn."""
        for info in contributions:
            if info.status == "challenged" and name_drawn(task, info) not in self.opened:
                self._open(work, task, info)

    def answer(self, work: WorkView, demand: DemandView) -> None:
        """Show what a challenger demands, once."""
        view, asked = demand.dispute, name_demand(demand)
        if asked in self.answered:
            return
        self.answered.add(asked)
        names = {"task": view.task[:18], "round": view.round, "index": view.index, "demand": view.demand}
        if self._tools.is_sabotaging:
            log.warning("a forged segment cannot be shown", **names)
            return
        self._refused.add(asked)
        seed = from_hex(demand.seed)
        runner = self._make_runner(work, view.task, view.round, seed)
        runner = replace(runner, backend=get_host_backend(runner.backend))
        held = self.segments.get((view.task, view.index))
        states = held.snapshots.states if held is not None and held.seed == seed else None
        dispute = decode(Dispute, view.record, DISPUTE_BYTES_MAX)
        answer = make_answer(runner, (Leaf(dispute.step, dispute.op), dispute.demand), states)
        if self._link.submit_answer(AnswerParams(view.task, view.round, view.index, view.challenger, answer)):
            self._refused.discard(asked)
            log.info("demand answered", **names)

    def _open(self, work: WorkView, task: HashText, info: ContributionView) -> None:
        segment, name = self.segments.get((task, info.index)), name_drawn(task, info)
        self.opened.add(name)
        if segment is None or info.challenge is None:
            return
        names = {"task": task[:18], "round": info.round, "index": info.index}
        drawn = (from_hex(info.challenge), self._tools.genesis.parameters.places_drawn)
        self._refused.add(name)
        try:
            openings = open_segment(self._get_task(work, task), self._tools.backend, segment, drawn)
        except InvalidProof as error:
            self._refused.discard(name)
            log.warning("segment cannot be opened", **names, error=str(error))
            return
        if self._link.submit_openings(OpeningsParams(task, info.round, info.index, list(openings))):
            self._refused.discard(name)
            log.info("segment opened", **names, places=len(openings))

    def _find_seed(self, work: WorkView, task: HashText, plan: SegmentPlan) -> Hash | None:
        """Return the seed of a segment on the work's branch, None where that has no such anchor."""
        beacon = next((anchor.beacon for anchor in work.anchors if anchor.height == plan.anchor_height), None)
        if beacon is None:
            return None
        miner = parse_address(work.miner)
        return compute_segment_seed(self._chain_id, from_hex(task), plan.round, from_hex(beacon), miner, plan.index)

    def _make_runner(self, work: WorkView, name: HashText, round_number: int, seed: Hash) -> Runner:
        task = self._get_task(work, name)
        checkpoint = decode_checkpoint(task.program, self._link.get_checkpoint(round_number, name))
        task_round = round_number - self._get_first_round(work, name)
        return Runner(task.program, self._tools.backend, task.dataset, seed, checkpoint, task_round=task_round)

    def _get_task(self, work: WorkView, name: HashText) -> Task:
        if name == work.task.task:
            return self._tools.task
        if name not in self._posted:
            posted, data = self._link.get_posted(name), self._link.get_task_data(name)
            roots = from_hex(posted.dataset_root), from_hex(posted.start_root)
            self._posted[name] = load_task(TaskSpec(posted.name, posted.program, *roots), data)
        return self._posted[name]

    def _get_first_round(self, work: WorkView, name: HashText) -> int:
        if name == work.task.task:
            return 0
        # Never remembered: after a reorganisation the same task may have been posted in another round.
        return compute_first_round(self._tools.genesis.parameters, self._link.get_posted(name).posted_height)


def name_drawn(task: HashText, info: ContributionView) -> Drawn:
    """Return what tells the places that are to be opened from all others."""
    return task, info.round, info.index, info.challenge or ""


def name_demand(demand: DemandView) -> Demanded:
    """Return what tells a demand from all others: a dispute demands each kind of thing once on a branch."""
    view = demand.dispute
    return view.task, view.round, view.index, demand.seed, view.challenger, view.step, view.op, view.demand
