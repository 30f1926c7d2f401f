"""Governance as one would do it by hand: every vote is kept and counted anew, every number is a plain integer.

It knows neither the agenda nor running sums, and finds what is due by looking at everything. Who refuses what, it says
by the name of the rule. It moves no atom: whoever keeps the money does what it says.
"""

from dataclasses import dataclass, field

from chain.primitives import Hash, PublicKey
from chain.transaction import Change, ChangeParameter, SpendTreasury

COIN = 10**9
LIMITS = {
    "deposit": (4 * COIN, 10_000 * COIN, 50),
    "bond": (5 * COIN, 100_000 * COIN, 50),
    "treasury_bp": (200, 2_000, 25),
    "sidecars_per_block": (2, 32, 50),
    "contributions_per_round": (8, 256, 50),
}
"""Of what votes may change: the lowest value, the highest, and how many hundredths of it one vote may move."""
LIVE = 16
QUARTER = 4
SHARE_BP, SHARES_BP = 2_000, 5_000
"""Of what a block issues for contributions: to one posted task at most, and to all of them."""


@dataclass(slots=True)
class StakeBook:
    """What an account has locked."""

    amount: int = 0
    since: int = 0
    leaving: int = 0
    release: int = 0


@dataclass(slots=True)
class Ballot:
    """A proposal with everybody's vote: what each says, and with how many atoms."""

    proposer: PublicKey
    change: Change
    made: int
    close: int
    effect: int = 0
    status: str = "OPEN"
    votes: dict[PublicKey, tuple[str, int]] = field(default_factory=dict)

    @property
    def is_live(self) -> bool:
        """Whether it is not decided, or decided and not in effect."""
        return self.status in ("OPEN", "ACCEPTED")

    def count(self, *choices: str) -> int:
        """Return the atoms behind any of `choices`."""
        return sum(weight for choice, weight in self.votes.values() if choice in choices)


@dataclass(slots=True)
class Ballots:
    """Stakes, proposals and the values in force, with the windows in blocks."""

    values: dict[str, int]
    voting: int
    enactment: int
    rounds: int
    stakes: dict[PublicKey, StakeBook] = field(default_factory=dict)
    proposals: dict[Hash, Ballot] = field(default_factory=dict)

    def get_stake(self, account: PublicKey) -> StakeBook:
        """Return an account's stake, to be changed in place."""
        return self.stakes.setdefault(account, StakeBook())

    def lock(self, account: PublicKey, amount: int, height: int) -> None:
        """Take atoms to vote with."""
        stake = self.get_stake(account)
        stake.amount, stake.since = stake.amount + amount, height

    def find_unlock_problem(self, account: PublicKey, amount: int, height: int) -> str | None:
        """Return the rule that refuses to unlock so much at a height, or None."""
        stake = self.get_stake(account)
        if not stake.leaving:
            return "stake-amount" if amount > stake.amount else None
        if amount != stake.leaving:
            return "stake-leaving"
        return "stake-release" if height < stake.release else None

    def unlock(self, account: PublicKey, amount: int, height: int) -> int:
        """Let stake leave, or take what was leaving; return the atoms that come back."""
        stake = self.get_stake(account)
        if stake.leaving:
            if not stake.amount:
                del self.stakes[account]
            stake.leaving = stake.release = 0
            return amount
        stake.amount, stake.leaving = stake.amount - amount, amount
        stake.release = height + self.voting + self.enactment + self.rounds
        return 0

    def find_problem(self, change: Change, treasury: int, shares: dict[Hash, int]) -> str | None:
        """Return the rule that refuses a change now, or None; `shares` are those of the posted tasks that are live."""
        if isinstance(change, ChangeParameter):
            value = self.values[change.parameter]
            step = max(1, value * LIMITS[change.parameter][2] // 100)
            is_near = 0 < abs(change.value - value) <= step
            return None if is_near else "change-step"
        if isinstance(change, SpendTreasury):
            return None if change.amount <= treasury // QUARTER else "spend-treasury"
        if change.task not in shares:
            return "share-task"
        if shares[change.task] == change.share_bp:
            return "share-same"
        total = sum(shares.values()) - shares[change.task] + change.share_bp
        return None if total <= SHARES_BP else "share-total"

    def propose(self, name: Hash, proposer: PublicKey, change: Change, height: int) -> None:
        """Open a proposal."""
        self.proposals[name] = Ballot(proposer, change, height, height + self.voting)

    def list_live(self) -> list[Ballot]:
        """Return all that is live."""
        return [ballot for ballot in self.proposals.values() if ballot.is_live]

    def vote(self, account: PublicKey, name: Hash, choice: str) -> str | None:
        """Vote, or return the rule that refuses it."""
        ballot = self.proposals[name]
        if ballot.status != "OPEN":
            return "proposal-closed"
        stake = self.get_stake(account)
        weight = stake.amount if stake.since < ballot.made else 0
        if account in ballot.votes:
            weight = ballot.votes[account][1]
        if not weight:
            return "vote-stake"
        ballot.votes[account] = (choice, weight)
        return None

    def list_due(self, height: int) -> list[tuple[Hash, Ballot]]:
        """Return what is counted or takes effect at the end of the block at a height."""
        return [
            (name, ballot)
            for name, ballot in self.proposals.items()
            if (ballot.status, height) in (("OPEN", ballot.close), ("ACCEPTED", ballot.effect))
        ]

    def close(self, ballot: Ballot, quorum: int) -> bool:
        """Count the votes and say whether those are as many atoms as a quorum; then the deposit goes back."""
        if ballot.count("YES", "NO", "ABSTAIN") < quorum:
            ballot.status = "EXPIRED"
            return False
        ballot.status = "ACCEPTED" if ballot.count("YES") > ballot.count("NO") else "REJECTED"
        if ballot.status == "ACCEPTED":
            ballot.effect = ballot.close + self.enactment
            while ballot.effect % self.rounds:
                ballot.effect += 1
        return True

    def enact(self, ballot: Ballot, treasury: int, shares: dict[Hash, int]) -> bool:
        """Put a change into force and say so, unless it has become impossible; atoms and shares are the caller's."""
        if self.find_problem(ballot.change, treasury, shares) is not None:
            ballot.status = "LAPSED"
            return False
        ballot.status = "ENACTED"
        if isinstance(ballot.change, ChangeParameter):
            self.values[ballot.change.parameter] = ballot.change.value
        return True
