"""What the accounts must have that nobody else uses: from blocks, beside the ledger, held against each state.

It knows no rule: other books say what comes and goes.
"""

from collections.abc import Iterable

from benchmarks.lab.simulator.machine import InvariantBroken
from benchmarks.lab.simulator.setting import ALLOCATED
from chain.ledger.accounts import get_account
from chain.primitives import PublicKey
from chain.state.view import StateView


class Purses:
    """Balances in atoms, of a few accounts alone."""

    def __init__(self, owners: Iterable[PublicKey]) -> None:
        """Begin with what genesis allocates."""
        self._balances = dict.fromkeys(owners, ALLOCATED)

    def add(self, account: PublicKey, amount: int) -> None:
        """Add atoms to an account that is looked after; less than nothing takes them away."""
        if account in self._balances:
            self._balances[account] += amount

    def check(self, view: StateView, height: int) -> None:
        """Hold every balance against the state."""
        for account, expected in self._balances.items():
            found = get_account(view, account).balance
            if found != expected:
                detail = f"at height {height} {account.hex()[:16]} has {found} atoms, expected {expected}"
                raise InvariantBroken("everybody gets what is theirs", detail)
