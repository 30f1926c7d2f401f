"""Whom a node dials, when, and for what: static peers, seeds, anchors, full and block-only slots, feelers.

A dial is active from the moment it is handed out until its connection has ended, and takes its slot as long. No two
automatic connections lie in one prefix, loopback excepted. Time (Unix, milliseconds) and chance are handed in; it opens
nothing. Source: Bitcoin Core's connection manager.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from chain.primitives import PublicKey
from p2p.address_book import FAILURES_MAX, AddressBook, Choice
from p2p.address_file import ANCHORS_MAX
from p2p.addresses import Draw, PeerAddress, compute_prefix, is_loopback, make_address
from p2p.limits import Limits
from p2p.slots import SlotKind

PACE_MS = 500
"""Between two automatic dials."""
REDIAL_MS = 500
REDIAL_MS_MAX = 30_000
SEED_MS = 60_000
SEED_MS_MAX = 3_600_000
THIN_ADDRESSES = 64
"""A book with fewer addresses asks seeds."""
FEELER_MS = 120_000
"""Mean time between two feelers."""
SELECTIONS_MAX = 32


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host, by number or name, and a port."""

    host: str
    port: int

    @property
    def address(self) -> PeerAddress | None:
        """The address, None for a name."""
        return make_address(self.host, self.port)


@dataclass(frozen=True, slots=True)
class Dial:
    """One connection to open, and what it is for."""

    target: Endpoint
    kind: SlotKind
    origin: str
    """Why this target: static, seed, anchor, tried or new."""


@dataclass(frozen=True, slots=True)
class Connected:
    """Who need not be dialled: the keys of connected peers, and the addresses at which they say they listen."""

    keys: AbstractSet[PublicKey]
    addresses: AbstractSet[PeerAddress]


@dataclass(slots=True)
class _Redial:
    wait_ms: int
    next_ms: int = 0
    key: PublicKey | None = None


@dataclass(slots=True)
class _Active:
    dial: Dial
    is_reached: bool = False


