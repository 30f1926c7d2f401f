"""Books kept beside the ledger: what every account, the treasury and the pot must hold, from the rules told naively.

Parts of shareholders are fractions, everything else whole atoms; a subsidy's size alone is taken from the ledger, whose
curve is tested elsewhere. It shares no other code with the ledger and sees no state.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import assert_never

from benchmarks.lab.economy.audits import AuditBooks
from benchmarks.lab.economy.ballots import Ballots
from benchmarks.lab.economy.copies import CopyBook
from benchmarks.lab.economy.miners import MinerBooks
from benchmarks.lab.economy.oracle import Oracle
from chain.primitives import Hash, PublicKey
from chain.transaction import Change, ChangeParameter, SpendTreasury, SubsidiseTask

PRICE_MACS = 2**40
COIN = 10**9
AUDIT_BP = 2_500
"""Of a segment's MACs: what its audit is paid for."""
QUORUM_BP = 200
"""Of all atoms in circulation: what must have voted."""
PROPOSAL_DEPOSIT = 10 * COIN


@dataclass(frozen=True, slots=True)
class Reward:
    """What a block's miner gets if the segment that its ticket came from settles; `is_true` when it came from one."""

    miner: PublicKey
    amount: int
    is_true: bool


@dataclass(slots=True)
class Pot:
    """What a posted task has to spend from the height `begins` on, and where that came from."""

    price: int
    atoms: int
    begins: int
    last_height: int
    funders: dict[PublicKey, int]
    share_bp: int = 0
    """What votes give it of what a block issues for contributions."""
    subsidy: int = 0
    """Atoms that it got so."""

    def add(self, account: PublicKey, amount: int) -> None:
        """Put in what an account gave."""
        self.atoms += amount
        self.funders[account] = self.funders.get(account, 0) + amount

    def compute_spendable(self, start: int, round_blocks: int) -> int:
        """Return what the round that starts at a height may spend: the pot by the rounds until the last height."""
        rounds = 1
        while start + rounds * round_blocks < self.last_height:
            rounds += 1
        return self.atoms // rounds


