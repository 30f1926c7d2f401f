"""The end of a round: proven contributions that nobody disputes settle into a new checkpoint, and the next begins.

The checkpoint waits for no dispute: what is still disputed is held, and paid later if it is cleared. It knows the order
of the steps; amounts stand in `rewards`, training behind the learning engine.
"""

from dataclasses import replace

from chain.ledger.audits import apply_audit_outcomes
from chain.ledger.bounties import apply_due_bounties
from chain.ledger.context import BlockScope, ContributionChanged, Event, RoundEnded
from chain.ledger.contributions import iter_contributions
from chain.ledger.keys import checkpoint_key, contribution_key, round_contributions_key, task_key
from chain.ledger.learning import Settlement
from chain.ledger.records import Checkpoint, Contribution, ContributionKey, RoundContributions, TaskState
from chain.ledger.registry import apply_checkpoint
from chain.ledger.rewards import apply_locked_rewards, apply_payout
from chain.ledger.task_pots import apply_task_end
from chain.ledger.tasks import Task, get_state, iter_live_tasks
from chain.ledger.transition import ContributionEvent, ContributionStatus, compute_next_status
from chain.state.view import StateView

Entry = tuple[ContributionKey, Contribution]


def apply_round_end(scope: BlockScope, view: StateView) -> tuple[Event, ...]:
    """Settle the running round of each task if it ends with this block; raises MissingData."""
    if scope.draft.height % scope.context.parameters.round_blocks:
        return ()
    # The first round of what was posted in this one begins now.
    tasks = [
        task for task in iter_live_tasks(scope.context, view) if get_state(view, task).start_height < scope.draft.height
    ]
    events: list[Event] = []
    settled = [_apply_outcomes(scope, view, task, events) for task in tasks]
    # Locked rewards look at the statuses just written and at the old checkpoint, so they come before the next round.
    events += apply_locked_rewards(scope, view)
    for task, entries in zip(tasks, settled, strict=True):
        events += _apply_checkpoint(scope, view, task, entries)
        events += apply_task_end(scope, view, task)
    return tuple(events)


def _apply_outcomes(scope: BlockScope, view: StateView, task: Task, events: list[Event]) -> tuple[Entry, ...]:
    """Settle and pay what was proven; hold what is still under dispute. Return what settled."""
    settled: list[Entry] = []
    held, state = 0, get_state(view, task)
    for key, contribution in tuple(iter_contributions(view, task.name, state)):
        if contribution.status is not ContributionStatus.PROVEN:
            continue
        is_disputed = contribution.disputes > 0
        event = ContributionEvent.ROUND_ENDED_IN_DISPUTE if is_disputed else ContributionEvent.ROUND_ENDED
        following = compute_next_status(contribution.status, event)
        after = replace(contribution, status_code=int(following))
        view.put(contribution_key(task.name, state.round, key), after)
        held += is_disputed
        if is_disputed:
            events.append(ContributionChanged(task.name, state.round, key, following, 0))
        else:
            settled.append((key, after))
    view.put(task_key(task.name), replace(state, held=state.held + held))
    audits, audited = apply_audit_outcomes(scope, view, task)
    events += audited
    events += apply_payout(scope.context.parameters, view, task, tuple(settled), audits)
    return tuple(settled)


def _apply_checkpoint(scope: BlockScope, view: StateView, task: Task, settled: tuple[Entry, ...]) -> tuple[Event, ...]:
    """Move the task's checkpoint by what settled, begin its next round, and decide its bounties."""
    state = get_state(view, task)
    settlement = _compute_settlement(scope, view, task, settled)
    _apply_next_round(scope, view, task, settlement, len(settled))
    ended = RoundEnded(task.name, state.round, settlement, tuple(key for key, _ in settled))
    return (ended, *apply_due_bounties(scope, view, task))


def _compute_settlement(
    scope: BlockScope, view: StateView, task: Task, settled: tuple[Entry, ...]
) -> Settlement | None:
    if not settled:
        return None
    sidecars = tuple(scope.content.get_sidecar(contribution.sidecar_hash) for _, contribution in settled)
    return scope.learning.settle(task.spec, get_state(view, task).checkpoint_root, sidecars)


def _apply_next_round(
    scope: BlockScope, view: StateView, task: Task, settlement: Settlement | None, contributors: int
) -> None:
    state = get_state(view, task)
    reached = settlement or Settlement(
        state.checkpoint_root, state.heldout_loss, state.heldout_correct, state.heldout_total
    )
    apply_checkpoint(view, task.name, reached.checkpoint_root)
    scores = (reached.checkpoint_root, reached.heldout_loss, reached.heldout_correct, reached.heldout_total)
    view.put(checkpoint_key(task.name, state.round), Checkpoint(scope.draft.height, *scores, contributors))
    if state.contributions:
        view.put(round_contributions_key(task.name, state.round), RoundContributions(state.contributions))
    settled_contributions = state.settled_contributions + contributors
    view.put(
        task_key(task.name),
        TaskState(
            state.round + 1,
            scope.draft.height,
            *scores,
            pot=state.pot,
            price=state.price,
            settled_contributions=settled_contributions,
            held=state.held,
            contributions=(),
        ),
    )
