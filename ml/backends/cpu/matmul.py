"""Exact int8 matmul: an own kernel for small and grouped shapes, the machine's int8 units for large ones.

`torch._int_mm` sums in int16 on machines without VNNI and is then silently wrong, so it is trusted only after an
adversarial self-test, once per process; a machine that fails it uses the own kernel throughout. Torch is imported
only when a large product asks for it.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt

from ml.arithmetic import I8, I32
from ml.backends.cpu.elementwise import rescale, rescale_scalar
from ml.backends.cpu.emit import LANES
from ml.backends.cpu.kernel import kernel
from ml.backends.cpu.pairs import COLUMNS_AT_ONCE, ROWS_AT_ONCE, fill_sums, pack_block
from ml.backends.cpu.scalar import widen
from ml.backends.cpu.units import PORTABLE, get_units

LARGE_MACS = 1 << 23
"""Multiply-accumulates from which a call into torch pays for itself."""
SCRATCH_ELEMENTS = 1 << 18
"""Elements of a product that stay in cache until they are rescaled: 1 MiB. Writing a product to memory and reading it
again takes longer than computing it."""
Operands = tuple[I8, I32, I8, I32]
"""Mantissas and exponents of a, then of b."""

I16 = npt.NDArray[np.int16]


@kernel
def _round_up(n: int, to: int) -> int:
    return (n + to - 1) // to * to


@kernel
def _pack_rows(a: I8, place: tuple[int, int], packed: I16) -> None:
    """Copy `count` rows of a (rows, K) from `first` on, as int16, into packed (8 n, even depth), with zeros around."""
    first, count = place
    depth = a.shape[1]
    for i in range(count):
        for k in range(depth):
            packed[i, k] = a[first + i, k]
        for k in range(depth, packed.shape[1]):
            packed[i, k] = 0
    for i in range(count, packed.shape[0]):
        for k in range(packed.shape[1]):
            packed[i, k] = 0


@kernel
def _pack_columns(b: I8, place: tuple[int, int], packed: I16) -> None:
    """Lay `count` rows of b (rows, K) from `first` out as pairs along K: packed (pairs, 2 x 32 n), with zeros."""
    first, count = place
    depth, stride = b.shape[1], packed.shape[1]
    whole_depth, whole_count = depth // (2 * LANES) * (2 * LANES), count // LANES * LANES
    if whole_depth < 2 * packed.shape[0] or 2 * whole_count < stride:
        for pair in range(packed.shape[0]):
            for j in range(stride):
                packed[pair, j] = 0
    for j in range(0, whole_count, LANES):
        for k in range(0, whole_depth, 2 * LANES):
            pack_block(b, ((first + j) * depth + k, depth, (k >> 1) * stride + 2 * j, stride), packed)
    for j in range(count):
        for k in range(whole_depth if j < whole_count else 0, depth):
            packed[k >> 1, 2 * j + (k & 1)] = b[first + j, k]


@kernel
def _multiply_packed(left: I16, right: I16, is_causal: bool, sums: I32) -> None:
    """Write the product of packed operands; of a causal one only the blocks that reach below the diagonal."""
    depth, wide = left.shape[1], right.shape[1] // 2
    for i in range(0, left.shape[0], ROWS_AT_ONCE):
        for j in range(0, wide, COLUMNS_AT_ONCE):
            if is_causal and j >= i + ROWS_AT_ONCE:
                break
            fill_sums(left, right, (i * depth, depth, 2 * j, 2 * wide, depth // 2, i * wide + j, wide), sums)


@kernel
def multiply_range(a: I8, b: I8, result: I32, start: int, stop: int) -> None:
    """Write rows [start, stop) of a (M, K) int8 times b (N, K) int8 transposed; exact for K < 2**17."""
    columns, depth = b.shape
    wide, even = _round_up(columns, COLUMNS_AT_ONCE), _round_up(depth, 2)
    right, left = np.empty((even // 2, 2 * wide), np.int16), np.empty((ROWS_AT_ONCE, even), np.int16)
    sums = np.empty((ROWS_AT_ONCE, wide), np.int32)
    _pack_columns(b, (0, columns), right)
    for i in range(start, stop, ROWS_AT_ONCE):
        count = min(ROWS_AT_ONCE, stop - i)
        _pack_rows(a, (i, count), left)
        _multiply_packed(left, right, False, sums)
        for row in range(count):
            for j in range(columns):
                result[i + row, j] = sums[row, j]


@kernel
def multiply_groups(
    operands: Operands, groups: int, attributes: tuple[int, bool], result: I32, start: int, stop: int
) -> None:
    """Write groups [start, stop) of the rescaled products; attributes: shift, whether zero above the diagonal."""
    a, a_exponents, b, b_exponents = operands
    shift, is_causal = attributes
    rows, columns, depth = a.shape[0] // groups, b.shape[0] // groups, a.shape[1]
    wide, even = _round_up(columns, COLUMNS_AT_ONCE), _round_up(depth, 2)
    right, left = np.empty((even // 2, 2 * wide), np.int16), np.empty((_round_up(rows, ROWS_AT_ONCE), even), np.int16)
    sums, shifts = np.empty((left.shape[0], wide), np.int32), np.empty(columns, np.int32)
    for group in range(start, stop):
        top, first = group * rows, group * columns
        _pack_columns(b, (first, columns), right)
        _pack_rows(a, (top, rows), left)
        _multiply_packed(left, right, is_causal, sums)
        for j in range(columns):
            shifts[j] = shift - widen(b_exponents[first + j, 0])
        for i in range(rows):
            own = a_exponents[top + i, 0]
            seen = min(i + 1, columns) if is_causal else columns
            for j in range(seen):
                result[top + i, j] = rescale_scalar(sums[i, j], np.int32(shifts[j] - own))
            for j in range(seen, columns):
                result[top + i, j] = 0


@cache
def is_library_exact() -> bool:
    """Return whether torch multiplies int8 exactly on this machine: worst-case signs, magnitudes and remainders."""
    try:
        return all(_is_same(a, b) for a, b in _adversaries())
    except (ImportError, RuntimeError):
        return False


def _is_same(a: I8, b: I8) -> bool:
    found, expected = (np.empty((len(a), len(b)), np.int32) for _ in range(2))
    multiply_library_range(a, b, found, 0, len(a))
    multiply_range(a, b, expected, 0, len(a))
    return np.array_equal(found, expected)


def _adversaries() -> list[tuple[I8, I8]]:
    pairs = []
    for depth in (64, 257, 2048):
        ramp = (np.arange(96 * depth).reshape(96, depth) * 89 % 255 - 127).astype(np.int8)
        for value in (127, -127, -128):
            flat = np.full((96, depth), value, np.int8)
            pairs += [(flat, flat), (flat, ramp), (ramp, flat), (ramp, ramp[::-1].copy())]
            pairs += [(ramp[:5], flat[:33]), (flat[:17], ramp[:1])]
    return pairs


def multiply_library_range(a: I8, b: I8, result: I32, start: int, stop: int) -> None:
    """Write rows [start, stop) of a (M, K) int8 times b (N, K) int8 transposed by torch; right where it is exact."""
    import torch  # noqa: PLC0415 - a large and slow import that small tasks never need

    # Whoever spreads the work has threads of his own; two pools would fight for the same cores.
    torch.set_num_threads(1)
    rows = torch.from_numpy(result[start:stop])
    torch._int_mm(torch.from_numpy(a[start:stop]), torch.from_numpy(b).t(), out=rows)


def get_product(macs: int) -> Callable[[I8, I8, I32, int, int], None]:
    """Return the fastest exact function for a product of this size: (a, b, result, start row, stop row).

    Where a machine has no unit for int8, torch takes 306 ms for 2,048 x 768 x 192, which takes ours 13 on AVX2.
    """
    is_library_better = macs >= LARGE_MACS and get_units()[0] != PORTABLE and is_library_exact()
    return multiply_library_range if is_library_better else multiply_range


def multiply_rescaled(operands: Operands, shift: int, result: I32, start: int, stop: int) -> None:
    """Write rows [start, stop) of the rescaled product, by blocks of rows that stay in cache."""
    a, a_exponents, b, b_exponents = operands
    product = get_product(len(a) * b.size)
    size = min(stop - start, max(SCRATCH_ELEMENTS // max(len(b), 1), ROWS_AT_ONCE))
    scratch = np.empty((size, len(b)), np.int32)
    for first in range(start, stop, size):
        last = min(first + size, stop)
        block = scratch[: last - first]
        product(a[first:last], b, block, 0, last - first)
        rescale(block, (a_exponents[first:last], b_exponents), shift, result[first:last], 0, last - first)
