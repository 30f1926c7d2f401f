"""The auditor: executes every committed segment again, disputes what is not what its seed gives, proves what it is
assigned.

It follows the head: what it audits and what it has to demand next is read from the state each time. Segments are
executed in a thread, once each, on what the learning engine remembers. Segments of the node's own key are its miner's
to answer for.
"""

import asyncio
from dataclasses import dataclass

from chain.dispute import Demand, DemandDigests, DisputeContribution
from chain.errors import InvalidTransaction, MathesisError
from chain.ledger.bounds import get_context_in_force
from chain.ledger.contributions import iter_contributions
from chain.ledger.keys import contribution_key, dispute_key
from chain.ledger.learning import SegmentContext
from chain.ledger.records import Contribution, ContributionKey, Dispute, DisputeKey
from chain.ledger.tasks import Task, get_segment_context, get_state, get_task, iter_live_tasks
from chain.ledger.transition import ContributionStatus
from chain.primitives import Hash, PublicKey
from chain.state.view import StateView
from ml.disputing import Difference
from node.audit_duties import AuditDuties
from node.chain import Chain
from node.demands import make_next_demand
from node.disputes import find_answer, get_contribution, iter_disputes
from node.head_follower import HeadFollower
from node.learning import Learning
from node.observability.journal import get_log
from node.observability.tally import Tally
from node.sender import Sender

log = get_log("auditor")

_OPEN = frozenset({ContributionStatus.COMMITTED, ContributionStatus.CHALLENGED, ContributionStatus.PROVEN})
"""Where a contribution stands that a dispute may still begin about."""


@dataclass(frozen=True, slots=True)
class _Segment:
    """A committed segment to be audited."""

    task: Task
    round: int
    key: ContributionKey
    contribution: Contribution
    context: SegmentContext


