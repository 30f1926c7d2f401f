"""Kernels that turn int32 into int8 mantissas and exponents: by rows, transposed by groups, and a segment's delta.

Twins of the methods of the same names in `ml.backends.reference`. Stochastic rounding draws a 64-bit word a row of the
result and mixes 32 bits along it, as `ml.prf` does. They know no program.
"""

import torch
import triton.language as tl
from torch import Tensor

from ml.arithmetic import MANTISSA_BITS, MANTISSA_MAX, get_delta_max
from ml.backends import Rounding
from ml.backends.cuda.device import Block, divide_up, function, get_tile, kernel, new, round_up_power, split_word
from ml.backends.cuda.rules import compute_bit_length, compute_rounding_bits, compute_row_words, get_power, round_shift

TensorPair = tuple[Tensor, Tensor]
"""Mantissas int8 and exponents (rows, 1) int32."""

_ROUNDING = ("key_low", "key_high", "first_row", "first_column")
_TRANSPOSED_TILE = 64
_PART_TILES = 4
"""Tiles of rows that one program searches: a tall matrix has programs for every multiprocessor."""
_BITS, _MAX = tl.constexpr(MANTISSA_BITS), tl.constexpr(MANTISSA_MAX)


@function
def _load_difference(x: Block, before: Block, at: Block, mask: Block, has_before: tl.constexpr) -> Block:
    value = tl.load(x + at, mask=mask, other=0).to(tl.int64)
    if has_before:
        value -= tl.load(before + at, mask=mask, other=0).to(tl.int64)
    return value


@kernel(varying=_ROUNDING)
def _quantise_rows(
    x: Block,
    before: Block,
    mantissas: Block,
    exponents: Block,
    rows: Block,
    columns: Block,
    key_low: Block,
    key_high: Block,
    first_row: Block,
    first_column: Block,
    bits: tl.constexpr,
    mantissa_max: tl.constexpr,
    is_stochastic: tl.constexpr,
    has_before: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_columns: tl.constexpr,
) -> None:
    row = (tl.program_id(0) * tile_rows + tl.arange(0, tile_rows)).to(tl.int64)
    tallest = tl.zeros((tile_rows,), tl.int64)
    for start in range(0, columns, tile_columns):
        column = start + tl.arange(0, tile_columns)
        mask = (row < rows)[:, None] & (column < columns)[None, :]
        value = _load_difference(x, before, row[:, None] * columns + column[None, :], mask, has_before)
        tallest = tl.maximum(tallest, tl.max(tl.abs(value), axis=1))
    exponent = tl.maximum(compute_bit_length(tallest) - bits, 0)
    tl.store(exponents + row, exponent.to(tl.int32), mask=row < rows)
    words = compute_row_words(key_low, key_high, row + first_row)
    for start in range(0, columns, tile_columns):
        column = start + tl.arange(0, tile_columns)
        mask = (row < rows)[:, None] & (column < columns)[None, :]
        at = row[:, None] * columns + column[None, :]
        value = _load_difference(x, before, at, mask, has_before)
        if is_stochastic:
            drawn = compute_rounding_bits(words[:, None], (column + first_column)[None, :])
            value = (value + (drawn & (get_power(exponent) - 1)[:, None])) >> exponent[:, None]
        else:
            value = round_shift(value, exponent[:, None])
        value = tl.minimum(tl.maximum(value, -mantissa_max), mantissa_max)
        tl.store(mantissas + at, value.to(tl.int8), mask=mask)


