"""Blobs are whole or absent: damage is seen, leftovers of a crash vanish, a full disk leaves nothing behind."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.errors import StorageError
from chain.hashing import tagged_hash
from chain.primitives import Hash
from chain.storage.blob_store import BlobStore

NAME = tagged_hash("blob", b"one")


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def test_put_and_get(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs")
    assert store.get(NAME) is None
    assert not store.has(NAME)
    for data in (b"", b"x" * 100_000):
        name = tagged_hash("blob", data)
        store.put(name, data)
        assert store.has(name)
        assert BlobStore(tmp_path / "blobs").get(name) == data


def test_a_blob_is_immutable(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    store.put(NAME, b"first")
    store.put(NAME, b"second")
    assert store.get(NAME) == b"first"


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_damage_is_seen(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    root = tmp_path_factory.mktemp("blobs")
    store = BlobStore(root)
    store.put(NAME, b"some content")
    (path,) = files(root)
    raw = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    else:
        raw = raw[: data.draw(st.integers(0, len(raw) - 1))]
    path.write_bytes(raw)
    with pytest.raises(StorageError, match="damaged"):
        store.get(NAME)


def test_leftovers_of_a_crash_vanish(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    store.put(NAME, b"content")
    (path,) = files(tmp_path)
    path.with_name(f".{path.name}.1234.tmp").write_bytes(b"half")
    store = BlobStore(tmp_path)
    assert files(tmp_path) == [path]
    assert store.get(NAME) == b"content"


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="cannot make"):
        BlobStore(tmp_path / "blobs")
    store = BlobStore(tmp_path / "other")
    (tmp_path / "other" / Hash(NAME).hex()[:2]).write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"):
        store.put(NAME, b"content")


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from chain.errors import StorageError
from chain.storage.blob_store import BlobStore
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
store = BlobStore(Path(sys.argv[1]))
store.put(bytes(32), bytes(1000))
try:
    store.put(bytes([1]) * 32, bytes(100_000))
except StorageError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "cannot write" in done.stdout
    assert len(files(tmp_path)) == 1
