"""Compiled ops that touch each element once, for itself: rescaling, activations, residual adds.

The twins of the methods of the same purpose in `ml.backends.reference`, where every bound is derived. A kernel fills
the rows [start, stop) of its result, so that ranges can run side by side.
"""

import numpy as np

from ml.arithmetic import ACTIVATION_BITS, I32, INT32_MAX
from ml.backends.cpu.kernel import kernel
from ml.backends.cpu.scalar import saturate_scalar, widen

_MAX, _MIN = np.int32(INT32_MAX), np.int32(-INT32_MAX)
_ZERO, _ONE, _LAST = np.int32(0), np.int32(1), np.int32(31)
_SQUARE_HALF, _DOUBLE_HALF = 1 << (ACTIVATION_BITS - 1), 1 << (ACTIVATION_BITS - 2)


@kernel
def rescale_scalar(product: np.int32, right: np.int32) -> np.int32:
    """Return product / 2**right, rounded half up and saturated, for a shift of either sign, without leaving int32."""
    # To the right: all bits but the last, then the last one rounds. From 32 bits on nothing is left but zero.
    short = np.int32(product >> min(max(np.int32(right - _ONE), _ZERO), _LAST))
    rounded = np.int32(np.int32(short >> _ONE) + np.int32(short & _ONE))
    # To the left: what does not come back has overflowed.
    left = min(max(np.int32(-right), _ZERO), _LAST)
    shifted = np.int32(product << left)
    bound = _MIN if product < _ZERO else _MAX
    kept = max(shifted, _MIN) if np.int32(shifted >> left) == product else bound
    return np.int32(rounded if right > _ZERO else kept)


@kernel
def rescale(product: I32, exponents: tuple[I32, I32], shift: int, result: I32, start: int, stop: int) -> None:
    """Write product (M, N) int32 over 2**(shift - a_exponent - b_exponent) to `result`, which may be `product`."""
    a_exponents, b_exponents = exponents
    for i in range(start, stop):
        row_shift = np.int32(shift - widen(a_exponents[i, 0]))
        for j in range(product.shape[1]):
            result[i, j] = rescale_scalar(product[i, j], np.int32(row_shift - b_exponents[j, 0]))


@kernel
def relu(z: I32, result: I32, start: int, stop: int) -> None:
    """Write max(z, 0)."""
    for i in range(start, stop):
        for j in range(z.shape[1]):
            result[i, j] = max(z[i, j], _ZERO)


@kernel
def relu_backward(gradient: I32, z: I32, result: I32, start: int, stop: int) -> None:
    """Write gradient where z > 0, else 0."""
    for i in range(start, stop):
        for j in range(z.shape[1]):
            result[i, j] = gradient[i, j] if z[i, j] > 0 else _ZERO


@kernel
def relu_squared(h: I32, result: I32, start: int, stop: int) -> None:
    """Write max(h, 0)**2."""
    for i in range(start, stop):
        for j in range(h.shape[1]):
            positive = widen(max(h[i, j], _ZERO))
            result[i, j] = min((positive * positive + _SQUARE_HALF) >> ACTIVATION_BITS, INT32_MAX)


@kernel
def relu_squared_backward(gradient: I32, h: I32, result: I32, start: int, stop: int) -> None:
    """Write 2 max(h, 0) gradient."""
    for i in range(start, stop):
        for j in range(h.shape[1]):
            product = widen(max(h[i, j], _ZERO)) * widen(gradient[i, j])
            result[i, j] = saturate_scalar((product + _DOUBLE_HALF) >> (ACTIVATION_BITS - 1))


@kernel
def add(a: I32, b: I32, result: I32, start: int, stop: int) -> None:
    """Write a + b, saturated."""
    for i in range(start, stop):
        for j in range(a.shape[1]):
            result[i, j] = saturate_scalar(widen(a[i, j]) + widen(b[i, j]))
