"""A genesis record whose bits have rotted ends a start with the code of a damaged directory, decodable or not."""

from dataclasses import replace
from pathlib import Path

import pytest

from node.data_directory import DataDirectory
from node.exit_codes import CommandError, ExitCode
from node.keystore import make_key, write_key
from node.options import Endpoint, NodeOptions
from node.run import run
from tests.support.live_node import make_genesis

ANY = Endpoint("127.0.0.1", 0)


def make_directory(root: Path) -> DataDirectory:
    directory = DataDirectory(root)
    directory.create()
    write_key(directory.key_path, make_key(), "", is_development=True)
    return directory


def start(directory: DataDirectory) -> ExitCode:
    with pytest.raises(CommandError) as caught:
        run(NodeOptions(directory.root, p2p=ANY, rpc=ANY))
    return caught.value.code


def test_a_record_that_does_not_decode(tmp_path: Path) -> None:
    directory = make_directory(tmp_path)
    directory.write_genesis(make_genesis())
    directory.genesis_path.write_bytes(directory.genesis_path.read_bytes()[:-1])
    assert start(directory) is ExitCode.CORRUPT_DATABASE


def test_a_record_whose_parts_do_not_fit(tmp_path: Path) -> None:
    directory, genesis = make_directory(tmp_path), make_genesis()
    directory.write_genesis(replace(genesis, parameters=replace(genesis.parameters, subsidy_half_life=0)))
    assert start(directory) is ExitCode.CORRUPT_DATABASE
