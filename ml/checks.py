"""Local checks: one small test for every kind of op, of the elements around one drawn place.

A check reads what it needs through a reader, computes that part of the op again with the reference backend, and
compares. It costs rows, never matrices. What a reader gives may come from a liar, so ranges come before arithmetic. A
sampled check is a filter; what makes a lie lose is re-execution. Source: `ml.backends.reference` defines every op.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from chain.errors import InvalidProof
from ml.arithmetic import I32, INT32_MAX, PROBABILITY_BITS
from ml.backends import Heads, Rounding
from ml.backends.reference import ReferenceBackend, compute_causal_softmax
from ml.dataset import Dataset, Examples, Text
from ml.openings import Place, Reader
from ml.prf import compute_key, draw_below
from ml.program import Op, OpKind, Program, TensorId
from ml.rotary import get_rotation_table
from ml.segment import as_i8, as_i32, as_i64, compute_rates, get_heads
from ml.spec import Decoder
from ml.tensor_tree import IntArray

EXPONENT_MAX = 25
BLOCK_COLUMNS = 128
"""Columns that an elementwise check covers: one piece of the widest dtype."""
VARIANCE_MAX = 1 << 62
"""Second moments stay below 2**54 when every step is honest; the optimizer's arithmetic is exact below this."""

_BACKEND = ReferenceBackend()


@dataclass(frozen=True, slots=True)
class CheckContext:
    """What every check may rely on without an opening: the program, the task's data and the segment's seed."""

    program: Program
    dataset: Dataset
    segment_seed: bytes


def check_place(context: CheckContext, place: Place, reader: Reader) -> None:
    """Check the op at `place`, and for a matmul the producers of both rows that it read; raises InvalidProof."""
    op = context.program.get_op(place.op)
    CHECKS[op.kind](context, op, place, reader)


def _check_batch(context: CheckContext, op: Op, place: Place, reader: Reader) -> None:
    data, key = context.dataset, compute_key(context.segment_seed, place.step, op.index)
    assert isinstance(data, Examples)
    x, labels = (_read_row(context, reader, output, place.row) for output in op.outputs)
    drawn = draw_below(key, place.row, len(data.x))
    _compare("batch", place, (x, labels), (data.x[drawn], data.labels[drawn]))


def _check_windows(context: CheckContext, op: Op, place: Place, reader: Reader) -> None:
    found = tuple(_read_row(context, reader, output, place.row) for output in op.outputs)
    stream, at = _find_token(context, place.step, place.row)
    _compare("windows", place, found, (stream[at : at + 1].astype(np.int32), stream[at + 1 : at + 2].astype(np.int32)))


def _find_token(context: CheckContext, step: int, row: int) -> tuple[npt.NDArray[np.uint8], int]:
    """Return the training stream and where the token of a row of the batch stands in it."""
    data, model = context.dataset, _get_decoder(context)
    assert isinstance(data, Text)
    sequence, position = divmod(row, model.context)
    key = compute_key(context.segment_seed, step, 0)
    return data.stream, draw_below(key, sequence, len(data.stream) - model.context) + position


def _check_quantise_rows(context: CheckContext, op: Op, place: Place, reader: Reader) -> None:
    x = _read_row(context, reader, op.inputs[0], place.row)
    found = tuple(_read_row(context, reader, output, place.row) for output in op.outputs)
    mantissas, exponents = _BACKEND.quantise_rows(as_i32(x)[None, :], _get_rounding(context, op, place, 0))
    _compare("quantise-rows", place, found, (mantissas[0], exponents[0]))


