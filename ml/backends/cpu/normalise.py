"""Compiled normalisation of rows by their root mean square, forward and backward.

The twin of `normalise` and `normalise_backward` in `ml.backends.reference`, where every bound is derived.
"""

import numpy as np

from ml.arithmetic import ACTIVATION_BITS, I32, I64
from ml.backends.cpu.kernel import kernel
from ml.backends.cpu.scalar import (
    compute_bit_length_scalar,
    compute_isqrt_scalar,
    get_magnitude_bits,
    round_shift_scalar,
    saturate_scalar,
    widen,
)
from ml.backends.reference import NORM_BITS, NORM_EPSILON


@kernel
def _compute_norm(x: I32, i: int, root_width: int) -> tuple[int, int, int]:
    """Return the bits that row i drops, and reciprocal and shift of its root mean square."""
    width = x.shape[1]
    tallest = np.uint32(0)
    for j in range(width):
        tallest |= get_magnitude_bits(x[i, j])
    drop = max(0, compute_bit_length_scalar(widen(tallest)) - NORM_BITS)
    half = (1 << drop) >> 1
    total = (width * NORM_EPSILON) >> min(2 * drop, 62)
    for j in range(width):
        short = (widen(x[i, j]) + half) >> drop
        total += short * short
    even = (62 - compute_bit_length_scalar(total)) & -2
    long = (root_width << 36) // compute_isqrt_scalar(total << even)
    cut = max(0, compute_bit_length_scalar(long) - 31)
    return drop, long >> cut, 40 - (even >> 1) - cut


@kernel
def normalise(x: I32, root_width: int, result: I32, start: int, stop: int) -> None:
    """Write rows [start, stop) of x times the reciprocal of their norms; root_width is sqrt(width) in F20."""
    for i in range(start, stop):
        drop, reciprocal, shift = _compute_norm(x, i, root_width)
        drop_half, half = (1 << drop) >> 1, (1 << shift) >> 1
        for j in range(x.shape[1]):
            short = (widen(x[i, j]) + drop_half) >> drop
            result[i, j] = saturate_scalar((short * reciprocal + half) >> shift)


@kernel
def normalise_backward(gradient: I32, x: I32, root_width: int, result: I32, start: int, stop: int) -> None:
    """Write rows [start, stop) of (gradient - y mean(gradient y)) over the norm."""
    width = x.shape[1]
    y: I64 = np.empty(width, np.int64)
    for i in range(start, stop):
        drop, reciprocal, shift = _compute_norm(x, i, root_width)
        drop_half, half = (1 << drop) >> 1, (1 << shift) >> 1
        total = 0
        for j in range(width):
            short = (widen(x[i, j]) + drop_half) >> drop
            y[j] = saturate_scalar((short * reciprocal + half) >> shift)
            total += widen(gradient[i, j]) * y[j]
        magnitude = abs(total) // width
        mean = round_shift_scalar(-magnitude if total < 0 else magnitude, ACTIVATION_BITS)
        back, back_half = shift + drop, (1 << (shift + drop)) >> 1
        for j in range(width):
            along = (y[j] * mean + (1 << (ACTIVATION_BITS - 1))) >> ACTIVATION_BITS
            rest = saturate_scalar(widen(gradient[i, j]) - along)
            result[i, j] = saturate_scalar((rest * reciprocal + back_half) >> back)
