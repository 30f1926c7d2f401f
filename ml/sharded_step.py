"""One training step computed by several processes, each on its shard of the batch, to the bytes of one process alone.

A process walks the program of the step as it would be for its shard alone, and exchanges integers with the others where
`ml.sharding` says that an op reads across the batch. What is exchanged is awaited only when it is read, so that the
gradients of the weights travel while the backward pass goes on. It knows no process and no wire.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from ml.arithmetic import I32, IntArray, round_shift, saturate
from ml.backends import Rounding
from ml.models import build_program
from ml.prf import compute_key
from ml.program import Op, OpKind, TensorId
from ml.segment import Inputs, Runner, as_i8, as_i32, run_op
from ml.sharding import Exchange, OpClass, Placement, Shard, cut_batch, get_op_classes, get_placements
from ml.spec import TOKENS_MAX, count_rows
from ml.training import StepResult, get_last_uses

Outputs = tuple[IntArray, ...]

Finish = Callable[[], Outputs]
"""Waits, where an op exchanges, and returns the op's outputs."""

Watch = Callable[[Op, Outputs], None]
"""Called with each op and what this process holds of its outputs, when they are there."""

_HALF_BITS = 16


@dataclass(frozen=True, slots=True)
class ShardRunner:
    """What one process keeps through all steps."""

    runner: Runner
    """Of the whole batch."""
    shard: Shard
    exchange: Exchange


def make_shard_runner(runner: Runner, exchange: Exchange) -> ShardRunner:
    """Return the part of `runner` that falls to this process of the exchange; raises ShardingError."""
    return ShardRunner(runner, cut_batch(runner.program.spec.batch, exchange.size)[exchange.rank], exchange)


def run_sharded_step(
    runner: ShardRunner, step: int, state: Sequence[IntArray], watch: Watch | None = None
) -> StepResult:
    """Return state and loss after one step: the same bytes as `ml.training.run_training_step`, in every process.

    `bytes_held_max` is this process's own.
    """
    whole, shard = runner.runner, runner.shard
    # The lottery works on whole operands.
    assert whole.multiply is None
    program = whole.program
    local = replace(whole, program=build_program(replace(program.spec, batch=shard.count)))
    place = _Place(step, whole, local, shard, runner.exchange)
    walk = _Walk(place, dict(zip(program.state_inputs, state, strict=True)), watch)
    for op, op_class in zip(program.ops, get_op_classes(program), strict=True):
        walk.run(op, op_class)
    return walk.finish()


@dataclass(slots=True)
class _Walk:
    """One step in one process: the tensors that it holds, and the ops that wait for an exchange."""

    place: "_Place"
    tensors: dict[TensorId, IntArray]
    watch: Watch | None
    waiting: dict[int, Finish] = field(default_factory=dict)
    """By op index, in program order."""
    held: int = 0
    held_max: int = 0

    def run(self, op: Op, op_class: OpClass) -> None:
        """Compute `op`, or start what it exchanges and go on."""
        program = self.place.local.program
        producers = [program.get_producer(tensor) for tensor in op.inputs]
        self._settle([producer.index for producer in producers if producer is not None])
        if op_class is OpClass.EXPONENTS:
            # One waits at a time, since it keeps its int32 input alive.
            self._settle([index for index in self.waiting if program.ops[index].kind is op.kind])
        if op.kind is not OpKind.ADAM:
            self.held += sum(program.tensors[output].size_bytes for output in op.outputs)
            self.held_max = max(self.held_max, self.held)
        self.waiting[op.index] = _START[op_class](self.place, op, [self.tensors[tensor] for tensor in op.inputs])
        if op_class not in _EXCHANGED:
            self._settle([op.index])

    def finish(self) -> StepResult:
        """Return what the step leaves behind, with the losses of all processes added up."""
        program, spec = self.place.local.program, self.place.whole.program.spec
        self._settle(list(self.waiting))
        loss = self.tensors[program.loss].astype(np.int64).sum().reshape(1, 1)
        total = self.place.exchange.start_sum(loss)()
        after = tuple(self.tensors[tensor] for tensor in program.state_outputs)
        return StepResult(after, int(total[0, 0]), count_rows(spec), self.held_max)

    def _settle(self, indexes: Sequence[int]) -> None:
        """Store the outputs of those of the ops that still wait, and let go of what they were the last to read."""
        program = self.place.local.program
        for index in indexes:
            if index not in self.waiting:
                continue
            op, outputs = program.ops[index], self.waiting.pop(index)()
            self.tensors.update(zip(op.outputs, outputs, strict=True))
            if self.watch is not None:
                self.watch(op, outputs)
            for tensor in get_last_uses(program)[index]:
                del self.tensors[tensor]
                self.held -= 0 if tensor in program.state_inputs else program.tensors[tensor].size_bytes


