"""Sealed files: no bit may change, none may be lost, and no file may stand in another's place."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.errors import StorageError
from chain.primitives import Hash
from chain.storage.blob_store import BlobStore
from chain.storage.seals import SEAL_BYTES, DamagedFile, seal, unseal


@given(st.binary(max_size=40), st.binary(max_size=200), st.data())
def test_any_damage_is_seen(name: bytes, data: bytes, choice: st.DataObject) -> None:
    sealed = seal(name, data)
    assert unseal(name, sealed) == data
    place = choice.draw(st.integers(0, len(sealed) - 1))
    flipped = bytearray(sealed)
    flipped[place] ^= 1 << choice.draw(st.integers(0, 7))
    for damaged in (bytes(flipped), sealed[:place], sealed + b"\0", b""):
        with pytest.raises(DamagedFile):
            unseal(name, damaged)


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_a_seal_is_of_one_name(first: bytes, second: bytes, data: bytes) -> None:
    if first != second:
        with pytest.raises(DamagedFile):
            unseal(second, seal(first, data))


def test_no_byte_moves_between_name_and_data() -> None:
    sealed = seal(b"name", b"data")
    with pytest.raises(DamagedFile):
        unseal(b"nam", sealed[:SEAL_BYTES] + b"edata")


def test_a_blob_in_the_place_of_another_is_damaged(tmp_path: Path) -> None:
    store, (first, second) = BlobStore(tmp_path), (Hash(bytes([number]) * 32) for number in (1, 2))
    store.put(first, b"weights")
    store.put(second, b"other weights")
    paths = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    paths[1].write_bytes(paths[0].read_bytes())
    assert store.get(first) == b"weights"
    with pytest.raises(StorageError, match="is damaged"):
        store.get(second)
