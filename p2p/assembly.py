"""Blocks and transactions that arrived but cannot be judged yet: a parent or sidecars are still on their way.

What is complete comes out in an order in which it can be imported. Everything is bounded by count, bytes and time; when
room runs out, transactions go before blocks, and blocks far from the head before near ones.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from chain.packed import PackedBlock, PackedTransaction
from chain.primitives import Hash
from p2p.actions import DeliverBlock, DeliverTransaction, Peer
from p2p.limits import Limits
from p2p.messages import Item, ItemKind
from p2p.view import ChainView

DATA_ATTEMPTS_MAX = 3

OBJECT_BYTES = 700
"""What a decoded transaction occupies beside its bytes."""


@dataclass(slots=True)
class Pending:
    """One block (with its parent) or transaction (without), and what it waits for."""

    item: Item
    peer: Peer
    packed: PackedBlock | PackedTransaction
    parent: Hash | None
    since_ms: int
    missing: frozenset[Hash]
    is_orphan: bool = False
    sidecars: dict[Hash, bytes] = field(default_factory=dict)
    attempts: int = 0
    packed_bytes: int = field(init=False)
    """What `packed` occupies."""

    def __post_init__(self) -> None:
        """Measure once."""
        self.packed_bytes = _compute_memory_bytes(self.packed)

    @property
    def size_bytes(self) -> int:
        """What it occupies."""
        return self.packed_bytes + sum(len(sidecar) for sidecar in self.sidecars.values())


class Assembly:
    """Everything that waits, and what was handed out and is not yet judged."""

    def __init__(self, chain: ChainView, limits: Limits) -> None:
        """Start empty; `chain` is asked whether parents are there."""
        self._chain = chain
        self._limits = limits
        self._pending: dict[Item, Pending] = {}
        self._delivered: dict[Item, Pending] = {}
        self._ready: list[Pending] = []
        self.size_bytes = 0
        self.transactions_unjudged = 0
        """Transactions handed out whose fate is not known yet."""

    def holds(self, item: Item) -> bool:
        """Say whether `item` waits here or is being judged."""
        return item in self._pending or item in self._delivered

    def get_missing(self, item: Item) -> frozenset[Hash]:
        """Return the sidecars that `item` waits for here."""
        pending = self._pending.get(item)
        return frozenset() if pending is None else pending.missing

    def add(self, pending: Pending) -> None:
        """Take what arrived, unless it is here already or there is no room for it."""
        if self.holds(pending.item):
            return
        if pending.is_orphan and sum(p.is_orphan for p in self._pending.values()) >= self._limits.orphans_max:
            self._discard(next(p.item for p in self._pending.values() if p.is_orphan))
        self._pending[pending.item] = pending
        self.size_bytes += pending.size_bytes
        self._make_room()
        self._check(pending)

    def add_sidecar(self, sidecar_hash: Hash, data: bytes) -> None:
        """Give a sidecar to all that wait for it."""
        for pending in [p for p in self._pending.values() if sidecar_hash in p.missing]:
            pending.missing -= {sidecar_hash}
            pending.sidecars[sidecar_hash] = data
            self.size_bytes += len(data)
            self._check(pending)
        self._make_room()

    def on_judged(self, item: Item) -> Pending | None:
        """Close what was handed out; children of a block that is now there become ready."""
        judged = self._delivered.pop(item, None)
        if judged is not None and judged.parent is None:
            self.transactions_unjudged -= 1
        for child in [p for p in self._pending.values() if p.parent == item.hash]:
            self._check(child)
        return judged

    def reopen(self, pending: Pending, missing: tuple[Hash, ...]) -> bool:
        """Let a judged item wait again for sidecars it turned out to lack; False after too many attempts."""
        pending.attempts += 1
        pending.missing = frozenset(missing) - frozenset(pending.sidecars)
        if pending.attempts >= DATA_ATTEMPTS_MAX or not pending.missing:
            return False
        self.add(pending)
        return True

    def drop_hopeless(self, is_wanted: Callable[[Item], bool], now_ms: int) -> None:
        """Discard what has waited too long, or waits for a sidecar that nobody is asked for any more."""
        for pending in list(self._pending.values()):
            is_waiting = all(is_wanted(Item(ItemKind.SIDECAR, sidecar)) for sidecar in pending.missing)
            if not is_waiting or now_ms - pending.since_ms > self._limits.pending_ms:
                self._discard(pending.item)

    def take_ready(self) -> list[DeliverBlock | DeliverTransaction]:
        """Return what became complete, once."""
        ready, self._ready = self._ready, []
        return [_make_delivery(pending) for pending in ready]

    def _check(self, pending: Pending) -> None:
        if pending.missing or pending.item not in self._pending:
            return
        if pending.parent is None or self._chain.has_block(pending.parent):
            self._discard(pending.item)
            self._delivered[pending.item] = pending
            self.transactions_unjudged += pending.parent is None
            self._ready.append(pending)

    def _make_room(self) -> None:
        while len(self._pending) > self._limits.pending_max or self.size_bytes > self._limits.pending_bytes_max:
            oldest_transaction = next((p.item for p in self._pending.values() if p.parent is None), None)
            self._discard(oldest_transaction or next(reversed(self._pending)))

    def _discard(self, item: Item) -> None:
        self.size_bytes -= self._pending.pop(item).size_bytes


def _make_delivery(pending: Pending) -> DeliverBlock | DeliverTransaction:
    sidecars = tuple(pending.sidecars.values())
    if isinstance(pending.packed, PackedBlock):
        return DeliverBlock(pending.peer, pending.item.hash, pending.packed, sidecars)
    assert len(sidecars) <= 1, "a transaction names one sidecar at most"
    return DeliverTransaction(pending.peer, pending.item.hash, pending.packed, sidecars[0] if sidecars else None)


def _compute_memory_bytes(packed: PackedBlock | PackedTransaction) -> int:
    if isinstance(packed, PackedTransaction):
        return len(packed.data) + OBJECT_BYTES
    return packed.compute_size_bytes() + OBJECT_BYTES * len(packed.transactions)
