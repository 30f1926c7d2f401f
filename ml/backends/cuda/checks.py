"""Batched checks compiled for a GPU by Numba, one place a thread, from the same source as the CPU's.

Twin of `ml.backends.reference_checks`. Numba compiles the functions of `ml.backends.cpu.places` again for the device.
With NUMBA_ENABLE_CUDASIM=1 its simulator runs the threads in Python, so that launches are tested without a GPU.
"""

from collections.abc import Callable
from functools import cache
from os import environ
from typing import Protocol, cast

import numba.cuda
import numpy as np
import numpy.typing as npt

from ml.backends import batched_checks as batches
from ml.backends.batched_checks import Arrays, Batch, Verdicts
from ml.backends.cpu import places
from ml.backends.cpu.checks import Check, get_arrays

Launch = Callable[[object, object], None]


class DeviceArray(Protocol):
    """An array on the device."""

    def copy_to_host(self) -> Verdicts:
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

    def is_available(self) -> bool:
        """Return whether there is a GPU."""

    def to_device(self, array: npt.NDArray[np.generic]) -> DeviceArray:
        """Return a copy on the device."""


_THREADS = 128
"""Of a block."""
_IS_SIMULATED = environ.get("NUMBA_ENABLE_CUDASIM") == "1"

_cuda: Cuda = cast(Cuda, numba.cuda)

_PLACES: dict[type[object], Check] = {
    batches.LinearBatch: places.is_linear,
    batches.QuantiseBatch: places.is_quantised,
    batches.ElementwiseBatch: places.is_elementwise,
    batches.NormaliseBatch: places.is_normalised,
    batches.SoftmaxBatch: places.is_softmax,
    batches.SoftmaxBackwardBatch: places.is_softmax_backward,
    batches.LossBatch: places.is_loss,
    batches.AdamBatch: places.is_adam,
    batches.RotateBatch: places.is_rotated,
    batches.EmbedBatch: places.is_embedded,
    batches.SumBatch: places.is_sum,
    batches.EqualBatch: places.is_equal,
}


class CheckDeviceMissing(Exception):
    """No GPU can run the checks, and the simulator was not asked for."""

    def __init__(self) -> None:
        super().__init__(
            "found no CUDA device for Numba, expected one for checks on 'cuda': install numba-cuda and a driver, "
            "verify with ml.backends.cpu.checks, or set NUMBA_ENABLE_CUDASIM=1 to simulate one, slowly"
        )


def make_body(is_sound: Check) -> Launch:
    """Return the code of one thread for a kind of check, not yet compiled."""

    def run(arrays: Arrays, verdicts: Verdicts) -> None:
        place = _cuda.grid(1)
        if place < verdicts.size:
            verdicts[place] = is_sound(place, arrays)

    return cast(Launch, run)


def is_available() -> bool:
    """Return whether a GPU, or the simulator that was asked for, can run checks."""
    return _IS_SIMULATED or _cuda.is_available()


@cache
def _compile(is_sound: Check) -> Kernel:
    return _cuda.jit(make_body(is_sound))


def verify(batch: Batch) -> Verdicts:
    """Return whether each place of the batch holds: (n,) bool; raises CheckDeviceMissing."""
    if not is_available():
        raise CheckDeviceMissing
    count = len(batch.starts) - 1
    if not count:
        return np.zeros(0, np.bool_)
    verdicts, arrays = np.zeros(count, np.bool_), get_arrays(batch)
    threads = min(count, _THREADS)
    grid = -(-count // threads), threads
    if _IS_SIMULATED:
        # Simulated threads call what the CPU's compiler made, which takes arrays of the host.
        _compile(_PLACES[type(batch)])[grid](arrays, verdicts)
        return verdicts
    on_device = _cuda.to_device(verdicts)
    # Uploaded by hand: what a launch uploads by itself it also copies back.
    _compile(_PLACES[type(batch)])[grid](tuple(_cuda.to_device(array) for array in arrays), on_device)
    return on_device.copy_to_host()
