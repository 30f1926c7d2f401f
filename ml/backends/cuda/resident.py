"""Arrays that stay on the device between ops, so that the one walk of a program serves every backend.

A resident backend returns these in place of NumPy arrays, and takes them. They know their shape and dtype, as the walk
asks for them, and come back to the host only when read. They do no arithmetic.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ml.arithmetic import IntArray
from ml.backends.cuda.device import upload

_DTYPES = {
    torch.int8: np.dtype(np.int8),
    torch.int32: np.dtype(np.int32),
    torch.int64: np.dtype(np.int64),
}


@dataclass(frozen=True, slots=True)
class DeviceArray:
    """A tensor in the place of an array."""

    tensor: Tensor

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Return NumPy's name of the element type."""
        return cast(np.dtype[np.generic], _DTYPES[self.tensor.dtype])

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the sizes."""
        return tuple(self.tensor.shape)

    @property
    def nbytes(self) -> int:
        """Return the bytes of all elements."""
        return self.tensor.numel() * self.tensor.element_size()

    def __len__(self) -> int:
        return len(self.tensor)

    def astype(self, dtype: npt.DTypeLike) -> IntArray:
        """Return a copy on the host."""
        return cast(IntArray, self.tensor.cpu().numpy().astype(dtype))


def get_tensor(array: IntArray) -> Tensor:
    """Return the tensor of an array that is on the device, or a copy there of one that is not."""
    given: object = array
    return given.tensor if isinstance(given, DeviceArray) else upload(array)


def make_resident(arrays: tuple[IntArray, ...]) -> tuple[IntArray, ...]:
    """Return copies of `arrays` on the device, for a resident backend."""
    return tuple(cast(IntArray, DeviceArray(upload(array))) for array in arrays)


def fetch(arrays: tuple[IntArray, ...]) -> tuple[IntArray, ...]:
    """Return `arrays`, of a resident backend or of another, on the host."""
    return tuple(_fetch(array) for array in arrays)


def _fetch(array: object) -> IntArray:
    return cast(IntArray, array.tensor.cpu().numpy() if isinstance(array, DeviceArray) else array)
