"""Rows that can be trusted: each value is sealed to its key, and nothing is written behind a write that failed.

It stands between the block store and an engine and knows no record.
"""

from collections.abc import Iterator
from zlib import crc32

from chain.errors import StorageError
from chain.storage.engine import Changes, CorruptDatabase, Engine

SEAL_BYTES = 4


class SealedRows:
    """An engine's rows, each value behind a checksum of key and value."""

    def __init__(self, engine: Engine) -> None:
        """Seal the rows of `engine`, which is closed with them."""
        self._engine = engine
        self._is_torn = False

    @property
    def place(self) -> str:
        """Where the rows lie, for messages."""
        return self._engine.place

    def get(self, key: bytes) -> bytes | None:
        """Return the value under `key`, or None; raises CorruptDatabase when it is damaged."""
        sealed = self._engine.get(key)
        return None if sealed is None else self._unseal(key, sealed)

    def iter_rows(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, value) of every key that starts with `prefix`, in order; raises CorruptDatabase."""
        for key, sealed in self._engine.iter_rows(prefix):
            yield key, self._unseal(key, sealed)

    def write(self, changes: Changes) -> None:
        """Bring all changes to disk at once, None removing a row; raises StorageError and then refuses all writes."""
        if self._is_torn:
            raise StorageError(f"{self.place}: an earlier write failed; nothing is written until a restart")
        sealed = {key: None if value is None else _compute_seal(key, value) + value for key, value in changes.items()}
        try:
            self._engine.write(sealed)
        except StorageError:
            # LevelDB would append behind the torn record, and the log would be damaged in its middle.
            self._is_torn = True
            raise

    @property
    def is_writable(self) -> bool:
        """Whether no write has failed."""
        return not self._is_torn

    def close(self) -> None:
        """Release the engine."""
        self._engine.close()

    def _unseal(self, key: bytes, sealed: bytes) -> bytes:
        value = sealed[SEAL_BYTES:]
        if sealed[:SEAL_BYTES] != _compute_seal(key, value):
            raise CorruptDatabase(f"{self.place}: the value under {key[:12].hex()}... is damaged")
        return value


def _compute_seal(key: bytes, value: bytes) -> bytes:
    # LevelDB's own checksums can be lost with a rewritten table; this one is bound to key and value.
    return crc32(value, crc32(key)).to_bytes(SEAL_BYTES, "little")
