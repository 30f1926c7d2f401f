"""The address book: which addresses are kept, which one is dialled next, and which may be told to others.

An address heard of stands among the new ones until a node was reached there; a tried one leaves its place only after a
dial to it has failed. Time (Unix, milliseconds) and chance are handed in, and the same calls give the same book. It
dials nobody. Source: Heilman et al. 2015; Bitcoin Core's addrman.
"""

from collections.abc import Iterator
from enum import Enum, auto

from p2p.address_tables import Entry, Table, compute_new_place, compute_tried_place
from p2p.addresses import Draw, PeerAddress, Prefix, Scope, SeenAddress, compute_prefix, is_acceptable
from p2p.limits import BoundedSet

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

REST_MS = MINUTE_MS
"""How long an address is left alone after a dial in vain or the end of a connection."""
RECENT_MS = 10 * MINUTE_MS
"""For this long after that it is drawn at a hundredth of its chance."""
HORIZON_MS = 30 * DAY_MS
"""Nobody has seen a node there for so long: the address is stale."""
FIRST_FAILURES_MAX = 3
"""Dials in vain after which an address where no node was ever reached is stale."""
FAILURES_MAX = 10
"""Dials in vain after which one that was reached is stale, a week after it was reached last."""
WEEK_MS = 7 * DAY_MS
HEARSAY_MS = 2 * HOUR_MS
"""Added to the age that somebody else tells of an address."""
FRESH_MS = 4 * HOUR_MS
"""A tried address that was reached within this time keeps its place untested."""
CLAIM_MS = 40 * MINUTE_MS
"""How long a reached address may wait for the place of a tried one to be tested."""
CLAIMS_MAX = 10
DRAWS_MAX = 64
OWN_MAX = 64
SAMPLE_MIN = 16
"""A sample is a quarter of the book, so that nobody reads it whole, but no smaller than this."""
WHOLE = 1 << 16
"""A chance of one."""


class Choice(Enum):
    """From which table to draw."""

    ANY = auto()
    """From either, half and half."""
    NEW = auto()
    TRIED = auto()


