"""Disputes: a challenger makes a segment's miner show what it committed to, until an op holds or the miner is silent.

The state holds, for each contribution and challenger, what was demanded last, whose turn it is and until when. Only the
miner's side ever shows anything, and what an honest segment gives always passes, so a challenger can make an honest
miner work, at the cost of its deposit, and never lose. Anybody may answer in the miner's place: whoever vouched for the
segment must not lose its bond because the miner keeps silent. Anybody may challenge, side by side: a dispute that is
meant to fail shields nothing. It knows no tensor; how much is paid stands here, when a round ends in `rounds`.
"""

from dataclasses import replace

from chain.dispute import AnswerDispute, Demand, DemandDigests, DemandOpening, DemandStrip, DisputeContribution
from chain.errors import InvalidProof, InvalidTransaction
from chain.ledger.accounts import apply_credit, apply_debit, apply_halves
from chain.ledger.audits import apply_fallen, has_voucher, take_audits
from chain.ledger.context import (
    BlockScope,
    ContributionChanged,
    DisputeDecided,
    DisputeMoved,
    DisputeOutcome,
    Event,
    get_task_state,
)
from chain.ledger.keys import contribution_key, dispute_key, due_disputes_key, task_key
from chain.ledger.learning import Leaf
from chain.ledger.records import Contribution, ContributionKey, Dispute, DisputeKey, DueDisputes
from chain.ledger.rewards import apply_held_rewards, apply_late_payout
from chain.ledger.tasks import get_segment_context, get_task
from chain.ledger.transition import TRANSITIONS, ContributionEvent, ContributionStatus, compute_next_status
from chain.primitives import PublicKey
from chain.state.view import StateView

BEGUN_PER_BLOCK_MAX = 256
"""Disputes that one block may begin: three windows of them, all moving at once, fit the record of one height."""

_ORDER: tuple[type[Demand], ...] = (DemandDigests, DemandStrip, DemandOpening)
"""Demands come in this order, each at most once; any may be left out. So a dispute has at most three exchanges."""

_LIVE = frozenset(before for before, event in TRANSITIONS if event is ContributionEvent.DISPUTE_WON) - {
    ContributionStatus.EXPIRED
}


def apply_dispute(
    scope: BlockScope, view: StateView, challenger: PublicKey, action: DisputeContribution
) -> tuple[Event, ...]:
    """Begin a dispute or go on with one; raises InvalidTransaction."""
    task = get_task(scope.context, view, action.task)
    key = DisputeKey(action.task, action.round, action.miner, action.index, challenger)
    contribution = _get_contribution(view, key)
    if action.sidecar_hash != contribution.sidecar_hash:
        found, expected = action.sidecar_hash.hex(), contribution.sidecar_hash.hex()
        raise InvalidTransaction("dispute-segment", f"found a segment of block data {found}, expected {expected}")
    before = view.get(dispute_key(key))
    if before is None:
        _validate_beginning(scope, view, contribution, action)
        _put_contribution(view, key, replace(contribution, disputes=contribution.disputes + 1))
        apply_debit(view, challenger, action.deposit)
    else:
        _validate_going_on(view, key, contribution)
        _validate_next(before, action)
    scope.learning.validate_demand(task.spec, Leaf(action.step, action.op), action.demand)
    deposit = action.deposit if before is None else before.deposit
    return _apply_turn(scope, view, key, Dispute(action.step, action.op, action.demand, 0, 0, deposit))