def _check_quantise_transposed(context: CheckContext, op: Op, place: Place, reader: Reader) -> None:
    """Check one element and that its exponent is tight: the prover points at the column's tallest element.

    A row of the drawn element and the tallest has the exponent of the whole row, unless a taller one was hidden.
    """
    source, output = context.program.tensors[op.inputs[0]], context.program.tensors[op.outputs[0]]
    group, column = divmod(place.row, source.columns)
    first = group * output.columns
    x = as_i32(reader.read(source.id, first + place.column, column, column + 1))
    row = reader.find_tallest(source.id, column, (first, first + output.columns))
    tallest = as_i32(reader.read(source.id, row, column, column + 1))
    mantissa = reader.read(output.id, place.row, place.column, place.column + 1)
    exponent = reader.read(op.outputs[1], place.row, 0, 1)
    pair = np.array([[x[0], tallest[0]]], np.int32)
    mantissas, exponents = _BACKEND.quantise_rows(pair, _get_rounding(context, op, place, place.column))
    _compare("quantise-transposed", place, (mantissa, exponent), (mantissas[0, :1], exponents[0]))


def _check_linear(context: CheckContext, op: Op, place: Place, reader: Reader) -> None:
    columns = context.program.tensors[op.outputs[0]].columns
    rows = context.program.tensors[op.outputs[0]].rows // op.groups
    b_row = place.row // rows * columns + place.column
    a, a_exponent, b, b_exponent = (
        _read_row(context, reader, tensor, row)[None, :]
        for tensor, row in zip(op.inputs, (place.row, place.row, b_row, b_row), strict=True)
    )
    found = reader.read(op.outputs[0], place.row, place.column, place.column + 1)
    _validate_range("exponent-range", place, (a_exponent, b_exponent), (0, EXPONENT_MAX))
    product = _BACKEND.multiply(as_i8(a), as_i8(b))
    expected = _BACKEND.rescale(product, as_i32(a_exponent), as_i32(b_exponent), op.shift)
    if op.is_causal and place.column > place.row % rows:
        expected = np.zeros_like(expected)
    _compare("linear", place, (found,), (expected[0],))
    for operand, row in ((op.inputs[0], place.row), (op.inputs[2], b_row)):
        producer = context.program.get_producer(operand)
        assert producer is not None
        check_place(context, replace(place, op=producer.index, row=row, column=place.depth), reader)


def _check_blocks(context: CheckContext, op: Op, place: Place, reader: Reader) -> None:
    """Check an op whose output's elements depend on the same elements of its inputs alone."""
    inputs = [as_i32(_read_block(context, reader, tensor, place)) for tensor in op.inputs]
    found = _read_block(context, reader, op.outputs[0], place)
    _compare(_get_rule(op), place, (found,), (_ELEMENTWISE[op.kind](*inputs),))


_ELEMENTWISE: dict[OpKind, Callable[..., I32]] = {
    OpKind.RELU: _BACKEND.relu,
    OpKind.RELU_BACKWARD: _BACKEND.relu_backward,
    OpKind.RELU_SQUARED: _BACKEND.relu_squared,
    OpKind.RELU_SQUARED_BACKWARD: _BACKEND.relu_squared_backward,
    OpKind.ADD: _BACKEND.add,
}


def _check_rows(context: CheckContext, op: Op, place: Place, reader: Reader) -> None:
    """Check a normalisation: a row of its output depends on the same row of its inputs."""
    inputs = [as_i32(_read_row(context, reader, tensor, place.row))[None, :] for tensor in op.inputs]
    found = _read_row(context, reader, op.outputs[0], place.row)
    function = _BACKEND.normalise if op.kind is OpKind.NORMALISE else _BACKEND.normalise_backward
    compute: Callable[..., I32] = function
    _compare(_get_rule(op), place, (found,), (compute(*inputs)[0],))


def _check_softmax(context: CheckContext, op: Op, place: Place, reader: Reader) -> None:
    """Check a row of attention's softmax, or of its gradient, at the position that it has in its sequence."""
    model = _get_decoder(context)
    inputs = [as_i32(_read_row(context, reader, tensor, place.row)) for tensor in op.inputs]
    found = _read_row(context, reader, op.outputs[0], place.row)
    if op.kind is OpKind.CAUSAL_SOFTMAX:
        position = np.array([place.row % model.context])
        expected = compute_causal_softmax(inputs[0][None, :], position, model.head_width)[0]
    else:
        _validate_range("probability-range", place, (inputs[0],), (0, 1 << PROBABILITY_BITS))
        total = int(inputs[0].astype(np.int64).sum())
        if total > 1 << PROBABILITY_BITS:
            raise InvalidProof("probability-range", f"{place}: found a sum of {total}, expected at most 1 in F24")
        expected = _BACKEND.causal_softmax_backward(inputs[0][None, :], inputs[1][None, :], model.head_width)[0]
    _compare(_get_rule(op), place, (found,), (expected,))


