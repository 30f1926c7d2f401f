"""Machine learning for the ledger: `LearningEngine` over ml's programs, with checkpoints kept as blobs.

Every answer is a pure function of its arguments, so answers are remembered: what is asked again on
another branch, or of a dispute, is executed once. It knows no block and no account.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from chain.dispute import Demand
from chain.errors import DecodeError, InvalidProof, InvalidTransaction, StorageError
from chain.genesis import TaskSpec
from chain.inference import ChallengeAnswer, OpenAnswer
from chain.ledger.learning import AnswerClaim, Leaf, SegmentContext, Settlement
from chain.primitives import Hash
from chain.storage.blob_store import BlobStore
from chain.transaction import SIDECAR_BYTES_MAX, CommitContribution, Sidecar, compute_sidecar_hash
from ml.auditing import prove_audit, verify_audit
from ml.backends import Backend
from ml.backends.cpu.tensor_hash import compute_tensor_roots
from ml.checkpoint import (
    Checkpoint,
    compute_checkpoint_root,
    compute_initial_checkpoint,
    decode_checkpoint,
    encode_checkpoint,
)
from ml.checks import CheckContext
from ml.dataset import Dataset
from ml.deltas import compute_delta_size, decode_delta, encode_delta
from ml.disputing import Difference, find_difference
from ml.evaluation import compute_evaluation
from ml.fit import validate_fit
from ml.models import build_program
from ml.program import Program
from ml.provable import validate_provable
from ml.proving import Snapshots, State, compute_snapshot_interval, rerun_step, verify_openings
from ml.segment import OnStep, Runner, StepTensors, run_steps
from ml.settlement import compute_next_checkpoint
from ml.spec import decode_spec
from ml.tensor_tree import compute_tensor_root
from ml.trace import (
    Trace,
    compute_delta_root,
    compute_operand_roots,
    compute_output_roots_size,
    compute_step_roots,
    compute_trace_root,
    validate_output_roots,
)
from node.datasets.errors import DatasetError
from node.datasets.registry import load_dataset_by_root
from node.demands import make_answer, validate_demand, verify_answer
from node.inference.claims import verify_claimed_opening

REMEMBERED_MAX = 256
SNAPSHOTS_MAX = 16
SNAPSHOT_BYTES_MAX = 16 << 20
"""Of each segment that was executed lately, so that what an audit or a dispute asks for needs few steps again."""

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Task:
    """A task's program with the data it trains on."""

    program: Program
    dataset: Dataset


def load_task(spec: TaskSpec) -> Task:
    """Return the task that a genesis record describes; raises DecodeError when program or data are not what it says."""
    model = decode_spec(spec.program)
    try:
        dataset = load_dataset_by_root(spec.dataset_root, model.heldout)
    except DatasetError as error:
        raise DecodeError(f"data set: {error}") from None
    validate_fit(model, dataset)
    program = build_program(model)
    validate_provable(CheckContext(program, dataset, bytes(32)))
    _validate_sidecar_size(program)
    return Task(program, dataset)


def _validate_sidecar_size(program: Program) -> None:
    """Check that an honest segment's block data can be encoded; raises DecodeError."""
    for what, size_bytes in (("roots", compute_output_roots_size(program)), ("delta", compute_delta_size(program))):
        if size_bytes > SIDECAR_BYTES_MAX:
            raise DecodeError(
                f"task: found {what} of {size_bytes} bytes a segment, expected at most {SIDECAR_BYTES_MAX};"
                " take a smaller model or fewer steps"
            )


def execute_segment(runner: Runner, on_state: OnStep | None = None) -> Sidecar:
    """Return the block data that honest execution of a segment yields; `on_state` sees each step's tensors."""
    program = runner.program
    roots: list[bytes] = []
    last: StepTensors = {}

    def on_step(step: int, tensors: StepTensors) -> None:
        roots.append(compute_step_roots(program, step, tensors, compute_tensor_roots))
        if on_state is not None:
            on_state(step, tensors)
        last.update(tensors)

    run_steps(runner, on_step)
    return Sidecar(b"".join(roots), encode_delta(program, last))


