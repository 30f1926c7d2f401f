"""How headers come into the tree: one with its block, or a run of them ahead of their blocks.

A block's header is kept once its ticket was verified. A run is checked in a thread, some of its work with it, and kept
whole or not at all: not at first when its branch is too light, then it is counted and has to come again. Of one ticket
two headers are kept, a third only under work that is built on it. It knows no body and no state, and of peers a name.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from chain.block import Block
from chain.errors import InvalidBlock, InvalidProof
from chain.header import Header, compute_header_hash
from chain.primitives import ZERO_HASH, Hash, PublicKey
from chain.ticket import TicketOpening
from consensus.header_chain import ChainEntry
from consensus.header_rules import Spread, compute_lead_in, validate_header, validate_headers
from node.chain import Chain
from node.outcomes import ImportOutcome, ImportResult
from node.presyncs import Presyncs

EquivocationListener = Callable[[Header, Header], None]
"""Hears of two headers of one ticket, the first seen first."""

VerifyTicket = Callable[[Block, ChainEntry], None]
"""Checks a block's ticket opening under its parent; raises InvalidProof."""

NOBODY = PublicKey(ZERO_HASH)
"""The source of headers that no peer has sent."""

INSERTED_AT_ONCE = 100
"""Headers that are inserted before others get their turn on the event loop."""


