"""The miner's day: keep the planned segments trained and committed, open what is drawn, and look for tickets.

One thread computes; the link polls beside it and every matmul looks whether the parent is still the head. It signs
nothing. A sabotaging miner forges the delta of each segment: networks for tests show with it that forgery does not pay.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from chain.genesis import compute_chain_id
from chain.primitives import Hash
from chain.ticket import Ticket
from consensus.ticket import Draw, compute_thresholds, compute_ticket_seed, open_ticket
from ml.noise import I32, FoundTicket
from ml.segment import as_i8
from node.backends import fetch_arrays
from node.miner.duties import Duties, name_demand, name_drawn
from node.miner.link import NodeLink, get_parent_hash
from node.miner.plan import RoundPosition, SegmentPlan, is_commit_open, is_live, plan_segments, rank_posted
from node.miner.segment import MatmulOperands, TrainedSegment
from node.miner.tools import Tools
from node.models.errors import ModelError
from node.observability.journal import get_log
from node.rpc.client import NodeUnreachable, RemoteError
from node.rpc.views import HashText, from_hex
from node.rpc.work_views import PostedWorkView, WorkView

log = get_log("miner")

RATE_SPAN_S = 2.0


@dataclass(slots=True)
class Tally:
    """What mining did since the last report."""

    tickets: int = 0
    macs: int = 0
    since_s: float = field(default_factory=time.monotonic)


class MinerLoop:
    """Follows the node's work until it is stopped."""

    def __init__(self, link: NodeLink, tools: Tools) -> None:
        """Mine for the node behind `link`."""
        self._link = link
        self._tools = tools
        self._chain_id = compute_chain_id(tools.genesis)
        self._duties = Duties(link, tools)
        self._tally = Tally()
        self._won = ""
        """Hash of the last parent under which a ticket of ours was taken."""
        self._drawn_under = ""
        self._drawn: set[tuple[int, int, int]] = set()
        """(segment, step, op) of first draws under that parent."""
        self._obstacle: str | None = None
        self._too_large: set[HashText] = set()
        """Posted tasks that do not fit in this machine's memory."""

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
        """Train, commit and open what the round asks for: genesis' task first, whose tickets extend the chain."""
        duties, own = self._duties, work.task.task
        position = RoundPosition(work.task.round, work.task.start_height, work.parent.height)
        parameters = self._tools.genesis.parameters
        duties.forget(work)
        committed = {info.index: SegmentPlan(info.round, info.index, info.anchor_height) for info in work.contributions}
        started = {segment.plan.index: segment.plan for segment in self._list_segments(work)} | committed
        self._tell_obstacle(work)
        running = [plan for plan in started.values() if plan.round == position.round]
        for plan in running if work.obstacle else plan_segments(position, parameters, started):
            held = duties.segments.get((own, plan.index))
            if held is None or held.plan != plan:
                seed = duties.make_seed(work, own, plan)
                duties.train(work, own, plan, partial(self._mine_product, plan, seed))
            if plan.index not in committed and is_commit_open(position, parameters):
                duties.commit(own, duties.segments[own, plan.index])
        duties.open(work, own, work.contributions)
        for posted in work.posted:
            self._train_again(work, posted)
            duties.open(work, posted.task.task, posted.contributions)
        for demand in work.demands:
            duties.answer(work, demand)
        if is_commit_open(position, parameters) and not work.obstacle:
            self._train_posted(work, position)

    def _tell_obstacle(self, work: WorkView) -> None:
        """Say once why this key mines nothing, and what helps."""
        if work.obstacle and work.obstacle != self._obstacle:
            log.warning("not mining", reason=work.obstacle, help="see `mathesis bond show` and `mathesis bond post`")
        self._obstacle = work.obstacle

    def _train_posted(self, work: WorkView, position: RoundPosition) -> None:
        """Train and commit a segment of the posted task that pays best of those which have none of ours yet."""
        plan = SegmentPlan(position.round, 0, max(position.head_height - 1, 0))
        for posted in work.posted:
            held = self._duties.segments.get((posted.task.task, plan.index))
            if held is not None and not posted.contributions:
                self._duties.commit(posted.task.task, held)
        for name in rank_posted(work.posted, self._tools.posted):
            if (name, plan.index) not in self._duties.segments and self._train_if_it_fits(work, name, plan):
                self._duties.commit(name, self._duties.segments[name, plan.index])
                return

    def _train_again(self, work: WorkView, posted: PostedWorkView) -> None:
        """Train what was committed to a posted task and is not held, after a restart: it has to be opened."""
        for info in posted.contributions:
            if (posted.task.task, info.index) not in self._duties.segments:
                plan = SegmentPlan(info.round, info.index, info.anchor_height)
                self._train_if_it_fits(work, posted.task.task, plan)

    def _train_if_it_fits(self, work: WorkView, task: HashText, plan: SegmentPlan) -> bool:
        """Train a segment of a posted task; False where its model is too large: others and genesis' go on."""
        if task in self._too_large:
            return False
        try:
            self._duties.train(work, task, plan)
        except ModelError as error:
            self._too_large.add(task)
            log.warning("task left alone", task=task, error=str(error))
            return False
        return True

    def _list_segments(self, work: WorkView) -> list[TrainedSegment]:
        """Return the segments that hold tickets."""
        return [segment for (task, _), segment in self._duties.segments.items() if task == work.task.task]

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

    def _mine(self, work: WorkView) -> bool:
        """Look for a ticket under the work's parent, lap after lap; False when none would count."""
        if work.obstacle:
            return False
        window = self._tools.genesis.parameters.anchor_window
        live = [s for s in self._list_segments(work) if is_live(s.plan, work.parent.height, window)]
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
        tasks = [(newest.task.task, newest.contributions), *((p.task.task, p.contributions) for p in newest.posted)]
        asked = {name_drawn(task, c) for task, held in tasks for c in held if c.status == "challenged"}
        demanded = {name_demand(demand) for demand in newest.demands}
        return bool(asked - self._duties.opened or demanded - self._duties.answered)

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
        a, bt = fetch_arrays(self._tools.backend, (matmul.a, matmul.bt))
        outcome = self._link.submit_ticket(get_parent_hash(work), ticket, open_ticket(ticket, as_i8(a), as_i8(bt)))
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


def _iter_laps(live: list[TrainedSegment]) -> Iterator[tuple[TrainedSegment, MatmulOperands]]:
    """Yield every matmul of the live segments, in laps without end."""
    lap = 0
    while live and lap < 2**32:
        for segment in live:
            for matmul in segment.matmuls:
                yield segment, replace(matmul, place=replace(matmul.place, lap=lap))
        lap += 1
