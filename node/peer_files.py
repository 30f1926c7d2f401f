"""The files in which a node keeps its address book and its bans between runs.

Nothing in them is needed to start: a damaged file is set aside with a warning, and a file that cannot be written costs
a warning. What the bytes mean is `p2p.address_file`'s.
"""

from pathlib import Path
from threading import Lock
from typing import TypeVar

from chain.errors import DecodeError
from chain.storage.files import DiskFiles, Files
from node.observability.journal import get_log
from p2p.address_file import FILE_BYTES_MAX, BansRecord, BookRecord, Snapshot, make_record, seal, unseal

log = get_log("peer_files")

T = TypeVar("T", BookRecord, BansRecord)
DAMAGED_SUFFIX = ".damaged"


class PeerFiles:
    """Two files under one folder."""

    def __init__(self, root: Path, files: Files | None = None) -> None:
        """Keep them under `root` of this machine's file system, or of `files`."""
        self._root = root
        self._files = files or DiskFiles()
        # A write in a thread outlives the task that waited for it, and the last one must come last.
        self._lock = Lock()

    def load_book(self) -> BookRecord | None:
        """Return the address book of the last run, None when there is none to be had."""
        return self._load(BookRecord, self._root / "addresses")

    def load_bans(self) -> BansRecord | None:
        """Return the bans of the last run, None when there are none to be had."""
        return self._load(BansRecord, self._root / "bans")

    def save(self, kept: Snapshot | BansRecord) -> None:
        """Put an address book or bans on disk, whole or not at all."""
        record = make_record(kept) if isinstance(kept, Snapshot) else kept
        path = self._root / ("addresses" if isinstance(record, BookRecord) else "bans")
        try:
            with self._lock:
                self._files.write(path, seal(record))
        except OSError as error:
            log.warning("file of peers not written", path=str(path), error=str(error))

    def _load(self, cls: type[T], path: Path) -> T | None:
        data = b""
        try:
            self._files.make_folder(self._root)
            if not self._files.exists(path):
                return None
            data = self._files.read(path, FILE_BYTES_MAX + 1)
            return unseal(cls, data)
        except (OSError, DecodeError) as error:
            log.warning("file of peers set aside", path=str(path), error=str(error))
            self._set_aside(path, data)
            return None

    def _set_aside(self, path: Path, data: bytes) -> None:
        try:
            self._files.write(path.with_name(path.name + DAMAGED_SUFFIX), data[:FILE_BYTES_MAX])
            self._files.delete(path)
        except OSError as error:
            log.warning("damaged file of peers stays", path=str(path), error=str(error))
