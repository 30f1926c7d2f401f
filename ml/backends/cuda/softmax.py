"""Kernels of the base-2 softmax: causal attention forward and backward, and the loss with its gradient.

Twins of the methods of the same names in `ml.backends.reference`, where every bound is derived. Exponentials come from
the published table, logarithms from squaring. A tile of whole rows a program; they know no program of training.
"""

from math import isqrt

import torch
import triton.language as tl
from torch import Tensor

from ml import arithmetic
from ml.backends.cuda.device import Block, divide_up, function, get_exp2_tensor, get_tile, kernel, new
from ml.backends.cuda.rules import compute_exp2, compute_log2, get_power, round_shift, saturate
from ml.backends.reference import get_root_scale

_INT32_MAX = tl.constexpr(arithmetic.INT32_MAX)
_LOG2_E = tl.constexpr(arithmetic.LOG2_E_F30)
_EXP2_BITS = tl.constexpr(arithmetic.EXP2_BITS)
_PROBABILITY_BITS = tl.constexpr(arithmetic.PROBABILITY_BITS)
_DROP = tl.constexpr(arithmetic.PROBABILITY_BITS + arithmetic.GRADIENT_BITS - arithmetic.SCORE_GRADIENT_BITS)


@function
def _load_powers(z: Block, at: Block, highest: Block, scale: Block, visible: Block) -> Block:
    """Return how far each visible element is below the highest of its row, as a power of two in F24."""
    value = tl.load(z + at, mask=visible, other=0).to(tl.int64)
    return round_shift(tl.where(visible, highest[:, None] - value, 0) * scale, 22)


@function
def _compute_totals(
    z: Block,
    row: Block,
    last: Block,
    columns: Block,
    scale: Block,
    table: Block,
    tile_rows: tl.constexpr,
    tile_columns: tl.constexpr,
) -> tuple[Block, Block]:
    """Return the highest visible element of each row and the sum of its terms; `last` is the last visible column."""
    stop = tl.max(last, axis=0) + 1
    highest = tl.full((tile_rows,), -_INT32_MAX, tl.int64)
    for start in range(0, stop, tile_columns):
        column = start + tl.arange(0, tile_columns)
        visible = column[None, :] <= last[:, None]
        value = tl.load(z + row[:, None] * columns + column[None, :], mask=visible, other=-_INT32_MAX).to(tl.int64)
        highest = tl.maximum(highest, tl.max(value, axis=1))
    total = tl.zeros((tile_rows,), tl.int64)
    for start in range(0, stop, tile_columns):
        column = start + tl.arange(0, tile_columns)
        visible = column[None, :] <= last[:, None]
        powers = _load_powers(z, row[:, None] * columns + column[None, :], highest, scale, visible)
        total += tl.sum(tl.where(visible, compute_exp2(powers, table), 0), axis=1)
    return highest, total


@function
def _divide_terms(terms: Block, total: Block) -> Block:
    # A row outside the tensor has no terms.
    reciprocal = get_power(62) // tl.maximum(total, 1)
    return (terms * reciprocal[:, None]) >> (62 - _PROBABILITY_BITS)


@kernel()
def _causal_softmax(
    z: Block,
    result: Block,
    table: Block,
    rows: Block,
    columns: Block,
    scale: Block,
    tile_rows: tl.constexpr,
    tile_columns: tl.constexpr,
) -> None:
    row = (tl.program_id(0) * tile_rows + tl.arange(0, tile_rows)).to(tl.int64)
    last = tl.where(row < rows, row % columns, -1)
    highest, total = _compute_totals(z, row, last, columns, scale, table, tile_rows, tile_columns)
    for start in range(0, columns, tile_columns):
        column = start + tl.arange(0, tile_columns)
        at, visible = row[:, None] * columns + column[None, :], column[None, :] <= last[:, None]
        terms = compute_exp2(_load_powers(z, at, highest, scale, visible), table)
        value = tl.where(visible, _divide_terms(terms, total), 0)
        tl.store(result + at, value.to(tl.int32), mask=(row < rows)[:, None] & (column < columns)[None, :])


