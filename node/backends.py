"""From a name on the command line to a backend that runs here: with its threads, or with a reason why not.

No bit depends on the choice. It imports compilers only when they are asked for.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ml.arithmetic import IntArray
from ml.backends import Backend, get_backend
from ml.trace import RootHasher
from node.models.errors import ModelError

Arrays = tuple[IntArray, ...]
NAMES = ("cpu", "reference", "cuda")


def make_backend(name: str, threads: int | None = None) -> Backend:
    """Return the backend called `name`; `threads` is for "cpu", all of this process's cores by default.

    Raises ModelError when it is not installed or this machine has no device for it.
    """
    try:
        if name == "cuda":
            from ml.backends.cuda.backend import CudaBackend  # noqa: PLC0415 - needs torch and Triton

            return CudaBackend(is_resident=True)
        if name == "reference":
            return get_backend(name)
        from ml.backends.cpu.backend import CpuBackend  # noqa: PLC0415 - one second of compilers
        from node.threads import spread_over_threads  # noqa: PLC0415
    except ImportError as error:
        raise ModelError(
            "unavailable", f"the backend {name} needs {error.name}; install mathesis[train] or use --backend reference"
        ) from None
    except RuntimeError as error:
        raise ModelError("unavailable", str(error)) from None
    return CpuBackend(spread_over_threads(threads or len(os.sched_getaffinity(0))))


@contextmanager
def refuse_what_does_not_fit(name: str) -> Iterator[None]:
    """Turn running out of memory, the machine's or its GPU's, into ModelError; `name` says what was trained."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch's error, known by its name where torch is not installed.
        if not isinstance(error, MemoryError) and type(error).__name__ != "OutOfMemoryError":
            raise
        text = f"{name} takes more memory than there is; train a smaller batch, or on another machine ({error!s:.200})"
        raise ModelError("memory", text) from None


def place_arrays(backend: Backend, arrays: Arrays) -> Arrays:
    """Return `arrays` where `backend` computes: on its device, if it keeps them there."""
    if backend.name != "cuda":
        return arrays
    from ml.backends.cuda.resident import make_resident  # noqa: PLC0415 - needs torch

    return make_resident(arrays)


def fetch_arrays(backend: Backend, arrays: Arrays) -> Arrays:
    """Return `arrays` of `backend` on the host, as NumPy arrays."""
    if backend.name != "cuda":
        return arrays
    from ml.backends.cuda.resident import fetch  # noqa: PLC0415 - needs torch

    return fetch(arrays)


def get_host_backend(backend: Backend) -> Backend:
    """Return a backend that computes where `backend` does, and takes and returns arrays on the host."""
    return get_backend("cuda") if backend.name == "cuda" else backend


def get_root_hasher(backend: Backend) -> RootHasher:
    """Return what computes tensor roots where `backend` keeps its tensors."""
    if backend.name == "cuda":
        import ml.backends.cuda.tensor_hash as on_device  # noqa: PLC0415 - needs torch and Triton

        return on_device.compute_tensor_roots
    import ml.backends.cpu.tensor_hash as compiled  # noqa: PLC0415 - one second of compilers

    return compiled.compute_tensor_roots
