"""A cheat's workbench: one task, its data and seed, segments made with some ops' outputs put in place of the true ones.

A cheat computes whatever it does not replace, and does it thriftily: products with zero, and what has not changed since
the last step, cost it nothing. So what a segment takes is a fair measure of what a forgery saves. Which cheats there
are is decided elsewhere.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import numpy as np

from chain.genesis import TaskSpec
from chain.hashing import tagged_hash
from chain.ledger.learning import SegmentContext
from chain.primitives import Hash
from chain.storage.blob_store import BlobStore
from chain.transaction import Sidecar
from ml.backends import get_backend
from ml.backends.cpu.tensor_hash import compute_tensor_roots
from ml.checkpoint import Checkpoint, compute_checkpoint_root, compute_initial_checkpoint
from ml.dataset import load_digits
from ml.deltas import encode_delta
from ml.models import build_program
from ml.program import Op, OpKind, TensorId
from ml.segment import Runner, StepTensors, compute_initial_state, run_op
from ml.spec import DIGITS, encode_spec
from ml.tensor_tree import IntArray
from ml.trace import Trace
from node.learning import Learning, Task

PLACES_DRAWN = 8

Outputs = tuple[IntArray, ...]

ZERO_IN_ZERO_OUT = {OpKind.RELU, OpKind.QUANTISE_ROWS, OpKind.QUANTISE_TRANSPOSED}
UNCHANGED_IN_UNCHANGED_OUT = ZERO_IN_ZERO_OUT | {OpKind.LINEAR, OpKind.RELU_BACKWARD}


@dataclass(frozen=True, slots=True)
class Bench:
    """The digits task as on the development network, and the engine that judges segments of it."""

    task: Task
    spec: TaskSpec
    checkpoint: Checkpoint
    learning: Learning
    folder: TemporaryDirectory[str]
    """Keeps the engine's checkpoints for as long as the bench lives."""

    def make_runner(self, seed: Hash) -> Runner:
        """Return what runs the segment of this seed."""
        return Runner(self.task.program, get_backend("cpu"), self.task.dataset, seed, self.checkpoint)

    def make_context(self, seed: Hash) -> SegmentContext:
        """Return how the ledger names the segment of this seed."""
        return SegmentContext(seed, self.spec.checkpoint_root, 0)


@cache
def get_bench() -> Bench:
    """Return the one workbench."""
    program, dataset = build_program(DIGITS), load_digits(DIGITS.heldout)
    checkpoint, folder = compute_initial_checkpoint(program), TemporaryDirectory(prefix="mathesis-attacks-")
    task = Task(program, dataset)
    learning = Learning(task, get_backend("cpu"), BlobStore(Path(folder.name)), PLACES_DRAWN)
    spec = TaskSpec("digits", encode_spec(DIGITS), dataset.root, compute_checkpoint_root(checkpoint))
    return Bench(task, spec, checkpoint, learning, folder)


def make_seed(number: int, role: str = "attacker") -> Hash:
    """Return a segment seed of someone."""
    return tagged_hash("segment", role.encode(), number.to_bytes(8, "little"))


@dataclass(frozen=True, slots=True)
class Scene:
    """What a cheat sees when an op is due."""

    runner: Runner
    step: int
    op: Op
    inputs: tuple[IntArray, ...]
    past: "Sequence[StepTensors]"
    """Every earlier step of this segment."""

    def run(self, inputs: Sequence[IntArray] | None = None, step: int | None = None) -> Outputs:
        """Return the true outputs, or those from other inputs or as if at another step."""
        at = self.step if step is None else step
        return run_op(self.runner, at, self.op, self.inputs if inputs is None else inputs)

    def zeros(self) -> Outputs:
        """Return zeros in the shape of every output; the same arrays each time."""
        return tuple(_get_zeros(self.runner, output) for output in self.op.outputs)


Cheat = Callable[[Scene], Outputs | None]
"""Returns outputs to put in place of the true ones, or None to compute them."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment as its miner holds it, with where it lies."""

    runner: Runner
    steps: tuple[StepTensors, ...]
    sidecar: Sidecar
    seconds: float
    """Processor time that computing and committing it took: others at work on the machine do not count."""
    macs: int
    """Multiply-accumulates of the products that were computed."""
    replaced: frozenset[tuple[int, int]]
    """(step, op) of every record that the cheat put there."""

    @property
    def trace(self) -> Trace:
        """The committed roots."""
        roots = compute_tensor_roots(self.runner.checkpoint.weights)
        return Trace(self.runner.program, roots, self.sidecar.output_roots)