@dataclass(frozen=True, slots=True)
class _Place:
    """Where ops are computed: in one step, the whole batch, and the shard's own part of it."""

    step: int
    whole: Runner
    local: Runner
    """Its program is that of a batch as large as the shard, with the same ops and tensor ids."""
    shard: Shard
    exchange: Exchange

    def get_rounding(self, op: Op) -> Rounding | None:
        """Return the rounding of a quantise op whose output starts where the shard does."""
        if not op.is_stochastic:
            return None
        tensor, placements = self.local.program.tensors[op.outputs[0]], get_placements(self.local.program)
        # A sequence has as many rows (columns) of the output as any other.
        is_rows = placements[tensor.id] is Placement.ROWS
        extent = tensor.rows if is_rows else tensor.columns
        offset = self.shard.first * (extent // self.shard.count)
        key = compute_key(self.whole.segment_seed, self.step, op.index)
        return Rounding(key, row=offset) if is_rows else Rounding(key, column=offset)


def _to_host(array: IntArray) -> I32:
    """Return int32 in NumPy, also where the backend keeps its results on a device."""
    return array.astype(np.int32, copy=False) if isinstance(array, np.ndarray) else array.astype(np.int32)


def _start_draw(place: _Place, op: Op, inputs: Inputs) -> Finish:
    outputs = run_op(place.whole, place.step, op, inputs)
    rows = place.local.program.tensors[op.outputs[0]].rows
    first = place.shard.first * (rows // place.shard.count)
    return partial(tuple, [_to_host(output)[first : first + rows] for output in outputs])


def _start_whole(place: _Place, op: Op, inputs: Inputs) -> Finish:
    return partial(run_op, place.whole, place.step, op, inputs)


def _start_local(place: _Place, op: Op, inputs: Inputs) -> Finish:
    own = place.local.program.ops[op.index]
    assert own.shift == op.shift
    rounding, backend = place.get_rounding(op), place.local.backend
    if rounding is None:
        return partial(run_op, place.local, place.step, own, inputs)
    if op.kind is OpKind.QUANTISE_ROWS:
        return partial(backend.quantise_rows, as_i32(inputs[0]), rounding)
    assert op.kind is OpKind.QUANTISE_TRANSPOSED
    return partial(backend.quantise_transposed, as_i32(inputs[0]), rounding, own.groups)


def _start_exponents(place: _Place, op: Op, inputs: Inputs) -> Finish:
    backend, x = place.local.backend, as_i32(inputs[0])
    tallest = place.exchange.start_max(backend.compute_column_exponents(x))
    rounding = place.get_rounding(op)
    return lambda: backend.quantise_transposed(x, rounding, 1, as_i32(tallest()))


def _start_product(place: _Place, op: Op, inputs: Inputs) -> Finish:
    a, a_exponents, b, b_exponents = inputs
    backend = place.local.backend
    # The sum over all shards is the whole product, whose depth keeps it inside int32.
    total = place.exchange.start_sum(backend.multiply(as_i8(a), as_i8(b)))
    exponents = as_i32(a_exponents), as_i32(b_exponents)
    return lambda: (backend.rescale(as_i32(total()), *exponents, op.shift),)


def _start_sums(place: _Place, op: Op, inputs: Inputs) -> Finish:
    """Add up the high and the low halves of the columns, so that no sum can saturate before the last."""
    x, exact = _to_host(inputs[0]), replace(op, shift=0)
    # At most 2**14 rows a batch: sums of [-2**15, 2**15) stay within 2**29, those of [0, 2**16) below 2**30.
    assert count_rows(place.whole.program.spec) <= TOKENS_MAX
    halves = x >> _HALF_BITS, x & (1 << _HALF_BITS) - 1
    sums = [_to_host(run_op(place.local, place.step, exact, [half, *inputs[1:]])[0]) for half in halves]
    total = place.exchange.start_sum(np.stack(sums))

    def finish() -> Outputs:
        high, low = total().astype(np.int64)
        return (saturate(round_shift((high << _HALF_BITS) + low, op.shift)),)

    return finish


_EXCHANGED = (OpClass.EXPONENTS, OpClass.PRODUCT, OpClass.SUMS)

_START: dict[OpClass, Callable[[_Place, Op, Inputs], Finish]] = {
    OpClass.DRAW: _start_draw,
    OpClass.WHOLE: _start_whole,
    OpClass.LOCAL: _start_local,
    OpClass.EXPONENTS: _start_exponents,
    OpClass.PRODUCT: _start_product,
    OpClass.SUMS: _start_sums,
}
