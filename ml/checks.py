"""Local checks: one small test for every kind of op, of the elements around one drawn place.

A check reads what it needs through a reader and says what is claimed there: one or a few claims, of rows, never of
matrices. The reference decides a claim by itself; `ml.batching` lets kernels decide many. What a reader gives may come
from a liar, so ranges come before arithmetic. A sampled check is a filter; what makes a lie lose is re-execution.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from chain.errors import InvalidProof
from ml.arithmetic import I8, I32, I64, INT32_MAX, MANTISSA_BITS, PROBABILITY_BITS
from ml.backends import Heads
from ml.backends import batched_checks as batches
from ml.backends.batched_checks import EXPONENT_MAX, VARIANCE_MAX, Batch
from ml.backends.reference import ReferenceBackend
from ml.backends.reference_checks import compare
from ml.dataset import Dataset, Examples, Text
from ml.openings import Place, Reader
from ml.prf import compute_key, draw_below
from ml.program import Op, OpKind, Program, TensorId
from ml.rotary import get_rotation_table
from ml.segment import Runner, as_i8, as_i32, compute_rates, get_heads
from ml.spec import Decoder
from ml.tensor_tree import IntArray

BLOCK_COLUMNS = 128
"""Columns that an elementwise check covers: one piece of the widest dtype."""

_BACKEND = ReferenceBackend()


@dataclass(frozen=True, slots=True)
class CheckContext:
    """What every check may rely on without an opening: the program, the task's data and the segment's seed."""

    program: Program
    dataset: Dataset
    segment_seed: bytes
    task_round: int = 0
    """Which of its task's rounds the segment is of, from 0."""


def make_check_context(runner: Runner) -> CheckContext:
    """Return what checks of a runner's segment rely on."""
    return CheckContext(runner.program, runner.dataset, runner.segment_seed, runner.task_round)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a check has read, ready to be decided: a batch of one place."""

    rule: str
    place: Place
    batch: Batch


Claims = Iterator[Claim]


def check_place(context: CheckContext, place: Place, reader: Reader) -> None:
    """Check the op at `place`, and for a matmul the producers of both rows that it read; raises InvalidProof."""
    for claim in read_claims(context, place, reader):
        validate_claim(claim)


def read_claims(context: CheckContext, place: Place, reader: Reader) -> Claims:
    """Read and yield the claims of `place` one after another; raises InvalidProof when what is read is out of range."""
    op = context.program.get_op(place.op)
    yield from CHECKS[op.kind](context, op, place, reader)


def validate_claim(claim: Claim) -> None:
    """Decide one claim by the reference; raises InvalidProof."""
    sides = compare(claim.batch, 0)
    if sides is None:
        raise InvalidProof(f"op-{claim.rule}", f"{claim.place}: found a value out of its range, expected none")
    left, right = sides
    if not np.array_equal(left, right):
        column = int(np.flatnonzero(left != right)[0])
        message = f"{claim.place}: found {left[column]}, expected {right[column]} at element {column}"
        raise InvalidProof(f"op-{claim.rule}", message)


def _claim_equal(rule: str, place: Place, found: tuple[IntArray, ...], expected: tuple[IntArray, ...]) -> Claim:
    left, right = (np.concatenate([part.astype(np.int32) for part in side]) for side in (found, expected))
    return Claim(rule, place, batches.EqualBatch(left, right, _count(left)))


def _count(row: IntArray) -> I64:
    return np.array([0, len(row)])


def _check_batch(context: CheckContext, op: Op, place: Place, reader: Reader) -> Claims:
    data, key = context.dataset, compute_key(context.segment_seed, place.step, op.index)
    assert isinstance(data, Examples)
    x, labels = (_read_row(context, reader, output, place.row) for output in op.outputs)
    drawn = draw_below(key, place.row, len(data.x))
    yield _claim_equal("batch", place, (x, labels), (data.x[drawn], data.labels[drawn]))


def _check_windows(context: CheckContext, op: Op, place: Place, reader: Reader) -> Claims:
    found = tuple(_read_row(context, reader, output, place.row) for output in op.outputs)
    stream, at = _find_token(context, place.step, place.row)
    pair = stream[at : at + 2].astype(np.int32)
    yield _claim_equal("windows", place, found, (pair[:1], pair[1:]))


def _find_token(context: CheckContext, step: int, row: int) -> tuple[npt.NDArray[np.uint8], int]:
    """Return the training stream and where the token of a row of the batch stands in it."""
    data, model = context.dataset, _get_decoder(context)
    assert isinstance(data, Text)
    sequence, position = divmod(row, model.context)
    key = compute_key(context.segment_seed, step, 0)
    return data.stream, draw_below(key, sequence, len(data.stream) - model.context) + position


def _claim_quantised(rule: str, context: CheckContext, op: Op, place: Place, parts: tuple[IntArray, ...]) -> Claim:
    """Claim mantissas and exponent of a row; a single mantissa stands at the place's column."""
    x, mantissas, exponent = parts
    bits = context.program.spec.delta_bits - 1 if op.kind is OpKind.DELTA else MANTISSA_BITS
    column = place.column if op.kind is OpKind.QUANTISE_TRANSPOSED else 0
    key = compute_key(context.segment_seed, place.step, op.index) if op.is_stochastic else 0
    padded = np.zeros(len(x), np.int8)
    padded[: len(mantissas)] = mantissas
    settings = np.array([[bits, len(mantissas), int(exponent[0]), op.is_stochastic, place.row, column]], np.int64)
    batch = batches.QuantiseBatch(x.astype(np.int64), padded, _count(x), settings, np.array([key], np.uint64))
    return Claim(rule, place, batch)


