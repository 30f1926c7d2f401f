"""What becomes of the atoms of posted tasks and of bounties: told from blocks and their events, beside the ledger.

What was put into a task is in its pot, paid for segments and audits, rent, or back with who gave it, by what each gave.
A bounty is the model's once its mark is reached, or goes back by the end of the round in which its height passes.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from benchmarks.lab.simulator.machine import InvariantBroken
from benchmarks.lab.simulator.purses import Purses
from chain.genesis import Parameters
from chain.ledger.bounties import compute_bounty_id
from chain.ledger.context import (
    AuditChanged,
    AuditOutcome,
    BountyDecided,
    BountyOutcome,
    ContributionChanged,
    Event,
    RoundEnded,
    TaskClosed,
)
from chain.ledger.keys import bounty_key, task_key
from chain.ledger.posted_tasks import compute_posted_task_id
from chain.ledger.task_pots import RENT
from chain.ledger.transition import ContributionStatus
from chain.primitives import Hash, PublicKey
from chain.state.view import StateView
from chain.transaction import FundTask, PostBounty, PostTask, TransactionBody

TASKS = "tasks posted"
ROUNDS = "rounds of posted tasks settled"
PAID_SEGMENTS = "segments of posted tasks paid"
CLOSED = "posted tasks closed"
SPENT = "of them with nothing left"
BOUNTIES = "bounties put up"
BOUNTIES_PAID = "bounties paid"
BOUNTIES_RETURNED = "bounties sent back"
COUNTED = (TASKS, ROUNDS, PAID_SEGMENTS, CLOSED, SPENT, BOUNTIES, BOUNTIES_PAID, BOUNTIES_RETURNED)


@dataclass(slots=True)
class Pot:
    """A posted task's atoms: what each account put in, and what has gone where."""

    first_end: int
    """The height at which its first round ends."""
    funders: dict[PublicKey, int]
    paid: int = 0
    rent: int = 0
    returned: int = 0
    is_closed: bool = False

    @property
    def left(self) -> int:
        """Atoms that must be in the pot."""
        return sum(self.funders.values()) - self.paid - self.rent - self.returned


@dataclass(frozen=True, slots=True)
class Open:
    """An open bounty."""

    poster: PublicKey
    terms: PostBounty


@dataclass(slots=True)
class TaskBooks:
    """The books of all posted tasks and all bounties."""

    chain_id: Hash
    parameters: Parameters
    purses: Purses
    pots: dict[Hash, Pot] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    _bounties: dict[Hash, Open] = field(default_factory=dict)

    def add(self, body: TransactionBody, height: int) -> None:
        """Take a transaction of the block at `height`."""
        sender, action = body.sender, body.action
        if isinstance(action, PostTask):
            # It begins with the round after the running one.
            first_end = self._compute_end(height - 1) + self.parameters.round_blocks
            name = compute_posted_task_id(self.chain_id, sender, action)
            self.pots[name] = Pot(first_end, {sender: action.budget})
            self.purses.add(sender, -action.budget)
            self.counts[TASKS] += 1
        elif isinstance(action, FundTask):
            funders = self.pots[action.task].funders
            funders[sender] = funders.get(sender, 0) + action.amount
            self.purses.add(sender, -action.amount)
        elif isinstance(action, PostBounty):
            self._bounties[compute_bounty_id(self.chain_id, sender, action)] = Open(sender, action)
            self.purses.add(sender, -action.amount)
            self.counts[BOUNTIES] += 1

    def end_block(self, events: Iterable[Event], view: StateView, height: int) -> None:
        """Take what happened in a block, and hold what there is against the state after it; raises InvariantBroken."""
        for event in events:
            match event:
                case BountyDecided():
                    self._decide(event, view, height)
                case ContributionChanged(status=ContributionStatus.SETTLED) if event.task in self.pots:
                    self.pots[event.task].paid += event.amount
                    self.counts[PAID_SEGMENTS] += event.amount > 0
                case AuditChanged(outcome=AuditOutcome.PAID) if event.task in self.pots:
                    self.pots[event.task].paid += event.paid
                case RoundEnded() if event.task in self.pots:
                    pot = self.pots[event.task]
                    pot.rent += min(RENT, pot.left)
                    self.counts[ROUNDS] += event.settlement is not None
                case TaskClosed():
                    self._close(event, height)
                case _:
                    pass
        self._check_pots(view, height)
        self._check_bounties(view, height)

    def _close(self, closed: TaskClosed, height: int) -> None:
        pot = self.pots[closed.task]
        if closed.amount != pot.left:
            detail = f"at height {height} a task gives {closed.amount} atoms back, expected {pot.left}"
            raise InvariantBroken("a pot adds up", detail)
        given = sum(pot.funders.values())
        for account, amount in pot.funders.items():
            self.purses.add(account, closed.amount * amount // given)
        pot.returned, pot.is_closed = closed.amount, True
        self.counts[CLOSED] += 1
        self.counts[SPENT] += not closed.amount

    def _decide(self, decided: BountyDecided, view: StateView, height: int) -> None:
        bounty = self._bounties.pop(decided.name)
        terms, is_paid = bounty.terms, decided.outcome is BountyOutcome.PAID
        correct = view.get_existing(task_key(terms.task)).heldout_correct
        if decided.amount != terms.amount or (is_paid and correct < terms.correct_min):
            detail = (
                f"{decided.amount} of {terms.amount} atoms for {terms.correct_min} are {decided.outcome} at {correct}"
            )
            raise InvariantBroken("a bounty is paid for its mark", f"at height {height} {detail}")
        if not is_paid:
            self.purses.add(bounty.poster, terms.amount)
        self.counts[BOUNTIES_PAID if is_paid else BOUNTIES_RETURNED] += 1

    def _check_pots(self, view: StateView, height: int) -> None:
        for name, pot in self.pots.items():
            found, expected = view.get_existing(task_key(name)).pot, pot.left
            if found != expected or expected < 0:
                detail = f"at height {height} found {found} atoms in {name.hex()[:16]}, expected {expected}"
                raise InvariantBroken("a pot adds up", detail)

    def _check_bounties(self, view: StateView, height: int) -> None:
        for name, bounty in self._bounties.items():
            terms, pot = bounty.terms, self.pots.get(bounty.terms.task)
            first_end, is_closed = (0, False) if pot is None else (pot.first_end, pot.is_closed)
            is_due = height >= max(self._compute_end(terms.last_height), first_end)
            if height >= first_end and height % self.parameters.round_blocks == 0:
                is_due |= view.get_existing(task_key(terms.task)).heldout_correct >= terms.correct_min
            if is_due or is_closed or view.get(bounty_key(name)) is None:
                detail = f"at height {height} the bounty {name.hex()[:16]} until {terms.last_height} is undecided"
                raise InvariantBroken("a bounty is paid or goes back", detail)

    def _compute_end(self, height: int) -> int:
        """Return the first height above this one at which rounds end."""
        return (height // self.parameters.round_blocks + 1) * self.parameters.round_blocks
