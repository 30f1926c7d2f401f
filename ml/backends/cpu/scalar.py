"""The integer rules of `ml.arithmetic` for one number, compiled into the kernels that call them.

Each function is the scalar twin of the rule of the same name; the rules and their bounds are written there. Loops over
them become vector code, so nothing here branches where a choice of two values will do.
"""

from collections.abc import Callable, Sequence
from typing import SupportsInt, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.base import BaseContext
from numba.core.typing.templates import Signature
from numba.extending import intrinsic

from ml.arithmetic import INT32_MAX
from ml.backends.cpu.emit import TypedIntrinsic
from ml.backends.cpu.kernel import kernel
from ml.prf import COLUMN_GAMMA, COLUMN_MIX_1, COLUMN_MIX_2, GAMMA, MIX_1, MIX_2

_GAMMA, _MIX_1, _MIX_2 = np.uint64(GAMMA), np.uint64(MIX_1), np.uint64(MIX_2)
_ONE = np.uint64(1)
_SHIFT_30, _SHIFT_27, _SHIFT_31, _SHIFT_32 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(32)
_MASK_32 = np.uint64(0xFFFFFFFF)
_COLUMN_GAMMA = np.uint32(COLUMN_GAMMA)
_COLUMN_MIX_1, _COLUMN_MIX_2 = np.uint32(COLUMN_MIX_1), np.uint32(COLUMN_MIX_2)
_SHIFT_16_U32, _SHIFT_15_U32 = np.uint32(16), np.uint32(15)


def _type_leading_zeros(typing: object, x: types.Integer) -> TypedIntrinsic:
    del typing, x

    def generate(context: BaseContext, builder: ir.IRBuilder, sig: Signature, values: Sequence[ir.Value]) -> ir.Value:
        del context, sig
        return builder.ctlz(values[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.int64), generate


_count_leading_zeros = cast(Callable[[int], int], intrinsic(_type_leading_zeros))


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
def draw_below_scalar(key: np.uint64, element: int, bound: int) -> int:
    """Return a number in [0, bound): the high word of prf * bound."""
    word, n = compute_prf_scalar(key, np.uint64(element)), np.uint64(bound)
    low = ((word & _MASK_32) * n) >> _SHIFT_32
    return widen(((word >> _SHIFT_32) * n + low) >> _SHIFT_32)


@kernel
def compute_rounding_word(low: np.uint32, high: np.uint32, column: np.uint32) -> np.uint32:
    """Return the 32 rounding bits at `column` of the row whose 64-bit word has these halves."""
    x = np.uint32(low + np.uint32(column * _COLUMN_GAMMA))
    x = np.uint32((x ^ (x >> _SHIFT_16_U32)) * _COLUMN_MIX_1)
    x = np.uint32((x ^ (x >> _SHIFT_15_U32) ^ high) * _COLUMN_MIX_2)
    return np.uint32(x ^ (x >> _SHIFT_16_U32))


@kernel
def get_magnitude_bits(x: np.int32) -> np.uint32:
    """Return |x|: or-ed over a row, it has the bit length of the row's tallest."""
    return np.uint32(abs(x))


@kernel
def round_mantissa(x: np.int32, exponent: np.int32, mask: np.int32, addend: np.int32) -> np.int32:
    """Return (x + addend) >> exponent, never beyond int32; mask = 2**exponent - 1 < 2**30, addend <= mask + 1."""
    whole = np.int32(x >> exponent)
    return np.int32(whole + np.int32(np.int32((x & mask) + addend) >> exponent))


@kernel
def round_shift_scalar(x: int, shift: int) -> int:
    """Return x / 2**shift rounded half up."""
    return (x + ((1 << shift) >> 1)) >> shift


@kernel
def saturate_scalar(x: int) -> int:
    """Return x clamped to +-(2**31 - 1)."""
    return min(max(x, -INT32_MAX), INT32_MAX)


@kernel
def multiply_short(a: int, b: int) -> int:
    """Return a * b of two numbers in [0, 2**32), which vector units multiply in one instruction."""
    return (a & 0xFFFFFFFF) * (b & 0xFFFFFFFF)


@kernel
def compute_bit_length_scalar(x: int) -> int:
    """Return the number of bits of x >= 0."""
    return 64 - _count_leading_zeros(x)


@kernel
def compute_isqrt_scalar(x: int) -> int:
    """Return floor(sqrt(x)) of 0 <= x < 2**62."""
    root, rest = 0, x
    for half in range(31):
        bit = 1 << (60 - 2 * half)
        trial = root + bit
        fits = rest >= trial
        rest -= trial if fits else 0
        root = (root >> 1) + (bit if fits else 0)
    return root
