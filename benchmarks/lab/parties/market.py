"""What models earn and whose it is, from a chain's blocks alone: terms, units, royalties, and what holders are owed.

It keeps no balance: what goes to an account's is handed to whoever keeps those.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import assert_never

from chain.codec import encode
from chain.hashing import tagged_hash
from chain.primitives import ZERO_HASH, Hash, PublicKey
from chain.transaction import (
    BuyLicence,
    ClaimIncome,
    MarketAction,
    PayModel,
    RegisterDataset,
    RegisterModel,
    TransferShares,
)

TREASURY, NETWORK_ROYALTY, WHOLE = 100, 1_000, 10_000
"""In basis points: of each payment; what children of the network's model owe; all of it."""
GRAIN = 2**64
"""A unit earns whole parts of so many in an atom; what is left of an income is divided with the next."""


@dataclass(slots=True)
class Held:
    """A model: its terms, and what each holder has and is owed."""

    owner: PublicKey
    author: int = 0
    royalty: int = 0
    parent: Hash | None = None
    datasets: tuple[Hash, ...] = ()
    units: dict[PublicKey, int] = field(default_factory=dict)
    owed: dict[PublicKey, Fraction] = field(default_factory=dict)
    waiting: int = 0
    left: Fraction = Fraction(0)
    """Of an atom: what could not be divided among all units yet."""

    @property
    def total(self) -> Fraction:
        """Atoms that it holds for shareholders."""
        return sum(self.owed.values(), self.waiting + self.left)

    def give(self, amount: int) -> None:
        """Divide an income among units, or keep it while there are none."""
        total = sum(self.units.values())
        if not total:
            self.waiting += amount
            return
        whole = amount + self.waiting + self.left
        each = Fraction(int(whole * GRAIN / total), GRAIN)
        for holder, units in self.units.items():
            self.owed[holder] = self.owed.get(holder, Fraction(0)) + each * units
        self.waiting, self.left = 0, whole - each * total

    def take(self, holder: PublicKey) -> int:
        """Pay out a holder's whole atoms."""
        atoms = int(self.owed[holder])
        self.owed[holder] -= atoms
        return atoms


@dataclass(slots=True)
class Market:
    """All models and data sets."""

    chain_id: Hash
    task: Hash
    credit: Callable[[PublicKey, int], None]
    """Adds to a balance; less than nothing takes away."""
    models: dict[Hash, Held] = field(default_factory=dict)
    datasets: dict[Hash, tuple[PublicKey, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.models[self.task] = Held(PublicKey(ZERO_HASH), royalty=NETWORK_ROYALTY)

    def trade(self, sender: PublicKey, action: MarketAction) -> int:
        """Carry out an action; return the atoms of it that are the treasury's."""
        match action:
            case RegisterDataset():
                name = tagged_hash("dataset.registered", self.chain_id, sender, encode(action))
                self.datasets[name] = (sender, action.royalty_bp)
            case RegisterModel():
                name = tagged_hash("model.registered", self.chain_id, sender, encode(action))
                parent = action.parents[0] if action.parents else None
                self.models[name] = Held(sender, action.author_bp, action.royalty_bp, parent, action.datasets)
            case TransferShares(model=model, recipient=recipient, units=units):
                held = self.models[model].units
                held[sender] -= units
                held[recipient] = held.get(recipient, 0) + units
            case BuyLicence(model=model, price=amount) | PayModel(model=model, amount=amount):
                self.credit(sender, -amount)
                tax = compute_part(amount, TREASURY)
                self._earn(model, amount, amount - tax)
                return tax
            case ClaimIncome(model=model):
                self.credit(sender, self.models[model].take(sender))
            case _:
                assert_never(action)
        return 0

    def mint(self, miner: PublicKey, macs: int) -> None:
        """Give a miner the units of a segment that has settled."""
        units = self.models[self.task].units
        units[miner] = units.get(miner, 0) + macs

    def _earn(self, name: Hash, amount: int, left: int) -> None:
        model = self.models[name]
        owed = [self.datasets[data] for data in model.datasets if data in self.datasets]
        for owner, basis_points in (*owed, (model.owner, model.author)):
            self.credit(owner, compute_part(amount, basis_points))
            left -= compute_part(amount, basis_points)
        if model.parent is not None:
            royalty = compute_part(amount, self.models[model.parent].royalty)
            self._earn(model.parent, royalty, royalty)
            left -= royalty
        model.give(left)


def compute_part(amount: int, basis_points: int) -> int:
    """Return so many basis points of an amount, rounded down."""
    return int(Fraction(amount * basis_points, WHOLE))
