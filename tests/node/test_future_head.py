"""A block that was taken while this machine's clock ran ahead: what the node does once the clock is right again."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from chain.block import Block
from chain.codec import decode
from chain.errors import InvalidBlock
from chain.primitives import Hash
from chain.ticket import Ticket, TicketOpening
from node.cli import main
from node.exit_codes import ExitCode
from node.outcomes import ImportResult
from node.producer import Producer
from node.rpc.client import AsyncRpcClient
from node.rpc.methods import GET_WORK
from node.rpc.registry import Params
from node.rpc.views import from_hex
from tests.support.live_node import MINER, SECOND_MINER, LiveNode, find_ticket, make_genesis, run_live_node

AHEAD_MS = 3_600_000


async def get_ticket(live: LiveNode) -> tuple[Hash, Ticket, TicketOpening]:
    async with AsyncRpcClient(live.url, live.token) as rpc:
        found = find_ticket(live.genesis, await rpc.call(GET_WORK, Params()))
    opening = decode(TicketOpening, found.opening, 256 * 1024)
    return from_hex(found.parent_hash), decode(Ticket, found.ticket, 1024), opening


def set_clock(live: LiveNode, get_time_ms: Callable[[], int]) -> Producer:
    """Let a running node's blocks be judged by another clock; return its producer under that clock."""
    live.node.parts.importer.admission._get_time_ms = get_time_ms
    return Producer(replace(live.node.parts, get_time_ms=get_time_ms))


async def mine_ahead(live: LiveNode) -> None:
    """Mine a block while the clock runs ahead, and set the clock right."""
    right = live.node.parts.get_time_ms
    outcome = await set_clock(live, lambda: right() + AHEAD_MS).produce(*await get_ticket(live))
    assert outcome is not None
    assert outcome.result is ImportResult.EXTENDED
    set_clock(live, right)


def get_block(live: LiveNode, height: int) -> Block:
    chain = live.node.parts.chain
    return chain.get_existing_block(chain.head.get_ancestor(height).hash)


async def test_a_head_of_a_time_to_come_stays_until_another_branch_is_heavier(tmp_path: Path) -> None:
    genesis = make_genesis((MINER, SECOND_MINER))
    async with (
        run_live_node(tmp_path / "early", MINER, genesis) as early,
        run_live_node(tmp_path / "right", SECOND_MINER, genesis) as right,
    ):
        await mine_ahead(early)
        chain, head = early.node.parts.chain, early.node.parts.chain.head
        outcome = await right.node.parts.importer.import_block(get_block(early, 1))
        assert (outcome.result, outcome.rule) == (ImportResult.REFUSED, "future"), "nobody else takes it"
        with pytest.raises(InvalidBlock, match="head-future"):
            await Producer(early.node.parts).produce(*await get_ticket(early))
        await right.mine(2)
        assert (await early.node.parts.importer.import_block(get_block(right, 1))).result is ImportResult.SIDE_BRANCH
        assert chain.head is head, "the first seen of equal ones, whenever it is dated"
        assert (await early.node.parts.importer.import_block(get_block(right, 2))).result is ImportResult.REORGED
        assert chain.head.hash == right.node.parts.chain.head.hash


async def test_a_head_of_a_time_to_come_is_no_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with run_live_node(tmp_path) as live:
        await mine_ahead(live)
    assert main(["db", "verify", "--dir", str(tmp_path)]) == ExitCode.OK, capsys.readouterr().err
    async with run_live_node(tmp_path) as live:
        assert live.node.parts.chain.head.height == 1
