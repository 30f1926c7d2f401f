"""Issuing a block's subsidy, and deciding at settlement who has earned what was locked.

A block's reward waits for the segment that its ticket came from; a settled segment is paid from the pot, by the price
of a verified multiply-accumulate, and gets a share unit of the network's model for each. It knows neither commits nor
challenges.
"""

from dataclasses import replace

from chain.errors import InvalidProof
from chain.ledger.accounts import apply_burn, apply_credit
from chain.ledger.context import BlockScope, ContributionChanged, Event, LedgerContext, RewardDecided, get_task_state
from chain.ledger.keys import SUPPLY_KEY, contribution_key, locked_reward_key, miner_key, task_key
from chain.ledger.pricing import compute_next_price, compute_payment
from chain.ledger.records import Contribution, ContributionKey, LockedReward
from chain.ledger.shares import apply_mint, apply_waiting
from chain.ledger.subsidy import compute_subsidy_split
from chain.ledger.transition import ContributionStatus
from chain.state.view import StateView


def apply_issuance(scope: BlockScope, view: StateView, fees: int) -> None:
    """Issue the block's subsidy: lock the winner's part with the fees, fill the pot, pay the treasury."""
    draft = scope.draft
    split = compute_subsidy_split(draft.height, scope.context.parameters)
    supply, state = view.get_existing(SUPPLY_KEY), get_task_state(scope.context, view)
    issued = split.reward + split.pot + split.treasury
    view.put(SUPPLY_KEY, replace(supply, issued=supply.issued + issued, treasury=supply.treasury + split.treasury))
    view.put(task_key(scope.context.task_id), replace(state, pot=state.pot + split.pot))
    view.put(locked_reward_key(draft.height), LockedReward(draft.miner, split.reward + fees, draft.ticket))


def apply_locked_rewards(scope: BlockScope, view: StateView) -> tuple[Event, ...]:
    """Pay or burn the locked rewards of all blocks of the round that ends with this one."""
    state = get_task_state(scope.context, view)
    events: list[Event] = []
    for height in range(state.start_height + 1, scope.draft.height + 1):
        key = locked_reward_key(height)
        locked = view.get_existing(key)
        is_paid = locked.amount > 0 and _is_earned(scope, view, locked)
        view.delete(key)
        if is_paid:
            apply_credit(view, locked.miner, locked.amount)
        else:
            apply_burn(view, locked.amount)
        events.append(RewardDecided(height, locked.miner, locked.amount, is_paid))
    return tuple(events)


def _is_earned(scope: BlockScope, view: StateView, locked: LockedReward) -> bool:
    context, ticket = scope.context, locked.ticket
    state = get_task_state(context, view)
    key = ContributionKey(locked.miner, ticket.index)
    contribution = view.get(contribution_key(context.task_id, state.round, key))
    if contribution is None or contribution.status is not ContributionStatus.SETTLED:
        return False
    if contribution.anchor_height != ticket.anchor_height:
        return False
    sidecar = scope.content.get_sidecar(contribution.sidecar_hash)
    try:
        roots = scope.learning.compute_operand_roots(
            context.task, state.checkpoint_root, sidecar, ticket.step, ticket.op
        )
    except InvalidProof:
        return False
    return roots == (ticket.root_a, ticket.root_b)


def apply_payout(
    context: LedgerContext, view: StateView, settled: tuple[tuple[ContributionKey, Contribution], ...]
) -> tuple[Event, ...]:
    """Return the deposits of settled contributions, pay them from the pot by their macs, and move the price.

    What is not spent stays in the pot. Each gets share units for its macs; income that waited for units is spread last.
    """
    state = get_task_state(context, view)
    macs_total = sum(contribution.macs for _, contribution in settled)
    events: list[Event] = []
    for key, contribution in settled:
        reward = compute_payment(state.price, state.pot, contribution.macs, macs_total)
        paid = replace(contribution, deposit=0, reward=reward)
        view.put(contribution_key(context.task_id, state.round, key), paid)
        apply_credit(view, key.miner, contribution.deposit + reward)
        apply_mint(view, context.task_id, key.miner, contribution.macs)
        miner = view.get_existing(miner_key(key.miner))
        view.put(miner_key(key.miner), replace(miner, settled_segments=miner.settled_segments + 1))
        events.append(ContributionChanged(state.round, key, ContributionStatus.SETTLED, reward))
    apply_waiting(view, context.task_id)
    pot = state.pot - sum(event.amount for event in events if isinstance(event, ContributionChanged))
    price = compute_next_price(state.price, state.pot, macs_total)
    view.put(task_key(context.task_id), replace(state, pot=pot, price=price))
    return tuple(events)
