"""Compiled quantisation: mantissas of 7 or 8 bits and one power-of-two exponent a row.

The twin of `_quantise` in `ml.backends.reference`. All of it is int32 arithmetic, sixteen numbers to a vector. A kernel
fills a range of its outputs, so that ranges can run side by side. A transposed tensor is read in stripes that stay in
cache between the search for the tallest and the rounding, and is turned by blocks of 64 x 16.
"""

import numpy as np
import numpy.typing as npt

from ml.arithmetic import I8, I32, MANTISSA_BITS, MANTISSA_MAX
from ml.backends.cpu.emit import LANES
from ml.backends.cpu.kernel import kernel
from ml.backends.cpu.scalar import (
    compute_bit_length_scalar,
    compute_prf_scalar,
    compute_rounding_word,
    get_magnitude_bits,
    round_mantissa,
    widen,
)
from ml.backends.cpu.turn import BLOCK_ROWS, FOLD_VECTORS, fold_magnitudes, turn_nearest, turn_stochastic
from ml.prf import COLUMN_GAMMA

STRIPE = 64
"""Columns of a transposed tensor that are quantised together."""
_COLUMN_GAMMA = np.uint32(COLUMN_GAMMA)
_FOLD = FOLD_VECTORS * LANES

U32 = npt.NDArray[np.uint32]
Pair = tuple[int, int]
Place = tuple[np.uint64, int, int]
"""A rounding in compiled code: key, row, column."""


@kernel
def compute_exponent(tallest: np.uint32) -> int:
    """Return how many bits a number with these magnitude bits has beyond a mantissa."""
    return max(0, compute_bit_length_scalar(widen(tallest)) - MANTISSA_BITS)


@kernel
def _clamp(value: np.int32) -> np.int32:
    return np.int32(min(max(value, np.int32(-MANTISSA_MAX)), np.int32(MANTISSA_MAX)))


@kernel
def quantise_rows(x: I32, place: Place, is_stochastic: bool, outputs: tuple[I8, I32], start: int, stop: int) -> None:
    """Quantise rows [start, stop) of x (rows, columns) into mantissas and exponents (rows, 1)."""
    mantissas, exponents = outputs
    columns = x.shape[1]
    key, first_row, first_column = place
    for i in range(start, stop):
        tallest = np.uint32(0)
        for j in range(columns):
            tallest |= get_magnitude_bits(x[i, j])
        own = compute_exponent(tallest)
        exponents[i, 0] = own
        exponent, mask, half = np.int32(own), np.int32((1 << own) - 1), np.int32((1 << own) >> 1)
        if is_stochastic:
            word = compute_prf_scalar(key, np.uint64(first_row + i))
            low, high = np.uint32(word), np.uint32(word >> np.uint64(32))
            for j in range(columns):
                bits = np.int32(compute_rounding_word(low, high, np.uint32(first_column + j)))
                mantissas[i, j] = _clamp(round_mantissa(x[i, j], exponent, mask, np.int32(bits & mask)))
        else:
            for j in range(columns):
                mantissas[i, j] = _clamp(round_mantissa(x[i, j], exponent, mask, half))


@kernel
def compute_column_exponents(x: I32, exponents: I32) -> None:
    """Write the exponent of each column of x (rows, columns) to exponents (columns, 1)."""
    rows, columns = x.shape
    tallest = np.zeros(columns, np.uint32)
    for i in range(rows):
        for j in range(columns):
            tallest[j] |= get_magnitude_bits(x[i, j])
    for j in range(columns):
        exponents[j, 0] = compute_exponent(tallest[j])


@kernel
def _fill_exponents(x: I32, at: tuple[int, int], size: tuple[int, int], exponents: I32, first: int) -> None:
    """Write the exponents of a stripe of x from `at`, one a column, from `first` on."""
    top, left = at
    rows, count = size
    tallest = np.zeros(STRIPE, np.uint32)
    whole = count // _FOLD * _FOLD
    for j in range(0, whole, _FOLD):
        fold_magnitudes(x, (top * x.shape[1] + left + j, x.shape[1], rows), tallest[j : j + _FOLD])
    if whole < count:
        for i in range(rows):
            for j in range(whole, count):
                tallest[j] |= get_magnitude_bits(x[top + i, left + j])
    for j in range(count):
        exponents[first + j, 0] = compute_exponent(tallest[j])