def _check_quantise_rows(context: CheckContext, op: Op, place: Place, reader: Reader) -> Claims:
    x = _read_row(context, reader, op.inputs[0], place.row)
    mantissas, exponent = (_read_row(context, reader, output, place.row) for output in op.outputs)
    yield _claim_quantised("quantise-rows", context, op, place, (x, mantissas, exponent))


def _check_quantise_transposed(context: CheckContext, op: Op, place: Place, reader: Reader) -> Claims:
    """Check one element and that its exponent is tight: the prover points at the column's tallest element.

    A row of the drawn element and the tallest has the exponent of the whole row, unless a taller one was hidden.
    """
    source, output = context.program.tensors[op.inputs[0]], context.program.tensors[op.outputs[0]]
    group, column = divmod(place.row, source.columns)
    first = group * output.columns
    x = reader.read(source.id, first + place.column, column, column + 1)
    row = reader.find_tallest(source.id, column, (first, first + output.columns))
    tallest = reader.read(source.id, row, column, column + 1)
    mantissa = reader.read(output.id, place.row, place.column, place.column + 1)
    exponent = reader.read(op.outputs[1], place.row, 0, 1)
    pair = np.append(as_i32(x), as_i32(tallest))
    yield _claim_quantised("quantise-transposed", context, op, place, (pair, mantissa, exponent))


def _check_linear(context: CheckContext, op: Op, place: Place, reader: Reader) -> Claims:
    columns = context.program.tensors[op.outputs[0]].columns
    rows = context.program.tensors[op.outputs[0]].rows // op.groups
    b_row = place.row // rows * columns + place.column
    a, a_exponent, b, b_exponent = (
        _read_row(context, reader, tensor, row)
        for tensor, row in zip(op.inputs, (place.row, place.row, b_row, b_row), strict=True)
    )
    found = reader.read(op.outputs[0], place.row, place.column, place.column + 1)
    _validate_range("exponent-range", place, (a_exponent, b_exponent), (0, EXPONENT_MAX))
    is_hidden = op.is_causal and place.column > place.row % rows
    settings = np.array([[int(a_exponent[0]), int(b_exponent[0]), op.shift, is_hidden]], np.int64)
    yield Claim("linear", place, batches.LinearBatch(as_i8(a), as_i8(b), as_i32(found), _count(a), settings))
    for operand, row in ((op.inputs[0], place.row), (op.inputs[2], b_row)):
        producer = context.program.get_producer(operand)
        assert producer is not None
        yield from read_claims(context, replace(place, op=producer.index, row=row, column=place.depth), reader)


