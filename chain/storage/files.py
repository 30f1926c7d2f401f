"""What the stores of files ask of a file system: five verbs that a disk or a virtual disk can offer.

A file is written under another name, synced and renamed, so it is whole or absent whatever happens meanwhile. It knows
nothing of what the bytes mean. Errors are the system's own; who calls says what they mean.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

TEMPORARY_SUFFIX = ".tmp"


class Files(Protocol):
    """One file system; every verb raises OSError."""

    def make_folder(self, path: Path) -> None:
        """Make a folder and those above it that only its owner can read, and drop what a crash left half written."""

    def exists(self, path: Path) -> bool:
        """Say whether there is a file."""

    def read(self, path: Path, size_bytes_max: int) -> bytes:
        """Return a file's bytes, at most so many."""

    def write(self, path: Path, data: bytes) -> None:
        """Put a file whole or not at all, on disk with its name before this returns; its folder is made if missing."""

    def delete(self, path: Path) -> None:
        """Remove a file if it is there."""

    def iter_paths(self, folder: Path) -> Iterator[Path]:
        """Yield the whole files under a folder, at any depth."""


class DiskFiles:
    """The file system of this machine."""

    def make_folder(self, path: Path) -> None:
        """Make a folder and drop what a crash left half written in it: it was never named, and nobody waits for it."""
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        for leftover in path.rglob(f".*{TEMPORARY_SUFFIX}"):
            leftover.unlink()

    def exists(self, path: Path) -> bool:
        """Say whether there is a file."""
        return path.exists()

    def read(self, path: Path, size_bytes_max: int) -> bytes:
        """Return a file's bytes, at most so many."""
        with path.open("rb") as file:
            # Python makes room for as much as it is asked for before it reads.
            return file.read(min(size_bytes_max, os.fstat(file.fileno()).st_size + 1))

    def write(self, path: Path, data: bytes) -> None:
        """Put a file that only its owner can read, whole or not at all, on disk before this returns."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
        try:
            if not path.parent.exists():
                path.parent.mkdir(exist_ok=True, mode=0o700)
                sync_directory(path.parent.parent)
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_directory(path.parent)
        except OSError:
            with suppress(OSError):
                temporary.unlink()
            raise

    def delete(self, path: Path) -> None:
        """Remove a file if it is there."""
        path.unlink(missing_ok=True)

    def iter_paths(self, folder: Path) -> Iterator[Path]:
        """Yield the whole files under a folder, at any depth."""
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not (path.name.startswith(".") and path.name.endswith(TEMPORARY_SUFFIX)):
                yield path


def sync_directory(path: Path) -> None:
    """Bring the names in a folder to disk; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
