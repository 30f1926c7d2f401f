"""Freivalds residues compiled for a GPU by Numba: a thread a column of B, then a few threads a row of A and C.

Twin of `ml.backends.reference_freivalds`. Threads that stand side by side read side by side and write one part of a sum
each, which the host adds up modulo p. With NUMBA_ENABLE_CUDASIM=1 Numba's simulator runs them in Python.
"""

from collections.abc import Callable
from functools import cache
from os import environ
from typing import Protocol, TypeAlias, cast

import numba.cuda
import numpy as np

from ml.arithmetic import I8, I32, I64, IntArray
from ml.backends.cuda.checks import CheckDeviceMissing, is_available
from ml.backends.reference_freivalds import MODULUS, OUT_OF_RANGE, VECTORS, Product

Arrays: TypeAlias = tuple[IntArray, ...]
Launch = Callable[[object, object], None]


class DeviceSums(Protocol):
    """An int64 array on the device."""

    def copy_to_host(self) -> I64:
        """Return a copy on the host."""


class Kernel(Protocol):
    """A kernel that is launched over blocks of threads."""

    def __getitem__(self, grid: tuple[int, int]) -> Launch:
        """Return the launch over this many blocks of this many threads."""


class Cuda(Protocol):
    """What is used of `numba.cuda`, which ships no types."""

    def grid(self, dimensions: int) -> int:
        """Return the number of the calling thread."""

    def jit(self, body: Launch) -> Kernel:
        """Return the kernel of a thread's code."""

    def to_device(self, array: IntArray) -> DeviceSums:
        """Return a copy on the device."""


_IS_SIMULATED = environ.get("NUMBA_ENABLE_CUDASIM") == "1"
_THREADS = 128
"""Of a block."""
_THREADS_OF_ROW = 2 if _IS_SIMULATED else 32

_cuda: Cuda = cast(Cuda, numba.cuda)


def _run_column(arrays: Arrays, result: I64) -> None:
    """Write one column of one group's B times both vectors, modulo p: result (groups, 2, K)."""
    b, vectors = arrays
    thread, columns, depth = _cuda.grid(1), vectors.shape[1], b.shape[1]
    group, k = thread // depth, thread % depth
    if group >= result.shape[0]:
        return
    first, second = 0, 0
    for j in range(columns):
        # |operand| <= 2**7 and an entry < 2**31: 2**17 of them stay below 2**55.
        x = np.int64(b[group * columns + j, k])
        first += x * vectors[0, j]
        second += x * vectors[1, j]
    result[group, 0, k] = first % MODULUS
    result[group, 1, k] = second % MODULUS


def _run_row(arrays: Arrays, result: I64) -> None:
    """Write one thread's part of one row's residues: result (rows, threads of a row, 2)."""
    a, c, vectors, projected, bounds = arrays
    thread, step, rows = _cuda.grid(1), result.shape[1], c.shape[0] // projected.shape[0]
    row, start = thread // step, thread % step
    if row >= c.shape[0]:
        return
    group, first, second = row // rows, 0, 0
    is_outside = False
    for j in range(start, c.shape[1], step):
        x = np.int64(c[row, j])
        is_outside = is_outside or x > bounds[0] or x < -bounds[0]
        first += x * vectors[0, j] % MODULUS
        second += x * vectors[1, j] % MODULUS
    for k in range(start, a.shape[1], step):
        y = np.int64(a[row, k])
        first -= y * projected[group, 0, k]
        second -= y * projected[group, 1, k]
    result[row, start, 0] = OUT_OF_RANGE if is_outside else first % MODULUS
    result[row, start, 1] = OUT_OF_RANGE if is_outside else second % MODULUS


@cache
def _compile(body: Callable[[Arrays, I64], None]) -> Kernel:
    return _cuda.jit(cast(Launch, body))


def _launch(body: Callable[[Arrays, I64], None], arrays: Arrays, result: I64) -> I64:
    count = result.size // VECTORS
    threads = min(count, _THREADS)
    grid = -(-count // threads), threads
    if _IS_SIMULATED:
        _compile(body)[grid](arrays, result)
        return result
    on_device = _cuda.to_device(result)
    # Uploaded by hand: what a launch uploads by itself it also copies back.
    _compile(body)[grid](tuple(_cuda.to_device(array) for array in arrays), on_device)
    return on_device.copy_to_host()


def compute_residues(product: Product, vectors: I64) -> I64:
    """Return the residues of every row: (groups * M, 2) int64 in [0, p), or OUT_OF_RANGE; raises CheckDeviceMissing."""
    if not is_available():
        raise CheckDeviceMissing
    a, b, c = _get_operands(product)
    projected = _launch(_run_column, (b, vectors), np.zeros((product.groups, VECTORS, a.shape[1]), np.int64))
    arrays = a, c, vectors, projected, np.array([product.bound])
    parts = _launch(_run_row, arrays, np.zeros((len(c), _THREADS_OF_ROW, VECTORS), np.int64))
    residues: I64 = parts.sum(axis=1) % MODULUS
    residues[(parts == OUT_OF_RANGE).any(axis=(1, 2))] = OUT_OF_RANGE
    return residues


def _get_operands(product: Product) -> tuple[I8, I8, I32]:
    return np.ascontiguousarray(product.a), np.ascontiguousarray(product.b), np.ascontiguousarray(product.c)