class AddressBook:
    """Addresses of peers, at most as many as its two tables have places."""

    def __init__(self, salt: bytes, draw: Draw, scope: Scope) -> None:
        """Start empty; `salt` is 32 secret bytes that decide every place."""
        self.salt = salt
        self.scope = scope
        self._draw = draw
        self._new, self._tried = Table(), Table()
        self._entries: dict[PeerAddress, Entry] = {}
        self._claims: dict[PeerAddress, int] = {}
        self._own: BoundedSet[PeerAddress] = BoundedSet(OWN_MAX)
        self._success_ms = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        """Yield new entries, then tried ones, by place."""
        yield from self._new
        yield from self._tried

    def list_buckets(self, choice: Choice) -> list[tuple[Entry, ...]]:
        """Return the entries of the new or the tried table, a bucket each."""
        return (self._new if choice is Choice.NEW else self._tried).list_buckets()

    def get(self, address: PeerAddress) -> Entry | None:
        """Return what is known of an address."""
        return self._entries.get(address)

    def add(self, seen: SeenAddress, teller: Prefix, now_ms: int) -> bool:
        """Take an address that a peer of prefix `teller` told of; True when it is new and found a place."""
        address, seen_ms = seen.address, max(1, now_ms - seen.age_s * 1000 - HEARSAY_MS)
        if not is_acceptable(address, self.scope) or address in self._own:
            return False
        entry = self._entries.get(address)
        if entry is not None:
            entry.seen_ms = max(entry.seen_ms, seen_ms)
            return False
        return self._place_new(Entry(address, teller, seen_ms), now_ms)

    def restore(self, entry: Entry, now_ms: int) -> bool:
        """Take an entry as an earlier book knew it; False when its place is taken."""
        if entry.address in self._entries or not is_acceptable(entry.address, self.scope):
            return False
        # A clock that was ahead once must not make an entry look as if it had just been dialled.
        entry.seen_ms, entry.attempt_ms, entry.success_ms = (
            min(time_ms, now_ms) for time_ms in (entry.seen_ms, entry.attempt_ms, entry.success_ms)
        )
        self._success_ms = max(self._success_ms, entry.success_ms)
        if not entry.is_tried:
            return self._place_new(entry, now_ms)
        place = compute_tried_place(self.salt, entry.address)
        if self._tried.get(place) is not None:
            return False
        self._tried.put(place, entry)
        self._entries[entry.address] = entry
        return True

    def on_own(self, address: PeerAddress) -> None:
        """Never keep or dial an address at which this node found itself."""
        self._own.add(address)
        entry = self._entries.get(address)
        if entry is not None and not entry.is_tried:
            self._drop_new(entry)

    def on_dial(self, address: PeerAddress, now_ms: int) -> None:
        """Note a dial. It counts as failed until `on_reached`, unless nobody was reached since the one before.

        A node without a network would otherwise call every address stale.
        """
        entry = self._entries.get(address)
        if entry is not None:
            entry.failures += entry.attempt_ms <= self._success_ms
            entry.attempt_ms = now_ms

    def on_reached(self, address: PeerAddress, now_ms: int) -> None:
        """Note that a node answered there; a new address takes its tried place, or claims it until it was tested."""
        self._success_ms = now_ms
        if address not in self._entries:
            self.add(SeenAddress(address, 0), compute_prefix(address.ip), now_ms)
        entry = self._entries.get(address)
        if entry is None:
            return
        entry.seen_ms = entry.success_ms = now_ms
        entry.failures = 0
        if not entry.is_tried and not self._try_promote(entry) and len(self._claims) < CLAIMS_MAX:
            self._claims.setdefault(address, now_ms)

    def on_left(self, address: PeerAddress, now_ms: int) -> None:
        """Note that a connection with the node there has ended only now."""
        entry = self._entries.get(address)
        if entry is not None:
            entry.seen_ms = entry.left_ms = now_ms

    def get_suspect(self, now_ms: int) -> PeerAddress | None:
        """Return a tried address that must be dialled because another one claims its place."""
        self._settle_claims(now_ms)
        for claimant, since_ms in self._claims.items():
            incumbent = self._tried.get(compute_tried_place(self.salt, claimant))
            if incumbent is not None and incumbent.attempt_ms <= since_ms:
                return incumbent.address
        return None

    def select(self, choice: Choice, now_ms: int) -> PeerAddress | None:
        """Draw an address to dial, None when none is worth a dial now."""
        for _ in range(DRAWS_MAX):
            entry = self._get_table(choice).pick(self._draw)
            if entry is None:
                return None
            if self._draw(WHOLE) < _compute_chance(entry, now_ms):
                return entry.address
        return None

    def sample(self, count_max: int, now_ms: int) -> tuple[SeenAddress, ...]:
        """Return up to `count_max` addresses worth telling, at most a quarter of a large book."""
        entries = [entry for entry in self if not is_stale(entry, now_ms)]
        count = min(count_max, len(entries), max(SAMPLE_MIN, len(entries) // 4))
        for i in range(count):
            j = i + self._draw(len(entries) - i)
            entries[i], entries[j] = entries[j], entries[i]
        ages = [max(0, now_ms - entry.seen_ms) // 1000 for entry in entries[:count]]
        return tuple(SeenAddress(e.address, min(age, 2**32 - 1)) for e, age in zip(entries, ages, strict=False))

    def _get_table(self, choice: Choice) -> Table:
        if choice is Choice.ANY:
            first, second = (self._tried, self._new) if self._draw(2) else (self._new, self._tried)
            return first if len(first) else second
        return self._new if choice is Choice.NEW else self._tried

    def _place_new(self, entry: Entry, now_ms: int) -> bool:
        place = compute_new_place(self.salt, entry.address, entry.teller)
        occupant = self._new.get(place)
        if occupant is not None:
            if not is_stale(occupant, now_ms):
                return False
            self._drop_new(occupant)
        entry.is_tried = False
        self._new.put(place, entry)
        self._entries[entry.address] = entry
        return True

    def _drop_new(self, entry: Entry) -> None:
        self._new.remove(compute_new_place(self.salt, entry.address, entry.teller))
        del self._entries[entry.address]
        self._claims.pop(entry.address, None)

    def _try_promote(self, entry: Entry) -> bool:
        place = compute_tried_place(self.salt, entry.address)
        if self._tried.get(place) is not None:
            return False
        self._new.remove(compute_new_place(self.salt, entry.address, entry.teller))
        entry.is_tried = True
        self._tried.put(place, entry)
        self._claims.pop(entry.address, None)
        return True

    def _settle_claims(self, now_ms: int) -> None:
        for claimant, since_ms in list(self._claims.items()):
            if claimant not in self._claims:
                continue
            place = compute_tried_place(self.salt, claimant)
            incumbent = self._tried.get(place)
            if incumbent is None:
                self._try_promote(self._entries[claimant])
            elif self._is_refuted(incumbent, since_ms, now_ms):
                self._tried.remove(place)
                del self._entries[incumbent.address]
                self._try_promote(self._entries[claimant])
                self._place_new(incumbent, now_ms)
            elif incumbent.success_ms > now_ms - FRESH_MS or now_ms - since_ms > CLAIM_MS:
                del self._claims[claimant]

    def _is_refuted(self, incumbent: Entry, since_ms: int, now_ms: int) -> bool:
        """Say whether a dial since `since_ms` was in vain: it had a minute, and somebody else was reached after it."""
        was_dialled = incumbent.attempt_ms > max(since_ms, incumbent.success_ms)
        is_online = self._success_ms > incumbent.attempt_ms
        return was_dialled and is_online and now_ms - incumbent.attempt_ms >= REST_MS


def is_stale(entry: Entry, now_ms: int) -> bool:
    """Say whether an entry is worth less than any newcomer."""
    if now_ms - entry.attempt_ms < REST_MS:
        return False
    if now_ms - entry.seen_ms > HORIZON_MS:
        return True
    if not entry.success_ms:
        return entry.failures >= FIRST_FAILURES_MAX
    return entry.failures >= FAILURES_MAX and now_ms - entry.success_ms > WEEK_MS


def _compute_chance(entry: Entry, now_ms: int) -> int:
    failed_ms = entry.attempt_ms if entry.attempt_ms > entry.success_ms else 0
    silent_ms = now_ms - max(failed_ms, entry.left_ms)
    if silent_ms < REST_MS:
        return 0
    failures = min(entry.failures, 8)
    chance: int = (WHOLE << failures) // 3**failures
    return chance // 100 if silent_ms < RECENT_MS else chance
