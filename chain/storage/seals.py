"""Files that can be trusted: bytes behind a digest of their name and themselves.

A file that rots, is cut, or stands in another's place is refused. It knows no file system.
"""

from blake3 import blake3

from chain.errors import StorageError

SEAL_BYTES = 32


class DamagedFile(StorageError):
    """A file holds other bytes than were written under its name."""


def seal(name: bytes, data: bytes) -> bytes:
    """Return the bytes of the file that keeps `data` under `name`."""
    return _compute_seal(name, data) + data


def unseal(name: bytes, sealed: bytes) -> bytes:
    """Return what a file keeps under `name`; raises DamagedFile."""
    data = sealed[SEAL_BYTES:]
    if sealed[:SEAL_BYTES] != _compute_seal(name, data):
        raise DamagedFile(f"found {len(sealed)} bytes that are not what was kept under this name")
    return data


def _compute_seal(name: bytes, data: bytes) -> bytes:
    hasher = blake3(len(name).to_bytes(4, "little") + name)
    hasher.update(data)
    return hasher.digest()
