"""Machine learning for the ledger: `LearningEngine` over ml's programs, with checkpoints kept as blobs.

Every answer is a pure function of its arguments, so answers are remembered: what is asked again on
another branch, or of a dispute, is executed once. It knows no block and no account.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from chain.dispute import Demand
from chain.errors import DecodeError, InvalidProof, InvalidTransaction, StorageError
from chain.genesis import TaskSpec
from chain.inference import ChallengeAnswer, OpenAnswer
from chain.ledger.learning import AnswerClaim, Leaf, SegmentContext, Settlement, TaskBounds
from chain.primitives import Hash
from chain.storage.blob_store import BlobStore
from chain.transaction import SIDECAR_BYTES_MAX, CommitContribution, Sidecar, compute_sidecar_hash
from ml.auditing import prove_audit, validate_auditable, verify_audit
from ml.backends import Backend
from ml.backends.cpu.tensor_hash import compute_tensor_roots
from ml.checkpoint import (
    Checkpoint,
    bind_checkpoint_root,
    compute_initial_checkpoint,
    decode_checkpoint,
    encode_checkpoint,
)
from ml.checks import CheckContext
from ml.dataset import Dataset, build_dataset
from ml.deltas import compute_delta_size, decode_delta, encode_delta
from ml.disputing import Difference, find_difference
from ml.evaluation import compute_evaluation
from ml.fit import validate_fit
from ml.models import build_program
from ml.program import Program
from ml.provable import validate_provable
from ml.proving import Snapshots, State, compute_snapshot_interval, rerun_step, verify_openings
from ml.segment import OnStep, Runner, StepTensors, run_steps
from ml.settlement import Delta, compute_next_checkpoint
from ml.sketch import fill_sketch, lower_minima
from ml.spec import decode_spec, encode_spec
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
from node.posting import compute_part_root, load_posted, validate_first_checkpoint
from node.remembered import Remembered

REMEMBERED_MAX = 256
CHECKPOINTS_MAX = 16
"""Held in memory, of 8 MiB each where the model is as large as block data allow; others are read again."""

SNAPSHOTS_MAX = 16
SNAPSHOT_BYTES_MAX = 16 << 20
"""Of each segment that was executed lately, so that what an audit or a dispute asks for needs few steps again."""

TASKS_MAX = 8
"""Tasks whose programs and data are held in memory beside that of genesis; others are loaded again."""

TaskName = tuple[bytes, Hash]
"""What decides all training but where it starts: the program's bytes and the data set's root."""


@dataclass(frozen=True, slots=True)
class Task:
    """A task's program with the data it trains on."""

    program: Program
    dataset: Dataset


