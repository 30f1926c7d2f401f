"""One segment as its miner holds it: trained once, its roots, states and operands kept for commits, openings and laps.

Training itself may draw tickets: a matmul's operands are hashed when they are about to be multiplied, and whoever mines
gives the product. It keeps no trace: a step that is to be opened is run again from the latest state before it. On a GPU
tensors are hashed and operands kept where they are; states come to the host. It knows the program and the segment seed,
nothing of networks.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from chain.primitives import Hash
from chain.transaction import Sidecar
from consensus.ticket import Operands
from ml.backends import Backend
from ml.checkpoint import Checkpoint
from ml.deltas import encode_delta
from ml.noise import I8, I32, MatmulShape
from ml.program import Matmul, TensorId
from ml.proving import Snapshots, compute_snapshot_interval, prove_segment
from ml.segment import Runner, StepTensors, as_i8, run_steps
from ml.trace import RootHasher, Trace, compute_delta_root, compute_trace_root
from node.backends import fetch_arrays, get_host_backend, get_root_hasher
from node.learning import Task
from node.miner.plan import SegmentPlan


@dataclass(frozen=True, slots=True)
class MatmulOperands:
    """One matmul of the segment with its operands, a (M, K) and bt (N, K) int8, where its backend keeps them."""

    place: Operands
    a: I8
    bt: I8


@dataclass(frozen=True, slots=True)
class TrainedSegment:
    """A finished segment."""

    plan: SegmentPlan
    seed: Hash
    task_round: int
    checkpoint: Checkpoint
    sidecar: Sidecar
    trace_root: Hash
    delta_root: Hash
    matmuls: tuple[MatmulOperands, ...]
    snapshots: Snapshots


MineProduct = Callable[[MatmulOperands], I32 | None]
"""Draws the tickets of a matmul and returns its exact product; None leaves the product to the backend."""


class _Recorder:
    """Hashes every tensor of every step once, and keeps the operands that hold tickets."""

    def __init__(self, runner: Runner, mine: MineProduct | None, compute_roots: RootHasher) -> None:
        self.roots: list[bytes] = []
        """Output roots, step by step."""
        self.matmuls: list[MatmulOperands] = []
        self._runner = runner
        self._mine = mine
        self._compute_roots = compute_roots
        self._known: dict[TensorId, Hash] = {}

    def multiply(self, matmul: Matmul, a: I8, bt: I8) -> I32:
        """Return the product of two operands of the step that is being run, mined if it holds tickets."""
        shape = MatmulShape(len(a), len(bt), a.shape[1])
        if self._mine is not None and shape.has_tickets and not matmul.is_attention:
            missing = {name: part for name, part in ((matmul.a, a), (matmul.b, bt)) if name not in self._known}
            self._known |= zip(missing, self._compute_roots(list(missing.values())), strict=True)
            place = Operands(len(self.roots), matmul.op, 0, shape, self._known[matmul.a], self._known[matmul.b])
            product_i32 = self._mine(MatmulOperands(place, a, bt))
            if product_i32 is not None:
                return product_i32
        return self._runner.backend.multiply(a, bt)

    def on_step(self, step: int, tensors: StepTensors) -> None:
        """Hash what was not hashed as an operand, and begin the next step."""
        program = self._runner.program
        outputs = program.get_step_outputs(step)
        missing = [output for output in outputs if output not in self._known]
        self._known |= zip(missing, self._compute_roots([tensors[output] for output in missing]), strict=True)
        self.roots.append(b"".join(self._known[output] for output in outputs))
        for matmul in program.lottery_matmuls:
            a, bt = as_i8(tensors[matmul.a]), as_i8(tensors[matmul.b])
            shape = MatmulShape(len(a), len(bt), a.shape[1])
            if shape.has_tickets:
                roots = self._known[matmul.a], self._known[matmul.b]
                self.matmuls.append(MatmulOperands(Operands(step, matmul.op, 0, shape, *roots), a, bt))
        self._known.clear()


def open_segment(task: Task, backend: Backend, segment: TrainedSegment, drawn: tuple[Hash, int]) -> tuple[bytes, ...]:
    """Return the openings of the (challenge, count) places `drawn`; raises InvalidProof when the segment is forged."""
    runner = Runner(
        task.program,
        get_host_backend(backend),
        task.dataset,
        segment.seed,
        segment.checkpoint,
        task_round=segment.task_round,
    )
    return prove_segment(runner, *drawn, segment.snapshots.states)


def train_segment(runner: Runner, plan: SegmentPlan, mine: MineProduct | None = None) -> TrainedSegment:
    """Return the segment that the runner's seed decides; `mine` may multiply where tickets are to be drawn."""
    program, backend = runner.program, runner.backend
    compute_roots = get_root_hasher(backend)
    recorder = _Recorder(runner, mine, compute_roots)
    last: StepTensors = {}
    snapshots = Snapshots(program, compute_snapshot_interval(program))

    def on_step(step: int, tensors: StepTensors) -> None:
        recorder.on_step(step, tensors)
        snapshots.on_step(step, tensors)
        if step == program.steps - 1:
            last.update(tensors)

    run_steps(replace(runner, multiply=None if mine is None else recorder.multiply), on_step)
    output_roots = b"".join(recorder.roots)
    trace = Trace(program, compute_roots(runner.checkpoint.weights), output_roots)
    states = {step: fetch_arrays(backend, state) for step, state in snapshots.states.items()}
    return TrainedSegment(
        plan=plan,
        seed=Hash(runner.segment_seed),
        task_round=runner.task_round,
        checkpoint=runner.checkpoint,
        sidecar=Sidecar(output_roots, encode_delta(program, last)),
        trace_root=compute_trace_root(trace),
        delta_root=compute_delta_root(program, output_roots),
        matmuls=tuple(recorder.matmuls),
        snapshots=replace(snapshots, states=states),
    )
