"""What everybody must have, from a chain's blocks alone: the rules of money told again, in fractions, holder by
holder.

Nothing of the ledger is used but its records: subsidy, price, splits, units and income are computed here as
docs/protocol.md says. A block does not say which segments were honest, so whoever counts names the forgers.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import assert_never

from chain.block import Block
from chain.codec import encode
from chain.genesis import Genesis, Parameters, compute_chain_id, compute_task_id
from chain.hashing import tagged_hash
from chain.primitives import ZERO_HASH, Hash, PublicKey
from chain.transaction import (
    BuyLicence,
    ClaimIncome,
    CommitContribution,
    EconomyAction,
    PayModel,
    ProveContribution,
    RegisterDataset,
    RegisterModel,
    Transaction,
    Transfer,
    TransferShares,
)

Segment = tuple[PublicKey, int]
"""A miner and the index of its segment in a round."""

TREASURY, NETWORK_ROYALTY, WHOLE = 100, 1_000, 10_000
"""In basis points: of each payment; what children of the network's model owe; all of it."""
PERCENT = 45
"""Of a subsidy, to the block's miner and to the pot alike."""
PRICE_MACS = 2**40
GRAIN = 2**64
"""A unit earns whole parts of so many in an atom; what is left of an income is divided with the next."""


def compute_subsidy(height: int, parameters: Parameters) -> int:
    """Return what the block at `height` issues: two to the minus of half-lives gone by, by the cubic of aserti3-2d."""
    halvings, since = divmod(height - 1, parameters.subsidy_half_life)
    x = (parameters.subsidy_half_life - since) * 65_536 // parameters.subsidy_half_life
    cubic = Fraction(195_766_423_245_049 * x + 971_821_376 * x**2 + 5_127 * x**3 + 2**47, 2**48)
    return int(Fraction(parameters.subsidy * (65_536 + int(cubic)), 2 ** (17 + halvings)))


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
class Accounts:
    """Everything that money is in after the blocks so far."""

    genesis: Genesis
    macs: int
    """Multiply-accumulates of a segment of the task."""
    forgers: frozenset[PublicKey]
    balances: dict[PublicKey, int] = field(default_factory=dict)
    bonds: int = 0
    issued: int = 0
    burned: int = 0
    treasury: int = 0
    pot: int = 0
    price: int = 0
    round: int = 0
    round_start: int = 0
    commits: dict[Segment, tuple[int, int]] = field(default_factory=dict)
    """Of the running round, not expired yet: height and anchor."""
    proven: set[Segment] = field(default_factory=set)
    rewards: list[tuple[Segment, int, int]] = field(default_factory=list)
    """Of the running round's blocks: the segment that the ticket names, its anchor, and the atoms that wait."""
    models: dict[Hash, Held] = field(default_factory=dict)
    datasets: dict[Hash, tuple[PublicKey, int]] = field(default_factory=dict)
    lost: dict[PublicKey, int] = field(default_factory=dict)
    """Deposits that each miner has lost."""
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        nobody, bond = PublicKey(ZERO_HASH), self.genesis.parameters.bond
        for allocation in self.genesis.allocations:
            self.credit(allocation.account, allocation.amount)
        for miner in self.genesis.miners:
            self.credit(miner, -bond)
            self.bonds += bond
        self.price = self.genesis.parameters.first_price
        self.models[self.task] = Held(nobody, royalty=NETWORK_ROYALTY)

    @property
    def chain_id(self) -> Hash:
        """The network's name."""
        return compute_chain_id(self.genesis)

    @property
    def task(self) -> Hash:
        """The name of the network's own model."""
        return compute_task_id(self.chain_id, self.genesis.task)

    @property
    def deposits(self) -> int:
        """Atoms locked by contributions."""
        return len(self.commits) * self.genesis.parameters.deposit

    def credit(self, account: PublicKey, amount: int) -> None:
        """Add to a balance; less than nothing takes away."""
        self.balances[account] = self.balances.get(account, 0) + amount

    def add(self, block: Block) -> None:
        """Take in the next block."""
        foliage, ticket = block.header.foliage, block.header.trunk.ticket
        fees = 0
        for transaction in block.transactions:
            fees += transaction.body.fee
            self._apply(foliage.height, transaction)
        subsidy = compute_subsidy(foliage.height, self.genesis.parameters)
        part = subsidy * PERCENT // 100
        self.issued += subsidy
        self.pot += part
        self.treasury += subsidy - 2 * part
        self.rewards.append(((foliage.miner, ticket.index), ticket.anchor_height, part + fees))
        self._expire(foliage.height)
        if foliage.height == self.round_start + self.genesis.parameters.round_blocks:
            self._settle(foliage.height)

    def _apply(self, height: int, transaction: Transaction) -> None:
        sender, action = transaction.body.sender, transaction.body.action
        self.credit(sender, -transaction.body.fee)
        match action:
            case Transfer(recipient=recipient, amount=amount):
                self.credit(sender, -amount)
                self.credit(recipient, amount)
            case CommitContribution(index=index, anchor_height=anchor):
                self.credit(sender, -self.genesis.parameters.deposit)
                self.commits[sender, index] = (height, anchor)
            case ProveContribution(index=index):
                self.proven.add((sender, index))
            case RegisterDataset() | RegisterModel() | TransferShares() | BuyLicence() | PayModel() | ClaimIncome():
                self._trade(sender, action)
            case _:
                raise AssertionError(f"found {type(action).__name__}, expected no party to send one")

    def _trade(self, sender: PublicKey, action: EconomyAction) -> None:
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
                tax = _part(amount, TREASURY)
                self.treasury += tax
                self._earn(model, amount, amount - tax)
            case ClaimIncome(model=model):
                self.credit(sender, self.models[model].take(sender))
            case _:
                assert_never(action)

    def _earn(self, name: Hash, amount: int, left: int) -> None:
        model = self.models[name]
        owed = [self.datasets[data] for data in model.datasets if data in self.datasets]
        for owner, basis_points in (*owed, (model.owner, model.author)):
            self.credit(owner, _part(amount, basis_points))
            left -= _part(amount, basis_points)
        if model.parent is not None:
            royalty = _part(amount, self.models[model.parent].royalty)
            self._earn(model.parent, royalty, royalty)
            left -= royalty
        model.give(left)

    def _expire(self, height: int) -> None:
        parameters = self.genesis.parameters
        age = parameters.challenge_delay + parameters.proof_window
        for segment, (committed, _) in list(self.commits.items()):
            if segment not in self.proven and height - committed >= age:
                self._lose("expired", segment)

    def _settle(self, height: int) -> None:
        parameters = self.genesis.parameters
        for segment in [each for each in self.commits if each[0] in self.forgers]:
            self._lose("slashed", segment)
        settled, total, pot = sorted(self.commits), len(self.commits) * self.macs, self.pot
        is_enough = Fraction(self.price * total, PRICE_MACS) < pot + 1
        for miner, _ in settled:
            paid = int(Fraction(self.price * self.macs, PRICE_MACS) if is_enough else Fraction(pot * self.macs, total))
            self.credit(miner, parameters.deposit + paid)
            self.pot -= paid
            self._count("segments settled")
            units = self.models[self.task].units
            units[miner] = units.get(miner, 0) + self.macs
        self.models[self.task].give(0)
        if settled:
            step, fitting = max(1, self.price // 8), int(Fraction(pot * PRICE_MACS, total))
            self.price = min(max(fitting, self.price - step, 1), self.price + step, 2**64 - 1)
        for segment, anchor, amount in self.rewards:
            if segment in self.commits and self.commits[segment][1] == anchor:
                self.credit(segment[0], amount)
                self._count("block rewards paid")
            else:
                self._burn("block rewards burned", amount)
        self.round, self.round_start = self.round + 1, height
        self.commits, self.proven, self.rewards = {}, set(), []

    def _lose(self, what: str, segment: Segment) -> None:
        """Burn the deposit of a segment that will not settle."""
        del self.commits[segment]
        self.lost[segment[0]] = self.lost.get(segment[0], 0) + 1
        self._burn(f"segments {what}", self.genesis.parameters.deposit)

    def _burn(self, what: str, amount: int) -> None:
        self.burned += amount
        self._count(what)

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1


def count_blocks(genesis: Genesis, macs: int, forgers: frozenset[PublicKey], blocks: Iterable[Block]) -> Accounts:
    """Return what everybody must have after all blocks from height 1 on."""
    accounts = Accounts(genesis, macs, forgers)
    for block in blocks:
        accounts.add(block)
    return accounts


def _part(amount: int, basis_points: int) -> int:
    return int(Fraction(amount * basis_points, WHOLE))