def _check_rotate(context: CheckContext, op: Op, place: Place, reader: Reader) -> None:
    model = _get_decoder(context)
    x, found = (as_i32(_read_row(context, reader, tensor, place.row)) for tensor in (*op.inputs, *op.outputs))
    position = place.row % model.context
    cosines, sines = (part[position : position + 1] for part in get_rotation_table(model.context, model.head_width))
    _compare(_get_rule(op), place, (found,), (_BACKEND.rotate(x[None, :], (cosines, sines), op.is_inverse)[0],))


def _check_split(context: CheckContext, op: Op, place: Place, reader: Reader) -> None:
    heads = get_heads(_get_decoder(context))
    row, column = _locate_in_rows(heads, place.row)
    start = op.part * heads.heads * heads.width + column
    expected = reader.read(op.inputs[0], row, start, start + heads.width)
    _compare(_get_rule(op), place, (_read_row(context, reader, op.outputs[0], place.row),), (expected,))


def _check_merge(context: CheckContext, op: Op, place: Place, reader: Reader) -> None:
    """Check the drawn head of the drawn row: the columns that one row of one input fills."""
    heads = get_heads(_get_decoder(context))
    width = heads.heads * heads.width
    part, inside = divmod(place.column, width)
    head = inside // heads.width
    sequence, position = divmod(place.row, heads.context)
    source = (sequence * heads.heads + head) * heads.context + position
    start = part * width + head * heads.width
    found = reader.read(op.outputs[0], place.row, start, start + heads.width)
    _compare(_get_rule(op), place, (found,), (_read_row(context, reader, op.inputs[part], source),))


def _locate_in_rows(heads: Heads, row: int) -> tuple[int, int]:
    """Return the row and the first column, within a part, of a row by (sequence, head, position)."""
    group, position = divmod(row, heads.context)
    sequence, head = divmod(group, heads.heads)
    return sequence * heads.context + position, head * heads.width


def _check_transpose(_context: CheckContext, op: Op, place: Place, reader: Reader) -> None:
    found = reader.read(op.outputs[0], place.row, place.column, place.column + 1)
    expected = reader.read(op.inputs[0], place.column, place.row, place.row + 1)
    _compare(_get_rule(op), place, (found,), (expected,))


def _check_embed(context: CheckContext, op: Op, place: Place, reader: Reader) -> None:
    token = as_i32(_read_row(context, reader, op.inputs[0], place.row))
    tables = [context.program.tensors[tensor] for tensor in op.inputs[1:]]
    _validate_range("token-range", place, (token,), (0, tables[0].rows - 1))
    rows = (int(token[0]), place.row % _get_decoder(context).context)
    parts = tuple(
        as_i32(_read_block(context, reader, table.id, replace(place, row=row)))[None, :]
        for table, row in zip(tables, rows, strict=False)
    )
    found = _read_block(context, reader, op.outputs[0], place)
    _compare(_get_rule(op), place, (found,), (_BACKEND.embed(np.zeros((1, 1), np.int32), parts)[0],))


def _check_embedding_gradient(context: CheckContext, op: Op, place: Place, reader: Reader) -> None:
    """Check one element: the masked sum of a row of the transposed gradient, over tokens that the data set tells."""
    gradient = as_i32(_read_row(context, reader, op.inputs[0], place.column))[None, :]
    tokens = _draw_tokens(context, place.step)
    hits = (tokens != place.row).astype(np.int32)
    expected = _BACKEND.compute_embedding_gradient(gradient, hits, 2, op.shift)[0]
    found = reader.read(op.outputs[0], place.row, place.column, place.column + 1)
    _compare(_get_rule(op), place, (found,), (expected,))


