"""Kernels whose elements depend on few others: ReLU and its square, sums, rotation, embeddings and their gradients.

Twins of the methods of the same names in `ml.backends.reference`. Sums over tokens are exact int64 additions, so that
their order, which the GPU does not fix, cannot show. They know no program.
"""

from enum import IntEnum

import torch
import triton.language as tl
from torch import Tensor

from ml.arithmetic import ACTIVATION_BITS, WEIGHT_BITS
from ml.backends.cuda.device import Block, divide_up, get_tile, kernel, new
from ml.backends.cuda.rules import round_shift, saturate
from ml.rotary import ROTATION_BITS

_BLOCK = 1024
_ACTIVATION_BITS, _ROTATION_BITS = tl.constexpr(ACTIVATION_BITS), tl.constexpr(ROTATION_BITS)
_EMBED_SHIFT = tl.constexpr(WEIGHT_BITS - ACTIVATION_BITS)


class Rule(IntEnum):
    """What `apply` computes of each element."""

    RELU = 0
    RELU_BACKWARD = 1
    RELU_SQUARED = 2
    RELU_SQUARED_BACKWARD = 3
    ADD = 4


_RELU, _RELU_BACKWARD = tl.constexpr(int(Rule.RELU)), tl.constexpr(int(Rule.RELU_BACKWARD))
_RELU_SQUARED, _ADD = tl.constexpr(int(Rule.RELU_SQUARED)), tl.constexpr(int(Rule.ADD))


@kernel()
def _apply(first: Block, second: Block, result: Block, count: Block, rule: tl.constexpr, block: tl.constexpr) -> None:
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    mask = at < count
    x, y = tl.load(first + at, mask=mask, other=0), tl.load(second + at, mask=mask, other=0)
    if rule == _RELU:
        value = tl.maximum(x, 0)
    elif rule == _RELU_BACKWARD:
        value = tl.where(y > 0, x, 0)
    elif rule == _ADD:
        value = saturate(x.to(tl.int64) + y)
    elif rule == _RELU_SQUARED:
        positive = tl.maximum(x, 0).to(tl.int64)
        value = saturate(round_shift(positive * positive, _ACTIVATION_BITS))
    else:
        value = saturate(round_shift(tl.maximum(y, 0).to(tl.int64) * x, _ACTIVATION_BITS - 1))
    tl.store(result + at, value, mask=mask)


