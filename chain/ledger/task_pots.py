"""The pots of posted tasks: what fills them beside the budget, and what becomes of what is left.

Accounts add to a pot, and votes give it a part of the subsidy, within bounds. Each round takes a rent, for every node
scores the task. At the first round's end from its last height on, or with an empty pot, a task closes, once nothing of
it is under dispute, and what is left goes back to where it came from in proportion. It knows no segment.
"""

from dataclasses import replace

from chain.errors import InvalidTransaction
from chain.ledger.accounts import apply_credit, apply_debit, apply_to_treasury
from chain.ledger.bounties import apply_return_bounties
from chain.ledger.context import BlockScope, Event, TaskClosed
from chain.ledger.income import compute_part
from chain.ledger.keys import LIVE_TASKS_KEY, funding_key, task_key
from chain.ledger.records import TaskState
from chain.ledger.task_records import FUNDERS_MAX, Funder, LiveTasks
from chain.ledger.tasks import Task, get_live_names, get_live_task, get_state, is_over
from chain.primitives import ATOMS_PER_COIN, Hash, PublicKey
from chain.state.view import StateView
from chain.transaction import FundTask, SubsidiseTask

RENT = ATOMS_PER_COIN
"""Atoms that a round of a posted task costs its pot, for the treasury: room among the live ones is not free."""

FUND_MIN = ATOMS_PER_COIN
"""Atoms that may be added at least: what room among the funders costs."""

SHARE_BP_MAX = 2_000
"""Of what a block issues for contributions, to one posted task at most."""

SHARES_BP_MAX = 5_000
"""To all of them together: half at least stays with the task that tickets come from."""


def apply_fund_task(scope: BlockScope, view: StateView, sender: PublicKey, fund: FundTask) -> None:
    """Add to the pot of a live posted task; raises InvalidTransaction."""
    task = get_live_task(scope.context, view, fund.task)
    if task.posted is None:
        raise InvalidTransaction("task-genesis", "found genesis' task, whose pot blocks fill, expected a posted one")
    funding, state = view.get_existing(funding_key(task.name)), get_state(view, task)
    amounts = {funder.account: funder.amount for funder in funding.funders}
    if sender not in amounts and len(amounts) >= FUNDERS_MAX:
        raise InvalidTransaction("fund-full", f"found {len(amounts)} funders, the most there may be")
    apply_debit(view, sender, fund.amount)
    amounts[sender] = amounts.get(sender, 0) + fund.amount
    funders = tuple(Funder(account, amount) for account, amount in sorted(amounts.items()))
    view.put(funding_key(task.name), replace(funding, funders=funders))
    view.put(task_key(task.name), replace(state, pot=state.pot + fund.amount))


def validate_fund_terms(fund: FundTask) -> None:
    """Check what needs no state; raises InvalidTransaction."""
    if fund.amount < FUND_MIN:
        raise InvalidTransaction("fund-amount", f"found {fund.amount} atoms, expected at least {FUND_MIN}")


def apply_subsidy(view: StateView, name: Hash, amount: int) -> int:
    """Give a live task its part of the `amount` atoms that a block issues for contributions, and return it."""
    funding = view.get_existing(funding_key(name))
    part = compute_part(amount, funding.share_bp)
    if part:
        state = view.get_existing(task_key(name))
        view.put(task_key(name), replace(state, pot=state.pot + part))
        view.put(funding_key(name), replace(funding, subsidy=funding.subsidy + part))
    return part


def validate_share(change: SubsidiseTask) -> None:
    """Check what needs no state; raises InvalidTransaction."""
    if change.share_bp > SHARE_BP_MAX:
        raise InvalidTransaction(
            "share-bounds", f"found {change.share_bp} basis points, expected at most {SHARE_BP_MAX}"
        )


def validate_share_possible(view: StateView, change: SubsidiseTask) -> None:
    """Check that a task could get its share of the subsidy now; raises InvalidTransaction."""
    shares = {name: view.get_existing(funding_key(name)).share_bp for name in get_live_names(view)}
    if change.task not in shares:
        raise InvalidTransaction("share-task", f"found task {change.task.hex()}, expected a live posted one")
    if shares[change.task] == change.share_bp:
        raise InvalidTransaction("share-same", f"found {change.share_bp} basis points in force, expected others")
    shares[change.task] = change.share_bp
    if (total := sum(shares.values())) > SHARES_BP_MAX:
        raise InvalidTransaction("share-total", f"found {total} basis points for all, expected at most {SHARES_BP_MAX}")


def apply_share(view: StateView, change: SubsidiseTask) -> None:
    """Give a live task its share of the subsidy from the next block on."""
    funding = view.get_existing(funding_key(change.task))
    view.put(funding_key(change.task), replace(funding, share_bp=change.share_bp))


def apply_task_end(scope: BlockScope, view: StateView, task: Task) -> tuple[Event, ...]:
    """Take a posted task's rent for the round that has ended, and close the task if that was its last."""
    if task.posted is None:
        return ()
    state = get_state(view, task)
    rent = min(RENT, state.pot)
    apply_to_treasury(view, rent)
    left = replace(state, pot=state.pot - rent)
    view.put(task_key(task.name), left)
    is_last = is_over(task, scope.draft.height) or not left.pot
    if not is_last or left.held:
        return ()
    returned = apply_return_bounties(view, task)
    _apply_refund(view, task, left)
    view.put(LIVE_TASKS_KEY, LiveTasks(tuple(name for name in get_live_names(view) if name != task.name)))
    return (*returned, TaskClosed(task.name, left.pot))


def _apply_refund(view: StateView, task: Task, state: TaskState) -> None:
    """Empty a pot: each funder gets its part, rounded down, and the treasury the subsidy's and what rounding leaves."""
    funding = view.get_existing(funding_key(task.name))
    given, left = funding.subsidy + sum(funder.amount for funder in funding.funders), state.pot
    for funder in funding.funders:
        part = state.pot * funder.amount // given
        apply_credit(view, funder.account, part)
        left -= part
    apply_to_treasury(view, left)
    view.put(task_key(task.name), replace(state, pot=0))
    view.delete(funding_key(task.name))