def _draw_tokens(context: CheckContext, step: int) -> I32:
    """Return all tokens of a step's batch, (rows, 1), as seed and data set tell them."""
    data, spec, key = context.dataset, context.program.spec, compute_key(context.segment_seed, step, 0)
    assert isinstance(data, Text)
    return _BACKEND.draw_windows(data.stream, key, spec.batch, _get_decoder(context).context)[0]


def _check_position_gradient(context: CheckContext, op: Op, place: Place, reader: Reader) -> None:
    gradient = as_i32(_read_row(context, reader, op.inputs[0], place.column))[None, :]
    expected = _BACKEND.compute_position_gradient(gradient, _get_decoder(context).context, op.shift)[place.row]
    found = reader.read(op.outputs[0], place.row, place.column, place.column + 1)
    _compare(_get_rule(op), place, (found,), (expected,))


def _check_loss(context: CheckContext, op: Op, place: Place, reader: Reader) -> None:
    z, label = (_read_row(context, reader, tensor, place.row) for tensor in op.inputs)
    found = tuple(_read_row(context, reader, output, place.row) for output in op.outputs)
    _validate_range("label-range", place, (label,), (0, len(z) - 1))
    gradient, loss = _BACKEND.compute_loss_gradient(as_i32(z)[None, :], as_i32(label)[None, :])
    _compare("loss", place, found, (gradient[0], loss[0]))


def _check_adam(context: CheckContext, op: Op, place: Place, reader: Reader) -> None:
    w, m, v, gradient = (_read_block(context, reader, tensor, place) for tensor in op.inputs)
    found = tuple(_read_block(context, reader, output, place) for output in op.outputs)
    _validate_range("int-min", place, (w, m, gradient), (-INT32_MAX, INT32_MAX))
    _validate_range("moment-range", place, (v,), (0, VARIANCE_MAX - 1))
    rate, decay = compute_rates(context.program.spec, place.step)
    state = as_i32(w), as_i32(m), as_i64(v)
    _compare("adam", place, found, _BACKEND.update_adam(state, as_i32(gradient), place.step, rate, decay))


def _check_delta(context: CheckContext, op: Op, place: Place, reader: Reader) -> None:
    after, before = (_read_row(context, reader, tensor, place.row) for tensor in op.inputs)
    found = tuple(_read_row(context, reader, output, place.row) for output in op.outputs)
    _validate_range("int-min", place, (after, before), (-INT32_MAX, INT32_MAX))
    mantissas, exponents = _BACKEND.quantise_delta(as_i32(after)[None, :], as_i32(before)[None, :])
    _compare("delta", place, found, (mantissas[0], exponents[0]))


CHECKS: dict[OpKind, Callable[[CheckContext, Op, Place, Reader], None]] = {
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


def _get_rounding(context: CheckContext, op: Op, place: Place, column: int) -> Rounding | None:
    """Return the rounding of the op's output from row `place.row` and `column` on, None when it is to nearest."""
    if not op.is_stochastic:
        return None
    return Rounding(compute_key(context.segment_seed, place.step, op.index), place.row, column)


def _validate_range(rule: str, place: Place, arrays: tuple[IntArray, ...], bounds: tuple[int, int]) -> None:
    lowest = min(int(array.min()) for array in arrays)
    highest = max(int(array.max()) for array in arrays)
    if lowest < bounds[0] or highest > bounds[1]:
        raise InvalidProof(rule, f"{place}: found values in [{lowest}, {highest}], expected them in {bounds}")


def _compare(rule: str, place: Place, found: tuple[IntArray, ...], expected: tuple[IntArray | I32, ...]) -> None:
    for part, (left, right) in enumerate(zip(found, expected, strict=True)):
        if not np.array_equal(left, right):
            column = int(np.flatnonzero(left != right)[0])
            message = f"{place}: output {part}: found {left[column]}, expected {right[column]} at element {column}"
            raise InvalidProof(f"op-{rule}", message)
