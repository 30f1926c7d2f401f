"""The integer rules of `ml.arithmetic` for one number, compiled into the kernels that call them.

Each function is the scalar twin of the rule of the same name; the rules and their bounds are written there.
"""

from typing import SupportsInt

import numpy as np

from ml.arithmetic import INT32_MAX
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
def compute_isqrt_scalar(x: int) -> int:
    """Return floor(sqrt(x)) of 0 <= x < 2**62 without a branch, so that a loop of it becomes vector code."""
    root = 0
    for half in range(31):
        bit = 1 << (60 - 2 * half)
        trial = root + bit
        fits = -(x >= trial)
        x -= trial & fits
        root = (root >> 1) + (bit & fits)
    return root
