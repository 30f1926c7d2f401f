"""The integer rules of `ml.arithmetic` for one number, compiled into the kernels that call them.

Each function is the scalar twin of the rule of the same name; the rules and their bounds are written there.
"""

from typing import SupportsInt

import numpy as np

from ml.arithmetic import I64, INT32_MAX
from ml.backends.cpu.kernel import kernel
from ml.prf import GAMMA, MIX_1, MIX_2

_GAMMA, _MIX_1, _MIX_2 = np.uint64(GAMMA), np.uint64(MIX_1), np.uint64(MIX_2)
_ONE = np.uint64(1)
_SHIFT_30, _SHIFT_27, _SHIFT_31 = np.uint64(30), np.uint64(27), np.uint64(31)


@kernel
def widen(x: SupportsInt) -> int:
    """Return an element of an array as int64, so that arithmetic on it has room."""
    # In compiled code int() would keep the width of its argument.
    return np.int64(x)  # type: ignore[return-value]  # an int64 is what Numba calls int


@kernel
def compute_prf_scalar(key: np.uint64, element: np.uint64) -> np.uint64:
    """Return the u64 at `element` of the stream of `key`."""
    x = key + (element + _ONE) * _GAMMA
    x = (x ^ (x >> _SHIFT_30)) * _MIX_1
    x = (x ^ (x >> _SHIFT_27)) * _MIX_2
    return x ^ (x >> _SHIFT_31)


@kernel
def saturate_scalar(x: int) -> int:
    """Return x clamped to +-(2**31 - 1)."""
    return min(max(x, -INT32_MAX), INT32_MAX)


@kernel
def compute_bit_length_scalar(x: int) -> int:
    """Return the number of bits of x >= 0."""
    length = 0
    while x > 0:
        x >>= 1
        length += 1
    return length


@kernel
def fill_isqrt(rest: I64, roots: I64) -> None:
    """Write floor(sqrt(x)) of each 0 <= x < 2**62 in `rest` (n,) to `roots` (n,); `rest` is used up.

    The bits run outside and the numbers inside, without a branch, so that the inner loop becomes vector code.
    Bits above the highest number would leave every root at zero and are skipped.
    """
    roots[:] = 0
    highest = np.int64(0)
    for i in range(rest.size):
        highest = max(highest, rest[i])
    halves = (compute_bit_length_scalar(widen(highest)) + 1) // 2
    for half in range(halves):
        bit = 1 << (2 * (halves - 1 - half))
        for i in range(rest.size):
            trial = roots[i] + bit
            fits = -np.int64(rest[i] >= trial)
            rest[i] -= trial & fits
            roots[i] = (roots[i] >> 1) + (bit & fits)
