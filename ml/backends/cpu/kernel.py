"""The one door to Numba: a decorator that compiles a function and keeps its Python type.

Kernels are compiled at first use and kept on disk beside the source. They release the interpreter lock, run on
one thread and never use fast-math, so a kernel's bytes do not depend on the machine. Numba looks only at the file of
the function it loads, while kernels inline functions and constants of others: so the cache's name is a digest of all.
"""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TypeVar, cast

import numba

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
    """Return `function` compiled by Numba, cached on disk, without the interpreter lock."""
    # NumPy's error model leaves out the branch that raises at a division by zero: no kernel divides by zero.
    return cast(F, numba.njit(cache=True, nogil=True, error_model="numpy")(function))
