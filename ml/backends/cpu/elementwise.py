"""Compiled ops that touch each element or row once: batch, rescale, ReLU, loss, Adam.

The twins of the methods of the same purpose in `ml.backends.reference`, where every bound is derived.
"""

import numpy as np

from ml import arithmetic
from ml.arithmetic import I32, I64
from ml.backends.cpu.kernel import kernel
from ml.backends.cpu.scalar import (
    compute_bit_length_scalar,
    compute_prf_scalar,
    fill_isqrt,
    saturate_scalar,
    widen,
)

_MASK_32, _SHIFT_32 = np.uint64(0xFFFFFFFF), np.uint64(32)
_LOG2_E = arithmetic.LOG2_E_F30
_UPDATE_MAX, _CORRECTION_BITS = arithmetic.UPDATE_MAX, arithmetic.CORRECTION_BITS
_MEAN_BITS, _MEAN_SHIFT, _VARIANCE_SHIFT = arithmetic.MEAN_BITS, arithmetic.MEAN_SHIFT, arithmetic.VARIANCE_SHIFT


@kernel
def draw_batch(x: I32, labels: I32, key: np.uint64, batch: int) -> tuple[I32, I32]:
    """Return the rows whose indexes are (prf * n) >> 64, and their labels."""
    rows, columns = x.shape
    n = np.uint64(rows)
    x_drawn, labels_drawn = np.empty((batch, columns), np.int32), np.empty((batch, 1), np.int32)
    for i in range(batch):
        word = compute_prf_scalar(key, np.uint64(i))
        low = ((word & _MASK_32) * n) >> _SHIFT_32
        row = widen(((word >> _SHIFT_32) * n + low) >> _SHIFT_32)
        x_drawn[i, :] = x[row, :]
        labels_drawn[i, 0] = labels[row, 0]
    return x_drawn, labels_drawn


@kernel
def rescale(product: I32, a_exponents: I32, b_exponents: I32, shift: int) -> I32:
    """Return product (M, N) int32 over 2**(shift - a_exponent - b_exponent), rounded and saturated."""
    rows, columns = product.shape
    result = np.empty((rows, columns), np.int32)
    for i in range(rows):
        row_shift = shift - widen(a_exponents[i, 0])
        for j in range(columns):
            right = row_shift - widen(b_exponents[j, 0])
            left, right = max(-right, 0), max(right, 0)
            value = ((widen(product[i, j]) << left) + ((1 << right) >> 1)) >> right
            result[i, j] = saturate_scalar(value)
    return result


@kernel
def relu(z: I32) -> I32:
    """Return max(z, 0)."""
    result = np.empty_like(z)
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            result[i, j] = max(z[i, j], 0)
    return result


@kernel
def relu_backward(gradient: I32, z: I32) -> I32:
    """Return gradient where z > 0, else 0."""
    result = np.empty_like(z)
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            result[i, j] = gradient[i, j] if z[i, j] > 0 else 0
    return result


@kernel
def compute_exp2_scalar(x: int, table: I64) -> int:
    """Return 2**(-x) in F30 for x >= 0 in F24."""
    whole, index, rest = x >> 24, (x >> 16) & 255, x & 0xFFFF
    if whole >= 32:
        return 0
    low, high = widen(table[index + 1]), widen(table[index])
    value = high - (((high - low) * rest) >> 16)
    return (value + ((1 << whole) >> 1)) >> whole


@kernel
def compute_log2_scalar(x: int) -> int:
    """Return floor(log2(x) * 2**16) of 1 <= x < 2**62."""
    length = compute_bit_length_scalar(x) - 1
    mantissa = x >> (length - 30) if length >= 30 else x << (30 - length)
    result = length << 16
    for step in range(16):
        mantissa = (mantissa * mantissa) >> 30
        bit = mantissa >> 31
        result += bit << (15 - step)
        mantissa >>= bit
    return result


@kernel
def compute_loss_gradient(z: I32, labels: I32, table: I64) -> tuple[I32, I32]:
    """Return softmax - onehot (batch, classes) int32 F20 and the loss (batch, 1) int32 F16 in bits."""
    rows, classes = z.shape
    gradient, loss = np.empty((rows, classes), np.int32), np.empty((rows, 1), np.int32)
    terms = np.empty(classes, np.int64)
    for i in range(rows):
        highest = widen(z[i, 0])
        for j in range(1, classes):
            highest = max(highest, widen(z[i, j]))
        total = 0
        label, label_power = widen(labels[i, 0]), 0
        for j in range(classes):
            power = ((highest - widen(z[i, j])) * _LOG2_E + (1 << 21)) >> 22
            term = compute_exp2_scalar(power, table)
            terms[j] = term
            total += term
            if j == label:
                label_power = (power + 128) >> 8
        for j in range(classes):
            value = (widen(terms[j]) << 24) // total - ((1 << 24) if j == label else 0)
            gradient[i, j] = saturate_scalar((value + 8) >> 4)
        bits = compute_log2_scalar(total) - (30 << 16) + label_power
        loss[i, 0] = saturate_scalar(max(bits, 0))
    return gradient, loss


@kernel
def update_adam(
    state: tuple[I32, I64, I64], gradient: I32, correction: int, rate: int, decay: int
) -> tuple[I32, I64, I64]:
    """Return w int32 F24, m int64 and v int64 after one step; correction in F30, rates in units of 2**-32."""
    w_old, m_old, v_old = state
    rows, columns = w_old.shape
    w, m, v = np.empty_like(w_old), np.empty_like(m_old), np.empty_like(v_old)
    rest, roots = np.empty(columns, np.int64), np.empty(columns, np.int64)
    for i in range(rows):
        for j in range(columns):
            g = widen(gradient[i, j])
            mean, variance = widen(m_old[i, j]), widen(v_old[i, j])
            m[i, j] = mean + (((g << _MEAN_BITS) - mean + 4) >> _MEAN_SHIFT)
            v[i, j] = variance + ((g * g - variance + 32) >> _VARIANCE_SHIFT)
        rest[:] = v[i]
        fill_isqrt(rest, roots)
        for j in range(columns):
            mean = widen(m[i, j])
            quotient = np.uint64(abs(mean) << 8) // np.uint64(widen(roots[j]) + 1)
            capped = min(widen(quotient), _UPDATE_MAX)
            size = (capped * correction) >> _CORRECTION_BITS
            update = -size if mean < 0 else size
            before = widen(w_old[i, j])
            after = before - ((update * rate + (1 << 23)) >> 24) - ((before * decay + (1 << 31)) >> 32)
            w[i, j] = saturate_scalar(after)
    return w, m, v
