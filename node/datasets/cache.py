"""Where blobs and their sources lie on disk: under the hash that names them, whole or not at all.

A file is written in a staging folder, brought to disk and then renamed, so a reader sees all of it or nothing. What is
read is verified again. A staging folder is locked while its fetch lives; the next fetch sweeps away what a killed one
left. It knows no manifest.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from chain.primitives import Hash
from ml.dataset import BLOB_BYTES_MAX, compute_dataset_root

_STAGING = ".fetch-"


def get_cache_directory() -> Path:
    """Return MATHESIS_DATASETS, or `mathesis/datasets` in the user's cache folder."""
    named = os.environ.get("MATHESIS_DATASETS")
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "mathesis" / "datasets"


@dataclass(frozen=True, slots=True)
class Cache:
    """The blobs by root, and the sources by SHA-256, in one directory."""

    directory: Path

    def get_blob_path(self, root: Hash) -> Path:
        """Return where the blob of this root lies, or would lie."""
        return self.directory / f"{root.hex()}.blob"

    def has_blob(self, root: Hash) -> bool:
        """Say whether a blob lies there, unread."""
        return self.get_blob_path(root).is_file()

    def read_blob(self, root: Hash) -> bytes | None:
        """Return the blob of `root`, or None when it is not held; a damaged one is deleted and counts as not held."""
        path = self.get_blob_path(root)
        blob = _read(path)
        if blob is not None and compute_dataset_root(blob) != root:
            path.unlink(missing_ok=True)
            return None
        return blob

    def write_blob(self, staging: Path, root: Hash, blob: bytes) -> None:
        """Keep a blob under its root, on disk before this returns; raises OSError."""
        temporary = staging / "blob"
        temporary.write_bytes(blob)
        _publish(temporary, self.get_blob_path(root))

    def read_source(self, digest: str) -> bytes | None:
        """Return the source with this SHA-256 (hex), or None; a damaged one is deleted and counts as not held."""
        path = self.directory / "sources" / digest
        data = _read(path)
        if data is not None and sha256(data).hexdigest() != digest:
            path.unlink(missing_ok=True)
            return None
        return data

    def keep_source(self, file: Path, digest: str) -> None:
        """Move a file from a staging folder to its place among the sources; raises OSError."""
        place = self.directory / "sources"
        place.mkdir(exist_ok=True)
        _publish(file, place / digest)

    @contextmanager
    def open_staging(self) -> Iterator[Path]:
        """Yield a folder of one's own inside the cache that is gone afterwards, whatever happens; raises OSError."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._sweep()
        folder, lock = self._make_staging()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)

    def _make_staging(self) -> tuple[Path, int]:
        while True:
            folder = Path(tempfile.mkdtemp(prefix=_STAGING, dir=self.directory))
            lock = _lock(folder)
            # Another fetch may have swept the folder in the moment before it was locked.
            if lock is not None and folder.is_dir():
                return folder, lock
            if lock is not None:
                os.close(lock)

    def _sweep(self) -> None:
        for folder in self.directory.glob(f"{_STAGING}*"):
            lock = _lock(folder)
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(BLOB_BYTES_MAX + 1)
    except FileNotFoundError:
        return None


def _publish(temporary: Path, target: Path) -> None:
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _lock(folder: Path) -> int | None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