@kernel()
def _rotate(
    x: Block,
    cosines: Block,
    sines: Block,
    result: Block,
    rows: Block,
    half: Block,
    context: Block,
    is_inverse: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_columns: tl.constexpr,
) -> None:
    tiles = tl.cdiv(half, tile_columns)
    row = ((tl.program_id(0) // tiles) * tile_rows + tl.arange(0, tile_rows)).to(tl.int64)
    column = ((tl.program_id(0) % tiles) * tile_columns + tl.arange(0, tile_columns))[None, :]
    mask = (row < rows)[:, None] & (column < half)
    turn = (row % context)[:, None] * half + column
    c = tl.load(cosines + turn, mask=mask, other=0).to(tl.int64)
    s = tl.load(sines + turn, mask=mask, other=0).to(tl.int64)
    if is_inverse:
        s = -s
    at = row[:, None] * (2 * half) + column
    first = tl.load(x + at, mask=mask, other=0).to(tl.int64)
    second = tl.load(x + at + half, mask=mask, other=0).to(tl.int64)
    tl.store(result + at, saturate(round_shift(first * c - second * s, _ROTATION_BITS)), mask=mask)
    tl.store(result + at + half, saturate(round_shift(first * s + second * c, _ROTATION_BITS)), mask=mask)


@kernel()
def _embed(
    tokens: Block,
    table: Block,
    positions: Block,
    result: Block,
    rows: Block,
    width: Block,
    context: Block,
    has_positions: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_columns: tl.constexpr,
) -> None:
    tiles = tl.cdiv(width, tile_columns)
    row = ((tl.program_id(0) // tiles) * tile_rows + tl.arange(0, tile_rows)).to(tl.int64)
    column = ((tl.program_id(0) % tiles) * tile_columns + tl.arange(0, tile_columns))[None, :]
    mask = (row < rows)[:, None] & (column < width)
    token = tl.load(tokens + row, mask=row < rows, other=0).to(tl.int64)[:, None]
    value = tl.load(table + token * width + column, mask=mask, other=0).to(tl.int64)
    if has_positions:
        value += tl.load(positions + (row % context)[:, None] * width + column, mask=mask, other=0)
    tl.store(result + row[:, None] * width + column, saturate(round_shift(value, _EMBED_SHIFT)), mask=mask)


@kernel()
def _add_columns(
    transposed: Block,
    tokens: Block,
    sums: Block,
    rows: Block,
    width: Block,
    tile_rows: tl.constexpr,
    tile_columns: tl.constexpr,
) -> None:
    """Add each column of `transposed` (width, rows) to its token's row of `sums` (vocabulary, width) int64."""
    tiles = tl.cdiv(rows, tile_columns)
    inner = (tl.program_id(0) // tiles) * tile_rows + tl.arange(0, tile_rows)
    row = (tl.program_id(0) % tiles) * tile_columns + tl.arange(0, tile_columns)
    mask = (inner < width)[:, None] & (row < rows)[None, :]
    value = tl.load(transposed + inner.to(tl.int64)[:, None] * rows + row[None, :], mask=mask, other=0).to(tl.int64)
    token = tl.load(tokens + row, mask=row < rows, other=0).to(tl.int64)
    tl.atomic_add(sums + token[None, :] * width + inner[:, None], value, mask=mask, sem="relaxed")


@kernel(varying=("shift",))
def _round_sums(sums: Block, result: Block, count: Block, shift: Block, block: tl.constexpr) -> None:
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    value = tl.load(sums + at, mask=at < count, other=0)
    tl.store(result + at, saturate(round_shift(value, shift)), mask=at < count)


def apply(rule: Rule, first: Tensor, second: Tensor | None = None) -> Tensor:
    """Return `rule` of each element of one or two int32 tensors of the same shape."""
    result = torch.empty_like(first)
    grid = (divide_up(first.numel(), _BLOCK),)
    _apply[grid](first, first if second is None else second, result, first.numel(), int(rule), _BLOCK)
    return result


def rotate(x: Tensor, cosines: Tensor, sines: Tensor, is_inverse: bool) -> Tensor:
    """Return x (rows, head width) int32 with columns j and j + half turned by tables (context, half) int32 F30."""
    rows, half = len(x), x.shape[1] // 2
    result, tile = torch.empty_like(x), get_tile(len(x), half)
    grid = (divide_up(rows, tile[0]) * divide_up(half, tile[1]),)
    _rotate[grid](x, cosines, sines, result, rows, half, len(cosines), is_inverse, *tile)
    return result


def embed(tokens: Tensor, tables: tuple[Tensor, ...]) -> Tensor:
    """Return the sum of both tables' rows, F24 to F16: (rows, width) int32."""
    rows, width = len(tokens), tables[0].shape[1]
    result, tile = new(tokens, (rows, width)), get_tile(rows, width)
    grid = (divide_up(rows, tile[0]) * divide_up(width, tile[1]),)
    _embed[grid](tokens, tables[0], tables[-1], result, rows, width, len(tables[-1]), len(tables) > 1, *tile)
    return result


def sum_columns(transposed: Tensor, places: Tensor, count: int, shift: int) -> Tensor:
    """Return, for each of `count` places, the sum of the columns of `transposed` (width, rows) at it, shifted.

    `places` (rows, 1) int32 says where a column is added: its token, or its position.
    """
    width, rows = transposed.shape
    sums = torch.zeros((count, width), dtype=torch.int64, device=transposed.device)
    tile = get_tile(width, rows)
    grid = (divide_up(width, tile[0]) * divide_up(rows, tile[1]),)
    _add_columns[grid](transposed, places, sums, rows, width, *tile)
    result = new(transposed, (count, width))
    _round_sums[(divide_up(sums.numel(), _BLOCK),)](sums, result, sums.numel(), shift, _BLOCK)
    return result
