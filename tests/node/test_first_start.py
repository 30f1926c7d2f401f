"""What an empty directory becomes when a node first starts in it, and what it refuses without losing anything."""

from pathlib import Path

import pytest

from chain.codec import encode
from chain.errors import StorageError
from node.cli.main import main
from node.data_directory import DataDirectory
from node.exit_codes import CommandError, ExitCode
from node.first_start import open_node_key, take_genesis
from node.keystore import KeystoreError, is_development_key
from node.options import NodeOptions
from tests.support.live_node import make_genesis


@pytest.fixture
def directory(tmp_path: Path) -> DataDirectory:
    made = DataDirectory(tmp_path / "node")
    made.create()
    return made


@pytest.fixture
def record(tmp_path: Path) -> Path:
    path = tmp_path / "given.bin"
    path.write_bytes(encode(make_genesis()))
    return path


def start(directory: DataDirectory, passphrase: str = "", *, development: bool = False) -> bytes:
    options = NodeOptions(directory.root, passphrase=passphrase, makes_development_key=development)
    return open_node_key(directory, options).public_key


def test_a_key_is_made_once_and_sealed(directory: DataDirectory, record: Path) -> None:
    take_genesis(directory, record)
    made = start(directory, "a long one")
    assert not is_development_key(directory.key_path)
    assert directory.key_path.stat().st_mode & 0o777 == 0o600
    assert start(directory, "a long one") == made
    assert start(directory, "a long one", development=True) == made
    with pytest.raises(KeystoreError):
        start(directory, "another")


def test_a_key_for_development_has_no_passphrase(directory: DataDirectory, record: Path) -> None:
    take_genesis(directory, record)
    made = start(directory, development=True)
    assert is_development_key(directory.key_path)
    assert start(directory) == made


def test_no_key_is_made_for_no_network_nor_unasked(directory: DataDirectory, record: Path) -> None:
    with pytest.raises(StorageError, match="--genesis"):
        start(directory, "a long one")
    take_genesis(directory, record)
    with pytest.raises(CommandError, match="--passphrase") as refused:
        start(directory)
    assert refused.value.code is ExitCode.USAGE
    assert not directory.key_path.exists()


def test_the_command_says_what_is_missing(tmp_path: Path, record: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["node", "--dir", str(tmp_path / "empty")]
    assert main(place) == ExitCode.FAILURE
    assert "--genesis" in capsys.readouterr().err
    assert main([*place, "--genesis", str(record)]) == ExitCode.USAGE
    assert "--development" in capsys.readouterr().err
    assert not (tmp_path / "empty" / "node-key.json").exists()
