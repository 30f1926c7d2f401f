"""A learning engine whose segments are hashes, and block data in memory: for tests of the ledger alone.

Everything that is trained follows from a segment's seed, so honest and false are told apart without a model.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from chain.codec import encode
from chain.dispute import Demand, DemandOpening
from chain.errors import InvalidProof, InvalidTransaction, MissingData
from chain.genesis import TaskSpec
from chain.hashing import tagged_hash
from chain.inference import ChallengeAnswer, OpenAnswer
from chain.ledger.learning import AnswerClaim, Leaf, SegmentContext, Settlement, TaskBounds
from chain.primitives import Hash
from chain.transaction import (
    CommitContribution,
    Sidecar,
    compute_sidecar_hash,
)
from ml.dataset import compute_dataset_root
from ml.sketch import fill_sketch, lower_minima
from node.inference.claims import verify_claimed_opening
from node.posting import compute_part_root

SEGMENT_MACS = 284_164_096
"""Those of a segment of the digits."""
STEPS = 64


class HashTraining:
    """Training in which a segment's trace is a digest of its seed and checkpoint."""

    def make_sidecar(self, segment: SegmentContext, flaw: bytes = b"") -> Sidecar:
        """Return an honest segment's block data; a `flaw` passes spot checks and shows in a dispute."""
        return Sidecar(tagged_hash("test.output", segment.seed, segment.checkpoint_root) + flaw, segment.seed[:8])

    def make_openings(self, segment: SegmentContext, challenge: Hash) -> tuple[bytes, ...]:
        """Return the openings that `challenge` draws."""
        return (tagged_hash("test.opening", segment.seed, challenge),)

    def compute_roots(self, sidecar: Sidecar) -> tuple[Hash, Hash]:
        """Return the trace root and the delta root of a sidecar."""
        return tagged_hash("test.trace", sidecar.output_roots), tagged_hash("test.delta", sidecar.delta)

    def validate_task(
        self, task: TaskSpec, read_data: Callable[[], bytes], bounds: TaskBounds, *, is_new: bool
    ) -> None:
        assert compute_dataset_root(read_data()) == task.dataset_root, "what has come was held against its root"
        if is_new and task.checkpoint_root != tagged_hash("test.checkpoint", task.program):
            raise InvalidTransaction("task-checkpoint", "found another checkpoint, expected the program's first")

    def compute_part_root(self, size_bytes: int, start: int, part: bytes, others: bytes) -> Hash:
        return compute_part_root(size_bytes, start, part, others)

    def lower_minima(self, part: bytes, before: bytes | None) -> bytes:
        return lower_minima(part, before)

    def fill_sketch(self, minima: bytes) -> bytes:
        return fill_sketch(minima)

    def validate_sidecar(
        self, task: TaskSpec, checkpoint_root: Hash, commit: CommitContribution, sidecar: Sidecar
    ) -> None:
        if self.compute_roots(sidecar) != (commit.trace_root, commit.delta_root):
            raise InvalidTransaction("sidecar-roots", "found other roots, expected the commit's")

    def verify_openings(
        self, task: TaskSpec, segment: SegmentContext, sidecar: Sidecar, challenge: Hash, openings: tuple[bytes, ...]
    ) -> None:
        if openings != self.make_openings(segment, challenge):
            raise InvalidProof("opening-place", "found other places, expected those drawn")
        if sidecar.output_roots[:32] != self.make_sidecar(segment).output_roots:
            raise InvalidProof("opening-op", "found another output, expected the segment's")

    def validate_demand(self, task: TaskSpec, leaf: Leaf, demand: Demand) -> None:
        if leaf.step >= STEPS:
            raise InvalidTransaction("demand-step", f"found step {leaf.step}, expected one below {STEPS}")

    def make_answer(self, sidecar: Sidecar, demanded: tuple[Leaf, Demand]) -> bytes:
        """Return what whoever committed to `sidecar` can show of it."""
        leaf, demand = demanded
        place = leaf.step.to_bytes(4, "little") + leaf.op.to_bytes(2, "little")
        return tagged_hash("test.answer", sidecar.output_roots, place, type(demand).__name__.encode(), encode(demand))

    def verify_answer(
        self, task: TaskSpec, segment: SegmentContext, sidecar: Sidecar, demanded: tuple[Leaf, Demand], answer: bytes
    ) -> None:
        if answer != self.make_answer(sidecar, demanded):
            raise InvalidProof("answer", "found other bytes, expected what was committed to")
        # A flaw shows wherever it is looked for.
        if isinstance(demanded[1], DemandOpening) and sidecar != self.make_sidecar(segment):
            raise InvalidProof("op-test", "found another output, expected the segment's")

    def make_digests(self, sidecar: Sidecar, challenge: Hash) -> tuple[bytes, ...]:
        """Return what an audit shows that has what `sidecar` says, be it by execution or from its miner."""
        return (tagged_hash("test.digests", sidecar.output_roots, challenge),)

    def verify_audit(
        self, task: TaskSpec, segment: SegmentContext, sidecar: Sidecar, challenge: Hash, digests: tuple[bytes, ...]
    ) -> None:
        if digests != self.make_digests(sidecar, challenge):
            raise InvalidProof("digests-root", "found other digests, expected those of what was committed to")

    def settle(self, task: TaskSpec, checkpoint_root: Hash, sidecars: tuple[Sidecar, ...]) -> Settlement:
        deltas = [sidecar.delta for sidecar in sidecars]
        return Settlement(tagged_hash("test.settle", checkpoint_root, *deltas), 10_000, len(sidecars), 10)

    def compute_operand_roots(
        self, task: TaskSpec, checkpoint_root: Hash, sidecar: Sidecar, step: int, op: int
    ) -> tuple[Hash, Hash]:
        if step >= STEPS:
            raise InvalidProof("ticket-step", f"found step {step}, expected one below {STEPS}")
        place = step.to_bytes(4, "little") + op.to_bytes(2, "little")
        return (
            tagged_hash("test.a", checkpoint_root, sidecar.output_roots, place),
            tagged_hash("test.b", checkpoint_root, sidecar.output_roots, place),
        )

    def verify_answer_opening(self, claim: AnswerClaim, place: ChallengeAnswer, shown: OpenAnswer) -> None:
        verify_claimed_opening(claim, place, shown)

    def compute_segment_macs(self, task: TaskSpec) -> int:
        return SEGMENT_MACS


@dataclass(slots=True)
class MemoryContent:
    """Sidecars by hash."""

    sidecars: dict[Hash, Sidecar] = field(default_factory=dict)

    def add(self, sidecar: Sidecar) -> Hash:
        sidecar_hash = compute_sidecar_hash(sidecar)
        self.sidecars[sidecar_hash] = sidecar
        return sidecar_hash

    def get_sidecar(self, sidecar_hash: Hash) -> Sidecar:
        if sidecar_hash not in self.sidecars:
            raise MissingData((sidecar_hash,))
        return self.sidecars[sidecar_hash]
