"""A disk in memory, behind the store's engine and file ports: what was acknowledged stays, whatever happens to a node.

A write is whole or absent. It fails while the disk is full, and the power may be lost at it: before it reached the
disk, or after, when nobody has heard of it yet. A node that is dead reads and writes nothing. It knows no record.
"""

import errno
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chain.errors import StorageError


class PowerLost(BaseException):
    """The machine went dark; nothing on it sees what comes after."""


@dataclass(eq=False, slots=True)
class VirtualDisk:
    """One machine's rows and files, over all starts of its node."""

    rows: dict[bytes, bytes] = field(default_factory=dict)
    files: dict[Path, bytes] = field(default_factory=dict)
    is_full: bool = False
    writes: int = 0
    dies_at: int | None = None
    """The number of the write at which the power is lost."""
    is_kept: bool = False
    """Whether that write still reaches the disk."""
    on_power_lost: Callable[[], None] = lambda: None

    def forget(self, path: Path) -> None:
        """Remove a file if it is there."""
        self.files.pop(path, None)

    def write(self, apply: Callable[[], None]) -> None:
        """Change the disk in one piece; raises OSError when it is full, PowerLost when that is the moment."""
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.writes += 1
        if self.dies_at is None or self.writes < self.dies_at:
            apply()
            return
        if self.is_kept:
            apply()
        self.dies_at = None
        self.on_power_lost()
        raise PowerLost


@dataclass(eq=False, slots=True)
class Mount:
    """A disk as one start of a node sees it; cut off when that node dies."""

    disk: VirtualDisk
    is_cut: bool = False

    def get_disk(self) -> VirtualDisk:
        """Return the disk; raises OSError when it is out of reach."""
        if self.is_cut:
            raise OSError(errno.EIO, "the disk is gone")
        return self.disk


@dataclass(frozen=True, slots=True)
class VirtualEngine:
    """Implements `chain.storage.engine.Engine`."""

    mount: Mount
    place: str

    def get(self, key: bytes) -> bytes | None:
        """Return the value under `key`, or None."""
        return self._read().get(key)

    def iter_rows(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, value) of every key that starts with `prefix`, in order."""
        rows = self._read()
        keys = sorted(key for key in rows if key.startswith(prefix))
        for key in keys:
            yield key, rows[key]

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Set each key, or remove it where the value is None; all of it or StorageError."""

        def apply() -> None:
            rows = self.mount.disk.rows
            for key, value in changes.items():
                if value is None:
                    rows.pop(key, None)
                else:
                    rows[key] = value

        try:
            self.mount.get_disk().write(apply)
        except OSError as error:
            raise StorageError(f"{self.place}: cannot be written: {error.strerror}") from None

    def close(self) -> None:
        """Release the disk."""

    def _read(self) -> dict[bytes, bytes]:
        try:
            return self.mount.get_disk().rows
        except OSError as error:
            raise StorageError(f"{self.place}: cannot be read: {error.strerror}") from None


@dataclass(frozen=True, slots=True)
class VirtualFiles:
    """Implements `chain.storage.files.Files`."""

    mount: Mount

    def make_folder(self, path: Path) -> None:
        """Need no folders."""

    def exists(self, path: Path) -> bool:
        """Say whether there is a file."""
        return path in self.mount.get_disk().files

    def read(self, path: Path, size_bytes_max: int) -> bytes:
        """Return a file's bytes, at most so many; raises OSError."""
        data = self.mount.get_disk().files.get(path)
        if data is None:
            raise FileNotFoundError(errno.ENOENT, "no such file")
        return data[:size_bytes_max]

    def write(self, path: Path, data: bytes) -> None:
        """Put a file whole or not at all; raises OSError."""
        disk = self.mount.get_disk()
        disk.write(lambda: disk.files.update({path: data}))

    def delete(self, path: Path) -> None:
        """Remove a file if it is there; raises OSError."""
        disk = self.mount.get_disk()
        disk.write(lambda: disk.forget(path))

    def iter_paths(self, folder: Path) -> Iterator[Path]:
        """Yield the files under a folder."""
        files = self.mount.get_disk().files
        yield from sorted(path for path in files if folder in path.parents)
