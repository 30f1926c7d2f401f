"""Books kept beside the ledger: what every account, the treasury and the pot must hold, from the rules told naively.

Parts of shareholders are fractions, everything else whole atoms; a subsidy's size alone is taken from the ledger, whose
curve is tested elsewhere. It shares no other code with the ledger and sees no state.
"""

from dataclasses import dataclass, field
from fractions import Fraction

from benchmarks.lab.economy.audits import AuditBooks
from benchmarks.lab.economy.oracle import Oracle
from chain.primitives import Hash, PublicKey

PRICE_MACS = 2**40
AUDIT_BP = 2_500
"""Of a segment's MACs: what its audit is paid for."""
PERCENT = 45
"""Of a subsidy, to the block's miner and to the pot alike."""


@dataclass(frozen=True, slots=True)
class Reward:
    """What a block's miner gets if the segment that its ticket came from settles; `is_true` when it came from one."""

    miner: PublicKey
    amount: int
    is_true: bool


@dataclass(slots=True)
class Books:
    """All that is owed and owned; `oracle.gained` counts what accounts got and paid."""

    oracle: Oracle
    price: int
    pot: int = 0
    burned: int = 0
    issued: int = 0
    treasury: int = 0
    """Of subsidies alone; what payments are taxed stands in the oracle."""
    deposits: dict[PublicKey, int] = field(default_factory=dict)
    challenges: dict[PublicKey, tuple[PublicKey, int]] = field(default_factory=dict)
    """Who disputes a miner's segment, and what it has locked."""
    rewards: list[Reward] = field(default_factory=list)
    audits: AuditBooks = field(default_factory=AuditBooks)

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
        """Return all deposits together, of contributions and challengers."""
        return sum(self.deposits.values()) + sum(amount for _, amount in self.challenges.values())

    def add_block(self, subsidy: int, reward: Reward) -> None:
        """Issue a subsidy; `reward` holds the fees so far."""
        part = subsidy * PERCENT // 100
        self.issued += subsidy
        self.pot += part
        self.treasury += subsidy - 2 * part
        self.rewards.append(Reward(reward.miner, reward.amount + part, reward.is_true))

    def settle(self, task: Hash, settled: tuple[PublicKey, ...], macs: int, audited: tuple[PublicKey, ...]) -> None:
        """End a round: deposits come back, segments and `audited` are paid, units made, rewards decided."""
        part = macs * AUDIT_BP // 10_000
        total, pot = macs * len(settled) + part * len(audited), self.pot
        wanted = Fraction(self.price * total, PRICE_MACS)
        each = Fraction(self.price * macs, PRICE_MACS) if int(wanted) <= pot else Fraction(pot * macs, max(1, total))
        for miner in settled:
            self.oracle.credit(miner, self.deposits.pop(miner) + int(each))
            self.pot -= int(each)
        audit = Fraction(self.price * part, PRICE_MACS) if int(wanted) <= pot else Fraction(pot * part, max(1, total))
        for auditor in audited:
            self.oracle.credit(auditor, int(audit))
            self.pot -= int(audit)
        self.oracle.mint(task, settled, macs)
        if settled:
            step = max(1, self.price // 8)
            fitting = int(Fraction(pot * PRICE_MACS, total))
            self.price = min(max(fitting, self.price - step, 1), self.price + step, 2**64 - 1)
        for reward in self.rewards:
            if reward.is_true and reward.miner in settled:
                self.oracle.credit(reward.miner, reward.amount)
            else:
                self.burned += reward.amount
        self.rewards.clear()
