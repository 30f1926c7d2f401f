"""The integer rules of training: how a shift rounds, where a value saturates, how a quotient is taken.

No other module rounds. All functions work on int64 arrays or Python integers and hold no state; the bounds that keep
an intermediate inside int64 stand beside the code that relies on them. Right shifts round half up, square roots and
quotients floor magnitudes. INT32_MIN never occurs: values saturate symmetrically.
"""

from functools import cache
from math import isqrt
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

I8: TypeAlias = npt.NDArray[np.int8]
I32: TypeAlias = npt.NDArray[np.int32]
I64: TypeAlias = npt.NDArray[np.int64]
U64: TypeAlias = npt.NDArray[np.uint64]
IntArray: TypeAlias = I8 | I32 | I64

INT32_MAX = 2**31 - 1
MANTISSA_MAX = 63
MANTISSA_BITS = 6

WEIGHT_BITS = 24
ACTIVATION_BITS = 16
GRADIENT_BITS = 24
WEIGHT_GRADIENT_BITS = 16
SCORE_GRADIENT_BITS = 28
"""Gradients of attention scores are products of probabilities: at a long context most are below 2**-20."""
PROBABILITY_BITS = 24
EXP2_BITS = 30
LOG2_E_F30 = 1_549_082_005
"""log2(e) * 2**30, to nearest."""

MEAN_SHIFT = 3
VARIANCE_SHIFT = 6
MEAN_BITS = 4
"""Bits by which the first moment is finer than the gradient."""
WEIGHT_GRADIENT_MAX = (1 << 27) - 1
"""Weight gradients are clamped to it by the optimizer, so that the first moment fits int32: 2,047 in F16."""
VARIANCE_FLOOR = 1 << 8
"""Added to the second moment before its root, F32: the optimizer's epsilon, 2**-12."""
UPDATE_MAX = 10 << 16
"""Cap of one coordinate's update, F16."""
CORRECTION_BITS = 30
ROOT_0, ROOT_1, ROOT_2 = 2_867_780_533, 3_527_609_214, 1_759_392_583
"""F30: 1 / sqrt(x) is near ROOT_0 - x (ROOT_1 - x ROOT_2) for x in [1/4, 1); fitted for the least relative error."""
DECAY_INTERVAL = 16
"""Weight decay is taken every so many steps: at small rates the decay of one step would round to nothing."""
STRONG_DECAY = 1 << 23
"""From a decay of 2**-9 a step on it is taken at every step: all at once it would tear at the weights."""


def get_delta_max(bits: int) -> int:
    """Return the largest mantissa of a delta of so many bits, sign included: 127 of 8, 7 of 4."""
    return (1 << (bits - 1)) - 1


def round_shift(x: I64, shift: int | I64) -> I64:
    """Return x / 2**shift rounded half up; `shift` >= 0, and |x| + 2**(shift - 1) < 2**63."""
    return (x + (np.left_shift(np.int64(1), shift) >> 1)) >> shift


def scale_shift(x: I64, shift: int | I64) -> I64:
    """Return x / 2**shift, rounded half up, for a shift of either sign; |x| * 2**-shift < 2**63."""
    shifts = np.asarray(shift, np.int64)
    return np.where(shifts >= 0, round_shift(x, np.maximum(shifts, 0)), x << np.maximum(-shifts, 0))


def saturate(x: I64) -> I32:
    """Return x clamped to +-(2**31 - 1) as int32."""
    return np.clip(x, -INT32_MAX, INT32_MAX).astype(np.int32)


def compute_bit_length(x: I64) -> I64:
    """Return the number of bits of each x >= 0 (0 for 0)."""
    length, rest = np.zeros_like(x), x.copy()
    for step in (32, 16, 8, 4, 2, 1):
        tall = rest >= np.int64(1) << step
        length += np.where(tall, step, 0)
        rest = np.where(tall, rest >> step, rest)
    return length + rest


