"""Moving atoms: the only functions that change a balance.

They keep no total; whoever takes from one place gives to another in the same step. Balances cannot overflow, as the
genesis check bounds everything that can ever be issued.
"""

from dataclasses import replace

from chain.errors import InvalidTransaction
from chain.ledger.keys import SUPPLY_KEY, account_key
from chain.ledger.records import EMPTY_ACCOUNT, Account
from chain.primitives import PublicKey
from chain.state.view import StateView


def get_account(view: StateView, account: PublicKey) -> Account:
    """Return an account; one that the state does not hold is empty."""
    return view.get(account_key(account)) or EMPTY_ACCOUNT


def apply_credit(view: StateView, account: PublicKey, amount: int) -> None:
    """Add `amount` atoms to a balance; zero atoms make no account."""
    if amount:
        before = get_account(view, account)
        view.put(account_key(account), Account(before.nonce, before.balance + amount))


def apply_debit(view: StateView, account: PublicKey, amount: int) -> None:
    """Take `amount` atoms from a balance; raises InvalidTransaction."""
    before = get_account(view, account)
    validate_balance(before, amount)
    view.put(account_key(account), Account(before.nonce, before.balance - amount))


def validate_balance(account: Account, amount: int) -> None:
    """Check that a balance covers `amount` atoms; raises InvalidTransaction."""
    if account.balance < amount:
        raise InvalidTransaction("balance", f"found {account.balance} atoms, expected at least {amount}")


def apply_halves(view: StateView, lost: int, winner: PublicKey) -> tuple[int, int]:
    """Give half of `lost` atoms, taken elsewhere, to whoever was right, and burn the rest; return both, in atoms.

    So losing to oneself costs half.
    """
    paid = lost // 2
    apply_credit(view, winner, paid)
    apply_burn(view, lost - paid)
    return paid, lost - paid


def apply_to_treasury(view: StateView, amount: int) -> None:
    """Give `amount` atoms, taken elsewhere, to the treasury."""
    supply = view.get_existing(SUPPLY_KEY)
    view.put(SUPPLY_KEY, replace(supply, treasury=supply.treasury + amount))


def apply_burn(view: StateView, amount: int) -> None:
    """Count `amount` atoms, taken elsewhere, as burned."""
    supply = view.get_existing(SUPPLY_KEY)
    view.put(SUPPLY_KEY, replace(supply, burned=supply.burned + amount))
