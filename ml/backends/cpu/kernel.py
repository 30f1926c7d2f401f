"""The one door to Numba: a decorator that compiles a function and keeps its Python type.

Kernels are compiled at first use and kept on disk beside the source. They release the interpreter lock, run on
one thread and never use fast-math, so a kernel's bytes do not depend on the machine. Numba looks only at the file of
the function it loads, while kernels inline functions and constants of others: so the cache's name is a digest of all.
"""

from collections.abc import Callable, Iterable
from hashlib import sha256
from inspect import signature
from pathlib import Path
from typing import TypeVar, cast

import numba
from numba import types

F = TypeVar("F", bound=Callable[..., object])

_FOLDER = Path(__file__).resolve().parent
_CONSTANTS = (
    *("arithmetic.py", "noise.py", "prf.py", "rotary.py", "tensor_tree.py"),
    *("backends/batched_checks.py", "backends/reference.py", "backends/reference_freivalds.py"),
)


def compute_cache_name(files: list[Path]) -> str:
    """Return the folder name of the kernels that these source files make."""
    digests = [sha256(file.read_bytes()).digest() for file in sorted(files)]
    return f"kernels-{sha256(b''.join(digests)).hexdigest()[:16]}"


def get_sources() -> list[Path]:
    """Return every file whose text can end up in a compiled kernel."""
    return [*_FOLDER.glob("*.py"), *(_FOLDER.parent.parent.joinpath(name) for name in _CONSTANTS)]


numba.config.CACHE_DIR = str(  # type: ignore[attr-defined]  # numba sets its options by name at import
    _FOLDER.joinpath("__pycache__", compute_cache_name(get_sources()))
)


def kernel(function: F) -> F:
    """Return `function` compiled by Numba, cached on disk, without the interpreter lock.

    Numba would compile a variant for each constant that another kernel calls it with; here one serves all, but for
    `specialise`.
    """
    return _compile(function, ())


def specialise(*names: str) -> Callable[[F], F]:
    """Return a `kernel` of which there is a variant for every constant that kernels give to these arguments."""
    return lambda function: _compile(function, names)


def _compile(function: F, kept: tuple[str, ...]) -> F:
    # NumPy's error model leaves out the branch that raises at a division by zero: no kernel divides by zero.
    dispatcher = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    find_template, own = dispatcher.get_call_template, [name in kept for name in signature(function).parameters]

    def find(arguments: tuple[types.Type, ...], by_name: dict[str, types.Type]) -> object:
        assert not by_name, "kernels call each other by position"
        kinds = (kind if is_kept else _forget_constant(kind) for kind, is_kept in zip(arguments, own, strict=True))
        return find_template(tuple(kinds), by_name)

    dispatcher.get_call_template = find  # type: ignore[method-assign,assignment]  # asked for every call by a kernel
    return cast(F, dispatcher)


def _forget_constant(kind: types.Type) -> types.Type:
    """Return the type of numbers or flags in the place of that of one of them, in tuples too."""
    if isinstance(kind, types.IntegerLiteral | types.BooleanLiteral):
        return kind.literal_type
    if isinstance(kind, types.BaseTuple):
        make = cast(Callable[[list[types.Type]], types.Type], types.BaseTuple.from_types)
        return make([_forget_constant(each) for each in cast(Iterable[types.Type], kind)])
    return kind
