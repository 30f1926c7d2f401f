"""What a light client is told of a chain that has grown since it checked the head: by an honest node and by a liar."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from chain.block import compute_transactions_root
from chain.codec import encode
from chain.ledger.keys import account_key
from chain.ledger.records import Account
from chain.primitives import ZERO_HASH, Hash
from chain.state.proof import prove_key
from chain.state.tree import EMPTY_ROOT, MemoryNodes
from chain.state.view import StateView
from consensus.header_chain import ChainEntry, make_entry
from consensus.header_rules import HeaderContent, compute_round, make_header
from node.light import REFUSALS, LightReport, Wanted, verify_node
from node.light_chain import Clock
from node.rpc.client import RpcClient
from node.rpc.methods import GET_ACCOUNT, GET_HEADERS, GET_TICKET, BlockParams
from node.rpc.proofs import AccountProof
from node.rpc.state_views import view_account
from node.rpc.views import view_header
from tests.support.live_node import HOLDER, MINER, LiveNode, run_live_node

BLOCKS = 6
RICHES = 5_000 * 10**9

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveNode]:
    async with run_live_node(tmp_path_factory.mktemp("node")) as node:
        await node.mine(BLOCKS)
        yield node


async def verify(rpc: RpcClient, genesis_hash: Hash) -> LightReport:
    clock, wanted = Clock(lambda: time.time_ns() // 1_000_000), Wanted(HOLDER.public_key)
    return await asyncio.to_thread(verify_node, rpc, genesis_hash, clock, wanted)


class GrowingNode(RpcClient):
    """A node on which `extra` headers appear once it is asked for an account, whose state it invents."""

    def __init__(self, live: LiveNode, extra: int) -> None:
        super().__init__(live.url)
        self.head = live.node.parts.chain.head
        self.context = live.node.parts.chain.header_context
        self.view = StateView(EMPTY_ROOT, MemoryNodes())
        self.view.put(account_key(HOLDER.public_key), Account(0, RICHES))
        self.root, nodes = self.view.commit()
        self.nodes = MemoryNodes(nodes)
        self.extra = extra

    def call(self, method: Any, params: Any) -> Any:
        if method is GET_HEADERS and params.start > self.head.height:
            return [view_header(entry.header) for entry in self.invent()]
        if method is GET_TICKET:
            for entry in self.invent():
                if params.block == "0x" + entry.hash.hex():
                    real = super().call(method, BlockParams(self.head.height))
                    return type(real)(view_header(entry.header), real.opening)
        if method is GET_ACCOUNT:
            return self.show_riches(self.invent()[-1])
        return super().call(method, params)

    def invent(self) -> list[ChainEntry]:
        """Headers that keep every rule, over a digest that nobody has worked for."""
        made, parent = [], self.head
        for _ in range(self.extra):
            ticket = replace(
                self.head.header.trunk.ticket,
                round=compute_round(self.context, parent.height),
                anchor_height=parent.height - 1,
                digest=ZERO_HASH,
            )
            timestamp_ms = self.head.header.foliage.timestamp_ms + 1
            content = HeaderContent(MINER.public_key, timestamp_ms, self.root, compute_transactions_root(()))
            parent = make_entry(make_header(self.context, parent, ticket, content, MINER), parent)
            made.append(parent)
        return made

    def show_riches(self, entry: ChainEntry) -> Any:
        key = account_key(HOLDER.public_key).name
        value, proof = encode(Account(0, RICHES)), encode(prove_key(self.nodes, self.root, key))
        place = (entry.hash, entry.height, self.root, key)
        return view_account(AccountProof(HOLDER.public_key, *place, value, proof, 0, RICHES), 0)


@pytest.mark.parametrize("extra", [1, 2])
async def test_a_state_under_headers_that_cost_no_work_is_refused(live: LiveNode, extra: int) -> None:
    """Headers alone prove no work: those that appear after the tickets were opened have theirs opened too."""
    with pytest.raises(REFUSALS, match="ticket-digest"):
        await verify(GrowingNode(live, extra), live.genesis_hash)


async def test_blocks_mined_since_are_opened_and_told(live: LiveNode) -> None:
    grown = live.node.parts.chain.head.height + 1
    loop = asyncio.get_running_loop()

    class Client(RpcClient):
        def call(self, method: Any, params: Any) -> Any:
            if method is GET_ACCOUNT:
                asyncio.run_coroutine_threadsafe(live.mine(1), loop).result(60)
            return super().call(method, params)

    report = await verify(Client(live.url), live.genesis_hash)
    assert report.tip.height == grown
    assert [ticket.height for ticket in report.tickets][-1] == grown
    assert report.balance == 1_000 * 10**9
