"""Integer rules for one number in the plain subset of Python that Numba compiles for CPUs and for GPUs alike.

Each function is the scalar twin of the rule of the same name in `ml.arithmetic` and `ml.backends.reference`; they hold
no intrinsic, no vector trick and neither min nor max, which Numba's compiler for GPUs does not take of two numbers. The
rules of `ml.backends.cpu.scalar` that are plain already are used from there.
"""

from ml import arithmetic
from ml.arithmetic import INT32_MAX, U64, IntArray
from ml.backends.cpu.kernel import kernel
from ml.backends.cpu.scalar import compute_isqrt_scalar, round_shift_scalar, widen
from ml.backends.reference import NORM_BITS, NORM_EPSILON

_ROOT_0, _ROOT_1, _ROOT_2 = arithmetic.ROOT_0, arithmetic.ROOT_1, arithmetic.ROOT_2
_SQUARES_MAX = (1 << 62) - 1


@kernel
def get_lower(x: int, y: int) -> int:
    """Return the lower of two numbers."""
    return x if x < y else y


@kernel
def get_higher(x: int, y: int) -> int:
    """Return the higher of two numbers."""
    return x if x > y else y


@kernel
def saturate_one(x: int) -> int:
    """Return x clamped to +-(2**31 - 1)."""
    return get_lower(get_higher(x, -INT32_MAX), INT32_MAX)


@kernel
def count_bits(x: int) -> int:
    """Return the number of bits of x >= 0."""
    length, rest = 0, x
    for half in range(6):
        step = 32 >> half
        if rest >= 1 << step:
            length += step
            rest >>= step
    return length + rest


@kernel
def scale_shift_one(x: int, shift: int) -> int:
    """Return x / 2**shift, rounded half up, for a shift of either sign."""
    return round_shift_scalar(x, shift) if shift >= 0 else x << -shift


@kernel
def compute_reciprocal_root_one(x: int) -> tuple[int, int]:
    """Return y and shift with 1 / sqrt(x) = y / 2**shift, of 1 <= x < 2**62."""
    length = count_bits(x)
    even = length + (length & 1)
    mantissa = x >> (even - 31) if even >= 31 else x << (31 - even)
    y = _ROOT_0 - ((mantissa * (_ROOT_1 - ((mantissa * _ROOT_2) >> 31))) >> 31)
    for _ in range(2):
        y = (y * ((3 << 30) - ((mantissa * ((y * y) >> 30)) >> 31))) >> 31
    return y, 30 + (even >> 1)


@kernel
def compute_exp2_one(x: int, table: IntArray | U64) -> int:
    """Return 2**(-x) in F30 for x >= 0 in F24; table is that of `ml.arithmetic`."""
    whole, index, rest = x >> 24, (x >> 16) & 255, x & 0xFFFF
    if whole >= 32:
        return 0
    high, low = widen(table[index]), widen(table[index + 1])
    return round_shift_scalar(high - (((high - low) * rest) >> 16), whole)


@kernel
def compute_log2_one(x: int) -> int:
    """Return floor(log2(x) * 2**16) of 1 <= x < 2**62."""
    length = count_bits(x) - 1
    mantissa = x >> (length - 30) if length >= 30 else x << (30 - length)
    result = length << 16
    for step in range(16):
        mantissa = (mantissa * mantissa) >> 30
        bit = mantissa >> 31
        result += bit << (15 - step)
        mantissa >>= bit
    return result


@kernel
def compute_norm_one(x: IntArray | U64, start: int, stop: int, root_width: int) -> tuple[int, int, int]:
    """Return the bits that a row drops, and reciprocal and shift of its root mean square."""
    tallest = 0
    for i in range(start, stop):
        tallest = get_higher(tallest, abs(widen(x[i])))
    drop = get_higher(0, count_bits(tallest) - NORM_BITS)
    squares = ((stop - start) * NORM_EPSILON) >> get_lower(2 * drop, 62)
    for i in range(start, stop):
        short = round_shift_scalar(widen(x[i]), drop)
        squares += short * short
    squares = get_lower(get_higher(squares, 1), _SQUARES_MAX)
    even = (62 - count_bits(squares)) & -2
    long = (root_width << 36) // compute_isqrt_scalar(squares << even)
    cut = get_higher(0, count_bits(long) - 31)
    return drop, long >> cut, 40 - (even >> 1) - cut
