"""A disk that fills up at any write: the node stops with one line and the right code, and comes back with what it said.

The failure is put in at the engine and at the file system, where a full disk shows; everything above is the real node.
"""

import contextlib
import errno
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from chain.errors import MathesisError, StorageError
from chain.storage.block_store import open_block_store
from chain.storage.engine import Changes
from chain.storage.files import DiskFiles
from chain.storage.guard import DiskGuard, GuardedEngine, GuardedFiles
from chain.storage.leveldb import LevelDb
from consensus.header_rules import make_header_context
from node import run as node_run
from node.data_directory import DataDirectory
from node.exit_codes import CommandError, ExitCode
from node.keystore import write_key
from node.options import Endpoint, NodeOptions
from node.rpc.client import RpcClient
from node.rpc.methods import GET_WORK, SUBMIT_TICKET
from node.rpc.registry import Params
from tests.support.live_node import MINER, find_ticket, make_genesis
from tests.support.processes import find_ports
from tests.support.store import MemoryEngine

FULL = "No space left on device"


@dataclass
class Disk:
    """Counts writes and refuses those from the `number`-th on whose name holds `where`."""

    where: str
    number: int
    writes: list[str] = field(default_factory=list)

    def admit(self, name: str) -> None:
        self.writes += [name] if self.where in name else []
        if len(self.writes) >= self.number and self.where in name:
            raise OSError(errno.ENOSPC, FULL)


@dataclass
class FullEngine:
    """LevelDB on such a disk."""

    engine: LevelDb
    disk: Disk

    def __getattr__(self, name: str) -> object:
        return getattr(self.engine, name)

    def write(self, changes: Changes) -> None:
        try:
            self.disk.admit(f"database {'block' if any(key[:1] == b'b' for key in changes) else 'start'}")
        except OSError as error:
            raise StorageError(f"cannot be written: {error.strerror}") from None
        self.engine.write(changes)


@dataclass
class FullFiles:
    """A file system on such a disk."""

    files: DiskFiles
    disk: Disk

    def __getattr__(self, name: str) -> object:
        return getattr(self.files, name)

    def write(self, path: Path, data: bytes) -> None:
        self.disk.admit(str(path))
        self.files.write(path, data)


def mine(options: NodeOptions, directory: DataDirectory, acknowledged: list[int], stopping: threading.Event) -> None:
    """Mine through the RPC until the node has stopped."""
    genesis = directory.read_genesis()
    while not stopping.wait(0.1):
        with contextlib.suppress(MathesisError, OSError):
            client = RpcClient(options.rpc.url, directory.cookie_path.read_text())
            while True:
                work = client.call(GET_WORK, Params())
                if client.call(SUBMIT_TICKET, find_ticket(genesis, work)) == "extended":
                    acknowledged.append(work.parent.height + 1)


SITES = [("database start", 1), ("database block", 1), ("database block", 3), ("blobs", 1), ("signed", 2)]


@pytest.mark.parametrize(("where", "number"), SITES)
def test_a_full_disk_stops_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, number: int) -> None:
    directory, port = DataDirectory(tmp_path / "node"), find_ports(2)
    directory.create()
    directory.write_genesis(make_genesis())
    write_key(directory.key_path, MINER, "", is_development=True)
    endpoint = Endpoint("127.0.0.1", port)
    options = NodeOptions(directory.root, endpoint, replace(endpoint, port=port + 1))
    disk, acknowledged = Disk(where, number), list[int]()
    monkeypatch.setattr(node_run, "LevelDb", lambda path: FullEngine(LevelDb(path), disk))
    monkeypatch.setattr(node_run, "DiskFiles", lambda: FullFiles(DiskFiles(), disk))
    stopping = threading.Event()
    miner = threading.Thread(target=mine, args=(options, directory, acknowledged, stopping))
    miner.start()
    with pytest.raises(CommandError) as caught:
        node_run.run(options)
    stopping.set()
    miner.join()
    assert caught.value.code is ExitCode.DISK_FULL
    assert FULL in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(disk.writes) == number, "nothing was written behind the write that failed"
    with open_block_store(directory.database_path) as store:
        if store.is_empty():
            assert not acknowledged
            return
        store.validate(make_header_context(directory.read_genesis(), lambda _ticket: 0).chain_id)
        assert store.get_tip().height == len(acknowledged)


def test_what_one_store_cannot_write_no_other_writes_either(tmp_path: Path) -> None:
    guard = DiskGuard()
    engine, files = GuardedEngine(MemoryEngine(), guard), GuardedFiles(DiskFiles(), guard)
    heard: list[StorageError] = []
    guard.listeners.append(heard.append)
    engine.write({b"key": b"value"})
    files.write(tmp_path / "good", b"data")
    with pytest.raises(OSError, match="Not a directory"):
        files.write(tmp_path / "good" / "file", b"data")
    with pytest.raises(StorageError, match="until a restart, because: cannot write"):
        engine.write({b"key": b"other"})
    with pytest.raises(StorageError, match="until a restart, because: cannot write"):
        files.write(tmp_path / "next", b"data")
    assert len(heard) == 1
    assert engine.get(b"key") == b"value", "what is there stays readable"
    assert files.read(tmp_path / "good", 10) == b"data"
    assert not files.exists(tmp_path / "next")