def _check_blocks(context: CheckContext, op: Op, place: Place, reader: Reader) -> Claims:
    """Check an op whose output's elements depend on the same elements of its inputs alone."""
    inputs = [as_i32(_read_block(context, reader, tensor, place)) for tensor in op.inputs]
    found = as_i32(_read_block(context, reader, op.outputs[0], place))
    second = inputs[1] if len(inputs) > 1 else np.zeros_like(inputs[0])
    rules = np.array([_ELEMENTWISE[op.kind]])
    yield Claim(_get_rule(op), place, batches.ElementwiseBatch(inputs[0], second, found, _count(found), rules))


_ELEMENTWISE: dict[OpKind, int] = {
    OpKind.RELU: batches.RELU,
    OpKind.RELU_BACKWARD: batches.RELU_BACKWARD,
    OpKind.RELU_SQUARED: batches.RELU_SQUARED,
    OpKind.RELU_SQUARED_BACKWARD: batches.RELU_SQUARED_BACKWARD,
    OpKind.ADD: batches.ADD,
}


def _check_rows(context: CheckContext, op: Op, place: Place, reader: Reader) -> Claims:
    """Check a normalisation: a row of its output depends on the same row of its inputs."""
    inputs = [as_i32(_read_row(context, reader, tensor, place.row)) for tensor in op.inputs]
    found = as_i32(_read_row(context, reader, op.outputs[0], place.row))
    is_backward = op.kind is OpKind.NORMALISE_BACKWARD
    gradient = inputs[0] if is_backward else np.zeros_like(found)
    flags = np.array([int(is_backward)])
    yield Claim(_get_rule(op), place, batches.NormaliseBatch(inputs[-1], gradient, found, _count(found), flags))


def _check_softmax(context: CheckContext, op: Op, place: Place, reader: Reader) -> Claims:
    """Check a row of attention's softmax, or of its gradient, at the position that it has in its sequence."""
    model = _get_decoder(context)
    inputs = [as_i32(_read_row(context, reader, tensor, place.row)) for tensor in op.inputs]
    found = as_i32(_read_row(context, reader, op.outputs[0], place.row))
    if op.kind is OpKind.CAUSAL_SOFTMAX:
        settings = np.array([[place.row % model.context, model.head_width]])
        yield Claim(_get_rule(op), place, batches.SoftmaxBatch(inputs[0], found, _count(found), settings))
        return
    _validate_range("probability-range", place, (inputs[0],), (0, 1 << PROBABILITY_BITS))
    total = int(inputs[0].astype(np.int64).sum())
    if total > 1 << PROBABILITY_BITS:
        raise InvalidProof("probability-range", f"{place}: found a sum of {total}, expected at most 1 in F24")
    widths = np.array([model.head_width])
    yield Claim(_get_rule(op), place, batches.SoftmaxBackwardBatch(inputs[0], inputs[1], found, _count(found), widths))


def _check_rotate(context: CheckContext, op: Op, place: Place, reader: Reader) -> Claims:
    model = _get_decoder(context)
    x, found = (as_i32(_read_row(context, reader, tensor, place.row)) for tensor in (*op.inputs, *op.outputs))
    position = place.row % model.context
    turns = np.stack([part[position] for part in get_rotation_table(model.context, model.head_width)])
    flags = np.array([int(op.is_inverse)])
    yield Claim(_get_rule(op), place, batches.RotateBatch(x, turns, found, _count(found), flags))


def _check_split(context: CheckContext, op: Op, place: Place, reader: Reader) -> Claims:
    heads = get_heads(_get_decoder(context))
    row, column = _locate_in_rows(heads, place.row)
    start = op.part * heads.heads * heads.width + column
    expected = reader.read(op.inputs[0], row, start, start + heads.width)
    found = _read_row(context, reader, op.outputs[0], place.row)
    yield _claim_equal(_get_rule(op), place, (found,), (expected,))


