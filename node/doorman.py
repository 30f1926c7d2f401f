"""Who may come in and who has to leave: inbound places by address, and the standing of keys and addresses.

Loopback addresses are exempt from counts and bans by address, as many nodes of a development network share one.
"""

import ipaddress
from dataclasses import dataclass

from chain.primitives import PublicKey
from p2p.limits import Limits
from p2p.score import Fault, ScoreBoard, Standing


@dataclass(eq=False, slots=True)
class Visit:
    """One inbound connection's place."""

    address: str
    prefix: str
    is_counted: bool
    is_half_open: bool = True


class Doorman:
    """The places that are taken and the scores that are kept."""

    def __init__(self, limits: Limits) -> None:
        """Start with every place free."""
        self._limits = limits
        self._scores = ScoreBoard()
        self._visits: list[Visit] = []

    def admit(self, address: str, now_ms: int) -> Visit | None:
        """Return a place for a connection from `address`, or None when there is none for it."""
        visit = _make_visit(address)
        if visit.is_counted and self._scores.get_standing(address, now_ms) is Standing.BANNED:
            return None
        limits, visits = self._limits, self._visits
        counts = (
            (len(visits), limits.inbound_max),
            (sum(v.is_half_open for v in visits), limits.half_open_max),
            (sum(v.address == address for v in visits if v.is_counted), limits.inbound_per_address_max),
            (sum(v.prefix == visit.prefix for v in visits if v.is_counted), limits.inbound_per_prefix_max),
        )
        if any(count >= limit for count, limit in (counts if visit.is_counted else counts[:2])):
            return None
        visits.append(visit)
        return visit

    def leave(self, visit: Visit) -> None:
        """Free a place."""
        self._visits.remove(visit)

    def charge(self, key: PublicKey | None, address: str, fault: Fault, now_ms: int) -> Standing:
        """Charge a key, if it is known, and an address; return the worse standing."""
        names: list[PublicKey | str] = [key] if key is not None else []
        if _make_visit(address).is_counted:
            names.append(address)
        for name in names:
            self._scores.add(name, fault, now_ms)
        return self.get_standing(key, address, now_ms)

    def get_standing(self, key: PublicKey | None, address: str, now_ms: int) -> Standing:
        """Return the worse standing of a key and an address."""
        standings = [self._scores.get_standing(name, now_ms) for name in (key, address)]
        order = (Standing.GOOD, Standing.IGNORED, Standing.BANNED)
        return max(standings, key=order.index)

    def get_points(self, key: PublicKey, now_ms: int) -> int:
        """Return the points of a key; 0 is best."""
        return self._scores.get_points(key, now_ms)


def _make_visit(address: str) -> Visit:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return Visit(address, address, is_counted=True)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    found = mapped or found
    prefix = found.packed[: 2 if found.version == 4 else 4].hex()
    return Visit(address, prefix, is_counted=not found.is_loopback)