class Learning:
    """Implements `chain.ledger.learning.LearningEngine` for the network's one task."""

    def __init__(self, task: Task, backend: Backend, blobs: BlobStore, places_drawn: int) -> None:
        """Re-execute on `backend`; checkpoints are read from and written to `blobs`."""
        self._task = task
        self._backend = backend
        self._blobs = blobs
        self._places_drawn = places_drawn
        self._checkpoints: OrderedDict[Hash, Checkpoint] = OrderedDict()
        self._roots: OrderedDict[Hash, tuple[Hash, ...]] = OrderedDict()
        self._faults: OrderedDict[tuple[SegmentContext, Hash], Difference | None] = OrderedDict()
        self._snapshots: OrderedDict[SegmentContext, Snapshots] = OrderedDict()
        self._settlements: OrderedDict[tuple[Hash, tuple[Hash, ...]], Settlement] = OrderedDict()
        # Assembly, import and audit run in threads; re-execution is not worth doing twice at once.
        self._lock = threading.RLock()
        self.keep_checkpoint(compute_initial_checkpoint(task.program))

    def validate_sidecar(
        self, task: TaskSpec, checkpoint_root: Hash, commit: CommitContribution, sidecar: Sidecar
    ) -> None:
        """Check that `sidecar` yields the commit's roots; raises InvalidTransaction."""
        del task
        try:
            trace = self.make_trace(checkpoint_root, sidecar)
            _compare("trace-root", compute_trace_root(trace), commit.trace_root)
            _compare("delta-root", compute_delta_root(self._task.program, sidecar.output_roots), commit.delta_root)
            decode_delta(self._task.program, sidecar.output_roots, sidecar.delta)
        except InvalidProof as error:
            raise InvalidTransaction(error.rule, str(error)) from None

    def verify_openings(
        self, task: TaskSpec, segment: SegmentContext, sidecar: Sidecar, challenge: Hash, openings: tuple[bytes, ...]
    ) -> None:
        """Check every drawn place; raises InvalidProof."""
        del task
        trace = self.make_trace(segment.checkpoint_root, sidecar)
        validate_output_roots(self._task.program, sidecar.output_roots)
        context = CheckContext(self._task.program, self._task.dataset, segment.seed)
        verify_openings(context, trace, challenge, self._places_drawn, openings)

    def validate_demand(self, task: TaskSpec, leaf: Leaf, demand: Demand) -> None:
        """Check that what is demanded exists; raises InvalidTransaction."""
        del task
        validate_demand(self._task.program, leaf, demand)

    def verify_answer(
        self, task: TaskSpec, segment: SegmentContext, sidecar: Sidecar, demanded: tuple[Leaf, Demand], answer: bytes
    ) -> None:
        """Check that `answer` gives what was demanded, and that an opened op holds; raises InvalidProof."""
        del task
        trace = self.make_trace(segment.checkpoint_root, sidecar)
        validate_output_roots(self._task.program, sidecar.output_roots)
        context = CheckContext(self._task.program, self._task.dataset, segment.seed)
        verify_answer(context, trace, demanded, answer)

    def verify_audit(
        self, task: TaskSpec, segment: SegmentContext, sidecar: Sidecar, challenge: Hash, digests: tuple[bytes, ...]
    ) -> None:
        """Check that `digests` are of the strips of the outputs that `challenge` draws; raises InvalidProof."""
        del task
        verify_audit(self.make_trace(segment.checkpoint_root, sidecar), challenge, digests)

    def is_segment_honest(self, segment: SegmentContext, sidecar: Sidecar) -> bool:
        """Say whether executing the segment gives exactly `sidecar`; no rule of the ledger asks it."""
        return self.find_fault(segment, sidecar) is None

    def find_fault(self, segment: SegmentContext, sidecar: Sidecar) -> Difference | None:
        """Return the first op in which `sidecar` differs from an execution of the segment, or None if it is honest.

        Its roots must have the size and its delta the roots that a commit is held to.
        """
        key = (segment, compute_sidecar_hash(sidecar))

        def execute() -> Difference | None:
            program = self._task.program
            snapshots = Snapshots(program, compute_snapshot_interval(program, SNAPSHOT_BYTES_MAX))
            own = execute_segment(self._make_runner(segment), snapshots.on_step)
            self._snapshots[segment] = snapshots
            if len(self._snapshots) > SNAPSHOTS_MAX:
                self._snapshots.popitem(last=False)
            return find_difference(program, own.output_roots, sidecar.output_roots)

        return self._remember(self._faults, key, execute)

    def rerun_step(self, segment: SegmentContext, step: int) -> StepTensors:
        """Return all tensors of one step of a segment."""
        return rerun_step(self._make_runner(segment), step, self._get_states(segment))

    def prove_audit(self, segment: SegmentContext, challenge: Hash) -> tuple[bytes, ...]:
        """Return what proves to have executed a segment, for an auditor with this challenge."""
        return prove_audit(self._make_runner(segment), challenge, self._get_states(segment))

    def make_answer(self, segment: SegmentContext, demanded: tuple[Leaf, Demand]) -> bytes:
        """Return what answers a demand of an honest segment; raises InvalidProof when an op does not hold."""
        return make_answer(self._make_runner(segment), demanded, self._get_states(segment))

    @property
    def program(self) -> Program:
        """The program of the network's task."""
        return self._task.program

    def settle(self, task: TaskSpec, checkpoint_root: Hash, sidecars: tuple[Sidecar, ...]) -> Settlement:
        """Return the next checkpoint and its score, and keep it."""
        del task
        key = (checkpoint_root, tuple(compute_sidecar_hash(sidecar) for sidecar in sidecars))
        return self._remember(self._settlements, key, lambda: self._settle(checkpoint_root, sidecars))

    def compute_operand_roots(
        self, task: TaskSpec, checkpoint_root: Hash, sidecar: Sidecar, step: int, op: int
    ) -> tuple[Hash, Hash]:
        """Return the roots of both operands of a matmul; raises InvalidProof."""
        del task, checkpoint_root
        return compute_operand_roots(self._task.program, sidecar.output_roots, step, op)

    def verify_answer_opening(self, claim: AnswerClaim, place: ChallengeAnswer, shown: OpenAnswer) -> None:
        """Check that `shown` is the claimed answer and that `place` of it holds, or is none; raises InvalidProof."""
        verify_claimed_opening(claim, place, shown)

    def compute_segment_macs(self, task: TaskSpec) -> int:
        """Return the MACs of a segment."""
        del task
        return self._task.program.segment_macs

    def get_checkpoint(self, root: Hash) -> Checkpoint:
        """Return a checkpoint that was settled; raises StorageError when its file is gone."""
        return self._remember(self._checkpoints, root, lambda: self._load_checkpoint(root))

    def keep_checkpoint(self, checkpoint: Checkpoint) -> Hash:
        """Store a checkpoint under its root."""
        root = compute_checkpoint_root(checkpoint)
        self._blobs.put(root, encode_checkpoint(checkpoint))
        return root

    def make_trace(self, checkpoint_root: Hash, sidecar: Sidecar) -> Trace:
        """Return the trace that block data says a segment from a checkpoint had."""

        def compute() -> tuple[Hash, ...]:
            return tuple(compute_tensor_root(part) for part in self.get_checkpoint(checkpoint_root).weights)

        roots = self._remember(self._roots, checkpoint_root, compute)
        return Trace(self._task.program, roots, sidecar.output_roots)

    def _make_runner(self, segment: SegmentContext) -> Runner:
        task, checkpoint = self._task, self.get_checkpoint(segment.checkpoint_root)
        return Runner(task.program, self._backend, task.dataset, segment.seed, checkpoint)

    def _get_states(self, segment: SegmentContext) -> Mapping[int, State]:
        with self._lock:
            snapshots = self._snapshots.get(segment)
        return {} if snapshots is None else snapshots.states

    def _settle(self, checkpoint_root: Hash, sidecars: tuple[Sidecar, ...]) -> Settlement:
        program = self._task.program
        deltas = [decode_delta(program, sidecar.output_roots, sidecar.delta) for sidecar in sidecars]
        checkpoint = compute_next_checkpoint(program, self.get_checkpoint(checkpoint_root), deltas)
        score = compute_evaluation(program, self._backend, checkpoint, self._task.dataset)
        return Settlement(self.keep_checkpoint(checkpoint), score.loss_f16, score.correct, score.count)

    def _load_checkpoint(self, root: Hash) -> Checkpoint:
        data = self._blobs.get(root)
        if data is None:
            raise StorageError(f"the checkpoint {root.hex()} is gone; re-import the chain to compute it again")
        return decode_checkpoint(self._task.program, data)

    def _remember(self, memory: "OrderedDict[K, V]", key: K, compute: Callable[[], V]) -> V:
        with self._lock:
            if key not in memory:
                memory[key] = compute()
                if len(memory) > REMEMBERED_MAX:
                    memory.popitem(last=False)
            return memory[key]


def _compare(rule: str, found: Hash, expected: Hash) -> None:
    if found != expected:
        raise InvalidTransaction(rule, f"found {found.hex()}, expected {expected.hex()}")
