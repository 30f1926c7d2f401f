"""The one door to Triton and to the GPU: decorators that keep a function's type, uploads, and constants that stay.

Kernels work on torch tensors. With TRITON_INTERPRET=1 Triton runs them in Python on tensors of the CPU, so that every
kernel is tested without a GPU; the variable is read when this package is imported. It knows no op.
Source: Tillet, Kung, Cox 2019 (Triton).
"""

from collections.abc import Callable, Sequence
from functools import cache
from os import environ
from typing import Protocol, TypeAlias, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
import triton
import triton.language as tl
from torch import Tensor

from ml.arithmetic import IntArray, get_exp2_table

F = TypeVar("F", bound=Callable[..., object])
Block: TypeAlias = tl.tensor
"""Inside a kernel: a pointer, a number or a block of numbers."""
Constant: TypeAlias = tl.constexpr
"""Inside a kernel: a number or a flag that is compiled in. Its annotation must be written `tl.constexpr`."""

IS_INTERPRETED = environ.get("TRITON_INTERPRET") == "1"
TILE_ELEMENTS = 2048
"""Elements of a tile of a kernel that goes along rows."""
TILE_COLUMNS_MAX = 1024
TILE_ROWS_MAX = 64
_CONSTANTS_MAX = 32


class DeviceMissing(RuntimeError):
    """No GPU can run the kernels, and the interpreter was not asked for."""

    def __init__(self) -> None:
        super().__init__(
            "found no CUDA device, expected one for backend 'cuda': install a CUDA build of torch and see `nvidia-smi`,"
            " choose backend 'cpu', or set TRITON_INTERPRET=1 to run its kernels in Python, slowly"
        )


class Kernel(Protocol):
    """A kernel that is launched over a grid of programs."""

    @property
    def arg_names(self) -> list[str]:
        """Return the names of its parameters in order."""

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., object]:
        """Return the launch over `grid`."""


def function(body: F) -> F:
    """Return `body` as a function that kernels inline."""
    # The interpreter readies the whole language anew for each call of such a function; a kernel has done it for all.
    return body if IS_INTERPRETED else cast(F, triton.jit(body))


def kernel(*, varying: Sequence[str] = ()) -> Callable[[Callable[..., None]], Kernel]:
    """Return a decorator that makes a kernel; it is not compiled anew for other values of the parameters `varying`."""
    return cast(Callable[[Callable[..., None]], Kernel], triton.jit(do_not_specialize=list(varying)))


@cache
def get_device() -> torch.device:
    """Return where tensors live; raises DeviceMissing."""
    if IS_INTERPRETED:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise DeviceMissing
    return torch.device("cuda", torch.cuda.current_device())


def upload(array: IntArray | npt.NDArray[np.uint8]) -> Tensor:
    """Return a copy of `array` on the device, laid out by rows."""
    return torch.from_numpy(np.array(array, order="C", copy=True)).to(get_device())


_constants: dict[int, tuple[object, Tensor]] = {}


def upload_constant(array: IntArray | npt.NDArray[np.uint8]) -> Tensor:
    """Return `upload(array)`; a read-only array, as data sets and tables are, is copied once and stays there."""
    if array.flags.writeable:
        return upload(array)
    if id(array) not in _constants:
        if len(_constants) >= _CONSTANTS_MAX:
            _constants.clear()
        # Holding the array keeps its id from being given to another.
        _constants[id(array)] = array, upload(array)
    return _constants[id(array)][1]


def get_exp2_tensor() -> Tensor:
    """Return the table of `ml.arithmetic.get_exp2_table`: (257,) int64."""
    return upload_constant(get_exp2_table())


def new(like: Tensor, shape: tuple[int, int], dtype: torch.dtype = torch.int32) -> Tensor:
    """Return a tensor on the device of `like` whose elements are not set."""
    return torch.empty(shape, dtype=dtype, device=like.device)


def divide_up(x: int, by: int) -> int:
    """Return x / by, rounded up."""
    return -(-x // by)


def round_up_power(x: int) -> int:
    """Return the lowest power of two that is x or more."""
    return 1 << max(x - 1, 0).bit_length()


def get_tile(rows: int, columns: int) -> tuple[int, int]:
    """Return rows and columns of the tiles in which a kernel goes along rows: powers of two."""
    width = min(round_up_power(columns), TILE_COLUMNS_MAX)
    return min(round_up_power(rows), TILE_ROWS_MAX, max(1, TILE_ELEMENTS // width)), width


def split_word(word: int) -> tuple[int, int]:
    """Return the two halves of a u64 as signed 32-bit numbers, low half first: a type that does not vary with it."""
    low, high = (np.array([word & 0xFFFFFFFF, word >> 32], np.uint32).view(np.int32)).tolist()
    return low, high
