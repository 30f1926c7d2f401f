"""Running a segment: H steps of a program from a checkpoint, every tensor of every step in sight.

A segment has no free input: program, checkpoint, data set and segment seed decide every bit. It computes through a
backend and knows neither traces nor tickets; both watch through `on_step`, and a miner lends its own matmul.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from ml.arithmetic import DECAY_INTERVAL, I8, I32, I64, STRONG_DECAY, IntArray
from ml.backends import Backend, Groups, Heads, Rounding
from ml.checkpoint import Checkpoint
from ml.dataset import Dataset, Examples, Text
from ml.prf import compute_key
from ml.program import Matmul, Op, OpKind, Program, TensorId
from ml.rotary import get_rotation_table
from ml.spec import RATE_BITS, Decoder, Spec

RATE_FLOOR = 20
"""A rate that falls from round to round ends at the top rate over this."""

StepTensors = dict[TensorId, IntArray]
"""Every tensor of one step by id: state before, outputs of all ops; checkpoint weights at the last step."""

OnStep = Callable[[int, StepTensors], None]
"""Called with the step and its tensors after each step; the arrays are not written again."""

Multiply = Callable[[Matmul, I8, I8], I32]
"""Returns the exact product (M, N) int32 of a (M, K) int8 and b (N, K) int8 transposed."""


@dataclass(frozen=True, slots=True)
class Runner:
    """What stays the same through a segment."""

    program: Program
    backend: Backend
    dataset: Dataset
    segment_seed: bytes
    checkpoint: Checkpoint
    multiply: Multiply | None = None
    """Computes the matmuls instead of the backend, when given."""
    task_round: int = 0
    """Which of its task's rounds the segment is of, from 0: what its learning rate follows from."""


@dataclass(frozen=True, slots=True)
class SegmentResult:
    """The end of a segment: weights and moments after its last step, and the quantised delta by parameter."""

    state: tuple[IntArray, ...]
    """In the order of `Program.state_outputs`."""
    deltas: tuple[tuple[I8, I32], ...]
    """Per parameter mantissas (out, in) int8 and exponents (out, 1) int32, F24."""


def run_segment(
    program: Program,
    backend: Backend,
    checkpoint: Checkpoint,
    dataset: Dataset,
    segment_seed: bytes,
    on_step: OnStep | None = None,
) -> SegmentResult:
    """Return the result of all H steps; `on_step` sees each step's tensors."""
    return run_steps(Runner(program, backend, dataset, segment_seed, checkpoint), on_step)


def run_steps(runner: Runner, on_step: OnStep | None = None) -> SegmentResult:
    """Return the result of the runner's segment; `on_step` sees each step's tensors."""
    program, state = runner.program, compute_initial_state(runner.program, runner.checkpoint)
    tensors: StepTensors = {}
    for step in range(program.steps):
        tensors = run_step(runner, step, state)
        state = tuple(tensors[output] for output in program.state_outputs)
        if on_step is not None:
            on_step(step, tensors)
    return SegmentResult(state, get_deltas(program, tensors))


def compute_initial_state(program: Program, checkpoint: Checkpoint) -> tuple[IntArray, ...]:
    """Return the state before step 0: the checkpoint's weights and zero moments."""
    moments = [np.zeros_like(weights, dtype) for dtype in (np.int32, np.int64) for weights in checkpoint.weights]
    state = cast(tuple[IntArray, ...], (*checkpoint.weights, *moments))
    assert len(state) == len(program.state_inputs)
    return state


def run_step(runner: Runner, step: int, state: Sequence[IntArray]) -> StepTensors:
    """Return every tensor of `step`, which starts from `state` (in the order of `Program.state_inputs`)."""
    program = runner.program
    tensors: StepTensors = dict(zip(program.state_inputs, state, strict=True))
    if step == program.steps - 1:
        tensors.update(zip(program.checkpoint_weights, runner.checkpoint.weights, strict=True))
    for op in program.get_step_ops(step):
        outputs = run_op(runner, step, op, [tensors[tensor] for tensor in op.inputs])
        tensors.update(zip(op.outputs, outputs, strict=True))
    return tensors


def run_op(runner: Runner, step: int, op: Op, inputs: Sequence[IntArray]) -> tuple[IntArray, ...]:
    """Return the outputs of one op of `step` from its inputs, in program order."""
    return _RUN[op.kind](runner, step, op, inputs)


def get_deltas(program: Program, tensors: StepTensors) -> tuple[tuple[I8, I32], ...]:
    """Return the deltas by parameter from the tensors of a segment's last step."""
    return tuple((as_i8(tensors[op.outputs[0]]), as_i32(tensors[op.outputs[1]])) for op in program.delta_ops)


