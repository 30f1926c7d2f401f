"""One segment as its miner holds it: trained once, its roots, states and operands kept for commits, openings and laps.

It keeps no trace: a step that is to be opened is run again from the latest state before it. It knows the program and
the segment seed, nothing of networks.
"""

from dataclasses import dataclass

from chain.primitives import Hash
from chain.transaction import Sidecar
from consensus.ticket import Operands
from ml.backends import Backend
from ml.backends.cpu.tensor_hash import compute_tensor_roots
from ml.checkpoint import Checkpoint
from ml.noise import I8, MatmulShape
from ml.proving import Snapshots, compute_snapshot_interval, prove_segment
from ml.segment import Runner, StepTensors, as_i8, run_segment
from ml.trace import (
    Trace,
    compute_delta_root,
    compute_operand_roots,
    compute_step_roots,
    compute_trace_root,
    encode_delta,
)
from node.learning import Task
from node.miner.plan import SegmentPlan


@dataclass(frozen=True, slots=True)
class MatmulOperands:
    """One matmul of the segment with its operands, a (M, K) and bt (N, K) int8."""

    place: Operands
    a: I8
    bt: I8


@dataclass(frozen=True, slots=True)
class TrainedSegment:
    """A finished segment."""

    plan: SegmentPlan
    seed: Hash
    checkpoint: Checkpoint
    sidecar: Sidecar
    trace_root: Hash
    delta_root: Hash
    matmuls: tuple[MatmulOperands, ...]
    snapshots: Snapshots


def open_segment(task: Task, backend: Backend, segment: TrainedSegment, drawn: tuple[Hash, int]) -> tuple[bytes, ...]:
    """Return the openings of the (challenge, count) places `drawn`; raises InvalidProof when the segment is forged."""
    runner = Runner(task.program, backend, task.dataset, segment.seed, segment.checkpoint)
    return prove_segment(runner, *drawn, segment.snapshots.states)


def train_segment(
    task: Task, backend: Backend, checkpoint: Checkpoint, plan: SegmentPlan, seed: Hash
) -> TrainedSegment:
    """Return the segment that `seed` decides, trained from `checkpoint`."""
    program = task.program
    roots: list[bytes] = []
    operands: list[tuple[int, int, I8, I8]] = []
    last: StepTensors = {}
    snapshots = Snapshots(program, compute_snapshot_interval(program))

    def on_step(step: int, tensors: StepTensors) -> None:
        roots.append(compute_step_roots(program, step, tensors, compute_tensor_roots))
        for matmul in program.lottery_matmuls:
            operands.append((step, matmul.op, as_i8(tensors[matmul.a]), as_i8(tensors[matmul.b])))
        snapshots.on_step(step, tensors)
        last.update(tensors)

    run_segment(program, backend, checkpoint, task.dataset, seed, on_step)
    output_roots = b"".join(roots)
    trace = Trace(program, compute_tensor_roots(checkpoint.weights), output_roots)
    matmuls = []
    for step, op, a, bt in operands:
        shape = MatmulShape(a.shape[0], bt.shape[0], a.shape[1])
        if shape.tile_rows and shape.tile_columns and shape.windows:
            root_a, root_b = compute_operand_roots(program, output_roots, step, op)
            matmuls.append(MatmulOperands(Operands(step, op, 0, shape, root_a, root_b), a, bt))
    return TrainedSegment(
        plan=plan,
        seed=seed,
        checkpoint=checkpoint,
        sidecar=Sidecar(output_roots, encode_delta(program, last)),
        trace_root=compute_trace_root(trace),
        delta_root=compute_delta_root(program, output_roots),
        matmuls=tuple(matmuls),
        snapshots=snapshots,
    )
