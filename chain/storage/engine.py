"""What the block store asks of a key-value engine, be it LevelDB, a table in memory or a virtual disk.

An engine keeps rows of bytes in the order of their keys. It knows no record and no seal; what a failed write means for
the writes behind it is decided above it.
"""

from collections.abc import Iterator
from typing import Protocol

from chain.errors import StorageError

Changes = dict[bytes, bytes | None]
"""Rows to set or, where None stands, to remove."""


class CorruptDatabase(StorageError):
    """The database holds what it must not hold, or lacks what it must."""


class Engine(Protocol):
    """Rows on one disk."""

    @property
    def place(self) -> str:
        """Where the rows lie, for messages."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value under `key`, or None; raises CorruptDatabase when it cannot be read."""

    def iter_rows(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, value) of every key that starts with `prefix`, in order; raises CorruptDatabase."""

    def write(self, changes: Changes) -> None:
        """Set each key, or remove it where the value is None; all of it is on disk at the end, or StorageError."""

    def close(self) -> None:
        """Release the disk."""
