"""Who knows what: announcing content to those who do not have it, and wanting what others announce.

Announcements are hashes; content moves only when it is asked for. Transactions are announced together a few times a
second, and to a new peer all that wait in the pool. What was found wanting once is not fetched again.
"""

from collections.abc import Sequence
from itertools import islice

from chain.primitives import Hash
from p2p.actions import Action, Peer, Push, Send, Serve
from p2p.assembly import Assembly
from p2p.errors import RemoteProtocolError
from p2p.fetch import Fetcher
from p2p.limits import BoundedSet, Limits
from p2p.messages import ITEMS_MAX, Inventory, Item, ItemKind
from p2p.view import ChainView

REJECTED_MAX = 16_384
ANNOUNCE_MS = 100
"""Transactions gather this long before they are announced: one message then names many."""

POOL_TOLD_MAX = 4_096
"""Transactions of the pool that a new peer is told of."""

RETELL_MS = 10_000
"""How often all peers are told again of those that have waited longest. A peer that was too busy to ask for one lacks a
nonce, and all that the account sends after it waits there for ever."""


def validate_kind(item: Item) -> None:
    """Refuse an item of a kind that GetData does not know; raises RemoteProtocolError."""
    if item.kind > ItemKind.OPENING:
        raise RemoteProtocolError("item-kind", f"found {item.kind}, expected a kind <= {ItemKind.OPENING}")


def has_item(chain: ChainView, item: Item) -> bool:
    """Say whether `chain` holds `item`, whose kind was validated."""
    if item.kind == ItemKind.BLOCK:
        return chain.has_block(item.hash)
    if item.kind == ItemKind.TRANSACTION:
        return chain.has_transaction(item.hash)
    return chain.has_sidecar(item.hash)


class Gossip:
    """What each peer is known to hold."""

    def __init__(self, chain: ChainView, fetcher: Fetcher, assembly: Assembly, limits: Limits) -> None:
        """Ask through `fetcher` for what neither `chain` nor `assembly` holds."""
        self._assembly = assembly
        self._chain = chain
        self._fetcher = fetcher
        self._limits = limits
        self._known: dict[Peer, BoundedSet[Item]] = {}
        self._block_only: dict[Peer, None] = {}
        self._rejected: BoundedSet[Item] = BoundedSet(REJECTED_MAX)
        self._gathered: dict[Item, None] = {}
        self._announce_at_ms = 0
        self._retell_at_ms = 0

    def add_peer(self, peer: Peer, *, is_block_only: bool = False) -> list[Action]:
        """Take `peer` as one that knows nothing yet; return what it is told of the pool.

        With a block-only peer no transactions are exchanged.
        """
        self._known[peer] = BoundedSet(self._limits.known_items_max)
        if is_block_only:
            self._block_only[peer] = None
        waiting = islice(self._chain.iter_pool(), POOL_TOLD_MAX)
        return self._tell(peer, [Item(ItemKind.TRANSACTION, transaction_hash) for transaction_hash in waiting])

    def drop_peer(self, peer: Peer) -> None:
        """Forget `peer`."""
        self._known.pop(peer, None)
        self._block_only.pop(peer, None)

    def reject(self, item: Item) -> None:
        """Do not fetch `item` again."""
        self._rejected.add(item)

    def is_rejected(self, item: Item) -> bool:
        """Say whether `item` was found wanting."""
        return item in self._rejected

    def mark_known(self, peer: Peer, item: Item) -> None:
        """Remember that `peer` holds `item`."""
        if peer in self._known:
            self._known[peer].add(item)

    def on_inventory(self, peer: Peer, items: tuple[Item, ...], is_behind: bool) -> None:
        """Want what is new; transactions only when we are not `is_behind`, as they cannot be judged before.

        Blocks are wanted compact unless we are behind, when the pool has nothing to fill them with. Raises
        RemoteProtocolError for a kind that does not exist or is only asked for.
        """
        for item in items:
            if item.kind >= ItemKind.COMPACT:
                raise RemoteProtocolError("item-kind", f"found {item.kind}, expected a kind < {ItemKind.COMPACT}")
            self.mark_known(peer, item)
            is_unwelcome = item.kind == ItemKind.TRANSACTION and (is_behind or peer in self._block_only)
            if is_unwelcome or item in self._rejected or self._is_held(item):
                continue
            if item.kind == ItemKind.BLOCK and not (is_behind or self._fetcher.is_wanted(item)):
                self._fetcher.want(Item(ItemKind.COMPACT, item.hash), peer)
            elif item.kind != ItemKind.SIDECAR or self._fetcher.is_wanted(item):
                self._fetcher.want(item, peer)

    def _is_held(self, item: Item) -> bool:
        """Say whether `item` is here; a transaction that is being looked for is not, which spares a look on disk."""
        if self._assembly.holds(item):
            return True
        is_awaited = item.kind == ItemKind.TRANSACTION and self._fetcher.is_wanted(item)
        return not is_awaited and has_item(self._chain, item)

    def announce_block(self, block_hash: Hash, listeners: tuple[Peer, ...]) -> list[Action]:
        """Return a new head's way to every peer that is not known to hold it: itself to `listeners`, its name else."""
        item = Item(ItemKind.BLOCK, block_hash)
        actions: list[Action] = []
        for peer in listeners:
            known = self._known.get(peer)
            if known is not None and item not in known:
                known.add(item)
                actions.append(Serve(peer, Push(block_hash)))
        return actions + self.announce(item)

    def announce(self, item: Item) -> list[Action]:
        """Return announcements of a block to every peer that is not known to hold it."""
        return [action for peer in self._known for action in self._tell(peer, [item])]

    def gather(self, transaction_hash: Hash) -> None:
        """Have a transaction announced at the next poll that is due."""
        self._gathered[Item(ItemKind.TRANSACTION, transaction_hash)] = None

    def poll(self, now_ms: int) -> list[Action]:
        """Return announcements of what has gathered, when it is time or when there is much, and now and then of old."""
        if now_ms >= self._retell_at_ms:
            self._retell_at_ms = now_ms + RETELL_MS
            return self._retell()
        if not self._gathered or (now_ms < self._announce_at_ms and len(self._gathered) < ITEMS_MAX):
            return []
        self._announce_at_ms = now_ms + ANNOUNCE_MS
        items, self._gathered = list(self._gathered), {}
        return [action for peer in self._known for action in self._tell(peer, items)]

    def _retell(self) -> list[Action]:
        waiting = islice(self._chain.iter_pool(), ITEMS_MAX)
        items = tuple(Item(ItemKind.TRANSACTION, transaction_hash) for transaction_hash in waiting)
        peers = [peer for peer in self._known if peer not in self._block_only]
        return [Send(peer, Inventory(items)) for peer in peers if items]

    def _tell(self, peer: Peer, items: Sequence[Item]) -> list[Action]:
        known, is_block_only = self._known[peer], peer in self._block_only
        unwelcome = ItemKind.TRANSACTION if is_block_only else None
        new = [item for item in items if item not in known and item.kind != unwelcome]
        for item in new:
            known.add(item)
        return [Send(peer, Inventory(tuple(new[start : start + ITEMS_MAX]))) for start in range(0, len(new), ITEMS_MAX)]
