"""Disks that go wrong at a chosen write: the process dies there, or the file system is full from there on.

They stand between a node and the real disk and change nothing of what is written. A site is a name such as "database",
"signed" or "blobs", and which write to it is meant.
"""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from chain.storage.engine import Changes, Engine
from chain.storage.files import TEMPORARY_SUFFIX, DiskFiles, Files
from chain.storage.leveldb import LevelDb
from node.run import Disk

POINTS = ("before", "half", "after")
"""Where around a write something happens: before it, with half of a file written, after it and before anyone knows."""


@dataclass(frozen=True, slots=True)
class Site:
    """The `number`-th write, from 1, to a place whose name holds `where`, and the point around it."""

    where: str
    number: int
    point: str = "before"


@dataclass(slots=True)
class Trap:
    """Counts the writes to a site and acts at its point."""

    site: Site
    act: Callable[[], None]
    writes: int = 0

    def count(self, place: str) -> bool:
        """Count a write and say whether it is the one."""
        self.writes += self.site.where in place
        return self.site.where in place and self.writes == self.site.number

    def spring(self, point: str) -> None:
        """Act when this is the point."""
        if point == self.site.point:
            self.act()


@dataclass(frozen=True, slots=True)
class TrappedEngine:
    """An engine with a trap; half of a write is LevelDB's own affair, so there is no such point."""

    engine: Engine
    trap: Trap

    @property
    def place(self) -> str:
        """Where the rows lie."""
        return self.engine.place

    def get(self, key: bytes) -> bytes | None:
        """Return the value under `key`, or None."""
        return self.engine.get(key)

    def iter_rows(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield rows in order."""
        return self.engine.iter_rows(prefix)

    def write(self, changes: Changes) -> None:
        """Write all or nothing."""
        is_site = self.trap.count("database")
        if is_site:
            self.trap.spring("before")
        self.engine.write(changes)
        if is_site:
            self.trap.spring("after")

    def close(self) -> None:
        """Release the disk."""
        self.engine.close()


@dataclass(frozen=True, slots=True)
class TrappedFiles:
    """A file system with a trap."""

    files: Files
    trap: Trap

    def make_folder(self, path: Path) -> None:
        """Make a folder."""
        self.files.make_folder(path)

    def exists(self, path: Path) -> bool:
        """Say whether there is a file."""
        return self.files.exists(path)

    def read(self, path: Path, size_bytes_max: int) -> bytes:
        """Return a file's bytes."""
        return self.files.read(path, size_bytes_max)

    def write(self, path: Path, data: bytes) -> None:
        """Put a file whole or not at all."""
        is_site = self.trap.count(str(path))
        if is_site:
            self.trap.spring("before")
            if self.trap.site.point == "half":
                path.parent.mkdir(exist_ok=True)
                path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}").write_bytes(data[: len(data) // 2])
                self.trap.spring("half")
        self.files.write(path, data)
        if is_site:
            self.trap.spring("after")

    def delete(self, path: Path) -> None:
        """Remove a file."""
        if self.trap.count(f"delete {path}"):
            self.trap.spring("before")
        self.files.delete(path)

    def iter_paths(self, folder: Path) -> Iterator[Path]:
        """Yield the whole files under a folder."""
        return self.files.iter_paths(folder)


def make_trapped_disk(trap: Trap) -> Disk:
    """Return this machine's disk with a trap in it."""
    return Disk(lambda path: TrappedEngine(LevelDb(path), trap), TrappedFiles(DiskFiles(), trap))


def die() -> None:
    """End this process as a power switch would."""
    os.kill(os.getpid(), signal.SIGKILL)
