"""`examples/vote.py` against a real node that mines beside it: the decision is made, and what it proves is true."""

import asyncio
import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from chain.primitives import ATOMS_PER_COIN
from node.keystore import write_key
from tests.support.live_node import HOLDER, MINER, make_genesis, run_live_node

PATH = Path(__file__).parents[2] / "examples" / "vote.py"
BLOCKS_MAX = 60
PAUSE_S = 0.25
"""Between blocks, as long as the example needs to see each."""


def load_example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("vote_example", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_the_example_decides_and_proves_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    genesis, example = make_genesis(), load_example()
    for number, key in enumerate((HOLDER, MINER), start=1):
        (tmp_path / f"node{number}").mkdir()
        write_key(tmp_path / f"node{number}" / "node-key.json", key, "", is_development=True)
    quick = replace(genesis.parameters, voting_blocks=6, enactment_blocks=1)
    async with run_live_node(tmp_path / "node", genesis=replace(genesis, parameters=quick)) as live:
        voting = asyncio.create_task(asyncio.to_thread(example.main, ["--devnet", str(tmp_path), "--rpc", live.url]))
        for _ in range(BLOCKS_MAX):
            if voting.done():
                break
            await live.mine(1)
            await asyncio.sleep(PAUSE_S)
        assert await voting == 0
        printed = capsys.readouterr().out
        assert f"enacted: {800 * ATOMS_PER_COIN} atoms for it, 0 against" in printed
        assert f"a commit locks {5 * ATOMS_PER_COIN * 11 // 10} atoms, and the proof holds" in printed


def test_a_directory_without_keys_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        load_example().main(["--devnet", str(tmp_path)])
    assert end.value.code == 2
    assert "expected a development network's directory" in capsys.readouterr().err


def test_nobody_at_the_address_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "node1").mkdir()
    write_key(tmp_path / "node1" / "node-key.json", HOLDER, "", is_development=True)
    with pytest.raises(SystemExit) as end:
        load_example().main(["--devnet", str(tmp_path), "--rpc", "http://127.0.0.1:9"])
    assert end.value.code == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