def compute_honestly(_scene: Scene) -> None:
    """Cheat at nothing."""


_PUBLISHED: dict[int, Hash] = {}
"""Roots, by identity, of arrays that live as long as the process and that everybody has seen."""


def publish(segment: Segment) -> Segment:
    """Return a segment that is never let go of, after noting its roots: who copies it need not hash."""
    for step, tensors in enumerate(segment.steps):
        for output in segment.runner.program.get_step_outputs(step):
            _PUBLISHED[id(tensors[output])] = segment.trace.get_root(step, output)
    return segment


def make_segment(runner: Runner, cheat: Cheat = compute_honestly) -> Segment:
    """Return the segment that a cheat makes of the runner's, committed as if it were true."""
    start_s, maker = process_time(), _Maker(runner, cheat)
    for step in range(runner.program.steps):
        maker.make_step(step)
    sidecar = Sidecar(b"".join(maker.roots), encode_delta(runner.program, maker.steps[-1]))
    seconds = process_time() - start_s
    return Segment(runner, tuple(maker.steps), sidecar, seconds, maker.macs, frozenset(maker.replaced))


@dataclass(slots=True)
class _Maker:
    runner: Runner
    cheat: Cheat
    steps: list[StepTensors] = field(default_factory=list)
    roots: list[bytes] = field(default_factory=list)
    replaced: set[tuple[int, int]] = field(default_factory=set)
    macs: int = 0
    root_by_array: dict[int, Hash] = field(default_factory=lambda: dict(_PUBLISHED))
    """By identity: a kept array is never written again."""

    def make_step(self, step: int) -> None:
        program = self.runner.program
        state: Sequence[IntArray] = (
            [self.steps[-1][output] for output in program.state_outputs]
            if self.steps
            else compute_initial_state(program, self.runner.checkpoint)
        )
        tensors: StepTensors = dict(zip(program.state_inputs, state, strict=True))
        tensors.update(zip(program.checkpoint_weights, self.runner.checkpoint.weights, strict=True))
        for op in program.get_step_ops(step):
            scene = Scene(self.runner, step, op, tuple(tensors[tensor] for tensor in op.inputs), self.steps)
            outputs = self.cheat(scene)
            if outputs is not None:
                self.replaced.add((step, op.index))
            tensors.update(zip(op.outputs, outputs or self._run_thriftily(scene), strict=True))
        self.steps.append(tensors)
        self.roots.append(self._hash([tensors[output] for output in program.get_step_outputs(step)]))

    def _hash(self, arrays: Sequence[IntArray]) -> bytes:
        fresh = [array for array in arrays if id(array) not in self.root_by_array]
        self.root_by_array.update(zip(map(id, fresh), compute_tensor_roots(fresh), strict=True))
        return b"".join(self.root_by_array[id(array)] for array in arrays)

    def _run_thriftily(self, scene: Scene) -> Outputs:
        op, inputs = scene.op, scene.inputs
        if _is_result_zero(op.kind, inputs):
            return scene.zeros()
        can_repeat = not op.is_stochastic and op.kind in UNCHANGED_IN_UNCHANGED_OUT
        # What was forged in the step before does not follow from its inputs, so it is not taken for the truth.
        if can_repeat and scene.past and (scene.step - 1, op.index) not in self.replaced:
            before = scene.past[-1]
            if all(before[tensor] is array for tensor, array in zip(op.inputs, inputs, strict=True)):
                return tuple(before[output] for output in op.outputs)
        matmul = self.runner.program.get_matmul(op.index)
        self.macs += matmul.macs if matmul is not None else 0
        return scene.run()


def _is_result_zero(kind: OpKind, inputs: Sequence[IntArray]) -> bool:
    if kind is OpKind.LINEAR:
        return not inputs[0].any() or not inputs[2].any()
    if kind is OpKind.RELU_BACKWARD:
        return not inputs[0].any() or not inputs[1].any()
    if kind in ZERO_IN_ZERO_OUT:
        return not inputs[0].any()
    return kind is OpKind.ADAM and not any(array.any() for array in inputs)


@cache
def _get_zeros_of(shape: tuple[int, int], dtype: str) -> IntArray:
    zeros: IntArray = np.zeros(shape, dtype)
    return zeros


def _get_zeros(runner: Runner, tensor: TensorId) -> IntArray:
    wanted = runner.program.tensors[tensor]
    return _get_zeros_of((wanted.rows, wanted.columns), f"int{8 * wanted.dtype.itemsize}")
