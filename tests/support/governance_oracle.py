"""Governance as one would do it by hand: every vote is kept and counted anew, every number is a plain integer.

It knows neither the agenda nor running sums, and finds what is due by looking at everything. Who refuses what, it says
by the name of the rule.
"""

from dataclasses import dataclass, field

from chain.primitives import Hash, PublicKey
from chain.transaction import Change, ChangeParameter, SpendTreasury

STEPS = {"deposit": 50, "bond": 50, "treasury_bp": 25, "sidecars_per_block": 50, "contributions_per_round": 50}
LIVE = 16
QUARTER = 4


@dataclass
class OracleStake:
    """What an account has locked."""

    amount: int = 0
    since: int = 0
    leaving: int = 0
    release: int = 0


@dataclass
class OracleProposal:
    """A proposal with everybody's vote: what each says, and with how many atoms."""

    proposer: PublicKey
    change: Change
    made: int
    close: int
    effect: int = 0
    status: str = "OPEN"
    votes: dict[PublicKey, tuple[str, int]] = field(default_factory=dict)

    def count(self, *choices: str) -> int:
        """Return the atoms behind any of `choices`."""
        return sum(weight for choice, weight in self.votes.values() if choice in choices)


@dataclass
class Oracle:
    """All of it, with the windows in blocks and what `treasury` holds."""

    values: dict[str, int]
    voting: int
    enactment: int
    rounds: int
    deposit: int
    stakes: dict[PublicKey, OracleStake] = field(default_factory=dict)
    proposals: dict[Hash, OracleProposal] = field(default_factory=dict)
    spent: dict[PublicKey, int] = field(default_factory=dict)
    treasury: int = 0

    def get_stake(self, account: PublicKey) -> OracleStake:
        """Return an account's stake, to be changed in place."""
        return self.stakes.setdefault(account, OracleStake())

    def pay(self, account: PublicKey, amount: int) -> None:
        """Note that an account got `amount` atoms, or gave them where it is below zero."""
        self.spent[account] = self.spent.get(account, 0) + amount

    def find_problem(self, change: Change) -> str | None:
        """Return the rule that refuses a change now, or None."""
        if isinstance(change, ChangeParameter):
            value = self.values[change.parameter]
            step = max(1, value * STEPS[change.parameter] // 100)
            is_near = 0 < abs(change.value - value) <= step
            return None if is_near else "change-step"
        assert isinstance(change, SpendTreasury), "tasks are the business of other tests"
        return None if change.amount <= self.treasury // QUARTER else "spend-treasury"

    def list_live(self) -> list[OracleProposal]:
        """Return what is not decided."""
        return [proposal for proposal in self.proposals.values() if proposal.status in ("OPEN", "ACCEPTED")]

    def vote(self, account: PublicKey, name: Hash, choice: str) -> str | None:
        """Vote, or return the rule that refuses it."""
        proposal = self.proposals[name]
        if proposal.status != "OPEN":
            return "proposal-closed"
        stake = self.get_stake(account)
        weight = stake.amount if stake.since < proposal.made else 0
        if account in proposal.votes:
            weight = proposal.votes[account][1]
        if not weight:
            return "vote-stake"
        proposal.votes[account] = (choice, weight)
        return None

    def end_block(self, height: int, quorums: dict[Hash, int]) -> None:
        """Do what is due at the end of a block; `quorums` are the atoms that proposals closing in it need."""
        for name, proposal in self.proposals.items():
            if proposal.status == "OPEN" and proposal.close == height:
                self._close(proposal, quorums[name])
            elif proposal.status == "ACCEPTED" and proposal.effect == height:
                self._enact(proposal)

    def _close(self, proposal: OracleProposal, quorum: int) -> None:
        if proposal.count("YES", "NO", "ABSTAIN") < quorum:
            proposal.status = "EXPIRED"
            return
        self.pay(proposal.proposer, self.deposit)
        proposal.status = "ACCEPTED" if proposal.count("YES") > proposal.count("NO") else "REJECTED"
        if proposal.status == "ACCEPTED":
            proposal.effect = proposal.close + self.enactment
            while proposal.effect % self.rounds:
                proposal.effect += 1

    def _enact(self, proposal: OracleProposal) -> None:
        change = proposal.change
        if self.find_problem(change) is not None:
            proposal.status = "LAPSED"
            return
        proposal.status = "ENACTED"
        if isinstance(change, ChangeParameter):
            self.values[change.parameter] = change.value
        elif isinstance(change, SpendTreasury):
            self.treasury -= change.amount
            self.pay(change.recipient, change.amount)
