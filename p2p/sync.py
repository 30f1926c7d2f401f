"""Headers first: finding the peer that claims the most work, taking its headers, then wanting the missing blocks.

One question for headers is open at a time, and all who claim more work than is known share the time: a peer whose
branch never ends, or that takes as long as it may over every answer, holds up nobody for more than a turn. A claim that
its headers do not bear out costs the claimant a pause, never us a loop. It knows no validity rule: the chain says how
much work its headers hold and which blocks are missing.
"""

from collections.abc import Callable
from dataclasses import dataclass

from chain.header import compute_header_hash
from chain.primitives import Hash
from p2p.actions import Action, Charge, DeliverHeaders, Peer, Send
from p2p.assembly import Assembly
from p2p.content import read_header
from p2p.fetch import Fetcher
from p2p.header_samples import SampledRun, make_sampled_run
from p2p.limits import Limits
from p2p.messages import HEADERS_MAX, LOCATOR_MAX, GetHeaders, Item, ItemKind
from p2p.score import Fault
from p2p.view import ChainView, Outcome

PAUSE_MS = 5_000
"""How long a peer is not asked for headers after an answer that led nowhere."""

LOOK_MS = 1_000
"""How often missing blocks are looked up when nothing hints at a change."""

FAR_BEHIND_BLOCKS = 16

GOING_ON = frozenset({Outcome.ALREADY_KNOWN, Outcome.LIGHT, Outcome.PROVEN})
"""What is no progress unless more headers stand behind."""

HEARING_MS = 10_000
"""How long a node that is far behind waits with blocks for the first headers of all who claim more than it knows: where
the first to answer leads it to, it could not leave again once it is deeper than states are kept."""

CANDIDATES_MAX = 4
"""Peers named as possible sources of one block."""


@dataclass(slots=True)
class _Claim:
    total_work: int = 0
    paused_until_ms: int = 0
    last_hash: Hash | None = None
    """Where its next headers go on from, when they do not go on from the heaviest that are known."""
    asked_from: tuple[Hash, ...] = ()
    """Behind one of which its next headers stand, where it goes on."""
    ends: tuple[Hash, Hash] | None = None
    """Before the first header of its last run, and the last of it."""
    light_from: Hash | None = None
    """Where the runs began that were too light one after another, should they have to come again."""
    light_to: Hash | None = None
    turn_ms: int = 0
    """When its next turn is, in time that passes with questions alone: behind all its questions have taken."""
    asked: int = 0
    """Which question was its last: of those whose turn it is, who waits the longest."""
    is_heard: bool = False
    """Whether a question that was put to it has ended."""
    late_headers: int = 0
    """Answers to questions that were given up; they may still come."""
    late_openings: int = 0

    @property
    def is_going_on(self) -> bool:
        """Whether more headers stand behind the last run, and that stood where it was asked to go on."""
        is_next = not self.asked_from or (self.ends is not None and self.ends[0] in self.asked_from)
        return is_next and self.last_hash is not None

    def note(self, outcome: Outcome) -> None:
        """Keep where runs that were too light began, and go back there when they have shown enough."""
        if outcome is Outcome.LIGHT and self.ends is not None:
            start, end = self.ends
            self.light_from = self.light_from if start == self.light_to else start
            self.light_to = end
        elif outcome is Outcome.PROVEN:
            self.last_hash = self.light_from


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """Limits, and 32 random bytes from which sampled places follow."""

    limits: Limits
    secret: Hash


