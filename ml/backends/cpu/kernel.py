"""The one door to Numba: a decorator that compiles a function and keeps its Python type.

Kernels are compiled at first use and kept on disk beside the source. They release the interpreter lock, run on
one thread and never use fast-math, so a kernel's bytes do not depend on the machine.
"""

from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., object])


def kernel(function: F) -> F:
    """Return `function` compiled by Numba, cached on disk, without the interpreter lock."""
    return cast(F, njit(cache=True, nogil=True)(function))
