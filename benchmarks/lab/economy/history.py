"""One random history: a world that mines blocks of random actions, and the books that must agree with it all along.

An action is either entered in the books and put into the next block, or it is one that the rules refuse, and then the
ledger must refuse it by the same rule. `actions.py` draws them, `rounds.py` plays the rounds; here stand blocks, forks
and what has to hold.
"""

from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from random import Random

from benchmarks.lab.economy import audits, rounds, votes
from benchmarks.lab.economy.audit import read_audit
from benchmarks.lab.economy.books import Books, Reward
from benchmarks.lab.economy.copies import CopyBook
from benchmarks.lab.economy.miners import MinerBook
from benchmarks.lab.economy.oracle import Oracle, OracleModel
from benchmarks.lab.economy.orders import reorder
from benchmarks.lab.economy.rounds import Round
from benchmarks.lab.economy.world import CROWD, CROWD_FUNDS, PARAMETERS, Broken, World
from benchmarks.lab.simulator.setting import make_setting
from chain.errors import InvalidBlock
from chain.ledger.accounts import get_account
from chain.ledger.economy_records import Model, Shares
from chain.ledger.keys import model_key
from chain.ledger.registry import NOBODY
from chain.ledger.shares import FRACTION_BITS, compute_touched
from chain.ledger.subsidy import compute_subsidy
from chain.primitives import ATOMS_PER_COIN, PublicKey
from chain.signature import SigningKey
from chain.transaction import (
    Action,
    Transaction,
    TransactionBody,
    compute_signing_hash,
    get_sidecar_hash,
)

