"""What the ledger asks of machine learning, and of whoever keeps block data: two protocols that the node supplies.

The ledger itself knows no tensor and no program; `task` is the genesis record whose program only the engine reads.
Every answer is a pure function of its arguments: two nodes that differ in one split the chain.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from chain.dispute import Demand
from chain.genesis import TaskSpec
from chain.inference import ChallengeAnswer, OpenAnswer
from chain.primitives import Hash
from chain.transaction import CommitContribution, Sidecar


@dataclass(frozen=True, slots=True)
class SegmentContext:
    """What decides every bit of a segment: its seed, the checkpoint it starts from and the round of its task."""

    seed: Hash
    checkpoint_root: Hash
    task_round: int
    """From 0, the first round in which the task is trained."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One op of one step of a segment: what a dispute is about."""

    step: int
    op: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """The checkpoint that a round leads to, and its score on the held-out split; the loss in the unit of the task."""

    checkpoint_root: Hash
    heldout_loss: int
    heldout_correct: int
    heldout_total: int


@dataclass(frozen=True, slots=True)
class AnswerClaim:
    """What stands on the chain of an answer: the model's names, what was asked, and what the provider is bound to."""

    spec_hash: Hash
    checkpoint_root: Hash
    request_hash: Hash
    answer_hash: Hash
    trace_root: Hash
    tokens: int


@dataclass(frozen=True, slots=True)
class TaskBounds:
    """What a task that somebody posts may cost everybody: MACs of a segment, and bytes of its encoded block data."""

    macs_max: int
    sidecar_bytes_max: int


class LearningEngine(Protocol):
    """Checks training by what is opened of it, and settles it. It holds no segment against an execution of its own."""

    def validate_task(
        self, task: TaskSpec, read_data: Callable[[], bytes], bounds: TaskBounds, *, is_new: bool
    ) -> None:
        """Check that a task can be trained on its data, proven and audited; raises InvalidTransaction.

        `read_data` returns the bytes that the task's root names. If it `is_new` it starts from its program's own first
        checkpoint, else from one that another task has reached.
        """

    def compute_part_root(self, size_bytes: int, start: int, part: bytes, others: bytes) -> Hash:
        """Return the root of a content of `size_bytes` with `part` from byte `start` on; raises InvalidTransaction.

        `others` are the hashes of all chunks that other parts hold, in order.
        """

    def lower_minima(self, part: bytes, before: bytes | None) -> bytes:
        """Return 96 minima of u32 of a part's bytes, each no more than that of the other parts `before`, if any."""

    def fill_sketch(self, minima: bytes) -> bytes:
        """Return the sketch of a content by the minima of all its parts: of contents that share much most are alike."""

    def validate_sidecar(
        self, task: TaskSpec, checkpoint_root: Hash, commit: CommitContribution, sidecar: Sidecar
    ) -> None:
        """Check that `sidecar` yields the commit's trace and delta roots; raises InvalidTransaction."""

    def verify_openings(
        self, task: TaskSpec, segment: SegmentContext, sidecar: Sidecar, challenge: Hash, openings: tuple[bytes, ...]
    ) -> None:
        """Check that `openings` are those that `challenge` draws and that each op holds there; raises InvalidProof."""

    def validate_demand(self, task: TaskSpec, leaf: Leaf, demand: Demand) -> None:
        """Check that what `demand` names exists in the op; raises InvalidTransaction."""

    def verify_answer(
        self, task: TaskSpec, segment: SegmentContext, sidecar: Sidecar, demanded: tuple[Leaf, Demand], answer: bytes
    ) -> None:
        """Check that `answer` gives what was demanded of the segment, and that an opened op holds; raises InvalidProof.

        What the segment itself would give passes, whatever is demanded.
        """

    def verify_audit(
        self, task: TaskSpec, segment: SegmentContext, sidecar: Sidecar, challenge: Hash, digests: tuple[bytes, ...]
    ) -> None:
        """Check that `digests` are of the strips of the outputs that `challenge` draws; raises InvalidProof.

        Nobody has them who has not executed all of the segment, or was given them by its miner.
        """

    def settle(self, task: TaskSpec, checkpoint_root: Hash, sidecars: tuple[Sidecar, ...]) -> Settlement:
        """Return what the deltas of `sidecars` (never empty, by miner and index) make of the checkpoint."""

    def compute_operand_roots(
        self, task: TaskSpec, checkpoint_root: Hash, sidecar: Sidecar, step: int, op: int
    ) -> tuple[Hash, Hash]:
        """Return the tensor roots of A and of B transposed of one matmul; raises InvalidProof where none is."""

    def verify_answer_opening(self, claim: AnswerClaim, place: ChallengeAnswer, shown: OpenAnswer) -> None:
        """Check that `shown` is the claimed answer and that `place` of it holds, or is none; raises InvalidProof."""

    def compute_segment_macs(self, task: TaskSpec) -> int:
        """Return the multiply-accumulates that a segment of the task is paid for."""


class ContentSource(Protocol):
    """Finds block data by hash."""

    def get_sidecar(self, sidecar_hash: Hash) -> Sidecar:
        """Return the sidecar that hashes to `sidecar_hash`; raises MissingData when it is not at hand."""
