"""What a miner owes is owed until the node has taken it, and anew on another branch: a deposit burns for silence."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from msgspec import structs

from ml.backends import get_backend
from ml.lottery import get_lottery
from node.learning import load_task
from node.miner.link import NodeLink
from node.miner.loop import MinerLoop
from node.miner.tools import Tools
from node.rpc.client import AsyncRpcClient
from node.rpc.methods import GET_WORK, OpeningsParams, SegmentParams
from node.rpc.registry import Params
from node.rpc.views import to_hex
from node.rpc.work_views import WorkView
from tests.support.live_node import LiveNode, run_live_node


class DeafLink(NodeLink):
    """A link to a node that takes no openings, or no commits, until it listens."""

    is_deaf, is_deaf_to_commits = True, False
    asked = commits = 0

    def submit_segment(self, params: SegmentParams) -> str:
        self.commits += 1
        return "" if self.is_deaf_to_commits else super().submit_segment(params)

    def submit_openings(self, params: OpeningsParams) -> str:
        self.asked += 1
        return "" if self.is_deaf else super().submit_openings(params)


@pytest_asyncio.fixture
async def live(tmp_path: Path) -> AsyncIterator[LiveNode]:
    async with run_live_node(tmp_path) as node:
        yield node


async def get_work(live: LiveNode) -> WorkView:
    async with AsyncRpcClient(live.url, live.token) as client:
        return await client.call(GET_WORK, Params())


def make_tools(live: LiveNode) -> Tools:
    return Tools(live.genesis, load_task(live.genesis.task), get_backend("cpu"), get_lottery("cpu"))


async def commit_and_wait(live: LiveNode, loop: MinerLoop) -> None:
    """Commit a segment and mine until its places are drawn, the loop following each head but the last."""
    await asyncio.to_thread(loop._prepare, await get_work(live))
    await live.mine(1 + live.genesis.parameters.challenge_delay)
    assert [info.status for info in (await get_work(live)).contributions] == ["challenged"]


async def test_a_segment_that_the_node_did_not_take_is_handed_in_under_the_next_parent(live: LiveNode) -> None:
    link = DeafLink(live.url, lambda: live.token)
    link.is_deaf_to_commits = True
    loop = MinerLoop(link, make_tools(live))
    for _ in range(2):
        await asyncio.to_thread(loop._prepare, await get_work(live))
    assert link.commits == 1
    link.is_deaf_to_commits = False
    await live.mine(1)
    for _ in range(2):
        await asyncio.to_thread(loop._prepare, await get_work(live))
    assert link.commits == 3, "the second segment of the round is planned by now, and each is handed in once"
    await live.mine(1)
    assert [info.index for info in (await get_work(live)).contributions] == [0, 1]


async def test_openings_that_the_node_did_not_take_are_sent_again_under_the_next_parent(live: LiveNode) -> None:
    link = DeafLink(live.url, lambda: live.token)
    loop = MinerLoop(link, make_tools(live))
    await commit_and_wait(live, loop)
    for _ in range(2):
        await asyncio.to_thread(loop._prepare, await get_work(live))
    assert link.asked == 1, "no more than once under one parent"
    link.is_deaf = False
    await live.mine(1)
    await asyncio.to_thread(loop._prepare, await get_work(live))
    assert link.asked == 2
    await live.mine(1)
    (own,) = [info for info in (await get_work(live)).contributions if info.index == 0]
    assert own.status == "proven"


async def test_places_that_another_branch_draws_are_opened_too(live: LiveNode) -> None:
    link = DeafLink(live.url, lambda: live.token)
    loop = MinerLoop(link, make_tools(live))
    await commit_and_wait(live, loop)
    work = await get_work(live)
    await asyncio.to_thread(loop._prepare, work)
    link.is_deaf = False
    await asyncio.to_thread(loop._prepare, structs.replace(work, parent=structs.replace(work.parent, hash="0x01")))
    assert link.asked == 2, "taken"
    other = [structs.replace(info, challenge=to_hex(b"\x05" * 32)) for info in work.contributions]
    await asyncio.to_thread(loop._duties.open, work, work.task.task, other)
    assert link.asked == 3


async def test_a_segment_of_a_branch_that_was_left_is_let_go(live: LiveNode) -> None:
    """Its seed hangs on a block of that branch: no ticket of it counts here, and no opening of it holds."""
    await live.mine(2)
    loop, work = MinerLoop(NodeLink(live.url, lambda: live.token), make_tools(live)), await get_work(live)
    duties = loop._duties
    await asyncio.to_thread(loop._prepare, work)
    assert len(duties.segments) == 2
    duties.forget(work)
    assert len(duties.segments) == 2
    anchors = [structs.replace(anchor, beacon=to_hex(bytes(32))) for anchor in work.anchors]
    duties.forget(structs.replace(work, anchors=anchors))
    assert not duties.segments
    await asyncio.to_thread(loop._prepare, work)
    duties.forget(structs.replace(work, anchors=work.anchors[:-1]))
    assert not duties.segments, "a branch of less blocks may be heavier"
