"""Whoever starts from a state finds the heaviest chain, in whatever order peers are asked and however it begins."""

from typing import TypeVar, cast

import pytest

from chain.codec import encode
from chain.primitives import Hash
from node.bootstrap.client import Client
from node.bootstrap.headers import HeaderFetch
from node.threads import spread_in_line
from p2p.messages import GetData, GetHeaders, Message, OpeningMessage, Status
from tests.support.header_peers import OPENING, HeaderPeer, grow_late, make_headers, make_node_context
from tests.support.headers import NOW_MS, grow

CONTEXT = make_node_context()
EARLY, SLOW_MS, HEAVY = 400, 8_200_000, 4_200
"""A chain on schedule, and one that is far heavier and costs next to nothing for its first 4,000 blocks."""

M = TypeVar("M", bound=Message)


class HeaderClient:
    """Answers as a peer does that serves one branch."""

    def __init__(self, peer: HeaderPeer) -> None:
        self.peer, self.refusals, self.headers_sent = peer, list[str](), 0
        self.status = Status(peer.tip.height, peer.claim)

    def refuse(self, reason: str) -> None:
        self.refusals.append(reason)

    async def ask(self, question: Message, kind: type[M]) -> M | None:
        if isinstance(question, GetHeaders):
            answer = self.peer.answer(question)
            self.headers_sent += len(answer.headers)
            return cast(M, answer)
        assert isinstance(question, GetData)
        return cast(M, OpeningMessage(question.items[0].hash, encode(OPENING)))


@pytest.mark.parametrize("claims", [(2, 1), (1, 2)])
async def test_threat_30_a_heavier_chain_that_begins_light_is_found(claims: tuple[int, int]) -> None:
    early, heavy = make_headers(CONTEXT), make_headers(CONTEXT)
    tips = grow(CONTEXT, early, early.genesis, EARLY), grow_late(CONTEXT, heavy, heavy.genesis, HEAVY, SLOW_MS)
    peers = [HeaderPeer(*each) for each in zip((early, heavy), tips, claims, strict=True)]
    clients = [HeaderClient(peer) for peer in peers]
    fetch = HeaderFetch(CONTEXT, early.genesis.header, lambda _block, _parent: None, spread_in_line, lambda: NOW_MS)
    await fetch.fetch(cast(list[Client], clients), Hash(b"s" * 32), lambda _done, _total: None)
    assert [client.refusals for client in clients] == [[], []]
    assert fetch.best.hash == tips[1].hash
    assert len(fetch._chain) == HEAVY + 1, "nothing else is held"


async def test_a_peer_that_is_one_block_behind_sends_few_headers() -> None:
    """The heaviest header is not on its chain; what both have from genesis on is not sent a second time."""
    headers = make_headers(CONTEXT)
    tip = grow(CONTEXT, headers, headers.genesis, EARLY)
    assert tip.parent is not None
    clients = [HeaderClient(HeaderPeer(headers, tip, 2)), HeaderClient(HeaderPeer(headers, tip.parent, 1))]
    fetch = HeaderFetch(CONTEXT, headers.genesis.header, lambda _block, _parent: None, spread_in_line, lambda: NOW_MS)
    await fetch.fetch(cast(list[Client], clients), Hash(b"s" * 32), lambda _done, _total: None)
    assert fetch.best.hash == tip.hash
    assert [client.headers_sent for client in clients] == [EARLY, 0]