@dataclass(slots=True)
class DialPlan:
    """The plan of one node."""

    book: AddressBook
    limits: Limits
    draw: Draw
    seeds: tuple[Endpoint, ...] = ()
    anchors: tuple[PeerAddress, ...] = ()
    """Peers of earlier runs, those first that became anchors first."""
    statics: tuple[Endpoint, ...] = ()
    _anchors_left: list[PeerAddress] = field(default_factory=list)
    _redials: dict[Endpoint, _Redial] = field(default_factory=dict)
    _active: dict[Endpoint, _Active] = field(default_factory=dict)
    _next_ms: int = 0
    _feeler_ms: int | None = None

    def __post_init__(self) -> None:
        """Dial the anchors first."""
        self._anchors_left = list(self.anchors)

    def poll(self, connected: Connected, now_ms: int) -> list[Dial]:
        """Return what is to be dialled now; call several times a second."""
        dials = []
        for choose in (self._dial_statics, self._dial_seed, self._feel, self._fill):
            for dial in choose(connected, now_ms):
                dials.append(dial)
                self._active[dial.target] = _Active(dial)
                if (address := dial.target.address) is not None:
                    self.book.on_dial(address, now_ms)
        return dials

    def on_reached(self, dial: Dial, now_ms: int) -> None:
        """Learn that the handshake of a dial succeeded."""
        self._active[dial.target].is_reached = True
        if (address := dial.target.address) is not None:
            self.book.on_reached(address, now_ms)

    def on_end(self, dial: Dial, key: PublicKey | None, now_ms: int) -> None:
        """Learn that a dial failed, or that its connection, with the peer of `key`, has ended."""
        was_reached = self._active.pop(dial.target).is_reached
        was_brief = dial.kind in (SlotKind.SEED, SlotKind.FEELER)
        if was_reached and not was_brief and (address := dial.target.address) is not None:
            self.book.on_left(address, now_ms)
        redial = self._redials.get(dial.target)
        if redial is not None:
            is_seed = dial.kind is SlotKind.SEED
            least_ms, most_ms = (SEED_MS, SEED_MS_MAX) if is_seed else (REDIAL_MS, REDIAL_MS_MAX)
            redial.key = key
            redial.wait_ms = least_ms if was_reached and not is_seed else min(most_ms, 2 * redial.wait_ms)
            redial.next_ms = now_ms + redial.wait_ms

    def on_self(self, dial: Dial) -> None:
        """Learn that a dial has reached this node itself."""
        if (address := dial.target.address) is not None:
            self.book.on_own(address)

    def list_reached(self, kinds: tuple[SlotKind, ...]) -> list[Dial]:
        """Return the dials of some kinds whose connections stand."""
        return [active.dial for active in self._active.values() if active.is_reached and active.dial.kind in kinds]

    def get_anchors(self) -> tuple[PeerAddress, ...]:
        """Return whom to dial first at the next start: who was first an anchor, as long as it answers now and then.

        Block-only peers become anchors, and full ones while there is room. An attacker that comes later stands behind
        them, even when some of them are away for a few starts.
        """
        dials = self.list_reached((SlotKind.BLOCK_ONLY,)) + self.list_reached((SlotKind.FULL,))
        reached = [dial.target.address for dial in dials]
        kept = [address for address in self.anchors if address in reached or self._may_answer(address)]
        return tuple(dict.fromkeys(kept + [address for address in reached if address is not None]))[:ANCHORS_MAX]

    def _may_answer(self, address: PeerAddress) -> bool:
        entry = self.book.get(address)
        return entry is not None and entry.failures < FAILURES_MAX

    def _get_active(self, kind: SlotKind) -> list[_Active]:
        return [active for active in self._active.values() if active.dial.kind is kind]

    def _dial_statics(self, connected: Connected, now_ms: int) -> list[Dial]:
        dials = []
        for target in dict.fromkeys(self.statics[: self.limits.static_max]):
            redial = self._redials.setdefault(target, _Redial(REDIAL_MS))
            is_connected = redial.key in connected.keys or target.address in connected.addresses
            if target not in self._active and not is_connected and now_ms >= redial.next_ms:
                dials.append(Dial(target, SlotKind.STATIC, "static"))
        return dials

    def _dial_seed(self, _: Connected, now_ms: int) -> list[Dial]:
        """Ask one seed at a time, while the book is thin."""
        if len(self.book) >= THIN_ADDRESSES or self._get_active(SlotKind.SEED):
            return []
        for target in self.seeds:
            redial = self._redials.setdefault(target, _Redial(SEED_MS))
            if target not in self._active and now_ms >= redial.next_ms:
                return [Dial(target, SlotKind.SEED, "seed")]
        return []

    def _fill(self, connected: Connected, now_ms: int) -> list[Dial]:
        """Fill the anchors' places, then the full slots, then the block-only ones, one dial at a time."""
        if now_ms < self._next_ms:
            return []
        dial = self._take_anchor(connected) or self._choose(connected, now_ms)
        # A search that finds nobody is the dearest: a small network leaves slots empty for ever.
        self._next_ms = now_ms + PACE_MS
        return [dial] if dial is not None else []

    def _take_anchor(self, connected: Connected) -> Dial | None:
        while self._anchors_left and len(self._get_active(SlotKind.BLOCK_ONLY)) < self.limits.block_only_max:
            address = self._anchors_left.pop(0)
            if self._is_free(address, connected, is_alone=True):
                return _make_dial(address, SlotKind.BLOCK_ONLY, "anchor")
        return None

    def _choose(self, connected: Connected, now_ms: int) -> Dial | None:
        full = len(self._get_active(SlotKind.FULL))
        if full < self.limits.full_max:
            # Every second one from the tried table alone, so that a flood of new addresses cannot take them all.
            return self._draw_for(SlotKind.FULL, Choice.TRIED if full % 2 else Choice.ANY, connected, now_ms)
        if len(self._get_active(SlotKind.BLOCK_ONLY)) < self.limits.block_only_max:
            return self._draw_for(SlotKind.BLOCK_ONLY, Choice.TRIED, connected, now_ms)
        return None

    def _draw_for(self, kind: SlotKind, choice: Choice, connected: Connected, now_ms: int) -> Dial | None:
        for _ in range(SELECTIONS_MAX):
            address = self.book.select(choice, now_ms) or self.book.select(Choice.ANY, now_ms)
            if address is None:
                break
            if self._is_free(address, connected, is_alone=True):
                entry = self.book.get(address)
                return _make_dial(address, kind, "tried" if entry is not None and entry.is_tried else "new")
        return None

    def _feel(self, connected: Connected, now_ms: int) -> list[Dial]:
        """Now and then dial a tried address whose place is claimed, or else a new one."""
        if self._feeler_ms is None:
            self._feeler_ms = now_ms + self.draw(2 * FEELER_MS)
        if now_ms < self._feeler_ms or self._get_active(SlotKind.FEELER):
            return []
        self._feeler_ms = now_ms + self.draw(2 * FEELER_MS)
        suspect = self.book.get_suspect(now_ms)
        address = suspect or self.book.select(Choice.NEW, now_ms)
        if address is None or not self._is_free(address, connected, is_alone=False):
            return []
        return [_make_dial(address, SlotKind.FEELER, "tried" if suspect else "new")]

    def _is_free(self, address: PeerAddress, connected: Connected, *, is_alone: bool) -> bool:
        """Say whether `address` may be dialled: connected to nobody, and with `is_alone` in a prefix of its own."""
        if address in connected.addresses or Endpoint(address.host, address.port) in self._active:
            return False
        if not is_alone or is_loopback(address.ip):
            return True
        taken = [
            active.dial.target.address
            for kind in (SlotKind.FULL, SlotKind.BLOCK_ONLY)
            for active in self._get_active(kind)
        ]
        return compute_prefix(address.ip) not in {compute_prefix(other.ip) for other in taken if other is not None}


def _make_dial(address: PeerAddress, kind: SlotKind, origin: str) -> Dial:
    return Dial(Endpoint(address.host, address.port), kind, origin)
