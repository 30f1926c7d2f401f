"""Local checks: one small test for every kind of op, of the elements around one drawn place.

A check reads what it needs through a reader, computes that part of the op again with the reference backend, and
compares. It costs rows, never matrices. What a reader gives may come from a liar, so ranges come before arithmetic. A
sampled check is a filter; what makes a lie lose is re-execution. Source: `ml.backends.reference` defines every op.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from chain.errors import InvalidProof
from ml.arithmetic import I32, INT32_MAX
from ml.backends.reference import ReferenceBackend
from ml.dataset import Dataset
from ml.openings import Place, Reader
from ml.prf import GAMMA, U64_MASK, compute_key, draw_below
from ml.program import Op, OpKind, Program, TensorId
from ml.segment import as_i8, as_i32, as_i64, compute_rates
from ml.tensor_tree import IntArray

EXPONENT_MAX = 25
BLOCK_COLUMNS = 128
"""Columns that an elementwise check covers: one piece of the widest dtype."""
MOMENT_MAX = 1 << 40
"""First moments stay below 2**39, and second moments below 2**62, when every step is honest."""
VARIANCE_MAX = 1 << 62

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
    x, labels = (_read_row(context, reader, output, place.row) for output in op.outputs)
    drawn = draw_below(key, place.row, len(data.x))
    _compare("batch", place, (x, labels), (data.x[drawn], data.labels[drawn]))


def _check_quantise_rows(context: CheckContext, op: Op, place: Place, reader: Reader) -> None:
    x = _read_row(context, reader, op.inputs[0], place.row)
    found = tuple(_read_row(context, reader, output, place.row) for output in op.outputs)
    key = _get_rounding_key(context, op, place, place.row * len(x))
    mantissas, exponents = _BACKEND.quantise_rows(as_i32(x)[None, :], key)
    _compare("quantise-rows", place, found, (mantissas[0], exponents[0]))


def _check_quantise_transposed(context: CheckContext, op: Op, place: Place, reader: Reader) -> None:
    """Check one element and that its exponent is tight: the prover points at the column's tallest element.

    A row of the drawn element and the tallest has the exponent of the whole row, unless a taller one was hidden.
    """
    source, row, column = op.inputs[0], place.row, place.column
    x = as_i32(reader.read(source, column, row, row + 1))
    tallest = as_i32(reader.read(source, reader.find_tallest(source, row), row, row + 1))
    found = reader.read(op.outputs[0], row, column, column + 1), reader.read(op.outputs[1], row, 0, 1)
    key = _get_rounding_key(context, op, place, row * context.program.tensors[op.outputs[0]].columns + column)
    mantissas, exponents = _BACKEND.quantise_rows(np.array([[x[0], tallest[0]]], np.int32), key)
    _compare("quantise-transposed", place, found, (mantissas[0, :1], exponents[0]))


def _check_linear(context: CheckContext, op: Op, place: Place, reader: Reader) -> None:
    a, a_exponent, b, b_exponent = (
        _read_row(context, reader, tensor, row)[None, :]
        for tensor, row in zip(op.inputs, (place.row, place.row, place.column, place.column), strict=True)
    )
    found = reader.read(op.outputs[0], place.row, place.column, place.column + 1)
    _validate_range("exponent-range", place, (a_exponent, b_exponent), (0, EXPONENT_MAX))
    product = _BACKEND.multiply(as_i8(a), as_i8(b))
    expected = _BACKEND.rescale(product, as_i32(a_exponent), as_i32(b_exponent), op.shift)
    _compare("linear", place, (found,), (expected[0],))
    for operand, row in ((op.inputs[0], place.row), (op.inputs[2], place.column)):
        producer = context.program.get_producer(operand)
        assert producer is not None
        check_place(context, replace(place, op=producer.index, row=row, column=place.depth), reader)


def _check_relu(context: CheckContext, op: Op, place: Place, reader: Reader) -> None:
    z, found = (_read_block(context, reader, tensor, place) for tensor in (*op.inputs, *op.outputs))
    _compare("relu", place, (found,), (_BACKEND.relu(as_i32(z)),))


def _check_relu_backward(context: CheckContext, op: Op, place: Place, reader: Reader) -> None:
    gradient, z, found = (_read_block(context, reader, tensor, place) for tensor in (*op.inputs, *op.outputs))
    _compare("relu-backward", place, (found,), (_BACKEND.relu_backward(as_i32(gradient), as_i32(z)),))


def _check_loss(context: CheckContext, op: Op, place: Place, reader: Reader) -> None:
    z, label = (_read_row(context, reader, tensor, place.row) for tensor in op.inputs)
    found = tuple(_read_row(context, reader, output, place.row) for output in op.outputs)
    _validate_range("label-range", place, (label,), (0, len(z) - 1))
    gradient, loss = _BACKEND.compute_loss_gradient(as_i32(z)[None, :], as_i32(label)[None, :])
    _compare("loss", place, found, (gradient[0], loss[0]))


def _check_adam(context: CheckContext, op: Op, place: Place, reader: Reader) -> None:
    w, m, v, gradient = (_read_block(context, reader, tensor, place) for tensor in op.inputs)
    found = tuple(_read_block(context, reader, output, place) for output in op.outputs)
    _validate_range("int-min", place, (w, gradient), (-INT32_MAX, INT32_MAX))
    _validate_range("moment-range", place, (m,), (-MOMENT_MAX, MOMENT_MAX))
    _validate_range("moment-range", place, (v,), (0, VARIANCE_MAX - 1))
    rate, decay = compute_rates(context.program.spec, place.step)
    state = as_i32(w), as_i64(m), as_i64(v)
    _compare("adam", place, found, _BACKEND.update_adam(state, as_i32(gradient), place.step, rate, decay))


def _check_delta(context: CheckContext, op: Op, place: Place, reader: Reader) -> None:
    after, before = (_read_row(context, reader, tensor, place.row) for tensor in op.inputs)
    found = tuple(_read_row(context, reader, output, place.row) for output in op.outputs)
    mantissas, exponents = _BACKEND.quantise_delta(as_i32(after)[None, :], as_i32(before)[None, :])
    _compare("delta", place, found, (mantissas[0], exponents[0]))


CHECKS: dict[OpKind, Callable[[CheckContext, Op, Place, Reader], None]] = {
    OpKind.BATCH: _check_batch,
    OpKind.QUANTISE_ROWS: _check_quantise_rows,
    OpKind.QUANTISE_TRANSPOSED: _check_quantise_transposed,
    OpKind.LINEAR: _check_linear,
    OpKind.RELU: _check_relu,
    OpKind.SOFTMAX_XENT_GRADIENT: _check_loss,
    OpKind.RELU_BACKWARD: _check_relu_backward,
    OpKind.ADAM: _check_adam,
    OpKind.DELTA: _check_delta,
}
"""The check of every kind of op; a kind without one cannot be proven."""


def _read_row(context: CheckContext, reader: Reader, tensor: TensorId, row: int) -> IntArray:
    return reader.read(tensor, row, 0, context.program.tensors[tensor].columns)


def _read_block(context: CheckContext, reader: Reader, tensor: TensorId, place: Place) -> IntArray:
    start = place.column - place.column % BLOCK_COLUMNS
    stop = min(start + BLOCK_COLUMNS, context.program.tensors[tensor].columns)
    return reader.read(tensor, place.row, start, stop)


def _get_rounding_key(context: CheckContext, op: Op, place: Place, element: int) -> int | None:
    """Return a key whose element 0 is `element` of the op's key, or None when the op rounds to nearest."""
    if not op.stochastic:
        return None
    return (compute_key(context.segment_seed, place.step, op.index) + element * GAMMA) & U64_MASK


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
