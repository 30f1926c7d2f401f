"""`examples/fund_a_task.py` on a network of real processes: the loss falls, and everybody has what it says."""

import asyncio
import re
from pathlib import Path

import pytest

from benchmarks.lab.parties.network import run_network
from chain.primitives import ATOMS_PER_COIN
from node.addresses import format_address
from node.keystore import load_key
from node.rpc.client import RpcClient
from node.rpc.economy_methods import GET_SHARES, HolderParams
from node.rpc.methods import GET_ACCOUNT, GET_STATUS, AccountParams
from node.rpc.registry import Params
from node.rpc.task_methods import GET_POSTED, LIST_TASKS, PostedParams
from tests.support.processes import QUICK, find_ports
from tests.test_examples import run_script

pytestmark = pytest.mark.slow

FEE = ATOMS_PER_COIN // 1_000
BALANCES = {
    # 50 coins, two fees, the budget; 30 % of 10 coins.
    "fay": 50 * ATOMS_PER_COIN - 2 * FEE - 20 * ATOMS_PER_COIN + 3 * ATOMS_PER_COIN,
    # 50 coins, two fees, 5 coins for the pot and 10 for the model.
    "kim": 50 * ATOMS_PER_COIN - 2 * FEE - 15 * ATOMS_PER_COIN,
}


async def test_a_posted_task_is_trained_and_earns(tmp_path: Path) -> None:
    root = tmp_path / "net"
    async with run_network(root, find_ports(2), (), 0, has_forger=False, parameters=QUICK) as network:
        printed = await asyncio.to_thread(run_script, network, root, "fund_a_task")
        assert len(re.findall(r"^round \d+: \d+ of 8192 bytes right", printed, re.MULTILINE)) == 3
        assert "so far it writes like this:\nA block" in printed
        assert re.search(r"its loss fell by \d+ % in 3 rounds", printed)
        await network.stop_mining()
        rpc = RpcClient(network.url)
        for name, atoms in BALANCES.items():
            address = format_address(load_key(root / "people" / f"{name}.json", "").public_key)
            assert int(rpc.call(GET_ACCOUNT, AccountParams(address)).balance) == atoms
        _, posted = rpc.call(LIST_TASKS, Params())
        shown = rpc.call(GET_POSTED, PostedParams(posted.task))
        assert shown.funding is not None
        assert sorted(int(each.amount) for each in shown.funding.funders) == [5 * ATOMS_PER_COIN, 20 * ATOMS_PER_COIN]
        assert int(posted.pot) < 25 * ATOMS_PER_COIN
        miner = format_address(network.get_key(0).public_key)
        shares = rpc.call(GET_SHARES, HolderParams(posted.task, miner))
        assert shares.units == shares.units_total != "0"
        supply = rpc.call(GET_STATUS, Params()).supply
        assert int(supply.pot) >= int(posted.pot), "the pots of both tasks"