@kernel()
def _compute_exponents(
    x: Block,
    exponents: Block,
    rows: Block,
    columns: Block,
    part_rows: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_columns: tl.constexpr,
) -> None:
    """Raise the exponents of some columns of a group to what part of its rows asks for."""
    parts, tiles = tl.cdiv(rows, part_rows), tl.cdiv(columns, tile_columns)
    group = (tl.program_id(0) // (parts * tiles)).to(tl.int64)
    first_row = tl.program_id(0) // tiles % parts * part_rows
    column = (tl.program_id(0) % tiles) * tile_columns + tl.arange(0, tile_columns)
    tallest = tl.zeros((tile_columns,), tl.int32)
    for start in range(0, part_rows, tile_rows):
        row = first_row + start + tl.arange(0, tile_rows)
        mask = (row < rows)[:, None] & (column < columns)[None, :]
        at = (group * rows + row)[:, None] * columns + column[None, :]
        tallest = tl.maximum(tallest, tl.max(tl.abs(tl.load(x + at, mask=mask, other=0)), axis=0))
    exponent = tl.maximum(compute_bit_length(tallest.to(tl.int64)) - _BITS, 0)
    # An exponent grows with the magnitude: the highest of all parts is that of the column.
    tl.atomic_max(exponents + group * columns + column, exponent.to(tl.int32), mask=column < columns)


@kernel(varying=_ROUNDING)
def _quantise_transposed(
    x: Block,
    exponents: Block,
    mantissas: Block,
    rows: Block,
    columns: Block,
    key_low: Block,
    key_high: Block,
    first_row: Block,
    first_column: Block,
    is_stochastic: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_columns: tl.constexpr,
) -> None:
    row_tiles, column_tiles = tl.cdiv(rows, tile_rows), tl.cdiv(columns, tile_columns)
    group = (tl.program_id(0) // (row_tiles * column_tiles)).to(tl.int64)
    place = tl.program_id(0) % (row_tiles * column_tiles)
    row = (place // column_tiles) * tile_rows + tl.arange(0, tile_rows)
    column = (place % column_tiles) * tile_columns + tl.arange(0, tile_columns)
    mask = (row < rows)[:, None] & (column < columns)[None, :]
    at = (group * rows + row)[:, None] * columns + column[None, :]
    value = tl.trans(tl.load(x + at, mask=mask, other=0)).to(tl.int64)
    # From here on a row of the result is a column of x.
    result_row = group * columns + column
    exponent = tl.load(exponents + result_row, mask=column < columns, other=0).to(tl.int64)[:, None]
    if is_stochastic:
        words = compute_row_words(key_low, key_high, result_row + first_row)
        drawn = compute_rounding_bits(words[:, None], (row + first_column)[None, :])
        value = (value + (drawn & (get_power(exponent) - 1))) >> exponent
    else:
        value = round_shift(value, exponent)
    value = tl.minimum(tl.maximum(value, -_MAX), _MAX)
    mask = (column < columns)[:, None] & (row < rows)[None, :]
    tl.store(mantissas + result_row[:, None] * rows + row[None, :], value.to(tl.int8), mask=mask)


def _get_rounding(rounding: Rounding | None) -> tuple[int, int, int, int]:
    return (0, 0, 0, 0) if rounding is None else (*split_word(rounding.key), rounding.row, rounding.column)


def _run_rows(x: Tensor, before: Tensor | None, limits: tuple[int, int], rounding: Rounding | None) -> TensorPair:
    rows, columns = x.shape
    mantissas, exponents = new(x, (rows, columns), torch.int8), new(x, (rows, 1))
    tile = get_tile(rows, columns)
    flags = rounding is not None, before is not None
    _quantise_rows[(divide_up(rows, tile[0]),)](
        x, x if before is None else before, mantissas, exponents, rows, columns,
        *_get_rounding(rounding), *limits, *flags, *tile,
    )  # fmt: skip
    return mantissas, exponents


def quantise_rows(x: Tensor, rounding: Rounding | None) -> TensorPair:
    """Return mantissas in [-63, 63] and exponents of the rows of x (rows, columns) int32."""
    return _run_rows(x, None, (MANTISSA_BITS, MANTISSA_MAX), rounding)


def quantise_delta(after: Tensor, before: Tensor, bits: int) -> TensorPair:
    """Return mantissas of so many bits and exponents of the rows of after - before, both int32."""
    return _run_rows(after, before, (bits - 1, get_delta_max(bits)), None)


def compute_column_exponents(x: Tensor, groups: int = 1) -> Tensor:
    """Return the exponents of the columns of each group of rows: (groups * columns, 1) int32."""
    rows, columns = x.shape[0] // groups, x.shape[1]
    exponents = torch.zeros((groups * columns, 1), dtype=torch.int32, device=x.device)
    tile_columns = min(round_up_power(columns), _TRANSPOSED_TILE)
    tile_rows = min(round_up_power(rows), _TRANSPOSED_TILE)
    part_rows = _PART_TILES * tile_rows
    grid = (groups * divide_up(rows, part_rows) * divide_up(columns, tile_columns),)
    _compute_exponents[grid](x, exponents, rows, columns, part_rows, tile_rows, tile_columns)
    return exponents


def quantise_transposed(x: Tensor, rounding: Rounding | None, groups: int, exponents: Tensor | None) -> TensorPair:
    """Return `quantise_rows` of each group's transpose, with `exponents` (groups * columns, 1) if given."""
    rows, columns = x.shape[0] // groups, x.shape[1]
    own = compute_column_exponents(x, groups) if exponents is None else exponents
    mantissas = new(x, (groups * columns, rows), torch.int8)
    tile = min(round_up_power(rows), _TRANSPOSED_TILE), min(round_up_power(columns), _TRANSPOSED_TILE)
    grid = (groups * divide_up(rows, tile[0]) * divide_up(columns, tile[1]),)
    flags = _get_rounding(rounding), rounding is not None
    _quantise_transposed[grid](x, own, mantissas, rows, columns, *flags[0], flags[1], *tile)
    return mantissas, own
