"""Every example against one network of real processes: what it says it does, and everybody's balance to the atom."""

import asyncio
import os
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from benchmarks.lab.parties.accounts import count_blocks
from benchmarks.lab.parties.network import Network, run_network
from benchmarks.lab.parties.story import list_lines
from ml.models import build_program
from ml.spec import DIGITS
from node.keystore import load_key
from node.rpc.client import RpcClient
from tests.support.processes import QUICK, find_ports

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = ("train_and_claim", "data_set", "buy_licence", "fine_tune")

ELSEWHERE = {"vote", "fund_a_task"}
"""The first needs several nodes' keys: tests/node/test_vote_example.py; the other: tests/test_task_example.py."""

BALANCES = {
    # 50 coins; 3 paid, and a fee of a thousandth.
    "vera": 46_999_000_000,
    # A fee; 5 % of 4 coins.
    "dora": 49_999_000_000 + 200_000_000,
    # A fee; 30 % of 4 coins.
    "max": 49_999_000_000 + 1_200_000_000,
    "vic": 45_999_000_000,
    # A fee; 99 % of 10 coins.
    "ada": 49_999_000_000 + 9_900_000_000,
    "ben": 39_999_000_000,
    # A fee; 40 % of 6 coins.
    "finn": 49_999_000_000 + 2_400_000_000,
    "gus": 43_999_000_000,
}
"""In atoms, by hand."""


@dataclass
class Setting:
    """The network after all scripts, its mining stopped, and what they printed."""

    network: Network
    root: Path
    printed: dict[str, str]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def setting(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Setting]:
    root = tmp_path_factory.mktemp("examples") / "net"
    async with run_network(root, find_ports(2), (), 0, has_forger=False, parameters=QUICK) as network:
        printed = {name: await asyncio.to_thread(run_script, network, root, name) for name in SCRIPTS}
        await network.stop_mining()
        yield Setting(network, root, printed)


def run_script(network: Network, root: Path, name: str) -> str:
    places = {"MATHESIS_DEVNET_DIR": str(root), "MATHESIS_RPC": network.url}
    command, paths = [sys.executable, str(EXAMPLES / f"{name}.py")], str(EXAMPLES.parent)
    environment = os.environ | places | {"PYTHONPATH": paths}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_scripts_are_run_listed_and_typed() -> None:
    stems = {path.stem for path in EXAMPLES.glob("*.py")}
    settings = tomllib.loads((EXAMPLES.parent / "pyproject.toml").read_text())
    assert {*settings["tool"]["mypy"]["modules"]} == stems
    found = stems - {"people"}
    assert found == {*SCRIPTS, *ELSEWHERE}
    page = (EXAMPLES / "README.md").read_text()
    assert all(f"`{name}.py`" in page for name in found)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "train_and_claim",
            ["units of the network's model", "vera has 46.999000000 coins left; the miner may"],
        ),
        ("data_set", ["dora has 50.199000000 coins, max 51.199000000, vic 45.999000000"]),
        ("buy_licence", ["for 10000000000 atoms", "ada has 59.899000000 coins, ben 39.999000000"]),
        ("fine_tune", ["finn has 52.399000000 coins, gus 43.999000000; 600000000 atoms went to the network's model"]),
    ],
)
def test_an_example_does_what_it_says(setting: Setting, name: str, said: list[str]) -> None:
    text = setting.printed[name]
    assert all(part in text for part in said), text


def test_everybody_has_what_the_blocks_give(setting: Setting) -> None:
    macs = build_program(DIGITS).segment_macs
    accounts = count_blocks(setting.network.genesis, macs, setting.network.read_blocks())
    people = {path.stem: load_key(path, "").public_key for path in (setting.root / "people").glob("*.json")}
    assert {name: accounts.balances[key] for name, key in people.items()} == BALANCES
    parties = people | {"miner": setting.network.get_key(0).public_key}
    lines = list_lines(RpcClient(setting.network.url), accounts, parties)
    assert [line for line in lines if not line.is_equal] == []
    assert len(lines) == 4 * len(parties) + 5 + len(accounts.models)
    assert accounts.counts["segments settled"] > 0
