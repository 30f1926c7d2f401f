"""The end of a round: proven contributions are re-executed, honest ones settle into a new checkpoint, the next begins.

Every validator does this itself for now. It knows the order of the steps; amounts stand in `rewards`, training behind
the learning engine.
"""

from dataclasses import replace

from chain.ledger.accounts import apply_burn
from chain.ledger.context import (
    BlockScope,
    ContributionChanged,
    Event,
    RoundEnded,
    get_segment_context,
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
    settled, slashings = _apply_executions(scope, view, state)
    payouts = apply_payout(context, view, settled)
    # Locked rewards look at the statuses just written and at the old checkpoint, so they come before the next round.
    rewards = apply_locked_rewards(scope, view)
    settlement = _compute_settlement(scope, state, settled)
    contributors = tuple(key for key, _ in settled)
    _apply_next_round(scope, view, settlement, len(settled))
    return (*slashings, *payouts, *rewards, RoundEnded(state.round, settlement, contributors))


def _apply_executions(
    scope: BlockScope, view: StateView, state: TaskState
) -> tuple[tuple[Entry, ...], tuple[Event, ...]]:
    context = scope.context
    settled: list[Entry] = []
    slashings: list[Event] = []
    for key, contribution in tuple(iter_contributions(context, view, state)):
        if contribution.status is not ContributionStatus.PROVEN:
            continue
        sidecar = scope.content.get_sidecar(contribution.sidecar_hash)
        segment = get_segment_context(contribution, state)
        is_honest = scope.learning.is_segment_honest(context.task, segment, sidecar)
        event = ContributionEvent.EXECUTION_AGREED if is_honest else ContributionEvent.EXECUTION_DIFFERED
        after = replace(contribution, status_code=int(compute_next_status(contribution.status, event)))
        if is_honest:
            settled.append((key, after))
        else:
            apply_burn(view, contribution.deposit)
            slashings.append(ContributionChanged(state.round, key, ContributionStatus.SLASHED, contribution.deposit))
            after = replace(after, deposit=0)
        view.put(contribution_key(context.task_id, state.round, key), after)
    return tuple(settled), tuple(slashings)


def _compute_settlement(scope: BlockScope, state: TaskState, settled: tuple[Entry, ...]) -> Settlement | None:
    if not settled:
        return None
    sidecars = tuple(scope.content.get_sidecar(contribution.sidecar_hash) for _, contribution in settled)
    return scope.learning.settle(scope.context.task, state.checkpoint_root, sidecars)


def _apply_next_round(scope: BlockScope, view: StateView, settlement: Settlement | None, contributors: int) -> None:
    task, state = scope.context.task_id, get_task_state(scope.context, view)
    reached = settlement or Settlement(
        state.checkpoint_root, state.heldout_loss, state.heldout_correct, state.heldout_total
    )
    apply_checkpoint(view, task, reached.checkpoint_root)
    scores = (reached.checkpoint_root, reached.heldout_loss, reached.heldout_correct, reached.heldout_total)
    view.put(checkpoint_key(task, state.round), Checkpoint(scope.draft.height, *scores, contributors))
    view.put(
        task_key(task),
        TaskState(
            state.round + 1,
            scope.draft.height,
            *scores,
            state.pot,
            state.price,
            state.settled_contributions + contributors,
            (),
        ),
    )
