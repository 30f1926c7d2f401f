"""Keystores: sealed, private, bounded, and never opened by the wrong hands."""

import json
from pathlib import Path

import pytest

from chain.errors import StorageError
from chain.storage.files import sync_directory
from node import data_directory, keystore
from node.keystore import KeystoreError, is_development_key, load_key, make_key, read_address, write_key


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "key.json"


def test_a_key_comes_back_and_its_file_is_private(path: Path) -> None:
    key = make_key()
    write_key(path, key, "correct horse")
    assert load_key(path, "correct horse").public_key == key.public_key
    assert path.stat().st_mode & 0o777 == 0o600
    assert key.get_secret().hex() not in path.read_text()
    assert not is_development_key(path)


def test_a_wrong_passphrase_is_refused(path: Path) -> None:
    write_key(path, make_key(), "correct horse")
    for passphrase in ("", "correct hors", "correct horse "):
        with pytest.raises(KeystoreError, match="passphrase"):
            load_key(path, passphrase)


def test_a_development_key_opens_without_a_passphrase_and_says_so(path: Path) -> None:
    write_key(path, make_key(), "", is_development=True)
    assert is_development_key(path)
    assert read_address(path).startswith("mth1")
    load_key(path, "")


def test_an_empty_passphrase_has_to_be_meant(path: Path) -> None:
    with pytest.raises(KeystoreError, match="empty passphrase"):
        write_key(path, make_key(), "")
    assert not path.exists()


def test_a_key_is_never_overwritten(path: Path) -> None:
    write_key(path, make_key(), "", is_development=True)
    before = path.read_bytes()
    with pytest.raises(KeystoreError, match="never overwritten"):
        write_key(path, make_key(), "", is_development=True)
    assert path.read_bytes() == before


def test_a_key_that_was_made_meanwhile_is_not_overwritten_either(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sealing takes a while, and its address may have been told to somebody who pays."""
    encrypt, first, second = keystore._encrypt, make_key(), make_key()

    def encrypt_late(seal: keystore._Seal, passphrase: str, secret: bytes) -> bytes:
        monkeypatch.setattr(keystore, "_encrypt", encrypt)
        write_key(path, first, "", is_development=True)
        return encrypt(seal, passphrase, secret)

    monkeypatch.setattr(keystore, "_encrypt", encrypt_late)
    with pytest.raises(StorageError, match="exists"):
        write_key(path, second, "", is_development=True)
    assert load_key(path, "").public_key == first.public_key
    assert list(path.parent.iterdir()) == [path]


def test_a_key_is_on_disk_with_its_name_before_its_address_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []

    def sync(folder: Path) -> None:
        assert path.exists()
        synced.append(folder)
        sync_directory(folder)

    monkeypatch.setattr(data_directory, "sync_directory", sync)
    write_key(path, make_key(), "", is_development=True)
    assert synced == [path.parent]


def test_any_truncation_is_refused(path: Path) -> None:
    write_key(path, make_key(), "", is_development=True)
    data = path.read_bytes()
    for size in range(0, len(data) - 2, 7):
        path.write_bytes(data[:size])
        with pytest.raises(KeystoreError, match="damaged"):
            load_key(path, "")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 2),
        ("address", "mth1other"),
        ("development", False),
        ("kdf", "scrypt"),
        ("time_cost", 0),
        ("time_cost", 2),
        ("time_cost", 10**9),
        ("memory_kib", 10**9),
        ("lanes", 1000),
        ("salt", "AAAA"),
        ("cipher", "none"),
        ("nonce", "AAAAAAAAAAAAAAAA"),
        ("nonce", "AAAA"),
    ],
)
def test_every_field_of_the_seal_is_bound(path: Path, field: str, value: object) -> None:
    write_key(path, make_key(), "", is_development=True)
    record = json.loads(path.read_text())
    record["seal"][field] = value
    path.write_text(json.dumps(record))
    with pytest.raises(KeystoreError):
        load_key(path, "")


def test_a_missing_or_huge_file_is_refused(path: Path) -> None:
    with pytest.raises(KeystoreError, match="No such file"):
        load_key(path, "")
    path.write_bytes(b" " * 5000)
    with pytest.raises(KeystoreError, match="no keystore"):
        load_key(path, "")
