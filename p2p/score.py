"""The standing of peers: faults cost points, time gives them back, and too few points shut the door.

It knows peers only as opaque names (a key, an address) and times only as milliseconds handed in.
"""

from collections.abc import Hashable
from enum import Enum, auto

IGNORED_AT = -50
BANNED_AT = -100
RECOVERY_MS = 20_000
"""Time that gives one point back, so that a loaded machine's rare timeouts never add up to silence."""
BAN_MS = 24 * 3600 * 1000
NAMES_MAX = 4_096


class Fault(Enum):
    """What a peer may be charged with."""

    INVALID_TRANSACTION = auto()
    INVALID_BLOCK = auto()
    UNSOUND_BLOCK = auto()
    """A block whose ticket holds and whose content does not: its maker paid for it, and who passed it on may have kept
    it beside its own head, where nothing is executed."""
    PROTOCOL = auto()
    """Malformed frames and messages out of turn: no version of the software sends them."""
    TIMEOUT = auto()
    UNSOLICITED = auto()
    """Content that was never asked for."""


PENALTIES = {
    Fault.INVALID_TRANSACTION: 10,
    Fault.INVALID_BLOCK: 100,
    Fault.UNSOUND_BLOCK: 10,
    Fault.PROTOCOL: 100,
    Fault.TIMEOUT: 5,
    Fault.UNSOLICITED: 5,
}
"""The points each fault costs."""


class Standing(Enum):
    """How a peer is treated."""

    GOOD = auto()
    IGNORED = auto()
    """Served, but nothing it says is acted on."""
    BANNED = auto()
    """Disconnected, and refused until the ban is over."""


class ScoreBoard:
    """Points by name; at most `NAMES_MAX` names, the longest untouched forgotten first."""

    def __init__(self) -> None:
        """Start with every name in good standing."""
        self._points: dict[Hashable, tuple[int, int]] = {}
        self._banned_until_ms: dict[Hashable, int] = {}

    def add(self, name: Hashable, fault: Fault, now_ms: int) -> Standing:
        """Charge `name` for a fault and return its standing."""
        points = self.get_points(name, now_ms) - PENALTIES[fault]
        self._points.pop(name, None)
        self._points[name] = (points, now_ms)
        if len(self._points) > NAMES_MAX:
            del self._points[next(iter(self._points))]
        if points <= BANNED_AT:
            self.ban(name, now_ms + BAN_MS)
        return self.get_standing(name, now_ms)

    def ban(self, name: Hashable, until_ms: int) -> None:
        """Shut the door to `name` until a time; the longest banned name makes room."""
        self._banned_until_ms.pop(name, None)
        self._banned_until_ms[name] = until_ms
        if len(self._banned_until_ms) > NAMES_MAX:
            del self._banned_until_ms[next(iter(self._banned_until_ms))]

    def list_bans(self, now_ms: int) -> list[tuple[Hashable, int]]:
        """Return who is banned and until when."""
        return [(name, until_ms) for name, until_ms in self._banned_until_ms.items() if until_ms > now_ms]

    def get_points(self, name: Hashable, now_ms: int) -> int:
        """Return the points of `name`, at most 0."""
        points, since_ms = self._points.get(name, (0, now_ms))
        return min(0, points + max(0, now_ms - since_ms) // RECOVERY_MS)

    def get_standing(self, name: Hashable, now_ms: int) -> Standing:
        """Return how `name` is to be treated."""
        if self._banned_until_ms.get(name, now_ms) > now_ms:
            return Standing.BANNED
        return Standing.IGNORED if self.get_points(name, now_ms) <= IGNORED_AT else Standing.GOOD
