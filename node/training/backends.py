"""From a name on the command line to a backend that runs here: with its threads, or with a reason why not.

No bit depends on the choice. It imports compilers only when they are asked for.
"""

import os

from ml.backends import Backend, get_backend
from node.models.errors import ModelError

NAMES = ("cpu", "reference", "cuda")


def make_backend(name: str, threads: int | None = None) -> Backend:
    """Return the backend called `name`; `threads` is for "cpu", all of this process's cores by default.

    Raises ModelError when it is not installed or this machine has no device for it.
    """
    try:
        if name != "cpu":
            return get_backend(name)
        from ml.backends.cpu.backend import CpuBackend  # noqa: PLC0415 - one second of compilers
        from node.threads import spread_over_threads  # noqa: PLC0415
    except ImportError as error:
        raise ModelError(
            "unavailable", f"the backend {name} needs {error.name}; install mathesis[train] or use --backend reference"
        ) from None
    except ValueError as error:
        raise ModelError("unavailable", f"{error}; use --backend cpu") from None
    return CpuBackend(spread_over_threads(threads or len(os.sched_getaffinity(0))))
