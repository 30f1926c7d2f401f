"""Compiled quantisation: mantissas of 7 or 8 bits and one power-of-two exponent a row.

The twin of `_quantise` in `ml.backends.reference`. A transposed tensor is read in place: its columns' maxima first.
"""

import numpy as np

from ml.arithmetic import DELTA_BITS, DELTA_MAX, I8, I32, I64, MANTISSA_BITS, MANTISSA_MAX
from ml.backends.cpu.kernel import kernel
from ml.backends.cpu.scalar import compute_bit_length_scalar, compute_prf_scalar, widen

Quantised = tuple[I8, I32]


@kernel
def quantise_rows(x: I32) -> Quantised:
    """Return the rows of x (rows, columns) int32 rounded to nearest."""
    rows, columns = x.shape
    mantissas, exponents = np.empty((rows, columns), np.int8), np.empty((rows, 1), np.int32)
    for i in range(rows):
        tallest = 0
        for j in range(columns):
            tallest = max(tallest, abs(widen(x[i, j])))
        exponent = max(0, compute_bit_length_scalar(tallest) - MANTISSA_BITS)
        half = (1 << exponent) >> 1
        exponents[i, 0] = exponent
        for j in range(columns):
            value = (widen(x[i, j]) + half) >> exponent
            mantissas[i, j] = min(max(value, -MANTISSA_MAX), MANTISSA_MAX)
    return mantissas, exponents


@kernel
def quantise_rows_stochastic(x: I32, key: np.uint64) -> Quantised:
    """Return the rows of x (rows, columns) int32 rounded by the stream of `key`."""
    rows, columns = x.shape
    mantissas, exponents = np.empty((rows, columns), np.int8), np.empty((rows, 1), np.int32)
    for i in range(rows):
        tallest = 0
        for j in range(columns):
            tallest = max(tallest, abs(widen(x[i, j])))
        exponent = max(0, compute_bit_length_scalar(tallest) - MANTISSA_BITS)
        mask = np.uint64((1 << exponent) - 1)
        exponents[i, 0] = exponent
        for j in range(columns):
            noise = widen(compute_prf_scalar(key, np.uint64(i * columns + j)) & mask)
            value = (widen(x[i, j]) + noise) >> exponent
            mantissas[i, j] = min(max(value, -MANTISSA_MAX), MANTISSA_MAX)
    return mantissas, exponents


@kernel
def quantise_transposed(x: I32) -> Quantised:
    """Return the columns of x (rows, columns) int32 as rows, rounded to nearest."""
    rows, columns = x.shape
    mantissas, exponents = np.empty((columns, rows), np.int8), compute_column_exponents(x)
    for j in range(columns):
        exponent = widen(exponents[j, 0])
        half = (1 << exponent) >> 1
        for i in range(rows):
            value = (widen(x[i, j]) + half) >> exponent
            mantissas[j, i] = min(max(value, -MANTISSA_MAX), MANTISSA_MAX)
    return mantissas, exponents


@kernel
def quantise_transposed_stochastic(x: I32, key: np.uint64) -> Quantised:
    """Return the columns of x (rows, columns) int32 as rows, rounded by the stream of `key`."""
    rows, columns = x.shape
    mantissas, exponents = np.empty((columns, rows), np.int8), compute_column_exponents(x)
    for j in range(columns):
        exponent = widen(exponents[j, 0])
        mask = np.uint64((1 << exponent) - 1)
        for i in range(rows):
            noise = widen(compute_prf_scalar(key, np.uint64(j * rows + i)) & mask)
            value = (widen(x[i, j]) + noise) >> exponent
            mantissas[j, i] = min(max(value, -MANTISSA_MAX), MANTISSA_MAX)
    return mantissas, exponents


@kernel
def compute_column_exponents(x: I32) -> I32:
    """Return the exponent of each column of x: (columns, 1) int32."""
    rows, columns = x.shape
    tallest: I64 = np.zeros(columns, np.int64)
    for i in range(rows):
        for j in range(columns):
            tallest[j] = max(tallest[j], abs(widen(x[i, j])))
    exponents = np.empty((columns, 1), np.int32)
    for j in range(columns):
        exponents[j, 0] = max(0, compute_bit_length_scalar(tallest[j]) - MANTISSA_BITS)
    return exponents


@kernel
def quantise_delta(after: I32, before: I32) -> Quantised:
    """Return after - before by rows, rounded to nearest, in 8 bits."""
    rows, columns = after.shape
    mantissas, exponents = np.empty((rows, columns), np.int8), np.empty((rows, 1), np.int32)
    for i in range(rows):
        tallest = 0
        for j in range(columns):
            tallest = max(tallest, abs(widen(after[i, j]) - widen(before[i, j])))
        exponent = max(0, compute_bit_length_scalar(tallest) - DELTA_BITS)
        half = (1 << exponent) >> 1
        exponents[i, 0] = exponent
        for j in range(columns):
            value = (widen(after[i, j]) - widen(before[i, j]) + half) >> exponent
            mantissas[i, j] = min(max(value, -DELTA_MAX), DELTA_MAX)
    return mantissas, exponents