FUNDS = 1_000 * ATOMS_PER_COIN
FEES = (0, 1, 999, 10**6)
DEPTH_MAX = 6
"""Blocks that a fork goes back at most."""
REFUSED = "refused: "
"""How what is counted of a rule starts."""
NETWORK_ROYALTY_BP = 1_000


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim in the block that is being made, and what its holder was owed when it was signed."""

    account: PublicKey
    owed: Fraction


@dataclass(slots=True)
class History:
    """The world, its books and the block in the making."""

    world: World
    random: Random
    counts: Counter[str]
    books: Books = field(init=False)
    round: Round = field(default_factory=Round)
    pending: list[Transaction] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    fees: int = 0
    past: list[tuple[Books, Round]] = field(default_factory=list)
    """Books and round as they were after each of the last blocks, youngest last."""
    keys: tuple[SigningKey, ...] = (*make_setting().miners[:3], *make_setting().accounts[:5])
    crowd: tuple[SigningKey, ...] = ()
    """Keys that audit and do nothing else."""

    def __post_init__(self) -> None:
        world = self.world
        terms = world.view.get_existing(model_key(world.context.task_id)).terms
        first = OracleModel(NOBODY, 0, NETWORK_ROYALTY_BP, 0, None, terms.datasets)
        contents = {world.genesis.task.dataset_root, world.genesis.task.checkpoint_root}
        oracle = Oracle({world.context.task_id: first}, {terms.datasets[0]: (NOBODY, 0)}, contents)
        allocated = sum(allocation.amount for allocation in world.genesis.allocations)
        self.books = Books(oracle, world.genesis.parameters.first_price, allocated, votes.make_ballots())
        self.books.copies[terms.datasets[0]] = CopyBook(NOBODY, 0, 0)
        for miner in world.genesis.miners:
            self.books.miners.miners[miner] = MinerBook(PARAMETERS.bond, 0)
        self.past.append((deepcopy(self.books), deepcopy(self.round)))

    @property
    def oracle(self) -> Oracle:
        """What was registered and who got what."""
        return self.books.oracle

    def find_key(self, account: PublicKey) -> SigningKey:
        """Return the key of an account."""
        return next(key for key in (*self.keys, *self.crowd) if key.public_key == account)

    def has_claimed(self, account: PublicKey) -> bool:
        """Say whether the block in the making holds a claim of an account, whose worth is known only afterwards."""
        return any(claim.account == account for claim in self.claims)

    def start_of(self, account: PublicKey) -> int:
        """Return the atoms that an account had at genesis, its bond apart."""
        if any(key.public_key == account for key in self.crowd):
            return CROWD_FUNDS
        return FUNDS - (PARAMETERS.bond if account in self.world.genesis.miners else 0)

    def balance_of(self, account: PublicKey) -> int:
        """Return what the books say that an account may spend."""
        return self.start_of(account) + self.oracle.gained.get(account, 0)

    def next_nonce(self, account: PublicKey) -> int:
        """Return the nonce of the next transaction of an account, behind those in the block in the making."""
        before = sum(transaction.body.sender == account for transaction in self.pending)
        return get_account(self.world.view, account).nonce + before

    def has_room(self) -> bool:
        """Say whether the block in the making has room for one more piece of block data."""
        found = sum(get_sidecar_hash(transaction.body.action) is not None for transaction in self.pending)
        return found < self.books.ballots.values["sidecars_per_block"]

    def sign(self, key: SigningKey, action: Action, fee: int = 0) -> Transaction:
        """Return a transaction that stands behind those of its sender in the block in the making."""
        body = TransactionBody(key.public_key, self.next_nonce(key.public_key), fee, action)
        return Transaction(body, key.sign(compute_signing_hash(self.world.context.chain_id, body)))

    def enter(self, key: SigningKey, action: Action) -> None:
        """Put an action into the next block; what it means is the caller's to enter in the books."""
        fee = self.random.choice(FEES)
        self.pending.append(self.sign(key, action, fee))
        self.books.pay_fee(key.public_key, fee)
        self.fees += fee

    def refuse(self, key: SigningKey, action: Action, rule: str) -> None:
        """Let the ledger refuse an action by a rule, behind all that the next block holds; raises Broken."""
        self.counts[REFUSED + rule] += 1
        miner, ticket = self.keys[0], self.world.make_ticket(None)
        try:
            self.world.execute(miner, ticket, (*self.pending, self.sign(key, action)))
        except InvalidBlock as error:
            if error.rule == rule:
                return
            raise Broken(f"{type(action).__name__}: found {error.rule}, expected {rule}") from None
        raise Broken(f"{type(action).__name__}: found it taken, expected {rule}")

    def begin_block(self) -> None:
        """Put in what the round asks of its contributors, before anything else."""
        place = self.world.place
        if place == 0:
            rounds.commit(self)
        if place == 1:
            rounds.dispute(self)
        if place == 2:
            rounds.prove(self)
            audits.prove(self, 0.4)
        if place == PARAMETERS.round_blocks - 1:
            audits.prove(self, 0.5)

    def end_block(self) -> None:
        """Mine the block and compare everything; raises Broken."""
        world, place = self.world, self.world.place
        segment = self.round.segments.get(self.keys[0].public_key)
        is_true = segment is not None and self.random.random() < 0.8
        miner = self.keys[0]
        subsidy = compute_subsidy(world.tip.height + 1, PARAMETERS)
        ticket = world.make_ticket(segment if is_true else None)
        # Chance of its own, so that a seed's history is the same without this.
        other = reorder(Random(world.tip.height), self.pending)
        root = None if other == tuple(self.pending) else world.execute(miner, ticket, other)
        world.mine(miner, ticket, self.pending)
        self.counts["blocks in another order"] += root is not None
        _expect("root in another order", root, root and world.tip.root)
        self.books.add_block(subsidy, Reward(miner.public_key, self.fees, is_true))
        if place == 1:
            audits.note_draw(self)
        if place == 2:
            for lost in self.round.lost:
                self.books.burn_deposit(lost)
            for name, lost in self.round.posted_lost:
                self.books.burn_posted(name, lost)
        if place == PARAMETERS.round_blocks - 1:
            rounds.settle(self)
        self.counts.update(self.books.count_votes(world.tip.height))
        self._settle_claims()
        self.pending, self.claims, self.fees = [], [], 0
        self.check()
        self.past = [*self.past[-DEPTH_MAX:], (deepcopy(self.books), deepcopy(self.round))]

    def go_back(self) -> None:
        """Leave some of the last blocks, so that others take their place."""
        assert not self.pending
        depth = self.random.randrange(1, DEPTH_MAX)
        if depth >= len(self.past):
            return
        self.counts["reorganisations"] += 1
        self.world.go_back(depth)
        del self.past[-depth:]
        books, round_ = self.past[-1]
        self.books, self.round = deepcopy(books), deepcopy(round_)

    def check(self) -> None:
        """Compare supply, accounts, units and what is owed; raises Broken."""
        audit, books = read_audit(self.world.view), self.books
        supply = audit.supply
        _expect("atoms in all places", audit.total, supply.allocated + supply.issued)
        _expect("issued", supply.issued, books.issued)
        _expect("treasury", supply.treasury, books.treasury + books.oracle.taxed)
        _expect("burned", supply.burned, books.burned)
        _expect("pot", audit.pots.pop(self.world.context.task_id), books.pot)
        pots = {name: (pot.atoms, pot.share_bp, pot.subsidy) for name, pot in books.pots.items()}
        _expect("pots of live tasks", {name: (audit.pots[name], *audit.polls.subsidies[name]) for name in pots}, pots)
        _expect("pots of closed tasks", sum(atoms for name, atoms in audit.pots.items() if name not in pots), 0)
        _expect("deposits", audit.deposits + audit.polls.deposits, books.compute_locked())
        _expect("bonds", audit.bonds, books.miners.bonds + books.audits.bonds)
        _expect("locked", audit.locked, sum(reward.amount for reward in books.rewards))
        for what, found, expected in audit.polls.compare(books.ballots):
            _expect(what, found, expected)
        for key in (*self.keys, *self.crowd):
            name, found = key.public_key.hex()[:8], audit.balances[key.public_key]
            _expect(f"balance of {name}", found, self.balance_of(key.public_key))
        _expect("sketches", audit.sketches, {name for name, copy in books.copies.items() if copy.is_shown})
        _expect("models", set(audit.models), set(self.oracle.models))
        for model, expected in self.oracle.models.items():
            self._check_model(audit.models[model], audit.shares.get(model, {}), expected)

    def replay(self, root: Path) -> None:
        """Compare every root with a replay from genesis; raises Broken."""
        self.world.replay(root)

    def has_deposit(self, account: PublicKey) -> bool:
        """Say whether an account can spare a deposit beside what else it may do in a block."""
        return not self.has_claimed(account) and self.balance_of(account) >= 2 * self.books.deposit

    def _settle_claims(self) -> None:
        """Enter what claims brought: all that was owed, but for what rounding keeps back."""
        view, model = self.world.view, self.oracle.models[self.world.context.task_id]
        for claim in self.claims:
            found = get_account(view, claim.account).balance - self.balance_of(claim.account)
            slack = self._slack(model)
            if not claim.owed - slack - 1 < found <= claim.owed + slack:
                raise Broken(f"a claim brought {found} atoms, expected {claim.owed}")
            self.oracle.credit(claim.account, found)
            model.owed[claim.account] -= found

    def _slack(self, model: OracleModel) -> Fraction:
        # A counter is rounded once for each number of units that there was, and each unit bears that.
        return Fraction((model.mints + 1) * sum(model.units.values()), 1 << FRACTION_BITS)

    def _check_model(self, model: Model, holders: dict[PublicKey, Shares], expected: OracleModel) -> None:
        holders = {holder: compute_touched(model, shares) for holder, shares in holders.items()}
        units = {holder: shares.units for holder, shares in holders.items() if shares.units}
        _expect("units", units, {holder: count for holder, count in expected.units.items() if count})
        _expect("units of a model", model.units, sum(units.values()))
        _expect("waiting", model.waiting, expected.waiting)
        owed = {holder: (shares.earned << FRACTION_BITS) + shares.fraction for holder, shares in holders.items()}
        _expect("held", (model.held - model.waiting) << FRACTION_BITS, sum(owed.values()) + model.remainder)
        for holder in owed.keys() | expected.owed.keys():
            exact = expected.owed.get(holder, Fraction(0))
            if abs(Fraction(owed.get(holder, 0), 1 << FRACTION_BITS) - exact) > self._slack(expected):
                raise Broken(f"a holder is owed {owed.get(holder, 0)} / 2^64, expected {exact}")


def make_history(root: Path, seed: int, counts: Counter[str]) -> History:
    """Return a history at genesis; in every third a crowd of auditors begins it."""
    run = History(World(root), Random(seed), counts, crowd=() if seed % 3 else CROWD)
    audits.register_crowd(run)
    return run


def _expect(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise Broken(f"{what}: found {found}, expected {expected}")