@dataclass(slots=True)
class Books:
    """All that is owed and owned; `oracle.gained` counts what accounts got and paid."""

    oracle: Oracle
    price: int
    allocated: int
    ballots: Ballots
    pot: int = 0
    burned: int = 0
    issued: int = 0
    treasury: int = 0
    """Without what payments are taxed, which stands in the oracle."""
    deposits: dict[PublicKey, int] = field(default_factory=dict)
    challenges: dict[PublicKey, tuple[PublicKey, int]] = field(default_factory=dict)
    """Who disputes a miner's segment, and what it has locked."""
    rewards: list[Reward] = field(default_factory=list)
    pots: dict[Hash, Pot] = field(default_factory=dict)
    """Those of posted tasks that are live."""
    posted: dict[tuple[Hash, PublicKey], int] = field(default_factory=dict)
    """Deposits of contributions to them."""
    audits: AuditBooks = field(default_factory=AuditBooks)
    miners: MinerBooks = field(default_factory=MinerBooks)
    copies: dict[Hash, CopyBook] = field(default_factory=dict)
    """The network's data set and those that resemble it."""

    def pay_fee(self, account: PublicKey, fee: int) -> None:
        """Take a fee; it is handed out with the block's reward."""
        self.oracle.credit(account, -fee)

    def lock_deposit(self, miner: PublicKey, amount: int) -> None:
        """Take a contribution's deposit."""
        self.oracle.credit(miner, -amount)
        self.deposits[miner] = amount

    def burn_deposit(self, miner: PublicKey) -> None:
        """Lose a deposit, of a contribution that expired."""
        self.burned += self.deposits.pop(miner)

    def lock_challenge(self, miner: PublicKey, challenger: PublicKey, amount: int) -> None:
        """Take the deposit of whoever disputes a miner's segment."""
        self.oracle.credit(challenger, -amount)
        self.challenges[miner] = (challenger, amount)

    def end_challenge(self, miner: PublicKey) -> bool:
        """Give a challenger its deposit back, with half of the miner's if that stands still; say whether it did."""
        challenger, amount = self.challenges.pop(miner)
        lost = self.deposits.pop(miner, 0)
        self.oracle.credit(challenger, amount + lost // 2)
        self.burned += lost - lost // 2
        return lost > 0

    def compute_locked(self) -> int:
        """Return all deposits together, of contributions, challengers and proposals."""
        challenges = sum(amount for _, amount in self.challenges.values())
        proposals = PROPOSAL_DEPOSIT * sum(ballot.status == "OPEN" for ballot in self.ballots.proposals.values())
        return sum(self.deposits.values()) + sum(self.posted.values()) + challenges + proposals

    @property
    def deposit(self) -> int:
        """What a contribution or a dispute locks."""
        return self.ballots.values["deposit"]

    @property
    def whole_treasury(self) -> int:
        """All that the treasury holds."""
        return self.treasury + self.oracle.taxed

    @property
    def shares_bp(self) -> dict[Hash, int]:
        """What votes give the posted tasks that are live."""
        return {name: pot.share_bp for name, pot in self.pots.items()}

    def add_block(self, subsidy: int, reward: Reward) -> None:
        """Issue a subsidy; `reward` holds the fees so far."""
        part = int(Fraction(subsidy * ((10_000 - self.ballots.values["treasury_bp"]) // 2), 10_000))
        self.issued += subsidy
        self.pot += part
        self.treasury += subsidy - 2 * part
        for pot in self.pots.values():
            given = int(Fraction(part * pot.share_bp, 10_000))
            pot.atoms += given
            pot.subsidy += given
            self.pot -= given
        self.rewards.append(Reward(reward.miner, reward.amount + part, reward.is_true))

    def settle(self, task: Hash, settled: tuple[PublicKey, ...], macs: int, audited: tuple[PublicKey, ...]) -> None:
        """End a round: deposits come back, segments and `audited` are paid, units made, rewards decided."""
        segment, audit, self.price = compute_pay(self.price, self.pot, (len(settled), len(audited)), macs)
        for miner in settled:
            self.oracle.credit(miner, self.deposits.pop(miner) + segment)
        for auditor in audited:
            self.oracle.credit(auditor, audit)
        self.pot -= len(settled) * segment + len(audited) * audit
        self.oracle.mint(task, settled, macs)
        for reward in self.rewards:
            if reward.is_true and reward.miner in settled:
                self.oracle.credit(reward.miner, reward.amount)
            else:
                self.burned += reward.amount
        self.rewards.clear()

    def post(self, name: Hash, poster: PublicKey, pot: Pot) -> None:
        """Take a task's budget, which is all that its pot holds."""
        self.oracle.credit(poster, -pot.atoms)
        self.pots[name] = pot

    def fund(self, name: Hash, account: PublicKey, amount: int) -> None:
        """Take what an account adds to a pot."""
        self.oracle.credit(account, -amount)
        self.pots[name].add(account, amount)

    def lock_posted(self, name: Hash, miner: PublicKey, amount: int) -> None:
        """Take the deposit of a contribution to a posted task."""
        self.oracle.credit(miner, -amount)
        self.posted[name, miner] = amount

    def burn_posted(self, name: Hash, miner: PublicKey) -> None:
        """Lose it."""
        self.burned += self.posted.pop((name, miner))

    def settle_posted(
        self, name: Hash, ended: tuple[tuple[PublicKey, ...], tuple[PublicKey, ...]], macs: int, place: tuple[int, int]
    ) -> bool:
        """End a round of a posted task with (settled, audited) at a (height, blocks of a round).

        Say whether the task has closed.
        """
        pot, (settled, audited), (height, round_blocks) = self.pots[name], ended, place
        spendable = pot.compute_spendable(height - round_blocks, round_blocks)
        segment, audit, pot.price = compute_pay(pot.price, spendable, (len(settled), len(audited)), macs)
        for miner in settled:
            self.oracle.credit(miner, self.posted.pop((name, miner)) + segment)
        for auditor in audited:
            self.oracle.credit(auditor, audit)
        pot.atoms -= len(settled) * segment + len(audited) * audit
        self.oracle.mint(name, settled, macs)
        rent = min(COIN, pot.atoms)
        pot.atoms -= rent
        self.treasury += rent
        if height < pot.last_height and pot.atoms:
            return False
        given, left = sum(pot.funders.values()) + pot.subsidy, pot.atoms
        for account, amount in pot.funders.items():
            part = int(Fraction(pot.atoms * amount, given))
            self.oracle.credit(account, part)
            left -= part
        self.treasury += left
        del self.pots[name]
        return True

    def count_votes(self, height: int) -> list[str]:
        """Count what closes at the end of a block and do what takes effect; return what to count of it."""
        due, done = self.ballots.list_due(height), list[str]()
        for _, ballot in due:
            if ballot.status == "ACCEPTED":
                if self.ballots.enact(ballot, self.whole_treasury, self.shares_bp):
                    done.append(self._enact(ballot.change))
                continue
            circulating = self.allocated + self.issued - self.burned - self.whole_treasury
            if self.ballots.close(ballot, -(-circulating * QUORUM_BP // 10_000)):
                self.oracle.credit(ballot.proposer, PROPOSAL_DEPOSIT)
            else:
                self.burned += PROPOSAL_DEPOSIT
        return [*(f"proposals {ballot.status.lower()}" for _, ballot in due), *done]

    def _enact(self, change: Change) -> str:
        match change:
            case SpendTreasury(recipient=recipient, amount=amount):
                self.treasury -= amount
                self.oracle.credit(recipient, amount)
                return "payments voted"
            case SubsidiseTask(task=task, share_bp=share_bp):
                self.pots[task].share_bp = share_bp
                return "shares voted"
            case ChangeParameter():
                return "parameters changed"
        assert_never(change)


def compute_pay(price: int, spendable: int, counts: tuple[int, int], macs: int) -> tuple[int, int, int]:
    """Return what each of a round's segments gets, what each of its audits, and the next price."""
    segments, audits = counts
    part = macs * AUDIT_BP // 10_000
    total = macs * segments + part * audits
    if not total:
        return 0, 0, price
    is_enough = int(Fraction(price * total, PRICE_MACS)) <= spendable
    rate = Fraction(price, PRICE_MACS) if is_enough else Fraction(spendable, total)
    step, fitting = max(1, price // 8), int(Fraction(spendable * PRICE_MACS, total))
    return int(rate * macs), int(rate * part), min(max(fitting, price - step, 1), price + step, 2**64 - 1)
