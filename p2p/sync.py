"""Headers first: finding the peer that claims the most work, taking its headers, then wanting the missing blocks.

One question for headers is open at a time. A claim that its headers do not bear out costs the claimant a pause, never
us a loop. It knows no validity rule: the chain says how much work its headers hold and which blocks are missing.
"""

from dataclasses import dataclass

from chain.primitives import Hash
from p2p.actions import Action, Charge, Peer, Send
from p2p.assembly import Assembly
from p2p.fetch import Fetcher
from p2p.limits import Limits
from p2p.messages import HEADERS_MAX, LOCATOR_MAX, GetHeaders, Item, ItemKind
from p2p.score import Fault
from p2p.view import ChainView, Outcome

PAUSE_MS = 5_000
"""How long a peer is not asked for headers after an answer that led nowhere."""

LOOK_MS = 1_000
"""How often missing blocks are looked up when nothing hints at a change."""

FAR_BEHIND_BLOCKS = 16

CANDIDATES_MAX = 4
"""Peers named as possible sources of one block."""


@dataclass(slots=True)
class _Claim:
    total_work: int = 0
    paused_until_ms: int = 0
    last_hash: Hash | None = None


class Sync:
    """The claims of all peers, and the one open question for headers."""

    def __init__(self, chain: ChainView, fetcher: Fetcher, assembly: Assembly, limits: Limits) -> None:
        """Want blocks through `fetcher` unless `assembly` holds them."""
        self._chain = chain
        self._fetcher = fetcher
        self._assembly = assembly
        self._limits = limits
        self._claims: dict[Peer, _Claim] = {}
        self._asked: Peer | None = None
        self._deadline_ms = 0
        self._is_judging = False
        self._look_at_ms = 0
        self._missing_count = 0

    def add_peer(self, peer: Peer) -> None:
        """Take `peer` as one that claims nothing yet."""
        self._claims[peer] = _Claim()

    def drop_peer(self, peer: Peer) -> None:
        """Forget `peer` and a question it has not answered."""
        self._claims.pop(peer, None)
        if self._asked == peer and not self._is_judging:
            self._asked = None

    def is_far_behind(self) -> bool:
        """Say whether so many blocks are missing that new transactions cannot be judged yet."""
        return self._missing_count > FAR_BEHIND_BLOCKS

    def on_status(self, peer: Peer, total_work: int) -> None:
        """Note what `peer` claims."""
        if peer in self._claims:
            self._claims[peer].total_work = total_work

    def on_orphan(self, peer: Peer) -> None:
        """Ask `peer` for headers: it sent a block whose parent is unknown."""
        claim = self._claims.get(peer)
        if claim is not None:
            claim.total_work = max(claim.total_work, self._chain.get_header_work() + 1)

    def on_headers(self, peer: Peer, last_hash: Hash | None, count: int, now_ms: int) -> bool:
        """Say whether these headers answer the open question; when there are any, they are being judged from now on."""
        if self._asked != peer or self._is_judging:
            return False
        claim = self._claims[peer]
        claim.last_hash = last_hash if count == HEADERS_MAX else None
        self._is_judging = count > 0
        if not self._is_judging:
            self._end_question(peer, now_ms + PAUSE_MS)
        return True

    def on_headers_outcome(self, peer: Peer, outcome: Outcome, now_ms: int) -> None:
        """Go on, or pause with a peer whose headers brought nothing new."""
        is_more_coming = peer in self._claims and self._claims[peer].last_hash is not None
        is_progress = outcome is Outcome.ACCEPTED or (outcome is Outcome.ALREADY_KNOWN and is_more_coming)
        self._end_question(peer, 0 if is_progress else now_ms + PAUSE_MS)
        self._look_at_ms = now_ms

    def on_block_judged(self, now_ms: int) -> None:
        """Look for missing blocks at the next poll."""
        self._look_at_ms = min(self._look_at_ms, now_ms)

    def poll(self, now_ms: int) -> list[Action]:
        """Return charges for unanswered questions and the next question; want the blocks that are missing."""
        if now_ms >= self._look_at_ms:
            self._look_at_ms = now_ms + LOOK_MS
            self._want_blocks()
        actions: list[Action] = []
        if self._asked is not None and not self._is_judging and now_ms >= self._deadline_ms:
            actions.append(Charge(self._asked, Fault.TIMEOUT, "headers were asked for and did not come"))
            self._end_question(self._asked, now_ms + PAUSE_MS)
        if self._asked is None:
            actions += self._ask(now_ms)
        return actions

    def _ask(self, now_ms: int) -> list[Action]:
        known_work = self._chain.get_header_work()
        heavier = [
            (claim.total_work, peer)
            for peer, claim in self._claims.items()
            if claim.total_work > known_work and claim.paused_until_ms <= now_ms
        ]
        if not heavier:
            return []
        peer = max(heavier)[1]
        last_hash = self._claims[peer].last_hash
        locator = ((last_hash,) if last_hash is not None else ()) + self._chain.get_locator()
        self._asked, self._deadline_ms = peer, now_ms + self._limits.headers_ms
        return [Send(peer, GetHeaders(locator[:LOCATOR_MAX]))]

    def _end_question(self, peer: Peer, paused_until_ms: int) -> None:
        self._asked, self._is_judging = None, False
        claim = self._claims.get(peer)
        if claim is not None:
            claim.paused_until_ms = paused_until_ms
            if paused_until_ms:
                claim.last_hash = None

    def _want_blocks(self) -> None:
        missing = self._chain.get_missing_blocks(self._limits.block_window)
        self._missing_count = len(missing)
        if self._assembly.size_bytes > self._limits.pending_bytes_max // 2:
            return
        tip_work = self._chain.get_tip().total_work
        sources = [peer for peer, claim in self._claims.items() if claim.total_work > tip_work]
        for index, block_hash in enumerate(missing):
            item = Item(ItemKind.BLOCK, block_hash)
            if self._assembly.holds(item) or self._fetcher.is_wanted(item):
                continue
            for turn in range(min(len(sources), CANDIDATES_MAX)):
                self._fetcher.want(item, sources[(index + turn) % len(sources)])
