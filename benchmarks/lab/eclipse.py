"""Trying to own all of a node's peers: poisoned addresses against the real address book and the real dial plan.

A run is one node's life on a virtual clock: honest peers are met, an attacker tells its addresses, feelers go out, the
node restarts again and again. Every address of the attacker answers; an honest node answers as often as `online` says.
No socket is opened. Source of the attack: Heilman et al. 2015.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from chain.primitives import PublicKey
from p2p.address_book import AddressBook, Choice
from p2p.address_tables import Entry
from p2p.addresses import PeerAddress, Prefix, Scope, SeenAddress, compute_prefix
from p2p.dialling import Connected, Dial, DialPlan
from p2p.limits import Limits
from p2p.slots import SlotKind

NOW_MS = 1_800_000_000_000
NOBODY = Connected(frozenset(), frozenset())
KEY = PublicKey(bytes(32))
SLOTS = (SlotKind.FULL, SlotKind.BLOCK_ONLY)
CONNECT_MS = 60_000
"""How long a start is given to fill its slots."""
STEP_MS = 500
IDLE_STEP_MS = 60_000
FIRST_PREFIXES = (11 << 8, 100 << 8)
LAST_PREFIXES = (128 << 8, 169 << 8)
"""Two spans of /16 that are global throughout; honest and poisoned addresses are drawn from both."""


@dataclass(frozen=True, slots=True)
class Siege:
    """What the attacker has and how long it goes on; honest numbers are what the node knew before."""

    prefixes: int
    """The /16 networks that the attacker has nodes in; it tells from all of them of all."""
    addresses: int = 10_000
    restarts: int = 10
    hours_between: int = 1
    honest_tried: int = 100
    honest_new: int = 500
    past_starts: int = 4
    """Starts of the node before the attack."""
    online_percent: int = 75
    has_anchors: bool = True


@dataclass(slots=True)
class Outcome:
    """What became of one run, or of several; shares are sums over the starts."""

    placed: int = 0
    """Poisoned addresses that found a place."""
    starts: int = 0
    new_share: float = 0.0
    tried_share: float = 0.0
    """Chance that a draw from the table meets the attacker."""
    tried_addresses: int = 0
    full_slots: int = 0
    full_lost: int = 0
    block_only_slots: int = 0
    block_only_lost: int = 0
    eclipses: int = 0
    """Starts after which every peer was the attacker's."""


@dataclass(slots=True)
class World:
    """Who is whose, and who answers now."""

    random: Random
    siege: Siege
    honest: list[PeerAddress] = field(default_factory=list)
    poisoned_ips: set[bytes] = field(default_factory=set)
    offline: set[PeerAddress] = field(default_factory=set)

    def draw_prefixes(self, count: int) -> list[int]:
        """Return so many different /16, as numbers."""
        spans = [*range(*FIRST_PREFIXES), *range(*LAST_PREFIXES)]
        return self.random.sample(spans, count)

    def answers(self, address: PeerAddress) -> bool:
        """Say whether a node is reached at an address."""
        return address not in self.offline

    def redraw(self) -> None:
        """Let chance decide anew which honest nodes are up."""
        chances = self.random.choices(range(100), k=len(self.honest))
        self.offline = {
            a for a, chance in zip(self.honest, chances, strict=True) if chance >= self.siege.online_percent
        }


def run_siege(siege: Siege, seed: int) -> Outcome:
    """Play one life of a node."""
    random = Random(seed)
    world, outcome = World(random, siege), Outcome()
    book = AddressBook(random.randbytes(32), random.randrange, Scope.GLOBAL)
    now_ms = NOW_MS
    _meet_honest(world, book, now_ms)
    plan = DialPlan(book, Limits(), random.randrange)
    for _ in range(siege.past_starts):
        plan, now_ms = _restart(world, book, plan, now_ms)
    outcome.placed = _poison(world, book, now_ms)
    for _ in range(siege.restarts):
        now_ms = _wait(world, plan, now_ms, siege.hours_between * 3_600_000)
        plan, now_ms = _restart(world, book, plan, now_ms)
        _count(world, plan, outcome)
    outcome.tried_addresses = sum(entry.is_tried and entry.address.ip in world.poisoned_ips for entry in book)
    return outcome


