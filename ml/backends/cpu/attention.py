"""Compiled attention of whole heads: what the program says op by op, done one (sequence, head) at a time.

Scores and probabilities of a head stay in cache and are never written out; the backward pass makes them again from
queries, keys and values. Every step is the kernel of the op that it stands for, on one head's part, so the bytes are
those of the ops. It knows no tensor's name; `ml.fusion` says which ops it replaces.
"""

import numpy as np

from ml.arithmetic import I32, I64
from ml.backends import Quantised
from ml.backends.cpu.kernel import kernel
from ml.backends.cpu.layout import rotate
from ml.backends.cpu.matmul import multiply_groups
from ml.backends.cpu.quantise import STRIPE, quantise_rows, quantise_transposed
from ml.backends.cpu.softmax import causal_softmax, causal_softmax_backward
from ml.fusion import Shifts

Shape = tuple[int, int, int]
"""Context, heads, width of a head."""
Table = tuple[I32, I32]
Scales = tuple[int, int]
"""What the softmax multiplies scores and their gradients by."""


@kernel
def _read_head(x: I32, place: tuple[int, int], shape: Shape, head_i32: I32) -> None:
    """Copy the columns of one part and group of x (rows, parts x heads x width)."""
    part, group = place
    context, heads, width = shape
    top, left = group // heads * context, (part * heads + group % heads) * width
    for t in range(context):
        row = x[top + t, left : left + width]
        for j in range(width):
            head_i32[t, j] = row[j]


@kernel
def _write_head(head_i32: I32, place: tuple[int, int], shape: Shape, x: I32) -> None:
    """Copy a head to the columns of one part and group of x (rows, parts x heads x width)."""
    part, group = place
    context, heads, width = shape
    top, left = group // heads * context, (part * heads + group % heads) * width
    for t in range(context):
        row = x[top + t, left : left + width]
        for j in range(width):
            row[j] = head_i32[t, j]


@kernel
def _read_turned(x: I32, place: tuple[int, int], shape: Shape, table: Table, spare: I32, head_i32: I32) -> None:
    """Read a head and rotate it, unless the table is empty."""
    if table[0].size:
        _read_head(x, place, shape, spare)
        rotate(spare, table, False, head_i32, 0, shape[0])
    else:
        _read_head(x, place, shape, head_i32)


@kernel
def _make_views(rows: int, columns: int) -> Quantised:
    return np.empty((rows, columns), np.int8), np.empty((rows, 1), np.int32)


@kernel
def _view_rows(x: I32, key: np.uint64, is_stochastic: bool, group: int, view: Quantised) -> None:
    quantise_rows(x, (key, group * x.shape[0], 0), is_stochastic, view, 0, x.shape[0])


@kernel
def _view_columns(x: I32, key: np.uint64, is_stochastic: bool, group: int, view: Quantised) -> None:
    columns = x.shape[1]
    stripes = (columns + STRIPE - 1) // STRIPE
    quantise_transposed(x, 1, (key, group * columns, 0), (is_stochastic, False), view, (0, stripes))


@kernel
def _multiply(a: Quantised, b: Quantised, shift: int, is_causal: bool, result: I32) -> None:
    multiply_groups((a[0], a[1], b[0], b[1]), 1, (shift, is_causal), result, 0, 1)


@kernel
def attend(
    qkv: I32, shape: Shape, constants: tuple[Scales, Shifts, I64, Table], result: I32, start: int, stop: int
) -> None:
    """Write groups [start, stop) of the weighted values into the merged heads (rows, heads x width)."""
    context, _, width = shape
    scales, shifts, exp2, table = constants
    spare, head = np.empty((context, width), np.int32), np.empty((context, width), np.int32)
    scores, p = np.empty((context, context), np.int32), np.empty((context, context), np.int32)
    queries, keys = _make_views(context, width), _make_views(context, width)
    values, weights = _make_views(width, context), _make_views(context, context)
    key = np.uint64(0)
    for group in range(start, stop):
        _read_turned(qkv, (0, group), shape, table, spare, head)
        _view_rows(head, key, False, group, queries)
        _read_turned(qkv, (1, group), shape, table, spare, head)
        _view_rows(head, key, False, group, keys)
        _multiply(queries, keys, shifts[0], True, scores)
        causal_softmax(scores, scales[0], exp2, p, 0, context)
        _view_rows(p, key, False, group, weights)
        _read_head(qkv, (2, group), shape, head)
        _view_columns(head, key, False, group, values)
        _multiply(weights, values, shifts[1], False, spare)
        _write_head(spare, (0, group), shape, result)


@kernel
def attend_backward(
    tensors: tuple[I32, I32],
    shape: Shape,
    constants: tuple[Scales, Shifts, I64, Table],
    keys: tuple[np.uint64, np.uint64, np.uint64, np.uint64],
    result: I32,
    ranges: tuple[int, int],
) -> None:
    """Write a range of groups of the gradient of queries, keys and values (rows, 3 x heads x width).

    tensors: queries, keys and values side by side; the gradient of the merged heads. keys: of the roundings of that
    gradient by rows and by columns, and of the scores' gradient by rows and by columns.
    """
    qkv, dheads = tensors
    context, _, width = shape
    scales, shifts, exp2, table = constants
    spare, head = np.empty((context, width), np.int32), np.empty((context, width), np.int32)
    scores, p = np.empty((context, context), np.int32), np.empty((context, context), np.int32)
    rows_a, rows_b = _make_views(context, width), _make_views(context, width)
    queries, values, columns = _make_views(width, context), _make_views(width, context), _make_views(width, context)
    square, ds = _make_views(context, context), np.empty((context, context), np.int32)
    zero = np.uint64(0)
    for group in range(ranges[0], ranges[1]):
        _read_turned(qkv, (0, group), shape, table, spare, head)
        _view_rows(head, zero, False, group, rows_a)
        _view_columns(head, zero, False, group, queries)
        _read_turned(qkv, (1, group), shape, table, spare, head)
        _view_rows(head, zero, False, group, rows_b)
        _view_columns(head, zero, False, group, columns)
        _multiply(rows_a, rows_b, shifts[0], True, scores)
        causal_softmax(scores, scales[0], exp2, p, 0, context)
        _read_head(dheads, (0, group), shape, head)
        _view_rows(head, keys[0], True, group, rows_a)
        _view_columns(head, keys[1], True, group, values)
        _view_columns(p, zero, False, group, square)
        _multiply(square, values, shifts[1], False, spare)
        _write_head(spare, (2, group), shape, result)
        _read_head(qkv, (2, group), shape, head)
        _view_rows(head, zero, False, group, rows_b)
        _multiply(rows_a, rows_b, shifts[0], True, scores)
        causal_softmax_backward(p, scores, scales[1], ds, 0, context)
        _view_rows(ds, keys[2], True, group, square)
        _multiply(square, columns, shifts[2], False, spare)
        _write_turned_back(spare, (0, group), shape, table, head, result)
        _view_columns(ds, keys[3], True, group, square)
        _multiply(square, queries, shifts[2], False, spare)
        _write_turned_back(spare, (1, group), shape, table, head, result)


@kernel
def _write_turned_back(spare: I32, place: tuple[int, int], shape: Shape, table: Table, head: I32, result: I32) -> None:
    if table[0].size:
        rotate(spare, table, True, head, 0, shape[0])
        _write_head(head, place, shape, result)
    else:
        _write_head(spare, place, shape, result)
