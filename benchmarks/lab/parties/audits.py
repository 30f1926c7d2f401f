"""Audits from a chain's blocks alone: who may be drawn, who was, who has proven it, and what each has at stake.

The draw is computed again as docs/protocol.md says. It moves no money: whose it becomes, the accounts say.
"""

from dataclasses import dataclass, field
from math import log1p

from chain.genesis import Parameters
from chain.hashing import tagged_hash
from chain.primitives import Hash, PublicKey
from chain.transaction import CommitContribution

Segment = tuple[PublicKey, int]
"""A miner and the index of its segment in a round."""

WHOLE = 10_000
SEATS = 64
STEP = 8
"""A bond takes the seat of another that is smaller by one in so many parts."""
MISSES = 3
WINDOWS_AFTER_NOTICE = 5


@dataclass(slots=True)
class Bond:
    """What an auditor has locked, since which height it may be drawn, and from which it may take the bond back."""

    amount: int
    since: int
    release: int = 0
    missed: int = 0


@dataclass(frozen=True, slots=True)
class Commit:
    """What of a commit the draw needs."""

    height: int
    seed: Hash
    trace_root: Hash


@dataclass(slots=True)
class Audits:
    """Auditors, and the audits of segments that are not decided."""

    parameters: Parameters
    chain_id: Hash
    task: Hash
    beacons: dict[int, Hash] = field(default_factory=dict)
    bonds: dict[PublicKey, Bond] = field(default_factory=dict)
    commits: dict[tuple[int, Segment], Commit] = field(default_factory=dict)
    drawn: dict[tuple[int, Segment], dict[PublicKey, bool]] = field(default_factory=dict)
    """By round and segment: who was drawn, and whether it has proven it."""

    def __post_init__(self) -> None:
        self.beacons[0] = tagged_hash("beacon.genesis", self.chain_id)

    @property
    def locked(self) -> int:
        """Atoms of all bonds."""
        return sum(bond.amount for bond in self.bonds.values())

    def commit(self, height: int, miner: PublicKey, action: CommitContribution) -> None:
        """Take down a commit."""
        number, index = action.round.to_bytes(4, "little"), action.index.to_bytes(2, "little")
        beacon = self.beacons[action.anchor_height]
        seed = tagged_hash("segment", self.chain_id, self.task, number, beacon, miner, index)
        self.commits[action.round, (miner, action.index)] = Commit(height, seed, action.trace_root)

    def draw(self, height: int, number: int, standing: set[Segment]) -> None:
        """Draw the auditors of the round's segments that are challenged at the end of the block at `height`."""
        for (of_round, segment), commit in self.commits.items():
            is_due = commit.height + self.parameters.challenge_delay == height
            if of_round != number or segment not in standing or not is_due:
                continue
            challenge = tagged_hash("challenge", self.beacons[height], commit.seed, commit.trace_root)
            lot = int.from_bytes(tagged_hash("audit.count", challenge), "big") % WHOLE
            count = self.parameters.audit_bp // WHOLE + (lot < self.parameters.audit_bp % WHOLE)
            able = [
                (compute_wait(challenge, auditor) / bond.amount, auditor)
                for auditor, bond in self._list_standing().items()
                if bond.since < commit.height and auditor != segment[0] and bond.amount
            ]
            self.drawn[number, segment] = {auditor: False for _, auditor in sorted(able)[:count]}

    def register(self, height: int, auditor: PublicKey, amount: int) -> None:
        """Take a bond, or what is added to one; the least gives notice where there is no seat left for a new one."""
        before = self.bonds.get(auditor)
        if before is not None:
            before.amount, before.since = before.amount + amount, height
            return
        standing = list(self._list_standing().values())
        if len(standing) == SEATS:
            least = min(bond.amount for bond in standing)
            assert amount >= least + max(1, least // STEP), "who takes a seat has locked more"
            [bond for bond in standing if bond.amount == least][-1].release = height + self._release_blocks
        self.bonds[auditor] = Bond(amount, height)

    def retire(self, height: int, auditor: PublicKey) -> int:
        """Give notice, or take a bond out; return the atoms that come back."""
        bond = self.bonds[auditor]
        if bond.release:
            del self.bonds[auditor]
            return bond.amount
        bond.release = height + self._release_blocks
        return 0

    def prove(self, number: int, segment: Segment, auditor: PublicKey) -> None:
        """Take down a proof."""
        self.drawn[number, segment][auditor] = True
        self.bonds[auditor].missed = 0

    def list_proven(self, number: int, segment: Segment) -> list[PublicKey]:
        """Return who has vouched for a segment."""
        return [auditor for auditor, is_proven in self.drawn.get((number, segment), {}).items() if is_proven]

    def miss(self, height: int, number: int, segment: Segment, disputed_by: set[PublicKey]) -> int:
        """End the time for proofs of a segment that stands; return the atoms that burn."""
        burned = 0
        for auditor, is_proven in self.drawn.get((number, segment), {}).items():
            bond = self.bonds.get(auditor)
            if is_proven or bond is None or auditor in disputed_by:
                continue
            lost = min(bond.amount, self.parameters.audit_penalty)
            bond.amount -= lost
            burned += lost
            bond.missed = min(bond.missed + 1, MISSES)
            if bond.missed == MISSES and not bond.release:
                bond.release = height + self._release_blocks
        return burned

    def fall(self, height: int, number: int, segment: Segment) -> list[int]:
        """Take what all answer with who vouched for a segment, and forget its audits; return their atoms."""
        lost: list[int] = []
        for auditor in self.list_proven(number, segment):
            bond = self.bonds.get(auditor)
            if bond is None:
                continue
            lost.append(min(bond.amount, self.parameters.auditor_bond))
            bond.amount -= lost[-1]
            bond.release = bond.release or height + self._release_blocks
            if not bond.amount:
                del self.bonds[auditor]
        self.drawn.pop((number, segment), None)
        return lost

    def _list_standing(self) -> dict[PublicKey, Bond]:
        return {auditor: bond for auditor, bond in self.bonds.items() if not bond.release}

    @property
    def _release_blocks(self) -> int:
        return self.parameters.round_blocks + WINDOWS_AFTER_NOTICE * self.parameters.dispute_window


def compute_wait(challenge: Hash, auditor: PublicKey) -> float:
    """Return an exponentially distributed number: of several, each by its bond, the lowest is drawn."""
    return -log1p(-int.from_bytes(tagged_hash("audit.draw", challenge, auditor), "big") / 2**256)