def compute_rates(spec: Spec, task_round: int, step: int) -> tuple[int, int]:
    """Return the learning rate and the weight decay of `step` in a round of a task, in units of 2**-32.

    The round's rate rises over the warm-up steps and falls over the decay steps; it is never zero in between. Weight
    decay is taken every 16th step, for all sixteen at once, or at every step where it is strong.
    """
    round_rate = compute_round_rate(spec, task_round)
    rate = _compute_rate(spec, round_rate, step)
    interval = 1 if round_rate * spec.weight_decay >> RATE_BITS >= STRONG_DECAY else DECAY_INTERVAL
    if (step + 1) % interval and step + 1 < spec.segment_steps:
        return rate, 0
    start = step - step % interval
    total = sum(_compute_rate(spec, round_rate, earlier) for earlier in range(start, step + 1))
    return rate, min(total * spec.weight_decay >> RATE_BITS, (1 << RATE_BITS) - 1)


def compute_round_rate(spec: Spec, task_round: int) -> int:
    """Return the learning rate of a task's round, from 0, at its middle, in units of 2**-32.

    It rises over the warm-up rounds; times that it falls over the decay rounds to a twentieth, and stays there.
    """
    rate, rising, falling = spec.learning_rate, spec.warmup_rounds, spec.decay_rounds
    if rising:
        rate = rate * min(2 * task_round + 1, 2 * rising) // (2 * rising)
    if falling:
        left = 2 * (falling - task_round) - 1
        rate = rate * max(RATE_FLOOR * left, 2 * falling) // (2 * RATE_FLOOR * falling)
    return rate


def _compute_rate(spec: Spec, round_rate: int, step: int) -> int:
    rise = min(step + 1, spec.warmup_steps + 1) * round_rate // (spec.warmup_steps + 1)
    left = min(spec.segment_steps - step, spec.decay_steps + 1)
    return rise * left // (spec.decay_steps + 1)


def as_i8(array: IntArray) -> I8:
    """Return `array`, which the program says is int8."""
    assert array.dtype == np.int8
    return cast(I8, array)


def as_i32(array: IntArray) -> I32:
    """Return `array`, which the program says is int32."""
    assert array.dtype == np.int32
    return cast(I32, array)


def as_i64(array: IntArray) -> I64:
    """Return `array`, which the program says is int64."""
    assert array.dtype == np.int64
    return cast(I64, array)


Inputs = Sequence[IntArray]


def _get_rounding(runner: Runner, step: int, op: Op) -> Rounding | None:
    return Rounding(compute_key(runner.segment_seed, step, op.index)) if op.is_stochastic else None


def _get_decoder(runner: Runner) -> Decoder:
    model = runner.program.spec.model
    assert isinstance(model, Decoder)
    return model


def get_heads(model: Decoder) -> Heads:
    """Return how a decoder's activations split into heads."""
    return Heads(model.context, model.heads, model.head_width)


def _run_batch(runner: Runner, step: int, op: Op, _inputs: Inputs) -> tuple[IntArray, ...]:
    data, key = runner.dataset, compute_key(runner.segment_seed, step, op.index)
    assert isinstance(data, Examples)
    return runner.backend.draw_batch(data.x, data.labels, key, runner.program.spec.batch)


def _run_windows(runner: Runner, step: int, op: Op, _inputs: Inputs) -> tuple[IntArray, ...]:
    data, key = runner.dataset, compute_key(runner.segment_seed, step, op.index)
    assert isinstance(data, Text)
    return runner.backend.draw_windows(data.stream, key, runner.program.spec.batch, _get_decoder(runner).context)


def _run_quantise_rows(runner: Runner, step: int, op: Op, inputs: Inputs) -> tuple[IntArray, ...]:
    return runner.backend.quantise_rows(as_i32(inputs[0]), _get_rounding(runner, step, op))


def _run_quantise_transposed(runner: Runner, step: int, op: Op, inputs: Inputs) -> tuple[IntArray, ...]:
    return runner.backend.quantise_transposed(as_i32(inputs[0]), _get_rounding(runner, step, op), op.groups)


def _run_linear(runner: Runner, _step: int, op: Op, inputs: Inputs) -> tuple[IntArray, ...]:
    (a, a_exponents), (b, b_exponents) = ((as_i8(inputs[i]), as_i32(inputs[i + 1])) for i in (0, 2))
    if op.groups > 1 or op.is_causal:
        groups = Groups(op.groups, op.shift, op.is_causal)
        return (runner.backend.multiply_groups((a, a_exponents), (b, b_exponents), groups),)
    if runner.multiply is None:
        product = runner.backend.multiply(a, b)
    else:
        matmul = runner.program.get_matmul(op.index)
        assert matmul is not None
        product = runner.multiply(matmul, a, b)
    return (runner.backend.rescale(product, a_exponents, b_exponents, op.shift),)


def _run_embed(runner: Runner, _step: int, _op: Op, inputs: Inputs) -> tuple[IntArray, ...]:
    return (runner.backend.embed(as_i32(inputs[0]), tuple(map(as_i32, inputs[1:]))),)


def _run_embedding_gradient(runner: Runner, _step: int, op: Op, inputs: Inputs) -> tuple[IntArray, ...]:
    vocabulary = _get_decoder(runner).vocabulary
    return (runner.backend.compute_embedding_gradient(as_i32(inputs[0]), as_i32(inputs[1]), vocabulary, op.shift),)


