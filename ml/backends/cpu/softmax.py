"""Compiled softmax in base 2: of attention's scores, its backward pass, and the loss.

The twin of the methods of the same purpose in `ml.backends.reference`, where every bound is derived. The exponential is
32-bit arithmetic with one table lookup for the value and one for its slope.
"""

from functools import cache

import numpy as np

from ml import arithmetic
from ml.arithmetic import I32, I64, get_exp2_table
from ml.backends.cpu.kernel import kernel
from ml.backends.cpu.scalar import compute_bit_length_scalar, round_shift_scalar, saturate_scalar, widen

_LOG2_E = arithmetic.LOG2_E_F30
_P_BITS, _P_DROP = arithmetic.PROBABILITY_BITS, 62 - arithmetic.PROBABILITY_BITS
_ONE_F24 = 1 << _P_BITS
_SCORE_DROP = _P_BITS + arithmetic.GRADIENT_BITS - arithmetic.SCORE_GRADIENT_BITS
_SCORE_HALF = 1 << (_SCORE_DROP - 1)
_POWER_MAX = 32 << 24


@cache
def get_table() -> I32:
    """Return values and slopes (2, 256) int32 of the table of powers."""
    table = get_exp2_table()
    return np.stack([table[:-1], table[:-1] - table[1:]]).astype(np.int32)


@kernel
def compute_exp2_scalar(power: int, table: I32) -> int:
    """Return 2**(-power) in F30 for power >= 0 in F24; table is `get_table`'s."""
    x = np.uint32(min(power, _POWER_MAX))
    whole, index, rest = x >> np.uint32(24), (x >> np.uint32(16)) & np.uint32(255), x & np.uint32(0xFFFF)
    value = np.uint32(widen(table[0, index]) - ((widen(table[1, index]) * widen(rest)) >> 16))
    shift = np.uint32(whole & np.uint32(31))
    rounded = np.uint32(np.uint32(value + np.uint32(np.uint32(1 << shift) >> np.uint32(1))) >> shift)
    return widen(rounded) if whole < np.uint32(32) else 0


@kernel
def _fill_terms(z: I32, place: tuple[int, int, int], table: I32, terms: I64) -> tuple[int, int]:
    """Write the terms of the first `count` elements of row i; return the highest element and the terms' sum."""
    i, count, scale = place
    highest = z[i, 0]
    for j in range(count):
        highest = max(highest, z[i, j])
    top, total = widen(highest), 0
    for j in range(count):
        power = ((top - widen(z[i, j])) * scale + (1 << 21)) >> 22
        term = compute_exp2_scalar(power, table)
        terms[j] = term
        total += term
    return top, total


@kernel
def causal_softmax(scores: I32, scale: int, table: I32, result: I32, start: int, stop: int) -> None:
    """Write rows [start, stop) of the probabilities F24; scale is log2(e) / sqrt(head width) in F30."""
    context = scores.shape[1]
    terms = np.empty(context, np.int64)
    for i in range(start, stop):
        visible = i % context + 1
        _, total = _fill_terms(scores, (i, visible, scale), table, terms)
        reciprocal = (1 << 62) // total
        for j in range(visible):
            result[i, j] = (terms[j] * reciprocal) >> _P_DROP
        for j in range(visible, context):
            result[i, j] = 0


@kernel
def causal_softmax_backward(
    probabilities: I32, gradient: I32, root_scale: int, result: I32, start: int, stop: int
) -> None:
    """Write rows [start, stop) of the scores' gradient F28; root_scale is 1 / sqrt(head width) in F16."""
    for i in range(start, stop):
        total = 0
        for j in range(probabilities.shape[1]):
            total += widen(probabilities[i, j]) * widen(gradient[i, j])
        mean = round_shift_scalar(total, _P_BITS)
        for j in range(probabilities.shape[1]):
            product = widen(probabilities[i, j]) * (widen(gradient[i, j]) - mean)
            scaled = ((product + _SCORE_HALF) >> _SCORE_DROP) * root_scale
            result[i, j] = saturate_scalar((scaled + (1 << 15)) >> 16)


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
def compute_loss_gradient(z: I32, labels: I32, table: I32, outputs: tuple[I32, I32], start: int, stop: int) -> None:
    """Write rows [start, stop) of softmax - onehot (rows, classes) F24 and of the loss (rows, 1) F16 in bits."""
    gradient, loss = outputs
    classes = z.shape[1]
    terms = np.empty(classes, np.int64)
    for i in range(start, stop):
        top, total = _fill_terms(z, (i, classes, _LOG2_E), table, terms)
        reciprocal = (1 << 62) // total
        for j in range(classes):
            gradient[i, j] = (terms[j] * reciprocal) >> _P_DROP
        label = widen(labels[i, 0])
        gradient[i, label] -= np.int32(_ONE_F24)
        power = ((top - widen(z[i, label])) * _LOG2_E + (1 << 21)) >> 22
        bits = compute_log2_scalar(total) - (arithmetic.EXP2_BITS << 16) + round_shift_scalar(power, 8)
        loss[i, 0] = saturate_scalar(max(bits, 0))