def compute_isqrt(x: I64) -> I64:
    """Return floor(sqrt(x)) of each 0 <= x < 2**62, bit by bit."""
    root, rest = np.zeros_like(x), x.copy()
    for bit in (np.int64(1) << shift for shift in range(60, -2, -2)):
        fits = rest >= root + bit
        rest = np.where(fits, rest - root - bit, rest)
        root = np.where(fits, (root >> 1) + bit, root >> 1)
    return root


def compute_reciprocal_root(x: I64) -> tuple[I64, I64]:
    """Return y in (2**29, 2**31] and shift with 1 / sqrt(x) = y / 2**shift to 2**-19, of each 1 <= x < 2**62.

    x is brought to F31 in [1/4, 1) by an even shift; a parabola is within 1/40 of the root's reciprocal there, and two
    of Newton's steps y (3 - x y**2) / 2 leave less than 2**-19. Every product stays below 2**63.
    """
    length = compute_bit_length(x)
    even = length + (length & 1)
    mantissa = np.where(even >= 31, x >> np.maximum(even - 31, 0), x << np.maximum(31 - even, 0))
    y = ROOT_0 - (mantissa * (ROOT_1 - (mantissa * ROOT_2 >> 31)) >> 31)
    for _ in range(2):
        y = y * ((3 << 30) - (mantissa * (y * y >> 30) >> 31)) >> 31
    return y, 30 + (even >> 1)


def divide_magnitude(x: I64, divisor: int) -> I64:
    """Return x // divisor on magnitudes with the sign of x restored; divisor > 0."""
    quotient = np.abs(x) // np.int64(divisor)
    return np.where(x < 0, -quotient, quotient)


@cache
def get_exp2_table() -> I64:
    """Return T[i] = floor(2**30 * 2**(-i/256)) for i in 0..256: eight square roots of an exact integer."""
    table = []
    for i in range(257):
        power = 1 << (EXP2_BITS * 256 - i)
        for _ in range(8):
            power = isqrt(power)
        table.append(power)
    values = np.array(table, np.int64)
    values.setflags(write=False)
    return values


def compute_exp2(x: I64) -> I64:
    """Return 2**(-x) in F30 for x >= 0 in F24: a table with linear interpolation, 0 where x >= 32."""
    table = get_exp2_table()
    whole, index, rest = x >> 24, x >> 16 & 255, x & 0xFFFF
    value = table[index] - ((table[index] - table[index + 1]) * rest >> 16)
    return np.where(whole < 32, round_shift(value, np.minimum(whole, 32)), 0)


def compute_log2(x: I64) -> I64:
    """Return floor(log2(x) * 2**16) of each 1 <= x < 2**62, by squaring."""
    length = compute_bit_length(x) - 1
    mantissa = np.where(length >= 30, x >> np.maximum(length - 30, 0), x << np.maximum(30 - length, 0))
    result = length << 16
    for bit in range(15, -1, -1):
        mantissa = mantissa * mantissa >> 30
        result += mantissa >> 31 << bit
        mantissa >>= mantissa >> 31
    return result


@cache
def compute_bias_correction(step: int) -> int:
    """Return sqrt(1 - beta2**t) / (1 - beta1**t) in F30 for t = step + 1: at most 1."""
    one = 1 << CORRECTION_BITS
    mean = variance = one
    # Both powers have reached zero long before 4,096 steps.
    for _ in range(min(step + 1, 4096)):
        mean = (mean * ((1 << MEAN_SHIFT) - 1)) >> MEAN_SHIFT
        variance = (variance * ((1 << VARIANCE_SHIFT) - 1)) >> VARIANCE_SHIFT
    return (isqrt((one - variance) << CORRECTION_BITS) << CORRECTION_BITS) // (one - mean)


def compute_normal(words: U64) -> I64:
    """Return integers of a near-normal law, F16 (standard deviation 2**16): each the sum of 12 uniforms.

    `words` (3 * n,) are uniform u64, four uniforms of 16 bits each; the result is (n,).
    """
    triples = words.reshape(-1, 3)
    total = np.zeros(len(triples), np.int64)
    for shift in (0, 16, 32, 48):
        total += (triples >> np.uint64(shift) & np.uint64(0xFFFF)).astype(np.int64).sum(axis=1)
    return total - 6 * 0xFFFF