def _check_merge(context: CheckContext, op: Op, place: Place, reader: Reader) -> Claims:
    """Check the drawn head of the drawn row: the columns that one row of one input fills."""
    heads = get_heads(_get_decoder(context))
    width = heads.heads * heads.width
    part, inside = divmod(place.column, width)
    head = inside // heads.width
    sequence, position = divmod(place.row, heads.context)
    source = (sequence * heads.heads + head) * heads.context + position
    start = part * width + head * heads.width
    found = reader.read(op.outputs[0], place.row, start, start + heads.width)
    yield _claim_equal(_get_rule(op), place, (found,), (_read_row(context, reader, op.inputs[part], source),))


def _locate_in_rows(heads: Heads, row: int) -> tuple[int, int]:
    """Return the row and the first column, within a part, of a row by (sequence, head, position)."""
    group, position = divmod(row, heads.context)
    sequence, head = divmod(group, heads.heads)
    return sequence * heads.context + position, head * heads.width


def _check_transpose(_context: CheckContext, op: Op, place: Place, reader: Reader) -> Claims:
    found = reader.read(op.outputs[0], place.row, place.column, place.column + 1)
    expected = reader.read(op.inputs[0], place.column, place.row, place.row + 1)
    yield _claim_equal(_get_rule(op), place, (found,), (expected,))


def _check_embed(context: CheckContext, op: Op, place: Place, reader: Reader) -> Claims:
    token = as_i32(_read_row(context, reader, op.inputs[0], place.row))
    tables = [context.program.tensors[tensor] for tensor in op.inputs[1:]]
    _validate_range("token-range", place, (token,), (0, tables[0].rows - 1))
    rows = (int(token[0]), place.row % _get_decoder(context).context)
    parts = [
        as_i32(_read_block(context, reader, table.id, replace(place, row=row)))
        for table, row in zip(tables, rows, strict=False)
    ]
    found = as_i32(_read_block(context, reader, op.outputs[0], place))
    both = np.stack([parts[0], parts[1] if len(parts) > 1 else np.zeros_like(parts[0])])
    yield Claim(_get_rule(op), place, batches.EmbedBatch(both, found, _count(found)))


def _check_embedding_gradient(context: CheckContext, op: Op, place: Place, reader: Reader) -> Claims:
    """Check one element: the masked sum of a row of the transposed gradient, over tokens that the data set tells."""
    gradient = as_i32(_read_row(context, reader, op.inputs[0], place.column))
    hits = (_draw_tokens(context, place.step)[:, 0] == place.row).astype(np.int8)
    yield _claim_sum(op, place, (gradient, hits), reader)


def _claim_sum(op: Op, place: Place, row: tuple[I32, I8], reader: Reader) -> Claim:
    found = reader.read(op.outputs[0], place.row, place.column, place.column + 1)
    settings = np.array([[op.shift, int(found[0])]])
    return Claim(_get_rule(op), place, batches.SumBatch(*row, _count(row[0]), settings))


def _draw_tokens(context: CheckContext, step: int) -> I32:
    """Return all tokens of a step's batch, (rows, 1), as seed and data set tell them."""
    data, spec, key = context.dataset, context.program.spec, compute_key(context.segment_seed, step, 0)
    assert isinstance(data, Text)
    return _BACKEND.draw_windows(data.stream, key, spec.batch, _get_decoder(context).context)[0]


def _check_position_gradient(context: CheckContext, op: Op, place: Place, reader: Reader) -> Claims:
    gradient = as_i32(_read_row(context, reader, op.inputs[0], place.column))
    positions = np.arange(len(gradient)) % _get_decoder(context).context
    yield _claim_sum(op, place, (gradient, (positions == place.row).astype(np.int8)), reader)


def _check_loss(context: CheckContext, op: Op, place: Place, reader: Reader) -> Claims:
    z, label = (_read_row(context, reader, tensor, place.row) for tensor in op.inputs)
    gradient, loss = (_read_row(context, reader, output, place.row) for output in op.outputs)
    _validate_range("label-range", place, (label,), (0, len(z) - 1))
    settings = np.array([[int(label[0]), int(loss[0])]])
    yield Claim("loss", place, batches.LossBatch(as_i32(z), as_i32(gradient), _count(z), settings))