class Auditor:
    """Watches commits, disputes false ones and counts what it finds."""

    def __init__(self, chain: Chain, learning: Learning, sender: Sender, key: PublicKey) -> None:
        """Audit the head's branch of `chain`, and challenge as `key`, for whom `sender` signs."""
        self._chain = chain
        self._learning = learning
        self._sender = sender
        self._key = key
        self.follower = HeadFollower(self._look)
        self._faults: dict[tuple[Hash, Hash], Difference | None] = {}
        """What was found in this round's segments, by seed and block data."""
        self._sent: dict[DisputeKey, Hash] = {}
        """The transaction with the last demand in each dispute."""
        self._is_poor = False
        """Whether it was said that there are too few coins to dispute, and none was sent since."""
        self.audits = Tally(("honest", "mismatch"))
        self.duties = AuditDuties(chain, learning, sender, key)

    async def _look(self) -> None:
        await self._press_on()
        await self.duties.follow()
        for segment in self._list_segments():
            await self._audit(segment)
            if self.follower.has_news:
                # What is owed comes before what is looked at unasked; nothing is executed twice for it.
                return

    def _list_segments(self) -> tuple[_Segment, ...]:
        """Return the running round's segments that a dispute may begin about."""
        context, view = self._chain.ledger_context, self._chain.view()
        segments = [
            _Segment(task, state.round, key, entry, get_segment_context(context, view, task, state.round, entry))
            for task in iter_live_tasks(context, view)
            for state in (get_state(view, task),)
            for key, entry in iter_contributions(view, task.name, state)
            if entry.status in _OPEN and key.miner != self._key
        ]
        self._faults = {name: self._faults[name] for name in map(_name, segments) if name in self._faults}
        return tuple(segments)

    async def _audit(self, segment: _Segment) -> None:
        name = _name(segment)
        if name not in self._faults:
            try:
                sidecar = self._chain.get_sidecar(segment.contribution.sidecar_hash)
                self._faults[name] = await asyncio.to_thread(
                    self._learning.find_fault, segment.task.spec, segment.context, sidecar
                )
            except MathesisError as error:
                names = {"miner": segment.key.miner, "index": segment.key.index}
                log.warning("segment could not be audited", **names, error=str(error))
                return
            self.audits.add("honest" if self._faults[name] is None else "mismatch")
        fault = self._faults[name]
        if fault is not None:
            await self._begin(segment, fault)

    async def _begin(self, segment: _Segment, fault: Difference) -> None:
        key = DisputeKey(segment.task.name, segment.round, segment.key.miner, segment.key.index, self._key)
        view = self._chain.view()
        if self._is_at_head(segment, view) and view.get(dispute_key(key)) is None and not self._is_waiting(key):
            context = get_context_in_force(self._chain.ledger_context, view)
            deposit = context.parameters.deposit
            await self._demand(key, segment.contribution, fault, DemandDigests(fault.output), deposit)

    def _is_at_head(self, segment: _Segment, view: StateView) -> bool:
        """Say whether the head still has what was audited: while it was, another branch may have brought another."""
        entry = view.get(contribution_key(segment.task.name, segment.round, segment.key))
        return entry is not None and (entry.seed, entry.sidecar_hash) == _name(segment)

    async def _press_on(self) -> None:
        """Make the next demand in every dispute of this node's in which it has the turn."""
        disputes = list(iter_disputes(self._chain.ledger_context, self._chain.view()))
        self._sent = {key: sent for key, sent in self._sent.items() if self._sender.is_waiting(sent)}
        for key, dispute in disputes:
            if key.challenger == self._key and dispute.is_answered and not self._is_waiting(key):
                await self._press(key, dispute)

    def _is_waiting(self, key: DisputeKey) -> bool:
        """Say whether a demand of this dispute was sent and stands in no block yet."""
        return key in self._sent and self._sender.is_waiting(self._sent[key])

    async def _press(self, key: DisputeKey, dispute: Dispute) -> None:
        view = self._chain.view()
        contribution, answer = get_contribution(view, key), find_answer(self._chain, key)
        if answer is None:
            return
        task = get_task(self._chain.ledger_context, view, key.task)
        context = get_segment_context(self._chain.ledger_context, view, task, key.round, contribution)
        try:
            sidecar = self._chain.get_sidecar(contribution.sidecar_hash)
            fault = await asyncio.to_thread(self._learning.find_fault, task.spec, context, sidecar)
            if fault is None:
                return
            tensors = await asyncio.to_thread(self._learning.rerun_step, task.spec, context, fault.step)
            trace = self._learning.make_trace(task.spec, context.checkpoint_root, sidecar)
            demand = make_next_demand(trace, fault, (dispute.demand, answer), tensors)
        except MathesisError as error:
            log.warning("dispute cannot go on", miner=key.miner, index=key.index, error=str(error))
            return
        await self._demand(key, contribution, fault, demand, 0)

    async def _demand(
        self, key: DisputeKey, contribution: Contribution, fault: Difference, demand: Demand, deposit: int
    ) -> None:
        action = DisputeContribution(
            task=key.task,
            round=key.round,
            miner=key.miner,
            index=key.index,
            sidecar_hash=contribution.sidecar_hash,
            step=fault.step,
            op=fault.op,
            demand=demand,
            deposit=deposit,
        )
        names = {"round": key.round, "miner": key.miner, "index": key.index, "step": fault.step, "op": fault.op}
        try:
            self._sent[key] = await self._sender.send(action)
        except MathesisError as error:
            is_poor = isinstance(error, InvalidTransaction) and error.rule == "balance"
            # Each head brings the same segments to a key that has too few coins.
            if not (is_poor and self._is_poor):
                help_ = {"help": "see `mathesis auditor status`"} if is_poor else {}
                text = "segment is not what its seed gives, and cannot be disputed"
                log.warning(text, **names, error=str(error), **help_)
            self._is_poor |= is_poor
            return
        self._is_poor = False
        log.warning("segment is not what its seed gives, and is disputed", **names, demand=type(demand).__name__)


def _name(segment: _Segment) -> tuple[Hash, Hash]:
    """Return what decides whether a segment is honest: another branch may hold other block data for one seed."""
    return segment.context.seed, segment.contribution.sidecar_hash
