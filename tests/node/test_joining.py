"""A stranger joins a running network: it posts a bond, mines, trains, and is paid, as those that genesis lists are."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from chain.ledger.accounts import get_account
from chain.ledger.keys import contribution_key
from chain.ledger.records import ContributionKey
from chain.ledger.transition import ContributionStatus
from chain.primitives import Hash
from chain.transaction import PostBond
from ml.backends import get_backend
from ml.lottery import get_lottery
from node.addresses import format_address
from node.cli.main import main
from node.exit_codes import ExitCode
from node.learning import load_task
from node.miner import loop as miner_loop
from node.miner.link import NodeLink
from node.miner.loop import MinerLoop
from node.miner.tools import Tools
from node.options import Endpoint
from node.rpc.client import AsyncRpcClient
from node.rpc.methods import GET_WORK, LIST_CONTRIBUTIONS, RoundParams
from node.rpc.registry import Params
from node.rpc.work_views import WorkView
from tests.node.test_auditor import send
from tests.support.live_node import HOLDER, MINER, LiveNode, make_genesis, run_live_node


async def get_work(live: LiveNode) -> WorkView:
    async with AsyncRpcClient(live.url, live.token) as rpc:
        return await rpc.call(GET_WORK, Params())


async def follow(live: LiveNode, head: Hash) -> None:
    async with asyncio.timeout(60):
        while live.node.parts.chain.head.hash != head:
            await asyncio.sleep(0.02)


@dataclass
class Pair:
    """A listed miner's node, a stranger's, and the stranger's miner, driven by hand."""

    listed: LiveNode
    stranger: LiveNode
    loop: MinerLoop

    async def mine(self, live: LiveNode, blocks: int = 1) -> None:
        """Mine at one node and have the other follow."""
        await live.mine(blocks)
        for node in (self.listed, self.stranger):
            await follow(node, live.node.parts.chain.head.hash)

    async def prepare(self) -> str | None:
        """Have the stranger's miner do its duties; return the rule that it may not mine by."""
        work = await get_work(self.stranger)
        await asyncio.to_thread(self.loop._prepare, work)
        assert work.obstacle is None or not self.loop._mine(work)
        return None if work.obstacle is None else work.obstacle.partition(":")[0]


@pytest_asyncio.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    genesis = make_genesis()
    async with run_live_node(tmp_path / "one", MINER, genesis) as listed:
        peer = Endpoint("127.0.0.1", listed.node.validator.network._port)
        async with run_live_node(tmp_path / "two", HOLDER, genesis, peers=(peer,)) as stranger:
            tools = Tools(genesis, load_task(genesis.task), get_backend("cpu"), get_lottery("cpu"))
            yield Pair(listed, stranger, MinerLoop(NodeLink(stranger.url, lambda: stranger.token), tools))


async def test_a_stranger_posts_a_bond_and_mines(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(miner_loop.log, "warning", lambda _event, reason, **_more: told.append(reason))
    parameters, chain = pair.listed.genesis.parameters, pair.listed.node.parts.chain
    assert [await pair.prepare(), await pair.prepare()] == ["segment-miner"] * 2
    await pair.mine(pair.listed)
    await send(pair.listed, HOLDER, PostBond(parameters.bond))
    await pair.mine(pair.listed)
    for _ in range(2):
        assert await pair.prepare() == "segment-anchor"
        await pair.mine(pair.listed)
    assert [reason.partition(":")[0] for reason in told] == ["segment-miner", "segment-anchor", "segment-anchor"]
    assert not pair.loop._duties.segments

    # The next round, from its first anchor to its settlement, with every block by the stranger.
    await pair.mine(pair.listed, parameters.round_blocks - chain.head.height)
    before = get_account(chain.view(), HOLDER.public_key).balance
    for _ in range(parameters.round_blocks):
        assert await pair.prepare() is None
        await pair.mine(pair.stranger)
    task, key = chain.ledger_context.task_id, ContributionKey(HOLDER.public_key, 0)
    record = chain.view().get_existing(contribution_key(task, 1, key))
    assert record.status is ContributionStatus.SETTLED
    assert record.reward > 0
    assert get_account(chain.view(), HOLDER.public_key).balance >= before + record.reward
    async with AsyncRpcClient(pair.listed.url) as rpc:
        (found, *_) = await rpc.call(LIST_CONTRIBUTIONS, RoundParams(1))
        assert await rpc.call(LIST_CONTRIBUTIONS, RoundParams(1 << 40)) == []
    assert (found.miner, found.status) == (format_address(HOLDER.public_key), "settled")
    command = ["light", "verify", "--rpc", pair.listed.url, "--genesis", f"0x{pair.listed.genesis_hash.hex()}"]
    assert await asyncio.to_thread(main, [*command, "--account", found.miner]) == ExitCode.OK
