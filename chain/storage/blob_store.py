"""Content-addressed files: sidecars and checkpoints, written whole or not at all, and checked when they are read.

A blob's name is of its own kind (a sidecar's hash, a checkpoint's root), and its file is sealed to that name, so no
blob is taken for another. It knows no record.
"""

from collections.abc import Iterator
from pathlib import Path

from chain.errors import StorageError
from chain.primitives import Hash
from chain.storage.files import DiskFiles, Files
from chain.storage.seals import SEAL_BYTES, DamagedFile, seal, unseal

BLOB_BYTES_MAX = 256 * 1024 * 1024
"""No file larger than this is written or read into memory."""


class BlobStore:
    """Immutable files in one directory, fanned out by the first byte of their name."""

    def __init__(self, root: Path, files: Files | None = None) -> None:
        """Keep blobs under `root` of this machine's file system, or of `files`; raises StorageError."""
        self._root = root
        self._files = files or DiskFiles()
        try:
            self._files.make_folder(root)
        except OSError as error:
            raise StorageError(f"cannot make {root}: {error.strerror}") from None

    def has(self, name: Hash) -> bool:
        """Say whether a blob of that name is held."""
        return self._files.exists(self._path(name))

    def get(self, name: Hash) -> bytes | None:
        """Return a blob's bytes, or None when it is not held; raises StorageError when the file is damaged."""
        path = self._path(name)
        try:
            data = self._files.read(path, SEAL_BYTES + BLOB_BYTES_MAX + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}") from None
        try:
            return unseal(name, data)
        except DamagedFile:
            raise StorageError(f"{path} is damaged; delete it and it is fetched or computed again") from None

    def put(self, name: Hash, data: bytes) -> None:
        """Keep `data` under `name`, on disk before this returns; raises StorageError."""
        assert len(data) <= BLOB_BYTES_MAX
        path = self._path(name)
        if self._files.exists(path):
            return
        try:
            self._files.write(path, seal(name, data))
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}") from None

    def delete(self, name: Hash) -> None:
        """Let a blob go that nothing kept names; raises StorageError."""
        path = self._path(name)
        try:
            self._files.delete(path)
        except OSError as error:
            raise StorageError(f"cannot delete {path}: {error.strerror}") from None

    def iter_names(self) -> Iterator[Hash]:
        """Yield the names of all blobs in order; raises StorageError where a file lies that is none."""
        for path in self._files.iter_paths(self._root):
            try:
                name = Hash(bytes.fromhex(f"{path.parent.name}{path.name}"))
            except ValueError:
                name = Hash(b"")
            if self._path(name) != path:
                raise StorageError(f"{path} is no blob")
            yield name

    def _path(self, name: Hash) -> Path:
        text = name.hex()
        return self._root.joinpath(text[:2], text[2:])
