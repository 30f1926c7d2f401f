"""One verdict for all of a node's files: after the first write that failed nothing more is written, whoever asks.

A node that cannot keep one thing must not go on with another as if it could: database, blobs and signing record share a
guard, and who runs the node hears of its failure and stops. What was on disk before stays readable. It knows neither
rows nor files, only that one of them failed.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from chain.errors import StorageError
from chain.storage.engine import Changes, Engine
from chain.storage.files import Files


class DiskGuard:
    """What became of the writes, and of the reads of the database, since the node started."""

    def __init__(self) -> None:
        """Start without a failure."""
        self.failure: StorageError | None = None
        self.listeners: list[Callable[[StorageError], object]] = []

    def fail(self, error: StorageError) -> None:
        """Remember the first failure and tell who listens, in whatever thread it happened."""
        if self.failure is None:
            self.failure = error
            for listener in self.listeners:
                listener(error)

    def validate_writable(self) -> None:
        """Raise StorageError when something has failed before."""
        if self.failure is not None:
            raise StorageError(f"nothing is written until a restart, because: {self.failure}")


class GuardedEngine:
    """An engine under a guard."""

    def __init__(self, engine: Engine, guard: DiskGuard) -> None:
        """Watch `engine`."""
        self._engine = engine
        self._guard = guard

    @property
    def place(self) -> str:
        """Where the rows lie."""
        return self._engine.place

    def get(self, key: bytes) -> bytes | None:
        """Return the value under `key`, or None; raises CorruptDatabase."""
        try:
            return self._engine.get(key)
        except StorageError as error:
            self._guard.fail(error)
            raise

    def iter_rows(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, value) of every key that starts with `prefix`; raises CorruptDatabase."""
        try:
            yield from self._engine.iter_rows(prefix)
        except StorageError as error:
            self._guard.fail(error)
            raise

    def write(self, changes: Changes) -> None:
        """Write all or nothing; raises StorageError, and always once something has failed."""
        self._guard.validate_writable()
        try:
            self._engine.write(changes)
        except StorageError as error:
            self._guard.fail(error)
            raise

    def close(self) -> None:
        """Release the disk."""
        self._engine.close()


class GuardedFiles:
    """A file system under a guard. Reads are not watched: a blob that is damaged is fetched or computed again."""

    def __init__(self, files: Files, guard: DiskGuard) -> None:
        """Watch `files`."""
        self._files = files
        self._guard = guard

    def make_folder(self, path: Path) -> None:
        """Make a folder."""
        self._files.make_folder(path)

    def exists(self, path: Path) -> bool:
        """Say whether there is a file."""
        return self._files.exists(path)

    def read(self, path: Path, size_bytes_max: int) -> bytes:
        """Return a file's bytes, at most so many."""
        return self._files.read(path, size_bytes_max)

    def write(self, path: Path, data: bytes) -> None:
        """Put a file whole or not at all; raises StorageError once something has failed."""
        self._guard.validate_writable()
        try:
            self._files.write(path, data)
        except OSError as error:
            self._guard.fail(StorageError(f"cannot write {path}: {error.strerror}"))
            raise

    def delete(self, path: Path) -> None:
        """Remove a file if it is there; raises StorageError once something has failed."""
        self._guard.validate_writable()
        try:
            self._files.delete(path)
        except OSError as error:
            self._guard.fail(StorageError(f"cannot delete {path}: {error.strerror}"))
            raise

    def iter_paths(self, folder: Path) -> Iterator[Path]:
        """Yield the whole files under a folder."""
        yield from self._files.iter_paths(folder)
