"""Stake: atoms that an account locks to vote with, and how it gets them back.

Stake votes on what was proposed after it was locked, so none can be brought for a vote that is under way; and what is
leaving stays locked until all that it has voted on has taken effect, so whoever decides bears what comes of it. It
knows no proposal but its height.
"""

from dataclasses import replace

from chain.errors import InvalidTransaction
from chain.ledger.accounts import apply_credit, apply_debit
from chain.ledger.context import BlockScope
from chain.ledger.governance_records import EMPTY_STAKE, Stake
from chain.ledger.keys import stake_key
from chain.primitives import PublicKey
from chain.state.view import StateView
from chain.transaction import LockStake, UnlockStake


def get_stake(view: StateView, account: PublicKey) -> Stake:
    """Return what an account has locked; nothing where the state holds no stake of it."""
    return view.get(stake_key(account)) or EMPTY_STAKE


def compute_votes(stake: Stake, made_height: int) -> int:
    """Return the atoms that vote on what was proposed in the block at `made_height`."""
    return stake.amount if stake.since_height < made_height else 0


def apply_lock(scope: BlockScope, view: StateView, sender: PublicKey, lock: LockStake) -> None:
    """Lock atoms; all that the account has locked counts as new with them. Raises InvalidTransaction."""
    stake = get_stake(view, sender)
    apply_debit(view, sender, lock.amount)
    locked = replace(stake, amount=stake.amount + lock.amount, since_height=scope.draft.height)
    view.put(stake_key(sender), locked)


def apply_unlock(scope: BlockScope, view: StateView, sender: PublicKey, unlock: UnlockStake) -> None:
    """Give notice for stake, or pay out what has been leaving for long enough; raises InvalidTransaction."""
    stake, height = get_stake(view, sender), scope.draft.height
    if not stake.leaving:
        if unlock.amount > stake.amount:
            raise InvalidTransaction("stake-amount", f"found {unlock.amount} atoms, expected at most {stake.amount}")
        release_height = height + scope.context.parameters.release_blocks
        left = replace(stake, amount=stake.amount - unlock.amount, leaving=unlock.amount, release_height=release_height)
        view.put(stake_key(sender), left)
        return
    if unlock.amount != stake.leaving:
        raise InvalidTransaction("stake-leaving", f"found {unlock.amount} atoms, expected the {stake.leaving} leaving")
    if height < stake.release_height:
        raise InvalidTransaction("stake-release", f"found height {height}, expected at least {stake.release_height}")
    apply_credit(view, sender, stake.leaving)
    if stake.amount:
        view.put(stake_key(sender), replace(stake, leaving=0, release_height=0))
    else:
        view.delete(stake_key(sender))
