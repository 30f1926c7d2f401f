"""Issuing a block's subsidy, and deciding at settlement who has earned what was locked.

A block's reward waits for the segment that its ticket came from; a settled segment is paid from the pot, by the price
of a verified multiply-accumulate, and gets a share unit of the network's model for each. It knows neither commits nor
challenges.
"""

from collections.abc import Iterator
from dataclasses import replace

from chain.errors import InvalidProof
from chain.genesis import Parameters
from chain.ledger.accounts import apply_burn, apply_credit
from chain.ledger.audits import DueAudit, apply_audit_pay, take_due_audits
from chain.ledger.context import (
    BlockScope,
    ContributionChanged,
    Event,
    RewardDecided,
    get_task_state,
)
from chain.ledger.keys import (
    SUPPLY_KEY,
    contribution_key,
    locked_reward_key,
    miner_key,
    round_contributions_key,
    task_key,
)
from chain.ledger.pricing import compute_next_price, compute_payment
from chain.ledger.records import Contribution, ContributionKey, DisputeKey, LockedReward
from chain.ledger.shares import apply_mint, apply_waiting
from chain.ledger.subsidy import compute_subsidy_split
from chain.ledger.task_pots import apply_subsidy
from chain.ledger.tasks import Task, compute_allowance, get_live_names, get_round_start, get_state, get_task
from chain.ledger.transition import ContributionStatus
from chain.state.view import StateView


def apply_issuance(scope: BlockScope, view: StateView, fees: int) -> None:
    """Issue the block's subsidy: lock the winner's part with the fees, fill the pots, pay the treasury."""
    draft = scope.draft
    split = compute_subsidy_split(draft.height, scope.context.parameters)
    supply = view.get_existing(SUPPLY_KEY)
    issued = split.reward + split.pot + split.treasury
    view.put(SUPPLY_KEY, replace(supply, issued=supply.issued + issued, treasury=supply.treasury + split.treasury))
    left = split.pot - sum(apply_subsidy(view, name, split.pot) for name in get_live_names(view))
    state = get_task_state(scope.context, view)
    view.put(task_key(scope.context.task_id), replace(state, pot=state.pot + left))
    view.put(locked_reward_key(draft.height), LockedReward(draft.miner, split.reward + fees, draft.ticket))


def apply_locked_rewards(scope: BlockScope, view: StateView) -> tuple[Event, ...]:
    """Pay or burn the locked rewards of all blocks of the round that ends with this one; held segments' stay locked."""
    round_number = get_task_state(scope.context, view).round
    events: list[Event] = []
    for height, locked in _iter_locked(scope, view, round_number):
        contribution = _get_source(view, locked)
        if contribution is None or contribution.status is not ContributionStatus.HELD:
            events.append(_apply_locked_reward(scope, view, height, locked))
    return tuple(events)


def apply_held_rewards(scope: BlockScope, view: StateView, key: DisputeKey) -> tuple[Event, ...]:
    """Pay or burn what stayed locked at the end of a round for the segment of a dispute, which is not held any more."""
    return tuple(
        _apply_locked_reward(scope, view, height, locked)
        for height, locked in tuple(_iter_locked(scope, view, key.round))
        if (locked.ticket.task, locked.miner, locked.ticket.index) == (key.task, key.miner, key.index)
    )


def _iter_locked(scope: BlockScope, view: StateView, round_number: int) -> Iterator[tuple[int, LockedReward]]:
    """Yield what is still locked of the blocks of a round, by height."""
    blocks = scope.context.parameters.round_blocks
    start = round_number * blocks
    for height in range(start + 1, min(start + blocks, scope.draft.height) + 1):
        locked = view.get(locked_reward_key(height))
        if locked is not None:
            yield height, locked


def _apply_locked_reward(scope: BlockScope, view: StateView, height: int, locked: LockedReward) -> Event:
    is_paid = locked.amount > 0 and _is_earned(scope, view, locked)
    view.delete(locked_reward_key(height))
    if is_paid:
        apply_credit(view, locked.miner, locked.amount)
    else:
        apply_burn(view, locked.amount)
    return RewardDecided(height, locked.miner, locked.amount, is_paid)


def _get_source(view: StateView, locked: LockedReward) -> Contribution | None:
    """Return the contribution that a locked reward's ticket says it came from."""
    key = ContributionKey(locked.miner, locked.ticket.index)
    return view.get(contribution_key(locked.ticket.task, locked.ticket.round, key))


