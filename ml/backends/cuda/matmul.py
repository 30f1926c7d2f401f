"""Exact int8 products on tensor cores, with both exponents applied before a result leaves the registers.

`tl.dot` of int8 blocks accumulates in int32 without rounding; a depth below 2**17 keeps every sum inside it, so that
the saturation of the instruction never shows. Groups are independent products; a causal one is zero above its diagonal
and does not compute the tiles there. Twin of `multiply`, `rescale` and `multiply_groups` in `ml.backends.reference`.
"""

from dataclasses import dataclass

import triton.language as tl
from torch import Tensor

from ml.backends import Groups
from ml.backends.cuda.device import Block, divide_up, function, get_tile, kernel, new, round_up_power
from ml.backends.cuda.quantise import TensorPair
from ml.backends.cuda.rules import saturate, scale_shift

DEPTH_MAX = 1 << 17
_SIDE_MIN, _SIDE_MAX = 16, 128
_DEPTH_MIN, _DEPTH_MAX = 32, 128
"""An int8 instruction of the tensor cores takes 32 of the depth."""
_BAND = tl.constexpr(8)
"""Rows of tiles that are computed column by column together, so that operands stay in the second-level cache."""


@dataclass(frozen=True, slots=True)
class Tile:
    """How a product is cut: rows, columns and depth of a tile, and how a program runs it."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int


def choose_tile(m: int, n: int, k: int) -> Tile:
    """Return the tile for a product of these sizes; it never changes a byte of the result."""
    rows, columns = (min(max(round_up_power(side), _SIDE_MIN), _SIDE_MAX) for side in (m, n))
    depth = min(max(round_up_power(k), _DEPTH_MIN), _DEPTH_MAX)
    return Tile(rows, columns, depth, 8 if rows * columns == _SIDE_MAX**2 else 4, 4 if k > _DEPTH_MAX else 2)


@function
def _rescale(product: Block, a_exponent: Block, b_exponent: Block, shift: Block) -> Block:
    # Beyond 30 bits a left shift saturates any product but zero; the reference caps it alike.
    shifts = tl.maximum(shift - (a_exponent.to(tl.int64) + b_exponent.to(tl.int64)), -31)
    return saturate(scale_shift(product.to(tl.int64), shifts))


@function
def _locate(m: Block, n: Block, tile_m: tl.constexpr, tile_n: tl.constexpr) -> tuple[Block, Block, Block]:
    """Return group, and row and column of the tile that a program computes."""
    tiles_m, tiles_n = tl.cdiv(m, tile_m), tl.cdiv(n, tile_n)
    group = tl.program_id(0) // (tiles_m * tiles_n)
    place = tl.program_id(0) % (tiles_m * tiles_n)
    band = place // (_BAND * tiles_n)
    height = tl.minimum(tiles_m - band * _BAND, _BAND)
    inside = place % (_BAND * tiles_n)
    return group.to(tl.int64), band * _BAND + inside % height, inside // height


@kernel(varying=("shift",))
def _multiply(
    a: Block,
    b: Block,
    a_exponents: Block,
    b_exponents: Block,
    result: Block,
    m: Block,
    n: Block,
    k: Block,
    shift: Block,
    is_rescaled: tl.constexpr,
    is_causal: tl.constexpr,
    tile_m: tl.constexpr,
    tile_n: tl.constexpr,
    tile_k: tl.constexpr,
) -> None:
    group, tile_row, tile_column = _locate(m, n, tile_m, tile_n)
    row = tile_row * tile_m + tl.arange(0, tile_m)
    column = tile_column * tile_n + tl.arange(0, tile_n)
    depth = tl.arange(0, tile_k)
    a_at = a + (group * m + row)[:, None] * k + depth[None, :]
    b_at = b + (group * n + column)[None, :] * k + depth[:, None]
    stop = k
    if is_causal:
        stop = tl.where(tile_column * tile_n < (tile_row + 1) * tile_m, k, 0)
    product = tl.zeros((tile_m, tile_n), tl.int32)
    for start in range(0, stop, tile_k):
        left = tl.load(a_at + start, mask=(row < m)[:, None] & (start + depth < k)[None, :], other=0)
        right = tl.load(b_at + start, mask=(start + depth < k)[:, None] & (column < n)[None, :], other=0)
        product = tl.dot(left, right, product, out_dtype=tl.int32)
    if is_rescaled:
        a_exponent = tl.load(a_exponents + group * m + row, mask=row < m, other=0)
        b_exponent = tl.load(b_exponents + group * n + column, mask=column < n, other=0)
        product = _rescale(product, a_exponent[:, None], b_exponent[None, :], shift)
    if is_causal:
        product = tl.where(column[None, :] <= row[:, None], product, 0)
    at = (group * m + row)[:, None] * n + column[None, :]
    tl.store(result + at, product, mask=(row < m)[:, None] & (column < n)[None, :])


@kernel(varying=("shift",))
def _rescale_product(
    product: Block,
    a_exponents: Block,
    b_exponents: Block,
    result: Block,
    m: Block,
    n: Block,
    shift: Block,
    tile_rows: tl.constexpr,
    tile_columns: tl.constexpr,
) -> None:
    tiles = tl.cdiv(n, tile_columns)
    row = (tl.program_id(0) // tiles) * tile_rows + tl.arange(0, tile_rows)
    column = (tl.program_id(0) % tiles) * tile_columns + tl.arange(0, tile_columns)
    a_exponent = tl.load(a_exponents + row, mask=row < m, other=0)
    b_exponent = tl.load(b_exponents + column, mask=column < n, other=0)
    at = row.to(tl.int64)[:, None] * n + column[None, :]
    mask = (row < m)[:, None] & (column < n)[None, :]
    value = tl.load(product + at, mask=mask, other=0)
    tl.store(result + at, _rescale(value, a_exponent[:, None], b_exponent[None, :], shift), mask=mask)


def _run(a: Tensor, b: Tensor, exponents: tuple[Tensor, Tensor] | None, groups: Groups) -> Tensor:
    m, n, k = a.shape[0] // groups.groups, b.shape[0] // groups.groups, a.shape[1]
    assert k < DEPTH_MAX, f"found a depth of {k}, expected less than {DEPTH_MAX}"
    result, tile = new(a, (a.shape[0], n)), choose_tile(m, n, k)
    grid = (groups.groups * divide_up(m, tile.rows) * divide_up(n, tile.columns),)
    scales = (result, result) if exponents is None else exponents
    _multiply[grid](
        a, b, *scales, result, m, n, k, groups.shift, exponents is not None, groups.is_causal,
        tile.rows, tile.columns, tile.depth, num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return result


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """Return the exact product (M, N) int32 of a (M, K) int8 and b (N, K) int8 transposed."""
    return _run(a, b, None, Groups(1, 0, is_causal=False))


def multiply_groups(a: TensorPair, b: TensorPair, groups: Groups) -> Tensor:
    """Return the rescaled product of each group: a (groups * M, K), b (groups * N, K) -> (groups * M, N) int32."""
    return _run(a[0], b[0], (a[1], b[1]), groups)


def rescale(product: Tensor, a_exponents: Tensor, b_exponents: Tensor, shift: int) -> Tensor:
    """Return product (M, N) int32 shifted by both exponents, saturated."""
    m, n = product.shape
    result, tile = new(product, (m, n)), get_tile(m, n)
    grid = (divide_up(m, tile[0]) * divide_up(n, tile[1]),)
    _rescale_product[grid](product, a_exponents, b_exponents, result, m, n, shift, *tile)
    return result