def _restart(world: World, book: AddressBook, plan: DialPlan, now_ms: int) -> tuple[DialPlan, int]:
    """Start anew from the book and the anchors, while other honest nodes are up than before."""
    anchors = plan.get_anchors() if world.siege.has_anchors else ()
    plan = DialPlan(book, Limits(), world.random.randrange, anchors=anchors)
    world.redraw()
    return plan, _connect(world, plan, now_ms + 60_000)


def _meet_honest(world: World, book: AddressBook, now_ms: int) -> None:
    siege = world.siege
    addresses = list(_make_addresses(world, world.draw_prefixes(600), siege.honest_tried + siege.honest_new))
    world.honest += addresses
    tellers = [compute_prefix(address.ip) for address in addresses[:20]]
    for number, address in enumerate(addresses):
        book.add(SeenAddress(address, 0), tellers[number % len(tellers)], now_ms)
    for address in addresses[: siege.honest_tried]:
        book.on_dial(address, now_ms - 3_600_000)
        book.on_reached(address, now_ms - 3_600_000)


def _poison(world: World, book: AddressBook, now_ms: int) -> int:
    """Tell all poisoned addresses, each from a prefix of the attacker's drawn at random."""
    prefixes = world.draw_prefixes(world.siege.prefixes)
    addresses = list(_make_addresses(world, prefixes, world.siege.addresses))
    world.poisoned_ips.update(address.ip for address in addresses)
    tellers = [Prefix(b"\x04" + prefix.to_bytes(2, "big")) for prefix in prefixes]
    return sum(book.add(SeenAddress(address, 0), world.random.choice(tellers), now_ms) for address in addresses)


def _make_addresses(world: World, prefixes: list[int], count: int) -> Iterator[PeerAddress]:
    for number in range(count):
        prefix = prefixes[number % len(prefixes)].to_bytes(2, "big")
        yield PeerAddress(bytes(10) + b"\xff\xff" + prefix + world.random.randbytes(2), 4610)


def _connect(world: World, plan: DialPlan, now_ms: int) -> int:
    """Fill the slots as after a start, and return the time then."""
    end_ms = now_ms + CONNECT_MS
    while now_ms < end_ms and len(plan.list_reached(SLOTS)) < plan.limits.full_max + plan.limits.block_only_max:
        _poll(world, plan, now_ms)
        now_ms += STEP_MS
    return now_ms


def _wait(world: World, plan: DialPlan, now_ms: int, duration_ms: int) -> int:
    """Let feelers go out for a while, and return the time then."""
    for moment_ms in range(now_ms, now_ms + duration_ms, IDLE_STEP_MS):
        _poll(world, plan, moment_ms)
    return now_ms + duration_ms


def _poll(world: World, plan: DialPlan, now_ms: int) -> None:
    for dial in plan.poll(NOBODY, now_ms):
        assert dial.target.address is not None
        if not world.answers(dial.target.address):
            plan.on_end(dial, None, now_ms)
            continue
        plan.on_reached(dial, now_ms)
        if dial.kind is SlotKind.FEELER:
            plan.on_end(dial, KEY, now_ms)


def _count(world: World, plan: DialPlan, outcome: Outcome) -> None:
    full, block_only = (plan.list_reached((kind,)) for kind in SLOTS)
    outcome.starts += 1
    outcome.new_share += _compute_share(world, plan.book.list_buckets(Choice.NEW))
    outcome.tried_share += _compute_share(world, plan.book.list_buckets(Choice.TRIED))
    outcome.full_slots += len(full)
    outcome.full_lost += _count_lost(world, full)
    outcome.block_only_slots += len(block_only)
    outcome.block_only_lost += _count_lost(world, block_only)
    outcome.eclipses += _count_lost(world, full + block_only) == len(full + block_only)


def _count_lost(world: World, dials: list[Dial]) -> int:
    addresses = [dial.target.address for dial in dials]
    return sum(address is not None and address.ip in world.poisoned_ips for address in addresses)


def _compute_share(world: World, buckets: list[tuple[Entry, ...]]) -> float:
    """Return the chance that a bucket drawn uniformly, and an entry of it, is the attacker's."""
    shares = [sum(entry.address.ip in world.poisoned_ips for entry in bucket) / len(bucket) for bucket in buckets]
    return sum(shares) / len(shares) if shares else 0.0
