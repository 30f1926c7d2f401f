"""LevelDB as an engine: one synchronous batch a write, checksums verified on every read, one opener in all.

A database that is damaged, or that lost the file that says where it starts, is refused; nothing is ever repaired. It
knows no row. Source: LevelDB documentation (write batches, paranoid checks).
"""

import threading
from collections.abc import Iterator
from pathlib import Path

import plyvel

from chain.errors import StorageError
from chain.storage.engine import Changes, CorruptDatabase
from chain.storage.lock import PathLock


class LevelDb:
    """The database in one folder, from construction to `close`."""

    def __init__(self, path: Path) -> None:
        """Open or create it; raises StorageError when it is held, damaged or out of reach."""
        self._path = path
        self._readers, self._is_closed = 0, False
        self._readers_lock, self._is_idle = threading.Lock(), threading.Event()
        self._lock = PathLock(path)
        try:
            self._database = _open_database(path)
        except BaseException:
            self._lock.release()
            raise

    @property
    def place(self) -> str:
        """The folder."""
        return str(self._path)

    def get(self, key: bytes) -> bytes | None:
        """Return the value under `key`, or None; raises CorruptDatabase, StorageError when it is closed."""
        # LevelDB would be freed under a thread that is in it, which ends the process.
        with self._readers_lock:
            if self._is_closed:
                raise StorageError(f"{self._path}: is closed")
            self._readers += 1
        try:
            value: bytes | None = self._database.get(key, verify_checksums=True)
        except (plyvel.Error, OSError) as error:
            raise CorruptDatabase(f"{self._path}: cannot be read: {_describe(error)}") from None
        finally:
            with self._readers_lock:
                self._readers -= 1
                if self._is_closed and not self._readers:
                    self._is_idle.set()
        return value

    def iter_rows(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, value) of every key that starts with `prefix`, in order; raises CorruptDatabase."""
        try:
            with self._database.iterator(prefix=prefix, verify_checksums=True) as rows:
                yield from rows
        except (plyvel.Error, OSError) as error:
            raise CorruptDatabase(f"{self._path}: cannot be read: {_describe(error)}") from None

    def write(self, changes: Changes) -> None:
        """Set or remove rows in one synced batch; raises StorageError."""
        batch = self._database.write_batch(sync=True)
        for key, value in changes.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        try:
            batch.write()
        except (plyvel.Error, OSError) as error:
            raise StorageError(f"{self._path}: cannot be written: {_describe(error)}") from None

    def compact(self) -> None:
        """Give back to the disk the room of what was removed before it was opened; raises StorageError."""
        try:
            # Without bounds plyvel compacts nothing.
            self._database.compact_range(start=b"\0", stop=b"\xff" * 64)
        except (plyvel.Error, OSError) as error:
            raise StorageError(f"{self._path}: cannot be compacted: {_describe(error)}") from None

    def close(self) -> None:
        """Release the database once no thread reads it; a read later on is refused."""
        with self._readers_lock:
            self._is_closed = True
            if not self._readers:
                self._is_idle.set()
        self._is_idle.wait()
        self._database.close()
        self._lock.release()


def _open_database(path: Path) -> plyvel.DB:
    try:
        # LevelDB takes a folder without CURRENT for a new one, and would start over on top of the old files.
        if path.is_dir() and not (path / "CURRENT").exists() and any(path.glob("MANIFEST-*")):
            raise CorruptDatabase(f"{path}: the file CURRENT is missing")
        # Hashes and signatures do not compress.
        return plyvel.DB(
            str(path), create_if_missing=True, paranoid_checks=True, bloom_filter_bits=10, compression=None
        )
    except plyvel.CorruptionError as error:
        raise CorruptDatabase(f"{path}: {_describe(error)}") from None
    except (plyvel.Error, OSError) as error:
        raise StorageError(f"{path}: {_describe(error)}") from None


def _describe(error: Exception) -> str:
    detail = error.args[0] if error.args else error
    return detail.decode("utf-8", "replace") if isinstance(detail, bytes) else str(detail)