@kernel()
def _causal_softmax_backward(
    probabilities: Block,
    gradient: Block,
    result: Block,
    rows: Block,
    columns: Block,
    scale: Block,
    tile_rows: tl.constexpr,
    tile_columns: tl.constexpr,
) -> None:
    row = (tl.program_id(0) * tile_rows + tl.arange(0, tile_rows)).to(tl.int64)
    total = tl.zeros((tile_rows,), tl.int64)
    for start in range(0, columns, tile_columns):
        column = start + tl.arange(0, tile_columns)
        at, mask = row[:, None] * columns + column[None, :], (row < rows)[:, None] & (column < columns)[None, :]
        p = tl.load(probabilities + at, mask=mask, other=0).to(tl.int64)
        total += tl.sum(p * tl.load(gradient + at, mask=mask, other=0).to(tl.int64), axis=1)
    mean = round_shift(total, _PROBABILITY_BITS)
    for start in range(0, columns, tile_columns):
        column = start + tl.arange(0, tile_columns)
        at, mask = row[:, None] * columns + column[None, :], (row < rows)[:, None] & (column < columns)[None, :]
        p = tl.load(probabilities + at, mask=mask, other=0).to(tl.int64)
        rest = tl.load(gradient + at, mask=mask, other=0).to(tl.int64) - mean[:, None]
        value = saturate(round_shift(round_shift(p * rest, _DROP) * scale, 16))
        tl.store(result + at, value, mask=mask)


@kernel()
def _compute_loss(
    z: Block,
    labels: Block,
    gradient: Block,
    loss: Block,
    table: Block,
    rows: Block,
    classes: Block,
    tile_rows: tl.constexpr,
    tile_columns: tl.constexpr,
) -> None:
    row = (tl.program_id(0) * tile_rows + tl.arange(0, tile_rows)).to(tl.int64)
    last = tl.where(row < rows, row * 0 + classes - 1, -1)
    highest, total = _compute_totals(z, row, last, classes, _LOG2_E, table, tile_rows, tile_columns)
    label = tl.load(labels + row, mask=row < rows, other=0).to(tl.int64)
    for start in range(0, classes, tile_columns):
        column = start + tl.arange(0, tile_columns)
        at, visible = row[:, None] * classes + column[None, :], column[None, :] <= last[:, None]
        terms = compute_exp2(_load_powers(z, at, highest, _LOG2_E, visible), table)
        onehot = tl.where(column[None, :] == label[:, None], get_power(_PROBABILITY_BITS), 0)
        tl.store(gradient + at, saturate(_divide_terms(terms, total) - onehot), mask=visible)
    own = tl.load(z + row * classes + label, mask=row < rows, other=0).to(tl.int64)
    power = round_shift(tl.where(row < rows, highest - own, 0) * _LOG2_E, 22)
    value = compute_log2(tl.maximum(total, 1)) - (_EXP2_BITS << 16) + round_shift(power, 8)
    tl.store(loss + row, saturate(tl.maximum(value, 0)), mask=row < rows)


def causal_softmax(scores: Tensor, head_width: int) -> Tensor:
    """Return the softmax of each row of scores (groups * context, context) int32 up to its own position, F24."""
    rows, columns = scores.shape
    result, tile = torch.empty_like(scores), get_tile(rows, columns)
    scale = (arithmetic.LOG2_E_F30 << 30) // isqrt(head_width << 60)
    _causal_softmax[(divide_up(rows, tile[0]),)](scores, result, get_exp2_tensor(), rows, columns, scale, *tile)
    return result


def causal_softmax_backward(probabilities: Tensor, gradient: Tensor, head_width: int) -> Tensor:
    """Return the gradient of the scores, F28, from probabilities F24 and their gradient F24."""
    rows, columns = probabilities.shape
    result, tile = torch.empty_like(probabilities), get_tile(rows, columns)
    grid = (divide_up(rows, tile[0]),)
    _causal_softmax_backward[grid](probabilities, gradient, result, rows, columns, get_root_scale(head_width), *tile)
    return result


def compute_loss_gradient(z: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return softmax(z) - onehot (rows, classes) int32 F24 and the loss (rows, 1) int32 F16 in bits."""
    rows, classes = z.shape
    gradient, loss, tile = torch.empty_like(z), new(z, (rows, 1)), get_tile(rows, classes)
    _compute_loss[(divide_up(rows, tile[0]),)](z, labels, gradient, loss, get_exp2_tensor(), rows, classes, *tile)
    return gradient, loss
