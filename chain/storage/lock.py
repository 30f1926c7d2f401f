"""The claim of one process, and one object in it, on a file tree; gone with the process that held it.

LevelDB's own lock does not do: it is a POSIX record lock, and a second attempt to open in the same process, though
refused, closes a descriptor of the lock file and thereby gives the lock away. It knows nothing of what it guards.
"""

import fcntl
import os
from pathlib import Path

from chain.errors import StorageError


class PathLock:
    """An exclusive lock beside `path`, from construction to `release`."""

    def __init__(self, path: Path) -> None:
        """Take the lock; raises StorageError when it is held or cannot be made."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StorageError(f"cannot lock {path}: {error.strerror}") from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            raise StorageError(f"{path} is in use by another process") from None

    def release(self) -> None:
        """Give the lock back."""
        os.close(self._descriptor)