class Admission:
    """The door of one chain's tree of headers."""

    def __init__(
        self, chain: Chain, verify_ticket: VerifyTicket, get_time_ms: Callable[[], int], spread: Spread
    ) -> None:
        """Guard the headers of `chain`; `spread` runs signature checks side by side."""
        self._chain = chain
        self._verify_ticket = verify_ticket
        self._get_time_ms = get_time_ms
        self._spread = spread
        self._presyncs = Presyncs(compute_lead_in(chain.header_context))
        self._held = 0
        self.equivocation_listeners: list[EquivocationListener] = []

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Let no header go while something is taken in, and afterwards those that are too many."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if not self._held:
            position = self._presyncs.get_position()
            pinned = None if position is None else self._chain.headers.get(position)
            self._chain.trim(*([] if pinned is None else [pinned]))

    def admit_earned(self, header: Header, header_hash: Hash) -> ImportOutcome | None:
        """Keep a header that `refuse` found nothing against and whose ticket was verified since."""
        if header_hash in self._chain.headers:
            return None
        if self._chain.contents.is_full(header):
            return _make_surplus(header_hash)
        self._insert(header)
        return None

    def refuse(self, header: Header, header_hash: Hash) -> ImportOutcome | None:
        """Return why a header is not to be kept, None when it may be or is kept already."""
        if header_hash in self._chain.headers:
            return None
        if self._chain.contents.is_full(header):
            return _make_surplus(header_hash)
        parent = self._chain.headers.get(header.foliage.parent_hash)
        refusal = self._refuse_parent(parent, header_hash)
        if parent is None or refusal is not None:
            return refusal
        try:
            validate_header(self._chain.header_context, header, parent, self._get_time_ms())
        except InvalidBlock as error:
            return _make_refusal(error, header_hash)
        return None

    async def admit_run(
        self, headers: tuple[Header, ...], openings: Mapping[int, TicketOpening], source: PublicKey
    ) -> ImportOutcome:
        """Keep linked headers, oldest first, all or none; `openings` show the work of some new ones, by position."""
        with self.hold():
            return await self._admit_run(headers, openings, source)

    async def _admit_run(
        self, headers: tuple[Header, ...], openings: Mapping[int, TicketOpening], source: PublicKey
    ) -> ImportOutcome:
        first_hash = compute_header_hash(headers[0])
        if all(compute_header_hash(header) in self._chain.headers for header in headers):
            self._presyncs.is_second_pass(source, headers)
            return ImportOutcome(ImportResult.ALREADY_KNOWN, first_hash)
        if not openings:
            return ImportOutcome(ImportResult.REFUSED, first_hash, "header-work", "found no opening of new headers")
        parent_hash = headers[0].foliage.parent_hash
        kept_parent = self._chain.headers.get(parent_hash)
        parent = kept_parent or self._presyncs.get_tail(source, parent_hash)
        refusal = self._refuse_parent(parent, first_hash)
        if parent is None or refusal is not None:
            return refusal or ImportOutcome(ImportResult.ORPHAN, first_hash)
        end = await self._judge_run(headers, parent, openings)
        if isinstance(end, ImportOutcome):
            return end
        is_proven = self._presyncs.is_second_pass(source, headers)
        if kept_parent is not None and (is_proven or self._chain.is_recent(end.total_work)):
            outcome = await self._keep_run(headers, is_built_on=is_proven)
            if self._chain.get_heaviest_header().hash == end.hash:
                self._presyncs.end(source)
            return outcome
        return self._count_run(headers, source, parent, end)

    def _count_run(
        self, headers: tuple[Header, ...], source: PublicKey, parent: ChainEntry, end: ChainEntry
    ) -> ImportOutcome:
        """Remember of headers that are too light, or behind such ones, where they end."""
        is_enough = self._chain.is_recent(end.total_work)
        self._tell_evidence(headers)
        self._presyncs.note(source, parent, end, is_enough=is_enough)
        return ImportOutcome(ImportResult.PROVEN if is_enough else ImportResult.LIGHT, end.hash)

    def _refuse_parent(self, parent: ChainEntry | None, header_hash: Hash) -> ImportOutcome | None:
        if parent is None:
            return ImportOutcome(ImportResult.ORPHAN, header_hash)
        if self._chain.marks.is_poisoned(parent.hash):
            return ImportOutcome(ImportResult.INVALID, header_hash, "parent-invalid", "its parent is invalid")
        return None

    async def _judge_run(
        self, headers: tuple[Header, ...], parent: ChainEntry, openings: Mapping[int, TicketOpening]
    ) -> ChainEntry | ImportOutcome:
        """Return the entry of the last header, or why the run does not hold."""
        try:
            end = await asyncio.to_thread(self._validate_run, headers, parent, openings)
        except InvalidBlock as error:
            return _make_refusal(error, compute_header_hash(headers[0]))
        except InvalidProof as error:
            return ImportOutcome(ImportResult.INVALID, compute_header_hash(headers[0]), error.rule, str(error))
        # What is known to be invalid may stand in the run itself, and need not be in the tree any more.
        ways = (end.get_ancestor(header.height) for header in headers)
        return next((refusal for entry in ways if (refusal := self._refuse_parent(entry, end.hash))), end)

    def _validate_run(
        self, headers: tuple[Header, ...], parent: ChainEntry, openings: Mapping[int, TicketOpening]
    ) -> ChainEntry:
        context, now_ms = self._chain.header_context, self._get_time_ms()
        last = validate_headers(context, headers, parent, now_ms, self._spread)
        for position, opening in openings.items():
            entry = last.get_ancestor(headers[position].height)
            assert entry.parent is not None
            self._verify_ticket(Block(entry.header, opening, ()), entry.parent)
        return last

    async def _keep_run(self, headers: tuple[Header, ...], *, is_built_on: bool) -> ImportOutcome:
        known = len(self._chain.headers)
        # Whatever a third content is followed by in a valid run is built on it; at the end nothing is that is seen.
        kept = headers[:-1] if self._chain.contents.is_full(headers[-1]) and not is_built_on else headers
        for start in range(0, len(kept), INSERTED_AT_ONCE):
            for header in kept[start : start + INSERTED_AT_ONCE]:
                if compute_header_hash(header) not in self._chain.headers:
                    self._insert(header)
            await asyncio.sleep(0)
        is_new = len(self._chain.headers) > known
        result = ImportResult.SIDE_BRANCH if is_new else ImportResult.ALREADY_KNOWN
        return ImportOutcome(result, compute_header_hash(headers[-1]))

    def _insert(self, header: Header) -> None:
        self._tell_evidence((header,))
        self._chain.insert_header(header)

    def _tell_evidence(self, headers: tuple[Header, ...]) -> None:
        """Tell of validated headers, kept or not, that are the second of their ticket."""
        for header in headers:
            first = self._chain.contents.get_other(header)
            if first is not None:
                for listener in self.equivocation_listeners:
                    listener(first, header)


def _make_surplus(header_hash: Hash) -> ImportOutcome:
    return ImportOutcome(ImportResult.SURPLUS, header_hash, "contents", "two contents of its ticket are held")


def _make_refusal(error: InvalidBlock, header_hash: Hash) -> ImportOutcome:
    result = ImportResult.REFUSED if error.rule == "future" else ImportResult.INVALID
    return ImportOutcome(result, header_hash, error.rule, str(error))