class Sync:
    """The claims of all peers, and the one open question for headers."""

    def __init__(
        self,
        chain: ChainView,
        fetcher: Fetcher,
        assembly: Assembly,
        is_coming: Callable[[Hash], bool],
        settings: SyncSettings,
    ) -> None:
        """Want blocks through `fetcher` while `assembly` has room, unless they are coming already."""
        self._chain = chain
        self._fetcher = fetcher
        self._assembly = assembly
        self._is_coming = is_coming
        self._limits = settings.limits
        self._secret = settings.secret
        self._claims: dict[Peer, _Claim] = {}
        self._asked: Peer | None = None
        self._questions = 0
        self._turn_ms = 0
        self._asked_at_ms = self._deadline_ms = 0
        self._run: SampledRun | None = None
        self._is_judging = False
        self._look_at_ms = 0
        self._missing_count = 0
        self._hearing_until_ms = 0

    def add_peer(self, peer: Peer) -> None:
        """Take `peer` as one that claims nothing yet; whoever comes anew has its turn behind those who are here."""
        last_ms = max((claim.turn_ms for claim in self._claims.values()), default=self._turn_ms)
        self._claims[peer] = _Claim(turn_ms=last_ms, asked=self._questions)

    def drop_peer(self, peer: Peer) -> None:
        """Forget `peer` and a question it has not answered."""
        self._claims.pop(peer, None)
        if self._asked == peer and not self._is_judging:
            self._asked = self._run = None

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

    def on_headers(self, peer: Peer, headers: tuple[bytes, ...], now_ms: int) -> list[Action]:
        """Return what to do with headers: have them judged, or first ask for some of their work.

        Raises RemoteProtocolError when one is malformed.
        """
        if self._asked != peer or self._is_judging or self._run is not None:
            claim = self._claims[peer]
            is_late, claim.late_headers = claim.late_headers > 0, max(0, claim.late_headers - 1)
            return [] if is_late else [Charge(peer, Fault.UNSOLICITED, "headers that were not asked for")]
        if not headers:
            self._end_question(peer, now_ms, PAUSE_MS)
            return []
        claim, last_hash = self._claims[peer], compute_header_hash(read_header(headers[-1]))
        claim.ends = read_header(headers[0]).foliage.parent_hash, last_hash
        claim.last_hash = last_hash if len(headers) == HEADERS_MAX else None
        deadline_ms = now_ms + self._limits.headers_ms
        self._run = make_sampled_run(peer, headers, self._secret, deadline_ms, self._chain.has_header)
        if self._run is not None:
            return [Send(peer, self._run.make_question())]
        self._is_judging = True
        return [DeliverHeaders(peer, headers)]

    def on_opening(self, peer: Peer, block_hash: Hash, opening: bytes) -> list[Action]:
        """Take the opening of a sampled header; have the run judged when it was the last."""
        run = self._run
        if run is None or run.peer != peer or not run.take(block_hash, opening):
            claim = self._claims[peer]
            is_late, claim.late_openings = claim.late_openings > 0, max(0, claim.late_openings - 1)
            return [] if is_late else [Charge(peer, Fault.UNSOLICITED, "a ticket opening that was not asked for")]
        delivery = run.make_delivery()
        if delivery is None:
            return []
        self._run, self._is_judging = None, True
        return [delivery]

    def on_not_found(self, peer: Peer, items: tuple[Item, ...], now_ms: int) -> list[Action]:
        """Drop the run of a peer that cannot show its work."""
        run = self._run
        missing = {item.hash for item in items if item.kind == ItemKind.OPENING}
        if run is None or run.peer != peer or not missing & set(run.wanted):
            return []
        self._give_up(peer, now_ms)
        return [Charge(peer, Fault.TIMEOUT, "headers whose work it cannot show")]

    def on_headers_outcome(self, peer: Peer, outcome: Outcome, now_ms: int) -> None:
        """Go on, or pause with a peer whose headers brought nothing new."""
        claim = self._claims.get(peer)
        if claim is not None:
            claim.note(outcome)
        is_going_on = claim is not None and claim.is_going_on
        is_progress = outcome is Outcome.ACCEPTED or (outcome in GOING_ON and is_going_on)
        self._end_question(peer, now_ms, 0 if is_progress else PAUSE_MS)
        self._look_at_ms = now_ms

    def on_block_judged(self, now_ms: int) -> None:
        """Look for missing blocks at the next poll."""
        self._look_at_ms = min(self._look_at_ms, now_ms)

    def poll(self, now_ms: int) -> list[Action]:
        """Return charges for unanswered questions and the next question; want the blocks that are missing."""
        if now_ms >= self._look_at_ms:
            self._look_at_ms = now_ms + LOOK_MS
            self._want_blocks(now_ms)
        actions: list[Action] = []
        deadline_ms = self._deadline_ms if self._run is None else self._run.deadline_ms
        if self._asked is not None and not self._is_judging and now_ms >= deadline_ms:
            what = "headers were" if self._run is None else "their work was"
            actions.append(Charge(self._asked, Fault.TIMEOUT, f"{what} asked for and did not come"))
            self._give_up(self._asked, now_ms)
        if self._asked is None:
            actions += self._ask(now_ms)
        return actions

    def _ask(self, now_ms: int) -> list[Action]:
        known_work = self._chain.get_header_work()
        heavier = [
            (max(claim.turn_ms, self._turn_ms), claim.asked, -claim.total_work, peer)
            for peer, claim in self._claims.items()
            if claim.total_work > known_work and claim.paused_until_ms <= now_ms
        ]
        if not heavier:
            return []
        # Start-time fair queueing: who asked for nothing meanwhile has saved no time up.
        self._turn_ms, *_, peer = min(heavier)
        claim = self._claims[peer]
        self._questions += 1
        claim.asked = self._questions
        newest, *rest = self._chain.get_locator()
        # What another peer has brought meanwhile is not fetched again from one whose chain it is on, too.
        locator = (newest, *(() if claim.last_hash is None else (claim.last_hash,)), *rest)
        claim.asked_from = () if claim.last_hash is None else locator[:2]
        self._asked, self._asked_at_ms, self._deadline_ms = peer, now_ms, now_ms + self._limits.headers_ms
        return [Send(peer, GetHeaders(locator[:LOCATOR_MAX]))]

    def _give_up(self, peer: Peer, now_ms: int) -> None:
        """End a question that was not answered in time; whoever is only slow is not charged for its answer as well."""
        claim, run = self._claims.get(peer), self._run
        if claim is not None and run is None:
            claim.late_headers += 1
        elif claim is not None and run is not None:
            claim.late_openings += len(run.wanted) - len(run.openings)
        self._end_question(peer, now_ms, PAUSE_MS)

    def _end_question(self, peer: Peer, now_ms: int, pause_ms: int) -> None:
        self._asked, self._run, self._is_judging = None, None, False
        claim = self._claims.get(peer)
        if claim is not None:
            # A clock that is set meanwhile costs no more than headers and their work may take.
            claim.turn_ms = self._turn_ms + min(now_ms - self._asked_at_ms, 2 * self._limits.headers_ms)
            claim.is_heard = True
            if pause_ms:
                claim.last_hash, claim.paused_until_ms = None, now_ms + pause_ms

    def _want_blocks(self, now_ms: int) -> None:
        missing, was_far_behind = self._chain.get_missing_blocks(self._limits.block_window), self.is_far_behind()
        self._missing_count = len(missing)
        if self.is_far_behind() and not was_far_behind:
            self._hearing_until_ms = now_ms + HEARING_MS
        if self.is_far_behind() and now_ms < self._hearing_until_ms and self._is_anybody_unheard():
            return
        if self._assembly.size_bytes > self._limits.pending_bytes_max // 2:
            return
        tip_work = self._chain.get_tip().total_work
        sources = [peer for peer, claim in self._claims.items() if claim.total_work > tip_work]
        # Others every second, or the oldest missing block were asked of the same peers for ever.
        for index, block_hash in enumerate(missing, now_ms // LOOK_MS):
            for item in self._list_lacking(block_hash):
                for turn in range(min(len(sources), CANDIDATES_MAX)):
                    self._fetcher.want(item, sources[(index + turn) % len(sources)])

    def _list_lacking(self, block_hash: Hash) -> list[Item]:
        """Return what is to be asked for of a missing block: the block, or block data that it waits for.

        What is asked for already gains candidates: its first one may never bring it.
        """
        forms = [Item(kind, block_hash) for kind in (ItemKind.BLOCK, ItemKind.COMPACT)]
        asked = next(filter(self._fetcher.is_wanted, forms), None)
        if asked is not None:
            return [asked]
        lacking = self._assembly.get_missing(forms[0])
        if lacking or self._is_coming(block_hash):
            return [Item(ItemKind.SIDECAR, name) for name in sorted(lacking)]
        return forms[:1]

    def _is_anybody_unheard(self) -> bool:
        known_work = self._chain.get_header_work()
        return any(claim.total_work > known_work and not claim.is_heard for claim in self._claims.values())