def load_task(spec: TaskSpec, data: bytes | None = None) -> Task:
    """Return the task that a record describes; raises DecodeError when program or data are not what it says.

    Its data set is made of `data` where they are at hand, else looked for on this machine.
    """
    model = decode_spec(spec.program)
    try:
        if data is not None:
            dataset = build_dataset(data, model.heldout)
        else:
            dataset = load_dataset_by_root(spec.dataset_root, model.heldout)
    except DatasetError as error:
        raise DecodeError(f"data set: {error}") from None
    validate_fit(model, dataset)
    program = build_program(model)
    validate_provable(CheckContext(program, dataset, bytes(32)))
    validate_auditable(program)
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
    """Implements `chain.ledger.learning.LearningEngine`; a checkpoint's root says of which program it is."""

    def __init__(self, task: Task, backend: Backend, blobs: BlobStore, places_drawn: int) -> None:
        """Re-execute on `backend`; checkpoints are read from and written to `blobs`. `task` is that of genesis."""
        self._genesis = _name_task(encode_spec(task.program.spec), task.dataset.root)
        self._tasks = OrderedDict({self._genesis: task})
        self._backend = backend
        self._blobs = blobs
        self._places_drawn = places_drawn
        self._checkpoints = Remembered[Hash, Checkpoint](CHECKPOINTS_MAX)
        self._roots = Remembered[Hash, tuple[Hash, ...]](REMEMBERED_MAX)
        self._faults = Remembered[tuple[SegmentContext, Hash], Difference | None](REMEMBERED_MAX)
        """By what decides a segment; the task's name is part of its seed."""
        self._posted = Remembered[tuple[TaskSpec, TaskBounds, bool], bool](REMEMBERED_MAX)
        """Tasks that were found good."""
        self._settlements = Remembered[tuple[TaskName, Hash, tuple[Hash, ...]], Settlement](REMEMBERED_MAX)
        self._snapshots: OrderedDict[SegmentContext, Snapshots] = OrderedDict()
        self._snapshots_lock = threading.Lock()
        # Queries ask for tasks while a segment is executed; they must not wait for it.
        self._tasks_lock = threading.RLock()
        self.keep_checkpoint(compute_initial_checkpoint(task.program))

    def validate_task(
        self, task: TaskSpec, read_data: Callable[[], bytes], bounds: TaskBounds, *, is_new: bool
    ) -> None:
        """Check that a task can be trained, proven and audited, and keep its data; raises InvalidTransaction."""

        def check() -> bool:
            program, data, dataset = load_posted(task, read_data, bounds)
            if is_new:
                validate_first_checkpoint(task, program)
            else:
                self._validate_start(task, program)
            self._blobs.put(task.dataset_root, data)
            self._keep_task(task, Task(program, dataset))
            return True

        # All that the answer follows from, as the root names the data: what is remembered on one node must be what
        # another computes.
        self._posted.get((task, bounds, is_new), check)

    def compute_part_root(self, size_bytes: int, start: int, part: bytes, others: bytes) -> Hash:
        """Return the root of a content with a part in its place; raises InvalidTransaction."""
        return compute_part_root(size_bytes, start, part, others)

    def lower_minima(self, part: bytes, before: bytes | None) -> bytes:
        """Return the minima of a part's bytes and of those of the parts before."""
        return lower_minima(part, before)

    def fill_sketch(self, minima: bytes) -> bytes:
        """Return the sketch of a content by the minima of all its parts."""
        return fill_sketch(minima)

    def validate_sidecar(
        self, task: TaskSpec, checkpoint_root: Hash, commit: CommitContribution, sidecar: Sidecar
    ) -> None:
        """Check that `sidecar` yields the commit's roots; raises InvalidTransaction."""
        program = self.get_task(task).program
        try:
            trace = self.make_trace(task, checkpoint_root, sidecar)
            _compare("trace-root", compute_trace_root(trace), commit.trace_root)
            _compare("delta-root", compute_delta_root(program, sidecar.output_roots), commit.delta_root)
            _decode_delta(program, sidecar)
        except InvalidProof as error:
            raise InvalidTransaction(error.rule, str(error)) from None

    def verify_openings(
        self, task: TaskSpec, segment: SegmentContext, sidecar: Sidecar, challenge: Hash, openings: tuple[bytes, ...]
    ) -> None:
        """Check every drawn place; raises InvalidProof."""
        loaded, trace = self.get_task(task), self.make_trace(task, segment.checkpoint_root, sidecar)
        validate_output_roots(loaded.program, sidecar.output_roots)
        context = CheckContext(loaded.program, loaded.dataset, segment.seed, segment.task_round)
        verify_openings(context, trace, challenge, self._places_drawn, openings)

    def validate_demand(self, task: TaskSpec, leaf: Leaf, demand: Demand) -> None:
        """Check that what is demanded exists; raises InvalidTransaction."""
        validate_demand(self.get_task(task).program, leaf, demand)

    def verify_answer(
        self, task: TaskSpec, segment: SegmentContext, sidecar: Sidecar, demanded: tuple[Leaf, Demand], answer: bytes
    ) -> None:
        """Check that `answer` gives what was demanded, and that an opened op holds; raises InvalidProof."""
        loaded, trace = self.get_task(task), self.make_trace(task, segment.checkpoint_root, sidecar)
        validate_output_roots(loaded.program, sidecar.output_roots)
        context = CheckContext(loaded.program, loaded.dataset, segment.seed, segment.task_round)
        verify_answer(context, trace, demanded, answer)

    def verify_audit(
        self, task: TaskSpec, segment: SegmentContext, sidecar: Sidecar, challenge: Hash, digests: tuple[bytes, ...]
    ) -> None:
        """Check that `digests` are of the strips of the outputs that `challenge` draws; raises InvalidProof."""
        verify_audit(self.make_trace(task, segment.checkpoint_root, sidecar), challenge, digests)

    def is_segment_honest(self, task: TaskSpec, segment: SegmentContext, sidecar: Sidecar) -> bool:
        """Say whether executing the segment gives exactly `sidecar`; no rule of the ledger asks it."""
        return self.find_fault(task, segment, sidecar) is None

    def find_fault(self, task: TaskSpec, segment: SegmentContext, sidecar: Sidecar) -> Difference | None:
        """Return the first op in which `sidecar` differs from an execution of the segment, or None if it is honest.

        Its roots must have the size and its delta the roots that a commit is held to.
        """
        key = (segment, compute_sidecar_hash(sidecar))

        def execute() -> Difference | None:
            runner = self._make_runner(task, segment)
            snapshots = Snapshots(runner.program, compute_snapshot_interval(runner.program, SNAPSHOT_BYTES_MAX))
            own = execute_segment(runner, snapshots.on_step)
            with self._snapshots_lock:
                self._snapshots[segment] = snapshots
                if len(self._snapshots) > SNAPSHOTS_MAX:
                    self._snapshots.popitem(last=False)
            return find_difference(runner.program, own.output_roots, sidecar.output_roots)

        return self._faults.get(key, execute)

    def rerun_step(self, task: TaskSpec, segment: SegmentContext, step: int) -> StepTensors:
        """Return all tensors of one step of a segment."""
        return rerun_step(self._make_runner(task, segment), step, self._get_states(segment))

    def prove_audit(self, task: TaskSpec, segment: SegmentContext, challenge: Hash) -> tuple[bytes, ...]:
        """Return what proves to have executed a segment, for an auditor with this challenge."""
        return prove_audit(self._make_runner(task, segment), challenge, self._get_states(segment))

    def make_answer(self, task: TaskSpec, segment: SegmentContext, demanded: tuple[Leaf, Demand]) -> bytes:
        """Return what answers a demand of an honest segment; raises InvalidProof when an op does not hold."""
        return make_answer(self._make_runner(task, segment), demanded, self._get_states(segment))

    def settle(self, task: TaskSpec, checkpoint_root: Hash, sidecars: tuple[Sidecar, ...]) -> Settlement:
        """Return the next checkpoint and its score, and keep it."""
        name = _name_task(task.program, task.dataset_root)
        key = (name, checkpoint_root, tuple(compute_sidecar_hash(sidecar) for sidecar in sidecars))
        return self._settlements.get(key, lambda: self._settle(task, checkpoint_root, sidecars))

    def compute_operand_roots(
        self, task: TaskSpec, checkpoint_root: Hash, sidecar: Sidecar, step: int, op: int
    ) -> tuple[Hash, Hash]:
        """Return the roots of both operands of a matmul; raises InvalidProof."""
        del checkpoint_root
        return compute_operand_roots(self.get_task(task).program, sidecar.output_roots, step, op)

    def verify_answer_opening(self, claim: AnswerClaim, place: ChallengeAnswer, shown: OpenAnswer) -> None:
        """Check that `shown` is the claimed answer and that `place` of it holds, or is none; raises InvalidProof."""
        verify_claimed_opening(claim, place, shown)

    def compute_segment_macs(self, task: TaskSpec) -> int:
        """Return the MACs of a segment."""
        return self.get_task(task).program.segment_macs

    def get_task(self, spec: TaskSpec) -> Task:
        """Return a task with its program and data; raises DecodeError."""
        name = _name_task(spec.program, spec.dataset_root)
        with self._tasks_lock:
            if name not in self._tasks:
                self._keep_task(spec, load_task(spec, self._blobs.get(spec.dataset_root)))
            return self._tasks[name]

    def _keep_task(self, spec: TaskSpec, task: Task) -> None:
        with self._tasks_lock:
            self._tasks[_name_task(spec.program, spec.dataset_root)] = task
            if len(self._tasks) > TASKS_MAX + 1:
                del self._tasks[next(each for each in self._tasks if each != self._genesis)]

    def _validate_start(self, task: TaskSpec, program: Program) -> None:
        """Check that a program can go on from a checkpoint that another has reached."""
        data = self._blobs.get(task.checkpoint_root)
        if data is None:
            raise StorageError(f"the checkpoint {task.checkpoint_root.hex()} is gone, expected every task's last")
        try:
            found = _compute_checkpoint_root(decode_checkpoint(program, data))
        except DecodeError as error:
            raise InvalidTransaction("task-checkpoint", f"the parent's is of another model: {error}") from None
        # As many weights in other shapes are other tensors, and checkpoints are kept by their roots alone.
        if found != task.checkpoint_root:
            message = f"found root {found.hex()} in the program's shapes, expected {task.checkpoint_root.hex()}"
            raise InvalidTransaction("task-checkpoint", message)

    def get_checkpoint(self, task: TaskSpec, root: Hash) -> Checkpoint:
        """Return a checkpoint of a task that was settled; raises StorageError when its file is gone."""
        return self._checkpoints.get(root, lambda: self._load_checkpoint(task, root))

    def keep_checkpoint(self, checkpoint: Checkpoint) -> Hash:
        """Store a checkpoint under its root."""
        root = _compute_checkpoint_root(checkpoint)
        self._blobs.put(root, encode_checkpoint(checkpoint))
        return root

    def keep_first_checkpoint(self, task: TaskSpec) -> Checkpoint:
        """Compute and keep the checkpoint that a task without a parent starts from; raises StorageError."""
        first = compute_initial_checkpoint(self.get_task(task).program)
        if _compute_checkpoint_root(first) != task.checkpoint_root:
            raise StorageError(f"the checkpoint {task.checkpoint_root.hex()} is gone, expected every task's last")
        self.keep_checkpoint(first)
        return first

    def make_trace(self, task: TaskSpec, checkpoint_root: Hash, sidecar: Sidecar) -> Trace:
        """Return the trace that block data says a segment from a checkpoint had."""

        def compute() -> tuple[Hash, ...]:
            return compute_tensor_roots(self.get_checkpoint(task, checkpoint_root).weights)

        roots = self._roots.get(checkpoint_root, compute)
        return Trace(self.get_task(task).program, roots, sidecar.output_roots)

    def _make_runner(self, task: TaskSpec, segment: SegmentContext) -> Runner:
        loaded, checkpoint = self.get_task(task), self.get_checkpoint(task, segment.checkpoint_root)
        return Runner(
            loaded.program,
            self._backend,
            loaded.dataset,
            segment.seed,
            checkpoint,
            task_round=segment.task_round,
        )

    def _get_states(self, segment: SegmentContext) -> Mapping[int, State]:
        with self._snapshots_lock:
            snapshots = self._snapshots.get(segment)
        return {} if snapshots is None else snapshots.states

    def _settle(self, task: TaskSpec, checkpoint_root: Hash, sidecars: tuple[Sidecar, ...]) -> Settlement:
        loaded = self.get_task(task)
        program = loaded.program
        deltas = [_decode_delta(program, sidecar) for sidecar in sidecars]
        checkpoint = compute_next_checkpoint(program, self.get_checkpoint(task, checkpoint_root), deltas)
        score = compute_evaluation(program, self._backend, checkpoint, loaded.dataset)
        return Settlement(self.keep_checkpoint(checkpoint), score.loss_f16, score.correct, score.count)

    def _load_checkpoint(self, task: TaskSpec, root: Hash) -> Checkpoint:
        data = self._blobs.get(root)
        if data is None and root == task.checkpoint_root:
            return self.keep_first_checkpoint(task)
        if data is None:
            raise StorageError(f"the checkpoint {root.hex()} is gone; re-import the chain to compute it again")
        return decode_checkpoint(self.get_task(task).program, data)


def _decode_delta(program: Program, sidecar: Sidecar) -> Delta:
    return decode_delta(program, sidecar.output_roots, sidecar.delta, compute_tensor_roots)


def _compute_checkpoint_root(checkpoint: Checkpoint) -> Hash:
    return bind_checkpoint_root(compute_tensor_roots(checkpoint.weights), compute_tensor_roots(checkpoint.momentum))


def _name_task(program: bytes, dataset_root: Hash) -> TaskName:
    return program, dataset_root


def _compare(rule: str, found: Hash, expected: Hash) -> None:
    if found != expected:
        raise InvalidTransaction(rule, f"found {found.hex()}, expected {expected.hex()}")
