"""What a state holds of governance, read leaf by leaf, and where it is not what the books say."""

from dataclasses import asdict, dataclass, field

from benchmarks.lab.economy.ballots import LIMITS, Ballots
from chain.codec import decode
from chain.ledger.governance_records import Agenda, InForce, Proposal, Stake
from chain.ledger.task_records import Funding
from chain.primitives import Hash, PublicKey
from chain.state.view import VALUE_BYTES_MAX


@dataclass(slots=True)
class Polls:
    """Stakes, proposals, values in force, and what votes give to tasks."""

    values: dict[str, int] = field(default_factory=dict)
    stakes: dict[PublicKey, Stake] = field(default_factory=dict)
    proposals: dict[Hash, Proposal] = field(default_factory=dict)
    live: tuple[Hash, ...] = ()
    subsidies: dict[Hash, tuple[int, int]] = field(default_factory=dict)
    """Of a live task: the basis points that votes give it, and the atoms that it got so."""

    @property
    def locked(self) -> int:
        """Atoms of all stakes."""
        return sum(stake.amount + stake.leaving for stake in self.stakes.values())

    @property
    def deposits(self) -> int:
        """Those of proposals."""
        return sum(proposal.deposit for proposal in self.proposals.values())

    def add(self, kind: bytes, name: bytes, value: bytes) -> None:
        """Take in one leaf, or leave it where it says nothing of votes."""
        match kind:
            case b"stake":
                self.stakes[PublicKey(name)] = decode(Stake, value, VALUE_BYTES_MAX)
            case b"proposal":
                self.proposals[Hash(name)] = decode(Proposal, value, VALUE_BYTES_MAX)
            case b"in-force":
                self.values = asdict(decode(InForce, value, VALUE_BYTES_MAX))
            case b"agenda":
                self.live = tuple(entry.name for entry in decode(Agenda, value, VALUE_BYTES_MAX).live)
            case b"funding":
                funding = decode(Funding, value, VALUE_BYTES_MAX)
                self.subsidies[Hash(name)] = funding.share_bp, funding.subsidy

    def compare(self, ballots: Ballots) -> list[tuple[str, object, object]]:
        """Return (what, found, expected) of stakes, values and proposals."""
        stakes = {
            account: Stake(stake.amount, stake.since, stake.leaving, stake.release)
            for account, stake in ballots.stakes.items()
            if stake.amount or stake.leaving
        }
        found = {
            name: (each.status.name, each.effect_height, each.yes, each.no, each.abstain)
            for name, each in self.proposals.items()
        }
        expected = {
            name: (ballot.status, ballot.effect, *(ballot.count(choice) for choice in ("YES", "NO", "ABSTAIN")))
            for name, ballot in ballots.proposals.items()
        }
        live = {name for name, ballot in ballots.proposals.items() if ballot.is_live}
        bounded = {name: LIMITS[name][0] <= value <= LIMITS[name][1] for name, value in self.values.items()}
        return [
            ("values in force", self.values, ballots.values),
            ("values within bounds", bounded, dict.fromkeys(LIMITS, True)),
            ("stakes", self.stakes, stakes),
            ("proposals", found, expected),
            ("live proposals", set(self.live), live),
        ]
