"""The compiled optimizer: both moments, the bounded update and the decay in one pass without division or root.

The twin of `update_adam` and `compute_reciprocal_root`, where every bound is derived. Factors are below 2**32 and are
said to be, so that vector units multiply them in one instruction.
"""

from ml import arithmetic
from ml.arithmetic import I32
from ml.backends import AdamState
from ml.backends.cpu.kernel import kernel
from ml.backends.cpu.scalar import compute_bit_length_scalar, multiply_short, saturate_scalar, widen

_BOUND, _UPDATE_MAX, _CORRECTION_BITS = (
    arithmetic.WEIGHT_GRADIENT_MAX,
    arithmetic.UPDATE_MAX,
    arithmetic.CORRECTION_BITS,
)
_MEAN_BITS, _MEAN_SHIFT, _VARIANCE_SHIFT = arithmetic.MEAN_BITS, arithmetic.MEAN_SHIFT, arithmetic.VARIANCE_SHIFT
_MEAN_HALF, _VARIANCE_HALF = 1 << (_MEAN_SHIFT - 1), 1 << (_VARIANCE_SHIFT - 1)
_FLOOR = arithmetic.VARIANCE_FLOOR
_ROOT_0, _ROOT_1, _ROOT_2 = arithmetic.ROOT_0, arithmetic.ROOT_1, arithmetic.ROOT_2
_QUOTIENT_DROP = 16 - _MEAN_BITS


@kernel
def compute_reciprocal_root_scalar(x: int) -> tuple[int, int]:
    """Return y and shift with 1 / sqrt(x) = y / 2**shift of 2**5 <= x < 2**62."""
    length = compute_bit_length_scalar(x)
    even = length + (length & 1)
    mantissa = (x << max(31 - even, 0)) >> max(even - 31, 0)
    y = _ROOT_0 - (multiply_short(mantissa, _ROOT_1 - (multiply_short(mantissa, _ROOT_2) >> 31)) >> 31)
    # The root's reciprocal is approached from below, so y * y >> 30 is below 2**32 when it is multiplied.
    y = multiply_short(y, (3 << 30) - (multiply_short(mantissa, multiply_short(y, y) >> 30) >> 31)) >> 31
    y = multiply_short(y, (3 << 30) - (multiply_short(mantissa, multiply_short(y, y) >> 30) >> 31)) >> 31
    return y, 30 + (even >> 1)


@kernel
def update_adam(
    state: AdamState, gradient: I32, rates: tuple[int, int, int], results: AdamState, start: int, stop: int
) -> None:
    """Write elements [start, stop) of w, m, v, all flat, after a step; rates: correction F30, rate, decay F32."""
    # Slices, because indexes from zero on are known to be positive, and only then the loop becomes vector code.
    w, m, v, g_i32 = state[0][start:stop], state[1][start:stop], state[2][start:stop], gradient[start:stop]
    w_after, m_after, v_after = results[0][start:stop], results[1][start:stop], results[2][start:stop]
    correction, rate, decay = rates
    for i in range(stop - start):
        g = min(max(widen(g_i32[i]), -_BOUND), _BOUND)
        mean, variance = widen(m[i]), v[i]
        mean += ((g << _MEAN_BITS) - mean + _MEAN_HALF) >> _MEAN_SHIFT
        variance += (g * g - variance + _VARIANCE_HALF) >> _VARIANCE_SHIFT
        m_after[i] = mean
        v_after[i] = variance
        reciprocal, shift = compute_reciprocal_root_scalar(widen(variance + _FLOOR))
        quotient = multiply_short(abs(mean), reciprocal) >> (shift - _QUOTIENT_DROP)
        size = multiply_short(min(quotient, _UPDATE_MAX), correction) >> _CORRECTION_BITS
        step = size * rate
        moved = ((-step if mean < 0 else step) + (1 << 23)) >> 24
        before = widen(w[i])
        w_after[i] = saturate_scalar(before - moved - ((before * decay + (1 << 31)) >> 32))