def _is_earned(scope: BlockScope, view: StateView, locked: LockedReward) -> bool:
    context, ticket = scope.context, locked.ticket
    contribution = _get_source(view, locked)
    if contribution is None or contribution.status is not ContributionStatus.SETTLED:
        return False
    if contribution.anchor_height != ticket.anchor_height:
        return False
    sidecar = scope.content.get_sidecar(contribution.sidecar_hash)
    task = get_task(context, view, ticket.task)
    checkpoint_root = get_round_start(context, view, task, ticket.round).checkpoint_root
    try:
        roots = scope.learning.compute_operand_roots(task.spec, checkpoint_root, sidecar, ticket.step, ticket.op)
    except InvalidProof:
        return False
    return roots == (ticket.root_a, ticket.root_b)


def apply_payout(
    parameters: Parameters,
    view: StateView,
    task: Task,
    settled: tuple[tuple[ContributionKey, Contribution], ...],
    audits: tuple[DueAudit, ...],
) -> tuple[Event, ...]:
    """Return the deposits of settled contributions, pay them and their audits from the pot, and move the price.

    All are paid by their macs; what is not spent stays in the pot. A contribution gets share units for its macs; income
    that waited for units is spread last.
    """
    state = get_state(view, task)
    allowance = compute_allowance(parameters, task, state)
    macs_total = sum(contribution.macs for _, contribution in settled) + sum(audit.macs for audit in audits)
    events: list[Event] = []
    paid = 0
    for key, contribution in settled:
        reward = compute_payment(state.price, allowance, contribution.macs, macs_total)
        events.append(_apply_settled(view, task, state.round, (key, contribution), reward))
        paid += reward
    for audit in audits:
        pay = compute_payment(state.price, allowance, audit.macs, macs_total)
        events.append(apply_audit_pay(view, audit, pay))
        paid += pay
    apply_waiting(view, task.name)
    price = compute_next_price(state.price, allowance, macs_total)
    view.put(task_key(task.name), replace(state, pot=state.pot - paid, price=price))
    return tuple(events)


def apply_late_payout(
    parameters: Parameters, view: StateView, task: Task, round_number: int, key: ContributionKey
) -> tuple[Event, ...]:
    """Pay a segment that was held and settles now, and its audits, in the running round and at its price."""
    state = get_state(view, task)
    contribution = view.get_existing(contribution_key(task.name, round_number, key))
    audits = take_due_audits(parameters, view, task.name, round_number, (key, contribution))
    macs_total = contribution.macs + sum(audit.macs for audit in audits)
    allowance = _compute_late_allowance(parameters, view, task, round_number)
    reward = compute_payment(state.price, allowance, contribution.macs, macs_total)
    event = _apply_settled(view, task, round_number, (key, contribution), reward)
    pays = [compute_payment(state.price, allowance, audit.macs, macs_total) for audit in audits]
    paid_audits = [apply_audit_pay(view, audit, pay) for audit, pay in zip(audits, pays, strict=True)]
    apply_waiting(view, task.name)
    settled, pot = state.settled_contributions + 1, state.pot - reward - sum(pays)
    view.put(task_key(task.name), replace(state, pot=pot, settled_contributions=settled, held=state.held - 1))
    return (event, *paid_audits)


def _compute_late_allowance(parameters: Parameters, view: StateView, task: Task, round_number: int) -> int:
    """Return the atoms that a segment which was held may be paid from, with its audits.

    All that is held of one round of a posted task takes no more than a round may: else miners who dispute each other's
    segments would empty a pot whose price is too high. That of genesis spends what it has, and no more.
    """
    allowance = compute_allowance(parameters, task, get_state(view, task))
    if task.posted is None:
        return allowance
    return allowance // len(view.get_existing(round_contributions_key(task.name, round_number)).keys)


def _apply_settled(
    view: StateView, task: Task, round_number: int, entry: tuple[ContributionKey, Contribution], reward: int
) -> ContributionChanged:
    """Give a settled segment's miner its deposit, `reward` atoms of the pot, and a share unit for each MAC."""
    key, contribution = entry
    view.put(contribution_key(task.name, round_number, key), replace(contribution, deposit=0, reward=reward))
    apply_credit(view, key.miner, contribution.deposit + reward)
    apply_mint(view, task.name, key.miner, contribution.macs)
    miner = view.get_existing(miner_key(key.miner))
    view.put(miner_key(key.miner), replace(miner, settled_segments=miner.settled_segments + 1))
    return ContributionChanged(task.name, round_number, key, ContributionStatus.SETTLED, reward)
