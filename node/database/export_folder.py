"""A folder that holds an export: files with digests, and a manifest that is written last and names them all.

A folder without a whole manifest is no export. Every file is bounded before it is read and checked before it is used;
what the files mean is known elsewhere.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Annotated

from chain.codec import U16, U64, HashField, Many, Text, decode, encode
from chain.errors import DecodeError, StorageError
from chain.genesis import GENESIS_BYTES_MAX, Genesis, compute_chain_id
from chain.hashing import tagged_hash
from chain.primitives import Hash
from chain.storage.files import DiskFiles, Files

EXPORT_VERSION = 1
MANIFEST_BYTES_MAX = 16 * 1024 * 1024
FILE_BYTES_MAX = 256 * 1024 * 1024
"""A checkpoint is the largest file; all others are cut at a few MiB."""

MANIFEST_NAME, GENESIS_NAME = "manifest", "genesis.bin"
_DIGEST_BYTES = 32
_RECORD_HEAD_BYTES = 4

OnProgress = Callable[[str, int, int], None]
"""Takes what is being done, how much is done and how much there is in all."""


class ExportRefused(StorageError):
    """An export is not what its manifest, or whoever imports it, says."""


class ExportKind(IntEnum):
    """What an export holds."""

    CHAIN = 0
    """Every block with its block data: whoever imports it validates all of it again."""
    STATE = 1
    """Headers, one state in chunks, and the blobs that a node needs to go on from there."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of the export by its name relative to the folder."""

    name: Annotated[str, Text(100)]
    size_bytes: U64
    digest: HashField


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an export holds, and of which block."""

    version: U16
    kind_code: U16
    chain_id: HashField
    height: U64
    head: HashField
    state_root: HashField
    files: Annotated[tuple[FileEntry, ...], Many(131_072)]

    @property
    def kind(self) -> ExportKind:
        """What it holds."""
        return ExportKind(self.kind_code)

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(entry.size_bytes for entry in self.files)

    def get_names(self, folder: str) -> tuple[str, ...]:
        """Return the names of the files in one folder of the export, in order."""
        return tuple(entry.name for entry in self.files if entry.name.startswith(f"{folder}/"))


class ExportWriter:
    """Writes files into a new folder and remembers their digests."""

    def __init__(self, root: Path, files: Files | None = None) -> None:
        """Start in `root`, which must be empty or not exist; raises ExportRefused, StorageError."""
        self._root = root
        self._files = files or DiskFiles()
        self._entries: list[FileEntry] = []
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise ExportRefused(f"{root}: found something there, expected an empty folder or none")
        self._try(root, lambda: self._files.make_folder(root))

    def write(self, name: str, data: bytes) -> None:
        """Put a file on disk; raises StorageError."""
        assert len(data) <= FILE_BYTES_MAX
        path = self._root / name
        self._try(path, lambda: self._files.write(path, data))
        self._entries.append(FileEntry(name, len(data), _compute_file_digest(data)))

    def finish(self, kind: ExportKind, chain_id: Hash, height: int, roots: tuple[Hash, Hash]) -> Manifest:
        """Write and return the manifest; `roots` are the head's hash and its state root. Raises StorageError."""
        manifest = Manifest(EXPORT_VERSION, int(kind), chain_id, height, *roots, tuple(self._entries))
        data = encode(manifest)
        path = self._root / MANIFEST_NAME
        self._try(path, lambda: self._files.write(path, _compute_file_digest(data) + data))
        return manifest

    def _try(self, path: Path, act: Callable[[], None]) -> None:
        try:
            act()
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}") from None


class ExportReader:
    """Reads an export whose manifest is whole; each file is checked again whenever it is read."""

    def __init__(self, root: Path) -> None:
        """Read the manifest in `root`; raises ExportRefused."""
        self._root = root
        sealed = self._read(MANIFEST_NAME, MANIFEST_BYTES_MAX)
        if _compute_file_digest(sealed[_DIGEST_BYTES:]) != sealed[:_DIGEST_BYTES]:
            raise ExportRefused(f"{root / MANIFEST_NAME}: damaged or cut short")
        try:
            self.manifest = decode(Manifest, sealed[_DIGEST_BYTES:], MANIFEST_BYTES_MAX)
            self.manifest.kind  # noqa: B018 - an unknown kind is refused here
        except (DecodeError, ValueError) as error:
            raise ExportRefused(f"{root / MANIFEST_NAME}: {error}") from None
        if self.manifest.version != EXPORT_VERSION:
            raise ExportRefused(f"{root}: found version {self.manifest.version}, expected {EXPORT_VERSION}")
        self._entries = {entry.name: entry for entry in self.manifest.files}

    def validate_files(self, on_progress: OnProgress) -> None:
        """Check every file's size and digest; raises ExportRefused."""
        done = 0
        for entry in self.manifest.files:
            on_progress("checking", done, self.manifest.size_bytes)
            self.read(entry.name)
            done += entry.size_bytes
        on_progress("checking", done, self.manifest.size_bytes)

    def read(self, name: str) -> bytes:
        """Return a file that the manifest names; raises ExportRefused."""
        entry = self._entries.get(name)
        if entry is None:
            raise ExportRefused(f"{self._root}: the manifest names no {name}")
        data = self._read(name, min(entry.size_bytes, FILE_BYTES_MAX))
        if len(data) != entry.size_bytes or _compute_file_digest(data) != entry.digest:
            raise ExportRefused(f"{self._root / name}: found other bytes than the manifest says")
        return data

    def read_genesis(self) -> Genesis:
        """Return the genesis record of the exported network; raises ExportRefused."""
        try:
            genesis = decode(Genesis, self.read(GENESIS_NAME), GENESIS_BYTES_MAX)
        except DecodeError as error:
            raise ExportRefused(f"{self._root / GENESIS_NAME}: {error}") from None
        if compute_chain_id(genesis) != self.manifest.chain_id:
            raise ExportRefused(f"{self._root}: found another network's genesis than the manifest says")
        return genesis

    def _read(self, name: str, size_bytes_max: int) -> bytes:
        path = self._root / name
        if "\0" in name or not path.resolve().is_relative_to(self._root.resolve()):
            raise ExportRefused(f"{self._root}: found the name {name!r}, expected one inside of the folder")
        try:
            return DiskFiles().read(path, size_bytes_max + 1)
        except OSError as error:
            raise ExportRefused(f"cannot read {path}: {error.strerror}") from None


def join_records(records: list[bytes]) -> bytes:
    """Return records in one file, each behind its length."""
    return b"".join(len(record).to_bytes(_RECORD_HEAD_BYTES, "little") + record for record in records)


def iter_records(data: bytes) -> Iterator[bytes]:
    """Yield what `join_records` joined; raises ExportRefused."""
    place = 0
    while place < len(data):
        end = place + _RECORD_HEAD_BYTES + int.from_bytes(data[place : place + _RECORD_HEAD_BYTES], "little")
        if end > len(data):
            raise ExportRefused("found a record that is cut short")
        yield data[place + _RECORD_HEAD_BYTES : end]
        place = end


def _compute_file_digest(data: bytes) -> Hash:
    return tagged_hash("export.file", data)
