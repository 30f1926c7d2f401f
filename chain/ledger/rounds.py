"""The end of a round: proven contributions that nobody disputes settle into a new checkpoint, and the next begins.

The checkpoint waits for no dispute: what is still disputed is held, and paid later if it is cleared. It knows the order
of the steps; amounts stand in `rewards`, training behind the learning engine.
"""

from dataclasses import replace

from chain.ledger.audits import apply_audit_outcomes
from chain.ledger.bounties import apply_due_bounties
from chain.ledger.context import (
    BlockScope,
    ContributionChanged,
    Event,
    RoundEnded,
    get_task_state,
)
from chain.ledger.contributions import iter_contributions
from chain.ledger.keys import checkpoint_key, contribution_key, task_key
from chain.ledger.learning import Settlement
from chain.ledger.records import Checkpoint, Contribution, ContributionKey, TaskState
from chain.ledger.registry import apply_checkpoint
from chain.ledger.rewards import apply_locked_rewards, apply_payout
from chain.ledger.transition import ContributionEvent, ContributionStatus, compute_next_status
from chain.state.view import StateView

Entry = tuple[ContributionKey, Contribution]


def apply_round_end(scope: BlockScope, view: StateView) -> tuple[Event, ...]:
    """Settle the running round if it ends with this block; raises MissingData."""
    context, state = scope.context, get_task_state(scope.context, view)
    if scope.draft.height < state.start_height + context.parameters.round_blocks:
        return ()
    settled, held = _apply_outcomes(scope, view, state)
    due_audits, audited = apply_audit_outcomes(scope, view, state)
    payouts = apply_payout(context, view, settled, due_audits)
    # Locked rewards look at the statuses just written and at the old checkpoint, so they come before the next round.
    rewards = apply_locked_rewards(scope, view)
    settlement = _compute_settlement(scope, state, settled)
    contributors = tuple(key for key, _ in settled)
    begun = _apply_next_round(scope, view, settlement, len(settled))
    bounties = apply_due_bounties(scope, view, begun)
    return (*held, *audited, *payouts, *rewards, RoundEnded(state.round, settlement, contributors), *bounties)


def _apply_outcomes(
    scope: BlockScope, view: StateView, state: TaskState
) -> tuple[tuple[Entry, ...], tuple[Event, ...]]:
    """Settle what was proven; hold what is still under dispute. Return what settled, and what else happened."""
    context = scope.context
    settled: list[Entry] = []
    held: list[Event] = []
    for key, contribution in tuple(iter_contributions(context, view, state)):
        if contribution.status is not ContributionStatus.PROVEN:
            continue
        is_disputed = contribution.disputes > 0
        event = ContributionEvent.ROUND_ENDED_IN_DISPUTE if is_disputed else ContributionEvent.ROUND_ENDED
        following = compute_next_status(contribution.status, event)
        after = replace(contribution, status_code=int(following))
        view.put(contribution_key(context.task_id, state.round, key), after)
        if is_disputed:
            held.append(ContributionChanged(state.round, key, following, 0))
        else:
            settled.append((key, after))
    return tuple(settled), tuple(held)


def _compute_settlement(scope: BlockScope, state: TaskState, settled: tuple[Entry, ...]) -> Settlement | None:
    if not settled:
        return None
    sidecars = tuple(scope.content.get_sidecar(contribution.sidecar_hash) for _, contribution in settled)
    return scope.learning.settle(scope.context.task, state.checkpoint_root, sidecars)


def _apply_next_round(
    scope: BlockScope, view: StateView, settlement: Settlement | None, contributors: int
) -> TaskState:
    """Begin the next round and return where the task stands with it."""
    task, state = scope.context.task_id, get_task_state(scope.context, view)
    reached = settlement or Settlement(
        state.checkpoint_root, state.heldout_loss, state.heldout_correct, state.heldout_total
    )
    apply_checkpoint(view, task, reached.checkpoint_root)
    scores = (reached.checkpoint_root, reached.heldout_loss, reached.heldout_correct, reached.heldout_total)
    view.put(checkpoint_key(task, state.round), Checkpoint(scope.draft.height, *scores, contributors))
    settled_contributions = state.settled_contributions + contributors
    begun = TaskState(state.round + 1, scope.draft.height, *scores, state.pot, state.price, settled_contributions, ())
    view.put(task_key(task), begun)
    return begun