def _check_adam(context: CheckContext, op: Op, place: Place, reader: Reader) -> Claims:
    w, m, v, gradient = (_read_block(context, reader, tensor, place) for tensor in op.inputs)
    found = tuple(_read_block(context, reader, output, place) for output in op.outputs)
    _validate_range("int-min", place, (w, m, gradient), (-INT32_MAX, INT32_MAX))
    _validate_range("moment-range", place, (v,), (0, VARIANCE_MAX - 1))
    before, after = (np.stack([part.astype(np.int64) for part in side]) for side in ((w, m, v, gradient), found))
    settings = np.array([[place.step, *compute_rates(context.program.spec, context.task_round, place.step)]])
    yield Claim("adam", place, batches.AdamBatch(before, after, _count(w), settings))


def _check_delta(context: CheckContext, op: Op, place: Place, reader: Reader) -> Claims:
    after, before = (_read_row(context, reader, tensor, place.row) for tensor in op.inputs)
    mantissas, exponent = (_read_row(context, reader, output, place.row) for output in op.outputs)
    _validate_range("int-min", place, (after, before), (-INT32_MAX, INT32_MAX))
    difference = after.astype(np.int64) - before
    yield _claim_quantised("delta", context, op, place, (difference, mantissas, exponent))


CHECKS: dict[OpKind, Callable[[CheckContext, Op, Place, Reader], Claims]] = {
    OpKind.BATCH: _check_batch,
    OpKind.WINDOWS: _check_windows,
    OpKind.QUANTISE_ROWS: _check_quantise_rows,
    OpKind.QUANTISE_TRANSPOSED: _check_quantise_transposed,
    OpKind.LINEAR: _check_linear,
    OpKind.SOFTMAX_XENT_GRADIENT: _check_loss,
    OpKind.ADAM: _check_adam,
    OpKind.DELTA: _check_delta,
    OpKind.EMBED: _check_embed,
    OpKind.TRANSPOSE: _check_transpose,
    OpKind.EMBEDDING_GRADIENT: _check_embedding_gradient,
    OpKind.POSITION_GRADIENT: _check_position_gradient,
    OpKind.NORMALISE: _check_rows,
    OpKind.NORMALISE_BACKWARD: _check_rows,
    OpKind.SPLIT_HEADS: _check_split,
    OpKind.MERGE_HEADS: _check_merge,
    OpKind.ROTATE: _check_rotate,
    OpKind.CAUSAL_SOFTMAX: _check_softmax,
    OpKind.CAUSAL_SOFTMAX_BACKWARD: _check_softmax,
    **dict.fromkeys(_ELEMENTWISE, _check_blocks),
}
"""The check of every kind of op; a kind without one cannot be proven."""


def _get_rule(op: Op) -> str:
    return op.kind.name.lower().replace("_", "-")


def _get_decoder(context: CheckContext) -> Decoder:
    model = context.program.spec.model
    assert isinstance(model, Decoder)
    return model


def _read_row(context: CheckContext, reader: Reader, tensor: TensorId, row: int) -> IntArray:
    return reader.read(tensor, row, 0, context.program.tensors[tensor].columns)


def _read_block(context: CheckContext, reader: Reader, tensor: TensorId, place: Place) -> IntArray:
    start = place.column - place.column % BLOCK_COLUMNS
    stop = min(start + BLOCK_COLUMNS, context.program.tensors[tensor].columns)
    return reader.read(tensor, place.row, start, stop)


def _validate_range(rule: str, place: Place, arrays: tuple[IntArray, ...], bounds: tuple[int, int]) -> None:
    lowest = min(int(array.min()) for array in arrays)
    highest = max(int(array.max()) for array in arrays)
    if lowest < bounds[0] or highest > bounds[1]:
        raise InvalidProof(rule, f"{place}: found values in [{lowest}, {highest}], expected them in {bounds}")