def apply_answer(scope: BlockScope, view: StateView, action: AnswerDispute) -> tuple[Event, ...]:
    """Take what was demanded of a segment, from whoever has it; raises InvalidTransaction, MissingData."""
    task = get_task(scope.context, view, action.task)
    key = DisputeKey(action.task, action.round, action.miner, action.index, action.challenger)
    contribution = _get_contribution(view, key)
    dispute = view.get(dispute_key(key))
    if dispute is None:
        raise InvalidTransaction("dispute-unknown", f"found no dispute of {action.challenger.hex()}, expected one")
    _validate_going_on(view, key, contribution)
    if dispute.is_answered:
        raise InvalidTransaction("dispute-turn", "found an answer, expected the challenger's next demand")
    leaf = Leaf(dispute.step, dispute.op)
    segment = get_segment_context(scope.context, view, task, key.round, contribution)
    sidecar = scope.content.get_sidecar(contribution.sidecar_hash)
    try:
        scope.learning.verify_answer(task.spec, segment, sidecar, (leaf, dispute.demand), action.answer)
    except InvalidProof as error:
        raise InvalidTransaction(error.rule, f"an answer is refused: {error}") from error
    if isinstance(dispute.demand, DemandOpening):
        return _apply_refused(scope, view, key, dispute)
    return _apply_turn(scope, view, key, replace(dispute, is_answered=1))


def apply_due_disputes(scope: BlockScope, view: StateView) -> tuple[Event, ...]:
    """Decide the disputes in which nobody has moved up to this block."""
    place = due_disputes_key(scope.draft.height)
    due = view.get(place)
    if due is None:
        return ()
    view.delete(place)
    events: list[Event] = []
    for key in due.keys:
        dispute = view.get(dispute_key(key))
        if dispute is None or dispute.deadline != scope.draft.height:
            continue
        if not _is_going_on(view, key, _get_contribution(view, key)):
            events += _apply_moot(view, key, dispute)
        elif dispute.is_answered:
            events += _apply_refused(scope, view, key, dispute)
        else:
            events += _apply_won(scope, view, key, dispute)
    return tuple(events)


def _apply_turn(scope: BlockScope, view: StateView, key: DisputeKey, dispute: Dispute) -> tuple[Event, ...]:
    """Give the turn to the other side, until a window from here."""
    deadline = scope.draft.height + scope.context.parameters.dispute_window
    moved = replace(dispute, deadline=deadline)
    view.put(dispute_key(key), moved)
    place = due_disputes_key(deadline)
    due = view.get(place) or DueDisputes(())
    # Both sides may move in one block, and then set the same deadline twice.
    if key not in due.keys:
        view.put(place, DueDisputes((*due.keys, key)))
    return (DisputeMoved(key, moved),)


def _apply_won(scope: BlockScope, view: StateView, key: DisputeKey, dispute: Dispute) -> tuple[Event, ...]:
    contribution = _end(view, key)
    apply_credit(view, key.challenger, dispute.deposit)
    paid, burned = apply_halves(view, contribution.deposit, key.challenger)
    following = compute_next_status(contribution.status, ContributionEvent.DISPUTE_WON)
    _put_contribution(view, key, replace(contribution, status_code=int(following), deposit=0))
    named = ContributionKey(key.miner, key.index)
    changed = ContributionChanged(key.task, key.round, named, following, contribution.deposit)
    decided = DisputeDecided(key, DisputeOutcome.WON, paid, burned)
    fallen = apply_fallen(scope, view, key)
    if contribution.status is not ContributionStatus.HELD:
        return (decided, changed, *fallen)
    state = view.get_existing(task_key(key.task))
    view.put(task_key(key.task), replace(state, held=state.held - 1))
    return (decided, changed, *fallen, *apply_held_rewards(scope, view, key))


def _apply_refused(scope: BlockScope, view: StateView, key: DisputeKey, dispute: Dispute) -> tuple[Event, ...]:
    contribution = _end(view, key)
    paid, burned = apply_halves(view, dispute.deposit, key.miner)
    decided = DisputeDecided(key, DisputeOutcome.REFUSED, paid, burned)
    if contribution.status is ContributionStatus.EXPIRED and not contribution.disputes:
        take_audits(view, key.task, key.round, ContributionKey(key.miner, key.index))
    if contribution.status is not ContributionStatus.HELD or contribution.disputes:
        return (decided,)
    following = compute_next_status(contribution.status, ContributionEvent.DISPUTES_REFUSED)
    _put_contribution(view, key, replace(contribution, status_code=int(following)))
    task, named = get_task(scope.context, view, key.task), ContributionKey(key.miner, key.index)
    late = apply_late_payout(scope.context.parameters, view, task, key.round, named)
    return (decided, *late, *apply_held_rewards(scope, view, key))


