"""Compiled softmax in base 2: of attention's scores, its backward pass, and the loss.

The twin of the methods of the same purpose in `ml.backends.reference`, where every bound is derived. The exponential is
32-bit arithmetic with one table lookup for the value and one for its slope.
"""

from functools import cache

import numpy as np

from ml import arithmetic
from ml.arithmetic import I32, I64, get_exp2_table
from ml.backends.cpu.kernel import kernel
from ml.backends.cpu.portable import compute_log2_one
from ml.backends.cpu.scalar import multiply_short, round_shift_scalar, saturate_scalar, widen

_LOG2_E = arithmetic.LOG2_E_F30
_P_BITS, _P_DROP = arithmetic.PROBABILITY_BITS, 62 - arithmetic.PROBABILITY_BITS
_ONE_F24 = 1 << _P_BITS
_SCORE_DROP = _P_BITS + arithmetic.GRADIENT_BITS - arithmetic.SCORE_GRADIENT_BITS
_SCORE_HALF = 1 << (_SCORE_DROP - 1)
_POWER_MAX = 32 << 24


@cache
def get_table() -> I64:
    """Return (256,) int64: values of the table of powers, times 2**32, plus their slopes."""
    table = get_exp2_table()
    return (table[:-1] << 32) + (table[:-1] - table[1:])


@kernel
def _interpolate(x: int, entry: int) -> int:
    """Return 2**(-x) in F30 for x in [0, 32] in F24, where the table has `entry`."""
    value, slope = entry >> 32, entry & 0xFFFFFFFF
    whole = x >> 24
    between = value - (multiply_short(slope, x & 0xFFFF) >> 16)
    shift = whole & 31
    return (between + ((1 << shift) >> 1)) >> shift if whole < 32 else 0


@kernel
def _fill_terms(z: I32, place: tuple[int, int, int], table: I64, terms: I64) -> tuple[int, int]:
    """Write the terms of the first `count` elements of row i to terms[0]; return the highest element and their sum.

    terms (2, columns). The lookup has a loop of its own, so that the loops around it become vector code.
    """
    i, count, scale = place
    highest = z[i, 0]
    for j in range(count):
        highest = max(highest, z[i, j])
    top, total = widen(highest), 0
    powers, entries = terms[0], terms[1]
    for j in range(count):
        power = (multiply_short(top - widen(z[i, j]), scale) + (1 << 21)) >> 22
        powers[j] = min(power, _POWER_MAX)
    for j in range(count):
        entries[j] = table[(powers[j] >> 16) & 255]
    for j in range(count):
        term = _interpolate(powers[j], entries[j])
        powers[j] = term
        total += term
    return top, total


@kernel
def causal_softmax(scores: I32, scale: int, table: I64, result: I32, start: int, stop: int) -> None:
    """Write rows [start, stop) of the probabilities F24; scale is log2(e) / sqrt(head width) in F30."""
    context = scores.shape[1]
    terms = np.empty((2, context), np.int64)
    for i in range(start, stop):
        visible = i % context + 1
        _, total = _fill_terms(scores, (i, visible, scale), table, terms)
        reciprocal = (1 << 62) // total
        for j in range(visible):
            result[i, j] = (terms[0, j] * reciprocal) >> _P_DROP
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
def compute_loss_gradient(z: I32, labels: I32, table: I64, outputs: tuple[I32, I32], start: int, stop: int) -> None:
    """Write rows [start, stop) of softmax - onehot (rows, classes) F24 and of the loss (rows, 1) F16 in bits."""
    gradient, loss = outputs
    classes = z.shape[1]
    terms = np.empty((2, classes), np.int64)
    for i in range(start, stop):
        top, total = _fill_terms(z, (i, classes, _LOG2_E), table, terms)
        reciprocal = (1 << 62) // total
        for j in range(classes):
            gradient[i, j] = (terms[0, j] * reciprocal) >> _P_DROP
        label = widen(labels[i, 0])
        gradient[i, label] -= np.int32(_ONE_F24)
        power = ((top - widen(z[i, label])) * _LOG2_E + (1 << 21)) >> 22
        bits = compute_log2_one(total) - (arithmetic.EXP2_BITS << 16) + round_shift_scalar(power, 8)
        loss[i, 0] = saturate_scalar(max(bits, 0))
