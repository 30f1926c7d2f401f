"""What the economy's rules mean, told naively: every holder is visited, and parts of atoms are fractions.

It shares no code with the ledger. A payment is split by whole atoms where accounts are credited, and by fractions
among holders, whose sum is what the shareholders got.
"""

from dataclasses import dataclass, field
from fractions import Fraction

from chain.primitives import Hash, PublicKey

TAX_BP, WHOLE_BP = 100, 10_000


@dataclass(slots=True)
class OracleModel:
    """A model's terms as numbers, and its holders."""

    owner: PublicKey
    author_bp: int
    royalty_bp: int
    price: int
    parent: Hash | None
    datasets: tuple[Hash, ...]
    depth: int = 0
    units: dict[PublicKey, int] = field(default_factory=dict)
    owed: dict[PublicKey, Fraction] = field(default_factory=dict)
    waiting: int = 0
    mints: int = 0

    def give(self, amount: int) -> None:
        """Divide the shareholders' part among holders, or keep it while there is none."""
        total = sum(self.units.values())
        if not total:
            self.waiting += amount
            return
        for holder, units in self.units.items():
            self.owed[holder] = self.owed.get(holder, Fraction(0)) + Fraction((amount + self.waiting) * units, total)
        self.waiting = 0

    def move(self, sender: PublicKey, recipient: PublicKey, units: int) -> None:
        """Move units between holders."""
        self.units[sender] -= units
        self.units[recipient] = self.units.get(recipient, 0) + units


@dataclass(slots=True)
class Oracle:
    """Everything that was registered, and what accounts and the treasury got or paid so far."""

    models: dict[Hash, OracleModel]
    datasets: dict[Hash, tuple[PublicKey, int]] = field(default_factory=dict)
    contents: set[Hash] = field(default_factory=set)
    licences: set[tuple[Hash, PublicKey]] = field(default_factory=set)
    gained: dict[PublicKey, int] = field(default_factory=dict)
    taxed: int = 0

    def credit(self, account: PublicKey, amount: int) -> None:
        """Add to what an account got; less than nothing is what it paid."""
        self.gained[account] = self.gained.get(account, 0) + amount

    def list_owed_bp(self, model: OracleModel) -> list[int]:
        """Return all that a model owes of an income beside its shareholders."""
        royalties = [self.datasets[name][1] for name in model.datasets]
        lineage = [] if model.parent is None else [self.models[model.parent].royalty_bp]
        return [TAX_BP, model.author_bp, *royalties, *lineage]

    def pay(self, payer: PublicKey, name: Hash, amount: int) -> None:
        """Take a payment and split it."""
        self.credit(payer, -amount)
        tax = amount * TAX_BP // WHOLE_BP
        self.taxed += tax
        self._earn(name, amount, tax)

    def _earn(self, name: Hash, amount: int, gone: int) -> None:
        model = self.models[name]
        for owner, basis_points in [self.datasets[data] for data in model.datasets]:
            self.credit(owner, amount * basis_points // WHOLE_BP)
            gone += amount * basis_points // WHOLE_BP
        self.credit(model.owner, amount * model.author_bp // WHOLE_BP)
        gone += amount * model.author_bp // WHOLE_BP
        if model.parent is not None:
            royalty = amount * self.models[model.parent].royalty_bp // WHOLE_BP
            self._earn(model.parent, royalty, 0)
            gone += royalty
        model.give(amount - gone)

    def mint(self, name: Hash, holders: tuple[PublicKey, ...], units: int) -> None:
        """Give each of `holders` new units, then what waited for the first of them."""
        model = self.models[name]
        for holder in holders:
            model.units[holder] = model.units.get(holder, 0) + units
        model.mints += len(holders)
        model.give(0)
