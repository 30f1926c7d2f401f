"""Who may come in and who has to leave: places for newcomers by address, and the standing of keys and addresses.

A newcomer has a place for the length of its handshake; after it, who leaves when all inbound places are taken is
decided by `p2p.slots`. Loopback addresses are exempt from counts and bans by address, as many nodes of a development
network share one. Times are Unix time in milliseconds, so that bans outlive the process.
"""

from dataclasses import dataclass

from chain.primitives import PublicKey
from p2p.address_file import VERSION, Ban, BansRecord
from p2p.addresses import Prefix, compute_prefix, is_loopback, pack_ip
from p2p.limits import Limits
from p2p.score import BAN_MS, NAMES_MAX, Fault, ScoreBoard, Standing


@dataclass(eq=False, slots=True)
class Visit:
    """One inbound connection's place; `name` is its IP address, or what stands for one."""

    name: bytes
    prefix: Prefix
    is_counted: bool
    is_half_open: bool = True


class Doorman:
    """The places that are taken and the scores that are kept."""

    def __init__(self, limits: Limits) -> None:
        """Start with every place free."""
        self.has_new_bans = False
        self._limits = limits
        self._scores = ScoreBoard()
        self._visits: list[Visit] = []

    def admit(self, address: str, now_ms: int) -> Visit | None:
        """Return a place for a connection from `address`, or None when there is none for it."""
        visit = make_visit(address)
        if visit.is_counted and self._scores.get_standing(visit.name, now_ms) is Standing.BANNED:
            return None
        limits, visits = self._limits, self._visits
        counts = (
            (sum(v.is_half_open for v in visits), limits.half_open_max),
            (sum(v.name == visit.name for v in visits if v.is_counted), limits.inbound_per_address_max),
            (sum(v.prefix == visit.prefix for v in visits if v.is_counted), limits.inbound_per_prefix_max),
        )
        if any(count >= limit for count, limit in (counts if visit.is_counted else counts[:1])):
            return None
        visits.append(visit)
        return visit

    def leave(self, visit: Visit) -> None:
        """Free a place."""
        self._visits.remove(visit)

    def charge(self, key: PublicKey | None, address: str, fault: Fault, now_ms: int) -> Standing:
        """Charge a key, if it is known, and an address; return the worse standing."""
        visit = make_visit(address)
        names = ([bytes(key)] if key is not None else []) + ([visit.name] if visit.is_counted else [])
        for name in names:
            self._scores.add(name, fault, now_ms)
        standing = self.get_standing(key, address, now_ms)
        self.has_new_bans |= standing is Standing.BANNED
        return standing

    def get_standing(self, key: PublicKey | None, address: str, now_ms: int) -> Standing:
        """Return the worse standing of a key and an address."""
        names = (key, make_visit(address).name)
        standings = [self._scores.get_standing(name, now_ms) for name in names]
        order = (Standing.GOOD, Standing.IGNORED, Standing.BANNED)
        return max(standings, key=order.index)

    def get_points(self, key: PublicKey, now_ms: int) -> int:
        """Return the points of a key; 0 is best."""
        return self._scores.get_points(key, now_ms)

    def restore_bans(self, record: BansRecord, now_ms: int) -> None:
        """Refuse whom an earlier run refused, though its clock was ahead no longer than any ban lasts."""
        for ban in record.bans:
            self._scores.ban(ban.name, min(ban.until_ms, now_ms + BAN_MS))

    def make_bans_record(self, now_ms: int) -> BansRecord:
        """Return who is refused, to be kept, and take note that it is."""
        self.has_new_bans = False
        bans = [Ban(name, until_ms) for name, until_ms in self._scores.list_bans(now_ms) if isinstance(name, bytes)]
        return BansRecord(VERSION, tuple(bans[:NAMES_MAX]))


def make_visit(address: str) -> Visit:
    """Return what stands for an address; a name that is no IP address is one prefix of its own."""
    ip = pack_ip(address)
    if ip is None:
        name = address.encode()[:64] or b"?"
        return Visit(name, Prefix(name), is_counted=True)
    return Visit(ip, compute_prefix(ip), is_counted=not is_loopback(ip))