def _apply_moot(view: StateView, key: DisputeKey, dispute: Dispute) -> tuple[Event, ...]:
    _end(view, key)
    apply_credit(view, key.challenger, dispute.deposit)
    return (DisputeDecided(key, DisputeOutcome.MOOT, 0, 0),)


def _end(view: StateView, key: DisputeKey) -> Contribution:
    """Take a dispute out of the state and return its contribution without it."""
    view.delete(dispute_key(key))
    before = _get_contribution(view, key)
    after = replace(before, disputes=before.disputes - 1)
    _put_contribution(view, key, after)
    return after


def _get_contribution(view: StateView, key: DisputeKey) -> Contribution:
    found = view.get(contribution_key(key.task, key.round, ContributionKey(key.miner, key.index)))
    if found is None:
        message = f"found no contribution {key.index} of {key.miner.hex()} in round {key.round}, expected one"
        raise InvalidTransaction("dispute-contribution", message)
    return found


def _put_contribution(view: StateView, key: DisputeKey, contribution: Contribution) -> None:
    named = ContributionKey(key.miner, key.index)
    view.put(contribution_key(key.task, key.round, named), contribution)


def _validate_beginning(
    scope: BlockScope, view: StateView, contribution: Contribution, action: DisputeContribution
) -> None:
    if contribution.status not in _LIVE:
        raise _make_status_error(contribution)
    running, deposit = get_task_state(scope.context, view).round, scope.context.parameters.deposit
    if action.round != running:
        raise InvalidTransaction("dispute-late", f"found a contribution of round {action.round}, expected {running}")
    if action.deposit != deposit:
        raise InvalidTransaction("dispute-deposit", f"found {action.deposit} atoms, expected {deposit}")
    due = view.get(due_disputes_key(scope.draft.height + scope.context.parameters.dispute_window))
    if due is not None and len(due.keys) >= BEGUN_PER_BLOCK_MAX:
        raise InvalidTransaction("dispute-full", f"found {len(due.keys)} due with this one, the most there may be")


def _validate_next(before: Dispute, action: DisputeContribution) -> None:
    if not before.is_answered:
        raise InvalidTransaction("dispute-turn", "found a demand, expected the miner's answer to the last one")
    if (action.step, action.op) != (before.step, before.op):
        message = f"found op {action.op} of step {action.step}, expected op {before.op} of step {before.step}"
        raise InvalidTransaction("dispute-leaf", message)
    if _ORDER.index(type(action.demand)) <= _ORDER.index(type(before.demand)):
        found, last = type(action.demand).__name__, type(before.demand).__name__
        raise InvalidTransaction("dispute-order", f"found {found} after {last}, expected a smaller thing")
    if action.deposit:
        raise InvalidTransaction("dispute-deposit", f"found {action.deposit} atoms, expected 0 after the first demand")


def _validate_going_on(view: StateView, key: DisputeKey, contribution: Contribution) -> None:
    if not _is_going_on(view, key, contribution):
        raise _make_status_error(contribution)


def _is_going_on(view: StateView, key: DisputeKey, contribution: Contribution) -> bool:
    """Say whether something is left to be decided: of what has expired, the bonds of those who vouched for it."""
    if contribution.status is ContributionStatus.EXPIRED:
        return has_voucher(view, key)
    return contribution.status in _LIVE


def _make_status_error(contribution: Contribution) -> InvalidTransaction:
    return InvalidTransaction("dispute-status", f"found {contribution.status.name}, expected one not decided yet")
