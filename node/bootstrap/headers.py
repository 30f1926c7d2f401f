"""The heaviest chain of headers that some peers show, all rules checked and its work sampled.

Peers are asked in turn from the one that claims the most work; what one has shown counts when the next goes on. Each is
followed to its end, as a heavier chain may begin lighter; then what is not the heaviest is let go. A peer whose headers
or tickets do not hold is left out. It keeps nothing on disk.
"""

import asyncio
from collections.abc import Callable, Sequence

from chain.block import Block
from chain.codec import decode
from chain.errors import DecodeError, InvalidBlock, InvalidProof
from chain.hashing import tagged_hash
from chain.header import HEADER_BYTES_MAX, Header, compute_header_hash
from chain.primitives import Hash
from chain.ticket import TICKET_OPENING_BYTES_MAX, TicketOpening
from consensus.header_chain import ChainEntry, HeaderChain, get_locator
from consensus.header_rules import HeaderContext, Spread, validate_headers
from consensus.side_branches import choose_lightest
from node.admission import VerifyTicket
from node.bootstrap.client import Client, PeerLost
from p2p.header_samples import draw_positions
from p2p.messages import HEADERS_MAX, LOCATOR_MAX, GetData, GetHeaders, Headers, Item, ItemKind, OpeningMessage

REFUSALS = (PeerLost, InvalidBlock, InvalidProof, DecodeError)
"""What ends the part of one peer."""


class HeaderFetch:
    """Headers by pages from several peers."""

    def __init__(
        self,
        context: HeaderContext,
        genesis: Header,
        verify_ticket: VerifyTicket,
        spread: Spread,
        get_time_ms: Callable[[], int],
    ) -> None:
        """Start from genesis' header."""
        self._context = context
        self._verify_ticket = verify_ticket
        self._spread = spread
        self._get_time_ms = get_time_ms
        self._chain = HeaderChain(genesis)
        self.best = self._chain.genesis

    async def fetch(self, clients: Sequence[Client], secret: Hash, on_progress: Callable[[int, int], None]) -> None:
        """Follow every peer to its end, `best` being the heaviest then; `secret` decides whose tickets are opened."""
        for client in sorted(clients, key=lambda client: -client.status.total_work):
            end: ChainEntry | None = self._chain.genesis
            try:
                while end is not None:
                    end = await self._fetch_page(client, secret, end)
                    on_progress(self.best.height, max(self.best.height, client.status.height))
            except REFUSALS as error:
                client.refuse(str(error))
            for entry in choose_lightest(self._chain, (self.best,), 0, lambda _entry: 1):
                self._chain.remove(entry)

    async def _fetch_page(self, client: Client, secret: Hash, end: ChainEntry) -> ChainEntry | None:
        """Take the page behind the best header or, where the peer is on another branch, `end`; return its last one.

        None when there is nothing behind it.
        """
        newest, *rest = get_locator(self.best)
        # At first it is asked where its branch leaves the best one; genesis, which all share, would hide that.
        locator = (newest, *(() if end.parent is None else (end.hash,)), *rest)
        answer = await client.ask(GetHeaders(locator[:LOCATOR_MAX]), Headers)
        headers = [decode(Header, data, HEADER_BYTES_MAX) for data in (answer.headers if answer else ())]
        if not headers:
            return None
        parent = self._chain.get(headers[0].foliage.parent_hash)
        if parent is None:
            raise InvalidBlock("parent", "found headers from nowhere, expected some behind the locator")
        now_ms = self._get_time_ms()
        last = await asyncio.to_thread(validate_headers, self._context, headers, parent, now_ms, self._spread)
        # Known headers, whose work is there to be shown, would hide invented ones from the draw.
        fresh = [header for header in headers if compute_header_hash(header) not in self._chain]
        if fresh:
            await self._verify_samples(client, fresh, last, tagged_hash("snapshot.sample", secret, last.hash))
        for header in fresh:
            self._chain.insert(header)
        kept = self._chain.get(last.hash)
        assert kept is not None
        self.best = kept if kept.total_work > self.best.total_work else self.best
        return kept if len(headers) == HEADERS_MAX and kept.height > end.height else None

    async def _verify_samples(self, client: Client, headers: Sequence[Header], last: ChainEntry, secret: Hash) -> None:
        for position in draw_positions(headers, secret):
            entry = last.get_ancestor(headers[position].height)
            answer = await client.ask(GetData((Item(ItemKind.OPENING, entry.hash),)), OpeningMessage)
            if answer is None or answer.block != entry.hash:
                raise InvalidProof("ticket-opening", f"found no opening of block {entry.hash.hex()}")
            opening = decode(TicketOpening, answer.opening, TICKET_OPENING_BYTES_MAX)
            assert entry.parent is not None
            await asyncio.to_thread(self._verify_ticket, Block(entry.header, opening, ()), entry.parent)
