"""Exact int8 matmul: an own kernel for small shapes, the machine's int8 units for large ones.

`torch._int_mm` sums in int16 on machines without VNNI and is then silently wrong, so it is trusted only after an
adversarial self-test, once per process; a machine that fails it uses the own kernel throughout. Torch is imported
only when a large product asks for it.
"""

from functools import cache

import numpy as np

from ml.arithmetic import I8, I32
from ml.backends.cpu.kernel import kernel

LARGE_MACS = 1 << 23
"""Multiply-accumulates from which a call into torch pays for itself."""


@kernel
def multiply_small(a: I8, b: I8) -> I32:
    """Return a (M, K) int8 times b (N, K) int8 transposed: (M, N) int32, exact for K < 2**17."""
    rows, depth = a.shape
    columns = b.shape[0]
    result = np.empty((rows, columns), np.int32)
    a_i16, b_i16 = a.astype(np.int16), b.astype(np.int16)
    for i in range(rows):
        left = a_i16[i]
        for j in range(columns):
            right = b_i16[j]
            total = np.int32(0)
            for k in range(depth):
                total += np.int32(left[k]) * np.int32(right[k])
            result[i, j] = total
    return result


def multiply(a: I8, b: I8) -> I32:
    """Return a (M, K) int8 times b (N, K) int8 transposed by the fastest exact path."""
    macs = a.shape[0] * b.shape[0] * a.shape[1]
    if macs >= LARGE_MACS and is_library_exact():
        return _multiply_library(a, b)
    return multiply_small(a, b)


@cache
def is_library_exact() -> bool:
    """Return whether torch multiplies int8 exactly on this machine: worst-case signs, magnitudes and remainders."""
    try:
        return all(np.array_equal(_multiply_library(a, b), multiply_small(a, b)) for a, b in _adversaries())
    except (ImportError, RuntimeError):
        return False


def _adversaries() -> list[tuple[I8, I8]]:
    pairs = []
    for depth in (64, 257, 2048):
        ramp = (np.arange(96 * depth).reshape(96, depth) * 89 % 255 - 127).astype(np.int8)
        for value in (127, -127, -128):
            flat = np.full((96, depth), value, np.int8)
            pairs += [(flat, flat), (flat, ramp), (ramp, flat), (ramp, ramp[::-1].copy())]
    return pairs


def _multiply_library(a: I8, b: I8) -> I32:
    import torch  # noqa: PLC0415 - a large and slow import that small tasks never need

    product: I32 = torch._int_mm(torch.from_numpy(a), torch.from_numpy(b).t()).numpy()
    return product
