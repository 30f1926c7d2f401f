"""Governance's actions: what of each is checked without the state, what it costs, and which rule applies it.

One place that knows all of them, so that transactions need not; the rules stand in `stakes`, `proposals` and `bounds`.
No key may do what these do without a vote.
"""

from typing import assert_never

from chain.errors import InvalidTransaction
from chain.genesis import Parameters
from chain.ledger.bounds import validate_value
from chain.ledger.context import BlockScope, Event
from chain.ledger.governance_records import Choice
from chain.ledger.proposals import apply_propose, apply_vote
from chain.ledger.stakes import apply_lock, apply_unlock
from chain.ledger.task_pots import validate_share
from chain.ledger.titles import validate_title
from chain.primitives import PublicKey
from chain.signature import is_valid_point
from chain.state.view import StateView
from chain.transaction import (
    CastVote,
    Change,
    ChangeParameter,
    GovernanceAction,
    LockStake,
    ProposeChange,
    SpendTreasury,
    SubsidiseTask,
    UnlockStake,
)


def validate_governance_action(action: GovernanceAction) -> None:
    """Check what of an action needs no state; raises InvalidTransaction."""
    match action:
        case LockStake(amount=amount) | UnlockStake(amount=amount):
            _validate_amount(amount)
        case ProposeChange(title=title, change=change):
            validate_title("proposal-title", title)
            _validate_change(change)
        case CastVote(choice_code=choice_code):
            if choice_code not in set(Choice):
                raise InvalidTransaction("vote-choice", f"found {choice_code}, expected one of 0, 1 and 2")
        case _:
            assert_never(action)


def compute_governance_cost(action: GovernanceAction, parameters: Parameters) -> int:
    """Return the atoms that an action takes from its sender beside the fee."""
    match action:
        case LockStake(amount=amount):
            return amount
        case ProposeChange():
            return parameters.proposal_deposit
        case UnlockStake() | CastVote():
            return 0
    assert_never(action)


def apply_governance_action(
    scope: BlockScope, view: StateView, sender: PublicKey, action: GovernanceAction
) -> tuple[Event, ...]:
    """Change `view` by an action that `validate_governance_action` accepts; raises InvalidTransaction."""
    match action:
        case LockStake():
            apply_lock(scope, view, sender, action)
        case UnlockStake():
            apply_unlock(scope, view, sender, action)
        case ProposeChange():
            return apply_propose(scope, view, sender, action)
        case CastVote():
            apply_vote(view, sender, action)
        case _:
            assert_never(action)
    return ()


def _validate_change(change: Change) -> None:
    match change:
        case ChangeParameter():
            validate_value(change)
        case SpendTreasury(recipient=recipient, amount=amount):
            _validate_amount(amount)
            if not is_valid_point(recipient):
                raise InvalidTransaction("recipient", f"found {recipient.hex()}, expected a public key")
        case SubsidiseTask():
            validate_share(change)
        case _:
            assert_never(change)


def _validate_amount(amount: int) -> None:
    if not amount:
        raise InvalidTransaction("amount", "found 0 atoms, expected at least 1")
