"""The miner's day: keep the planned segments trained and committed, open what is drawn, and look for tickets.

One thread computes; the link polls beside it and every matmul looks whether the parent is still the head. It signs
nothing. A sabotaging miner forges the delta of each segment: networks for tests show with it that forgery does not pay.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from chain.codec import decode, encode
from chain.errors import InvalidProof
from chain.genesis import Genesis, compute_chain_id, compute_segment_seed
from chain.ledger.learning import Leaf
from chain.ledger.records import Dispute
from chain.primitives import Hash
from chain.ticket import Ticket
from consensus.ticket import Draw, compute_thresholds, compute_ticket_seed, open_ticket
from ml.backends import Backend
from ml.checkpoint import decode_checkpoint
from ml.lottery import Lottery
from ml.noise import I32, FoundTicket
from ml.segment import Runner
from node.addresses import parse_address
from node.demands import make_answer
from node.learning import Task
from node.miner.link import NodeLink, get_parent_hash
from node.miner.plan import RoundPosition, SegmentPlan, is_commit_open, is_live, plan_segments
from node.miner.sabotage import forge_delta
from node.miner.segment import MatmulOperands, TrainedSegment, open_segment, train_segment
from node.observability.journal import get_log
from node.rpc.client import NodeUnreachable, RemoteError
from node.rpc.dispute_methods import AnswerParams
from node.rpc.methods import OpeningsParams, SegmentParams
from node.rpc.views import ContributionView, from_hex, to_hex
from node.rpc.work_views import DemandView, WorkView

log = get_log("miner")

RATE_SPAN_S = 2.0
DISPUTE_BYTES_MAX = 256


@dataclass(slots=True)
class Tally:
    """What mining did since the last report."""

    tickets: int = 0
    macs: int = 0
    since_s: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class Tools:
    """What a miner computes with."""

    genesis: Genesis
    task: Task
    backend: Backend
    lottery: Lottery
    is_sabotaging: bool = False


class MinerLoop:
    """Follows the node's work until it is stopped."""

    def __init__(self, link: NodeLink, tools: Tools) -> None:
        """Mine for the node behind `link`."""
        self._link = link
        self._tools = tools
        self._chain_id = compute_chain_id(tools.genesis)
        self._segments: dict[int, TrainedSegment] = {}
        self._opened: set[tuple[int, int]] = set()
        self._answered: set[tuple[int, int, str, str]] = set()
        self._tally = Tally()
        self._won = ""
        """Hash of the last parent under which a ticket of ours was taken."""
        self._drawn_under = ""
        self._drawn: set[tuple[int, int, int]] = set()
        """(segment, step, op) of first draws under that parent."""

    def run(self) -> None:
        """Work until the link is stopped."""
        while not self._link.is_stopping:
            work = self._link.get_work()
            if work is None:
                self._link.wait(0.2)
                continue
            try:
                self._prepare(work)
            except (RemoteError, NodeUnreachable) as error:
                # The node has gone, or the round has ended between its answers: the newest work says which.
                log.info("starting over", error=str(error))
                self._link.wait(0.2)
                continue
            if self._tools.is_sabotaging or not self._mine(work):
                self._link.wait(0.1)

    def _prepare(self, work: WorkView) -> None:
        """Train, commit and open what the round asks for."""
        position = RoundPosition(work.task.round, work.task.start_height, work.parent.height)
        parameters = self._tools.genesis.parameters
        self._segments = {i: s for i, s in self._segments.items() if s.plan.round == work.task.round}
        committed = {info.index: SegmentPlan(info.round, info.index, info.anchor_height) for info in work.contributions}
        started = {index: segment.plan for index, segment in self._segments.items()} | committed
        for plan in plan_segments(position, parameters, started):
            held = self._segments.get(plan.index)
            if held is None or held.plan != plan:
                self._segments[plan.index] = self._train(work, plan)
                if plan.index not in committed and is_commit_open(position, parameters):
                    self._commit(work, self._segments[plan.index])
        for info in work.contributions:
            if info.status == "challenged" and (info.round, info.index) not in self._opened:
                self._open(work, info)
        for demand in work.demands:
            self._answer(work, demand)

    def _train(self, work: WorkView, plan: SegmentPlan) -> TrainedSegment:
        beacon = next(anchor.beacon for anchor in work.anchors if anchor.height == plan.anchor_height)
        miner = parse_address(work.miner)
        task_id = from_hex(work.task.task)
        seed = compute_segment_seed(self._chain_id, task_id, plan.round, from_hex(beacon), miner, plan.index)
        content = self._link.get_checkpoint(plan.round)
        checkpoint = decode_checkpoint(self._tools.task.program, content)
        task = self._tools.task
        runner = Runner(task.program, self._tools.backend, task.dataset, seed, checkpoint)
        if self._tools.is_sabotaging:
            return forge_delta(task.program, train_segment(runner, plan))
        return train_segment(runner, plan, lambda matmul: self._mine_product(plan, seed, matmul))

    def _mine_product(self, plan: SegmentPlan, seed: Hash, matmul: MatmulOperands) -> I32 | None:
        """Draw the tickets of a matmul of training under the newest parent; None when none would count."""
        work = self._link.get_work()
        if work is None or work.parent.hash == self._won or work.task.round != plan.round:
            return None
        if not is_live(plan, work.parent.height, self._tools.genesis.parameters.anchor_window):
            return None
        ticket_seed, thresholds = self._make_draw(work, seed, matmul)
        found, product_i32 = self._tools.lottery.mine_matmul(ticket_seed, matmul.a, matmul.bt, thresholds)
        self._note_draw(work, plan, matmul)
        if found:
            self._submit(work, plan, matmul, found[0])
        return product_i32

    def _make_draw(self, work: WorkView, segment_seed: Hash, matmul: MatmulOperands) -> tuple[Hash, tuple[int, ...]]:
        """Return the seed and the thresholds of a matmul's tickets under the work's parent."""
        draw = Draw(self._chain_id, get_parent_hash(work), segment_seed, int(work.target, 16))
        return compute_ticket_seed(draw, matmul.place), compute_thresholds(draw.target, matmul.place.shape)

    def _note_draw(self, work: WorkView, plan: SegmentPlan, matmul: MatmulOperands) -> None:
        """Count a draw, and remember a first one, so that no lap repeats it under the same parent."""
        if self._drawn_under != work.parent.hash:
            self._drawn_under, self._drawn = work.parent.hash, set()
        if matmul.place.lap == 0:
            self._drawn.add((plan.index, matmul.place.step, matmul.place.op))
        self._count(matmul)

    def _was_drawn(self, work: WorkView, plan: SegmentPlan, matmul: MatmulOperands) -> bool:
        place = (plan.index, matmul.place.step, matmul.place.op)
        return self._drawn_under == work.parent.hash and matmul.place.lap == 0 and place in self._drawn

    def _commit(self, work: WorkView, segment: TrainedSegment) -> None:
        params = SegmentParams(
            task=work.task.task,
            round=segment.plan.round,
            index=segment.plan.index,
            anchor_height=segment.plan.anchor_height,
            trace_root=to_hex(segment.trace_root),
            delta_root=to_hex(segment.delta_root),
            sidecar=encode(segment.sidecar),
        )
        if self._link.submit_segment(params):
            log.info("segment committed", round=segment.plan.round, index=segment.plan.index)

    def _open(self, work: WorkView, info: ContributionView) -> None:
        segment = self._segments.get(info.index)
        if segment is None or info.challenge is None:
            return
        parameters, tools = self._tools.genesis.parameters, self._tools
        drawn = (from_hex(info.challenge), parameters.places_drawn)
        self._opened.add((info.round, info.index))
        try:
            openings = open_segment(tools.task, tools.backend, segment, drawn)
        except InvalidProof as error:
            log.warning("segment cannot be opened", round=info.round, index=info.index, error=str(error))
            return
        params = OpeningsParams(task=work.task.task, round=info.round, index=info.index, openings=list(openings))
        if self._link.submit_openings(params):
            log.info("segment opened", round=info.round, index=info.index, places=len(openings))

    def _answer(self, work: WorkView, demand: DemandView) -> None:
        view, asked = demand.dispute, _name_demand(demand)
        if asked in self._answered:
            return
        self._answered.add(asked)
        names = {"round": view.round, "index": view.index, "demand": view.demand}
        if self._tools.is_sabotaging:
            log.warning("a forged segment cannot be shown", **names)
            return
        task, seed = self._tools.task, from_hex(demand.seed)
        checkpoint = decode_checkpoint(task.program, self._link.get_checkpoint(view.round))
        runner = Runner(task.program, self._tools.backend, task.dataset, seed, checkpoint)
        held = self._segments.get(view.index)
        states = held.snapshots.states if held is not None and held.seed == seed else None
        dispute = decode(Dispute, view.record, DISPUTE_BYTES_MAX)
        answer = make_answer(runner, (Leaf(dispute.step, dispute.op), dispute.demand), states)
        params = AnswerParams(work.task.task, view.round, view.index, view.challenger, answer)
        if self._link.submit_answer(params):
            log.info("demand answered", **names)

    def _mine(self, work: WorkView) -> bool:
        """Look for a ticket under the work's parent, lap after lap; False when no segment is live."""
        window = self._tools.genesis.parameters.anchor_window
        live = [s for s in self._segments.values() if is_live(s.plan, work.parent.height, window)]
        for segment, matmul in _iter_laps(live):
            if self._link.is_stopping or self._has_news(work):
                return True
            if self._was_drawn(work, segment.plan, matmul):
                continue
            seed, thresholds = self._make_draw(work, segment.seed, matmul)
            found = self._tools.lottery.find_tickets(seed, matmul.a, matmul.bt, thresholds)
            self._note_draw(work, segment.plan, matmul)
            if found:
                self._submit(work, segment.plan, matmul, found[0])
                self._wait_for_news(work)
                return True
        return False

    def _has_news(self, work: WorkView) -> bool:
        newest = self._link.get_work()
        if newest is None or newest.parent.hash != work.parent.hash:
            return True
        asked = {(c.round, c.index) for c in newest.contributions if c.status == "challenged"}
        demanded = {_name_demand(demand) for demand in newest.demands}
        return bool(asked - self._opened or demanded - self._answered)

    def _submit(self, work: WorkView, plan: SegmentPlan, matmul: MatmulOperands, found: FoundTicket) -> None:
        place = matmul.place
        ticket = Ticket(
            task=from_hex(work.task.task),
            round=plan.round,
            anchor_height=plan.anchor_height,
            index=plan.index,
            step=place.step,
            op=place.op,
            lap=place.lap,
            tile_row=found.place.tile_row,
            tile_column=found.place.tile_column,
            window=found.place.window,
            root_a=place.root_a,
            root_b=place.root_b,
            digest=found.digest,
        )
        outcome = self._link.submit_ticket(get_parent_hash(work), ticket, open_ticket(ticket, matmul.a, matmul.bt))
        self._won = work.parent.hash if outcome else self._won
        log.info("ticket found", parent=work.parent.height, lap=place.lap, outcome=outcome or "refused")

    def _wait_for_news(self, work: WorkView) -> None:
        """Give the node a moment to show its new head, so that no work goes into the old one."""
        deadline_s = time.monotonic() + 1.0
        while time.monotonic() < deadline_s and not self._has_news(work) and not self._link.is_stopping:
            self._link.wait(0.02)

    def _count(self, matmul: MatmulOperands) -> None:
        shape, tally = matmul.place.shape, self._tally
        tickets = shape.tile_rows * shape.tile_columns * shape.windows
        tally.tickets += tickets
        tally.macs += (
            shape.tile_rows * shape.tile_columns * sum(shape.get_ticket_macs(window) for window in range(shape.windows))
        )
        now_s = time.monotonic()
        if now_s - tally.since_s >= RATE_SPAN_S:
            span_ms = int((now_s - tally.since_s) * 1000)
            self._link.report_rates(tally.tickets * 1000 // span_ms, tally.macs * 1000 // span_ms)
            self._tally = Tally()


def _name_demand(demand: DemandView) -> tuple[int, int, str, str]:
    """Return what tells a demand from all others: a dispute demands each kind of thing once."""
    view = demand.dispute
    return view.round, view.index, view.challenger, view.demand


def _iter_laps(live: list[TrainedSegment]) -> Iterator[tuple[TrainedSegment, MatmulOperands]]:
    """Yield every matmul of the live segments, in laps without end."""
    lap = 0
    while live and lap < 2**32:
        for segment in live:
            for matmul in segment.matmuls:
                yield segment, replace(matmul, place=replace(matmul.place, lap=lap))
        lap += 1
