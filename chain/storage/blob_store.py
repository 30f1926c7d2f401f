"""Content-addressed files: sidecars and checkpoints, written whole or not at all, and checked when they are read.

A blob's name is a BLAKE3 digest of its bytes; whoever stores one may file it under a name of its own kind (a sidecar's
hash, a checkpoint's root), which its reader verifies by decoding. It knows no record.
"""

import os
from contextlib import suppress
from pathlib import Path

from blake3 import blake3

from chain.errors import StorageError
from chain.primitives import Hash

BLOB_BYTES_MAX = 256 * 1024 * 1024
"""No file larger than this is written or read into memory."""

_DIGEST_BYTES = 32


class BlobStore:
    """Immutable files in one directory, fanned out by the first byte of their name."""

    def __init__(self, root: Path) -> None:
        """Keep blobs under `root`; raises StorageError when it cannot be made."""
        self._root = root
        try:
            root.mkdir(parents=True, exist_ok=True)
            # What a crash left half written was never named, and nobody waits for it.
            for leftover in root.glob("*/.*"):
                leftover.unlink()
        except OSError as error:
            raise StorageError(f"cannot make {root}: {error.strerror}") from None

    def has(self, name: Hash) -> bool:
        """Say whether a blob of that name is held."""
        return self._path(name).exists()

    def get(self, name: Hash) -> bytes | None:
        """Return a blob's bytes, or None when it is not held; raises StorageError when the file is damaged."""
        path = self._path(name)
        try:
            with path.open("rb") as file:
                data = file.read(_DIGEST_BYTES + BLOB_BYTES_MAX + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}") from None
        if blake3(data[_DIGEST_BYTES:]).digest() != data[:_DIGEST_BYTES]:
            raise StorageError(f"{path} is damaged; delete it and it is fetched or computed again")
        return data[_DIGEST_BYTES:]

    def put(self, name: Hash, data: bytes) -> None:
        """Keep `data` under `name`, on disk before this returns; raises StorageError."""
        assert len(data) <= BLOB_BYTES_MAX
        path = self._path(name)
        if path.exists():
            return
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            if not path.parent.exists():
                path.parent.mkdir(exist_ok=True)
                sync_directory(self._root)
            with temporary.open("wb") as file:
                file.write(blake3(data).digest() + data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_directory(path.parent)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise StorageError(f"cannot write {path}: {error.strerror}") from None

    def _path(self, name: Hash) -> Path:
        text = name.hex()
        return self._root.joinpath(text[:2], text[2:])


def sync_directory(path: Path) -> None:
    """Bring the names in a folder to disk; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
