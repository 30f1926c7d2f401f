"""One data directory a network: genesis, keystore, database, blobs, RPC cookie and the lock that keeps it to one node.

It knows paths and permissions, nothing of what the files mean.
"""

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from chain.codec import decode, encode
from chain.errors import StorageError
from chain.genesis import GENESIS_BYTES_MAX, Genesis
from chain.storage.files import sync_directory


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """The places of a node's files under one root."""

    root: Path

    @property
    def genesis_path(self) -> Path:
        """The network's genesis record in canonical bytes."""
        return self.root / "genesis.bin"

    @property
    def key_path(self) -> Path:
        """The node's keystore."""
        return self.root / "node-key.json"

    @property
    def database_path(self) -> Path:
        """LevelDB: headers, blocks, state."""
        return self.root / "database"

    @property
    def blobs_path(self) -> Path:
        """Content-addressed sidecars and checkpoints."""
        return self.root / "blobs"

    @property
    def signed_path(self) -> Path:
        """The blocks that the node's key has signed; they outlive the database."""
        return self.root / "signed"

    @property
    def peers_path(self) -> Path:
        """Addresses of peers, and who is banned."""
        return self.root / "peers"

    @property
    def cookie_path(self) -> Path:
        """The token that local programs present to the node's RPC for miner methods."""
        return self.root / "rpc-cookie"

    @property
    def log_path(self) -> Path:
        """What the node prints when nobody watches."""
        return self.root / "node.log"

    def create(self) -> None:
        """Make the directory, readable by its owner alone; raises StorageError."""
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StorageError(f"cannot make the data directory {self.root}: {error.strerror}") from None

    def write_genesis(self, genesis: Genesis) -> None:
        """Write the genesis record; raises StorageError."""
        write_private(self.genesis_path, encode(genesis))

    def read_genesis(self) -> Genesis:
        """Return the genesis record; raises StorageError when there is none, DecodeError when it is not one."""
        try:
            data = self.genesis_path.read_bytes()
        except OSError:
            help_text = "give the network's with --genesis, or start one with `mathesis devnet`"
            raise StorageError(f"{self.root} holds no genesis.bin; {help_text}") from None
        return decode(Genesis, data, GENESIS_BYTES_MAX)


def write_private(path: Path, data: bytes, *, is_new: bool = False) -> None:
    """Write a file that only its owner can read, whole or not at all, on disk with its name before this returns.

    Raises StorageError, with `is_new` also where there is a file already, which then stays as it is.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            _move_to_free_name(temporary, path)
        else:
            temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StorageError(f"cannot write {path}: {error.strerror}") from None


def _move_to_free_name(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        # A file system without a second name for a file.
        temporary.replace(path)
    else:
        temporary.unlink()


class DirectoryLock:
    """An exclusive lock on a data directory, held until `release` or the end of the process."""

    def __init__(self, directory: DataDirectory) -> None:
        """Take the lock; raises StorageError when another process holds it."""
        self._file: IO[str] = (directory.root / "lock").open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            owner = self._file.read().strip() or "another process"
            self._file.close()
            raise StorageError(f"the data directory {directory.root} is in use by {owner}") from None
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()}\n")
        self._file.flush()

    def release(self) -> None:
        """Give the lock back."""
        self._file.close()
