"""Kernels of the root-mean-square normalisation, forward and backward, a tile of whole rows a program.

Twins of `normalise` and `normalise_backward` in `ml.backends.reference`, where every bound is derived. A row is read
several times; it stays in the cache. They know no program.
"""

from math import isqrt

import torch
import triton.language as tl
from torch import Tensor

from ml.arithmetic import ACTIVATION_BITS
from ml.backends.cuda.device import Block, divide_up, function, get_tile, kernel
from ml.backends.cuda.rules import compute_bit_length, compute_isqrt, get_power, round_shift, saturate
from ml.backends.reference import NORM_BITS, NORM_EPSILON

_BITS, _EPSILON = tl.constexpr(NORM_BITS), tl.constexpr(NORM_EPSILON)
_ACTIVATION_BITS = tl.constexpr(ACTIVATION_BITS)


@function
def _load(x: Block, row: Block, column: Block, rows: Block, width: Block) -> Block:
    mask = (row < rows)[:, None] & (column < width)[None, :]
    return tl.load(x + row[:, None] * width + column[None, :], mask=mask, other=0).to(tl.int64)


@function
def _compute_norms(
    x: Block,
    row: Block,
    rows: Block,
    width: Block,
    numerator: Block,
    tile_rows: tl.constexpr,
    tile_columns: tl.constexpr,
) -> tuple[Block, Block, Block]:
    """Return the bits that each row drops, and reciprocal and shift of its root mean square: (tile_rows,) int64."""
    tallest = tl.zeros((tile_rows,), tl.int64)
    for start in range(0, width, tile_columns):
        value = _load(x, row, start + tl.arange(0, tile_columns), rows, width)
        tallest = tl.maximum(tallest, tl.max(tl.abs(value), axis=1))
    drop = tl.maximum(compute_bit_length(tallest) - _BITS, 0)
    squares = (tl.full((tile_rows,), 0, tl.int64) + width * _EPSILON) >> tl.minimum(2 * drop, 62)
    for start in range(0, width, tile_columns):
        short = round_shift(_load(x, row, start + tl.arange(0, tile_columns), rows, width), drop[:, None])
        squares += tl.sum(short * short, axis=1)
    squares = tl.minimum(tl.maximum(squares, 1), get_power(62) - 1)
    even = (62 - compute_bit_length(squares)) & -2
    # A row outside the tensor has the root of a row of zeros, never zero.
    long = numerator // compute_isqrt(squares << even)
    cut = tl.maximum(compute_bit_length(long) - 31, 0)
    return drop, long >> cut, 40 - (even >> 1) - cut


@function
def _get_normal(value: Block, drop: Block, reciprocal: Block, shift: Block) -> Block:
    short = round_shift(value, drop[:, None])
    return saturate(round_shift(short * reciprocal[:, None], shift[:, None]))


@kernel()
def _normalise(
    x: Block,
    result: Block,
    rows: Block,
    width: Block,
    numerator: Block,
    tile_rows: tl.constexpr,
    tile_columns: tl.constexpr,
) -> None:
    row = (tl.program_id(0) * tile_rows + tl.arange(0, tile_rows)).to(tl.int64)
    drop, reciprocal, shift = _compute_norms(x, row, rows, width, numerator, tile_rows, tile_columns)
    for start in range(0, width, tile_columns):
        column = start + tl.arange(0, tile_columns)
        y = _get_normal(_load(x, row, column, rows, width), drop, reciprocal, shift)
        mask = (row < rows)[:, None] & (column < width)[None, :]
        tl.store(result + row[:, None] * width + column[None, :], y, mask=mask)


@kernel()
def _normalise_backward(
    gradient: Block,
    x: Block,
    result: Block,
    rows: Block,
    width: Block,
    numerator: Block,
    tile_rows: tl.constexpr,
    tile_columns: tl.constexpr,
) -> None:
    row = (tl.program_id(0) * tile_rows + tl.arange(0, tile_rows)).to(tl.int64)
    drop, reciprocal, shift = _compute_norms(x, row, rows, width, numerator, tile_rows, tile_columns)
    total = tl.zeros((tile_rows,), tl.int64)
    for start in range(0, width, tile_columns):
        column = start + tl.arange(0, tile_columns)
        y = _get_normal(_load(x, row, column, rows, width), drop, reciprocal, shift).to(tl.int64)
        total += tl.sum(_load(gradient, row, column, rows, width) * y, axis=1)
    magnitude = tl.abs(total) // width
    mean = round_shift(tl.where(total < 0, -magnitude, magnitude), _ACTIVATION_BITS)
    for start in range(0, width, tile_columns):
        column = start + tl.arange(0, tile_columns)
        y = _get_normal(_load(x, row, column, rows, width), drop, reciprocal, shift).to(tl.int64)
        along = round_shift(y * mean[:, None], _ACTIVATION_BITS)
        rest = saturate(_load(gradient, row, column, rows, width) - along).to(tl.int64)
        value = saturate(round_shift(rest * reciprocal[:, None], (shift + drop)[:, None]))
        mask = (row < rows)[:, None] & (column < width)[None, :]
        tl.store(result + row[:, None] * width + column[None, :], value, mask=mask)


def _get_numerator(width: int) -> int:
    """Return sqrt(width) in F20 times 2**36, below 2**63."""
    return isqrt(width << 40) << 36


def normalise(x: Tensor) -> Tensor:
    """Return x (rows, width) int32 F16 over the root of its row's mean square."""
    rows, width = x.shape
    result, tile = torch.empty_like(x), get_tile(rows, width)
    _normalise[(divide_up(rows, tile[0]),)](x, result, rows, width, _get_numerator(width), *tile)
    return result


def normalise_backward(gradient: Tensor, x: Tensor) -> Tensor:
    """Return the gradient of `normalise`'s input from that of its output, both int32 F24."""
    rows, width = x.shape
    result, tile = torch.empty_like(x), get_tile(rows, width)
    _normalise_backward[(divide_up(rows, tile[0]),)](gradient, x, result, rows, width, _get_numerator(width), *tile)
    return result