def _run_position_gradient(runner: Runner, _step: int, op: Op, inputs: Inputs) -> tuple[IntArray, ...]:
    return (runner.backend.compute_position_gradient(as_i32(inputs[0]), _get_decoder(runner).context, op.shift),)


def _run_split_heads(runner: Runner, _step: int, op: Op, inputs: Inputs) -> tuple[IntArray, ...]:
    return (runner.backend.split_heads(as_i32(inputs[0]), op.part, get_heads(_get_decoder(runner))),)


def _run_merge_heads(runner: Runner, _step: int, _op: Op, inputs: Inputs) -> tuple[IntArray, ...]:
    return (runner.backend.merge_heads(tuple(map(as_i32, inputs)), get_heads(_get_decoder(runner))),)


def _run_rotate(runner: Runner, _step: int, op: Op, inputs: Inputs) -> tuple[IntArray, ...]:
    model = _get_decoder(runner)
    table = get_rotation_table(model.context, model.head_width)
    return (runner.backend.rotate(as_i32(inputs[0]), table, op.is_inverse),)


def _run_causal_softmax(runner: Runner, _step: int, _op: Op, inputs: Inputs) -> tuple[IntArray, ...]:
    return (runner.backend.causal_softmax(as_i32(inputs[0]), _get_decoder(runner).head_width),)


def _run_causal_softmax_backward(runner: Runner, _step: int, _op: Op, inputs: Inputs) -> tuple[IntArray, ...]:
    p, dp = map(as_i32, inputs)
    return (runner.backend.causal_softmax_backward(p, dp, _get_decoder(runner).head_width),)


def _run_loss(runner: Runner, _step: int, _op: Op, inputs: Inputs) -> tuple[IntArray, ...]:
    return runner.backend.compute_loss_gradient(as_i32(inputs[0]), as_i32(inputs[1]))


def _run_adam(runner: Runner, step: int, _op: Op, inputs: Inputs) -> tuple[IntArray, ...]:
    state = as_i32(inputs[0]), as_i32(inputs[1]), as_i64(inputs[2])
    rate, decay = compute_rates(runner.program.spec, runner.task_round, step)
    return runner.backend.update_adam(state, as_i32(inputs[3]), step, rate, decay)


def _run_delta(runner: Runner, _step: int, _op: Op, inputs: Inputs) -> tuple[IntArray, ...]:
    return runner.backend.quantise_delta(as_i32(inputs[0]), as_i32(inputs[1]), runner.program.spec.delta_bits)


def _run_plain(runner: Runner, _step: int, op: Op, inputs: Inputs) -> tuple[IntArray, ...]:
    """Run an op that takes int32 tensors alone and needs nothing of the spec."""
    backend = runner.backend
    functions: dict[OpKind, Callable[..., I32]] = {
        OpKind.RELU: backend.relu,
        OpKind.RELU_BACKWARD: backend.relu_backward,
        OpKind.RELU_SQUARED: backend.relu_squared,
        OpKind.RELU_SQUARED_BACKWARD: backend.relu_squared_backward,
        OpKind.ADD: backend.add,
        OpKind.NORMALISE: backend.normalise,
        OpKind.NORMALISE_BACKWARD: backend.normalise_backward,
        OpKind.TRANSPOSE: backend.transpose,
    }
    return (functions[op.kind](*map(as_i32, inputs)),)


_PLAIN = (
    *(OpKind.RELU, OpKind.RELU_BACKWARD, OpKind.RELU_SQUARED, OpKind.RELU_SQUARED_BACKWARD),
    *(OpKind.ADD, OpKind.NORMALISE, OpKind.NORMALISE_BACKWARD, OpKind.TRANSPOSE),
)

_RUN: dict[OpKind, Callable[[Runner, int, Op, Inputs], tuple[IntArray, ...]]] = {
    OpKind.BATCH: _run_batch,
    OpKind.QUANTISE_ROWS: _run_quantise_rows,
    OpKind.QUANTISE_TRANSPOSED: _run_quantise_transposed,
    OpKind.LINEAR: _run_linear,
    OpKind.SOFTMAX_XENT_GRADIENT: _run_loss,
    OpKind.ADAM: _run_adam,
    OpKind.DELTA: _run_delta,
    OpKind.WINDOWS: _run_windows,
    OpKind.EMBED: _run_embed,
    OpKind.EMBEDDING_GRADIENT: _run_embedding_gradient,
    OpKind.POSITION_GRADIENT: _run_position_gradient,
    OpKind.SPLIT_HEADS: _run_split_heads,
    OpKind.MERGE_HEADS: _run_merge_heads,
    OpKind.ROTATE: _run_rotate,
    OpKind.CAUSAL_SOFTMAX: _run_causal_softmax,
    OpKind.CAUSAL_SOFTMAX_BACKWARD: _run_causal_softmax_backward,
    **dict.fromkeys(_PLAIN, _run_plain),
}