@kernel
def _fill_stripe(exponents: I32, place: Place, rows: tuple[int, int], stripe: U32) -> None:
    """Write exponents, masks, halves and both halves of the words of `count` rows of the result from `first` on."""
    key, first_row, _ = place
    first, count = rows
    for j in range(count):
        own = widen(exponents[first + j, 0])
        stripe[0, j], stripe[1, j], stripe[2, j] = own, (1 << own) - 1, (1 << own) >> 1
        word = compute_prf_scalar(key, np.uint64(first_row + first + j))
        stripe[3, j], stripe[4, j] = np.uint32(word), np.uint32(word >> np.uint64(32))


@kernel
def _quantise_one(x: np.int32, stripe: U32, lane: int, column: np.uint32, is_stochastic: bool) -> np.int32:
    mask, addend = np.int32(stripe[1, lane]), np.int32(stripe[2, lane])
    if is_stochastic:
        addend = np.int32(np.int32(compute_rounding_word(stripe[3, lane], stripe[4, lane], column)) & mask)
    return _clamp(round_mantissa(x, np.int32(stripe[0, lane]), mask, addend))


@kernel
def _turn_stripe(
    x: I32, area: tuple[Pair, Pair], stripe: U32, column: np.uint32, is_stochastic: bool, outputs: tuple[I8, int]
) -> None:
    """Quantise an area of x (where, how large) into mantissas, from a row on, by blocks and then one by one."""
    (top, left), (rows, count) = area
    mantissas, first = outputs
    width, depth = x.shape[1], mantissas.shape[1]
    whole_rows, whole_columns = rows // BLOCK_ROWS * BLOCK_ROWS, count // LANES * LANES
    advanced = stripe.copy()
    for i in range(0, whole_rows, BLOCK_ROWS):
        for j in range(count):
            advanced[3, j] = stripe[3, j] + np.uint32(np.uint32(column + np.uint32(i)) * _COLUMN_GAMMA)
        for j in range(0, whole_columns, LANES):
            places = ((top + i) * width + left + j, width, j, STRIPE, (first + j) * depth + i, depth)
            if is_stochastic:
                turn_stochastic(x, places, advanced, mantissas)
            else:
                turn_nearest(x, places, stripe, mantissas)
    for j in range(count):
        for i in range(whole_rows if j < whole_columns else 0, rows):
            step = np.uint32(column + np.uint32(i))
            mantissas[first + j, i] = _quantise_one(x[top + i, left + j], stripe, j, step, is_stochastic)


@kernel
def quantise_transposed(
    x: I32, groups: int, place: Place, flags: tuple[bool, bool], outputs: tuple[I8, I32], ranges: tuple[int, int]
) -> None:
    """Quantise a range of stripes (group by group) of x into mantissas (groups x columns, rows) and exponents.

    flags: whether rounding is stochastic, whether the exponents are given. A group has ceil(columns / 64) stripes.
    """
    mantissas, exponents = outputs
    rows, columns = x.shape[0] // groups, x.shape[1]
    is_stochastic, is_given = flags
    stripes = (columns + STRIPE - 1) // STRIPE
    stripe = np.empty((5, STRIPE), np.uint32)
    for unit in range(ranges[0], ranges[1]):
        group, left = unit // stripes, unit % stripes * STRIPE
        at, size = (group * rows, left), (rows, min(STRIPE, columns - left))
        first = group * columns + left
        if not is_given:
            _fill_exponents(x, at, size, exponents, first)
        _fill_stripe(exponents, place, (first, size[1]), stripe)
        _turn_stripe(x, (at, size), stripe, np.uint32(place[2]), is_stochastic, (mantissas, first))


@kernel
def quantise_delta(pair: tuple[I32, I32], bits: int, outputs: tuple[I8, I32], start: int, stop: int) -> None:
    """Quantise rows [start, stop) of the pair's difference, rounded to nearest; bits counts the sign."""
    after, before = pair
    mantissas, exponents = outputs
    highest = (1 << (bits - 1)) - 1
    columns = after.shape[1]
    for i in range(start, stop):
        tallest = 0
        for j in range(columns):
            tallest |= abs(widen(after[i, j]) - widen(before[i, j]))
        exponent = max(0, compute_bit_length_scalar(tallest) - (bits - 1))
        half = (1 << exponent) >> 1
        exponents[i, 0] = exponent
        for j in range(columns):
            value = (widen(after[i, j]) - widen(before[i, j]) + half) >> exponent
            mantissas[i, j] = min(max(value, -highest), highest)
