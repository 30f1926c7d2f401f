"""Blocks that come without their transactions: what is filled from the pool, what is asked for, and who pushes them.

One attempt a block: it is completed from the pool, else its sender is asked once for the rest, else the whole block is
fetched like any other. Whoever still owes an answer about a block is not asked about it again: an answer does not say
which question it is to. Up to three peers that were first with a block are asked to send the next ones unasked. What a
compact block turns into is judged like a block that came whole, so nothing here decides what is valid.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from chain.header import compute_header_hash
from chain.packed import PackedBlock, PackedTransaction
from chain.primitives import Hash
from p2p.actions import Action, Peer, Send
from p2p.compact import SHORT_ID_BYTES, CompactBlock, complete, find_transactions
from p2p.content import read_transaction
from p2p.errors import RemoteProtocolError
from p2p.fetch import Fetcher
from p2p.limits import Limits, TokenBucket
from p2p.messages import GetTransactions, Item, ItemKind, PushBlocks, Transactions
from p2p.view import ChainView

PUSHERS_MAX = 3
"""Peers that are asked to send new blocks without being asked for each."""

FILLS_PER_S = 4
"""Compact blocks a second, of all peers, that are filled from the pool: to look through a full one takes 60 ms, and
anybody can name transactions under an invented header. Others are fetched whole."""
FILLS_BURST = 20


@dataclass(slots=True)
class _Open:
    """A compact block that waits for `positions` of its transactions."""

    peer: Peer
    compact: CompactBlock
    slots: list[PackedTransaction | None]
    positions: tuple[int, ...]
    deadline_ms: int
    others: dict[Peer, None] = field(default_factory=dict)
    """Peers that sent the block too, while it was waiting."""


class CompactRelay:
    """Compact blocks under way, who pushes to us and to whom we push."""

    def __init__(self, chain: ChainView, fetcher: Fetcher, limits: Limits) -> None:
        """Fill from `chain`'s pool; whole blocks are fetched through `fetcher`."""
        self._chain = chain
        self._fetcher = fetcher
        self._limits = limits
        self._open: dict[Hash, _Open] = {}
        self._late: dict[Peer, dict[Hash, None]] = {}
        """The blocks about which an answer is not waited for any longer, and may still come."""
        self._pushers: dict[Peer, None] = {}
        self._listeners: dict[Peer, None] = {}
        self._fills = TokenBucket(FILLS_PER_S, FILLS_BURST)

    def drop_peer(self, peer: Peer) -> None:
        """Forget `peer`; what it owed is fetched whole from others that have it."""
        self._late.pop(peer, None)
        self._pushers.pop(peer, None)
        self._listeners.pop(peer, None)
        for block_hash in [block_hash for block_hash, entry in self._open.items() if entry.peer == peer]:
            self._fetch_whole(block_hash, self._open.pop(block_hash))

    def is_coming(self, block_hash: Hash) -> bool:
        """Say whether a block is being asked for or completed in its compact form."""
        return block_hash in self._open or self._fetcher.is_wanted(Item(ItemKind.COMPACT, block_hash))

    def is_pusher(self, peer: Peer) -> bool:
        """Say whether `peer` was asked to send new blocks unasked."""
        return peer in self._pushers

    def on_push_wish(self, peer: Peer, is_wanted: bool) -> None:
        """Push new blocks to `peer`, or no longer."""
        if is_wanted:
            self._listeners[peer] = None
        else:
            self._listeners.pop(peer, None)

    def get_listeners(self) -> tuple[Peer, ...]:
        """Return the peers to push new blocks to."""
        return tuple(self._listeners)

    def on_first(self, peer: Peer) -> list[Action]:
        """Take note that `peer` was first with a new head: ask it to push, in place of who was first longest ago."""
        is_new = self._pushers.pop(peer, 0) == 0
        self._pushers[peer] = None
        actions: list[Action] = [Send(peer, PushBlocks(1))] if is_new else []
        if len(self._pushers) > PUSHERS_MAX:
            oldest = next(iter(self._pushers))
            del self._pushers[oldest]
            actions.append(Send(oldest, PushBlocks(0)))
        return actions

    def on_compact(self, peer: Peer, compact: CompactBlock, now_ms: int) -> tuple[PackedBlock | None, list[Action]]:
        """Return the whole block if the pool completes it, else what to ask; raises RemoteProtocolError."""
        if len(compact.short_ids) % SHORT_ID_BYTES:
            raise RemoteProtocolError("short-ids", f"found {len(compact.short_ids)} bytes, expected whole ids of six")
        block_hash = compute_header_hash(compact.header)
        if block_hash in self._open:
            self._open[block_hash].others[peer] = None
            return None, []
        if not self._fills.try_take(1, now_ms):
            self._fetcher.want(Item(ItemKind.BLOCK, block_hash), peer)
            return None, []
        names = find_transactions(compact, self._chain.iter_pool())
        slots = [None if name is None else self._chain.get_transaction(name) for name in names]
        positions = tuple(place for place, slot in enumerate(slots) if slot is None)
        entry = _Open(peer, compact, slots, positions, now_ms + self._limits.stall_ms_min)
        if not positions:
            return self._finish(block_hash, entry), []
        if len(self._open) >= self._limits.compact_open_max or block_hash in self._late.get(peer, ()):
            self._fetch_whole(block_hash, entry)
            return None, []
        self._open[block_hash] = entry
        return None, [Send(peer, GetTransactions(block_hash, positions))]

    def on_transactions(self, peer: Peer, message: Transactions) -> PackedBlock | None:
        """Return the block that an answer completes, if it does; raises RemoteProtocolError."""
        entry = self._open.get(message.block)
        if entry is None or entry.peer != peer:
            self._forget_late(peer, message.block)
            return None
        del self._open[message.block]
        if len(message.transactions) != len(entry.positions):
            found, expected = len(message.transactions), len(entry.positions)
            raise RemoteProtocolError("transactions", f"found {found} transactions, expected the {expected} asked for")
        for position, data in zip(entry.positions, message.transactions, strict=True):
            entry.slots[position] = read_transaction(data)
        return self._finish(message.block, entry)

    def on_not_found(self, peer: Peer, items: tuple[Item, ...]) -> None:
        """Fetch whole the blocks of which `peer` has no single transactions to give."""
        for item in items:
            entry = self._open.get(item.hash) if item.kind == ItemKind.COMPACT else None
            if entry is not None and entry.peer == peer:
                self._fetch_whole(item.hash, self._open.pop(item.hash))
            else:
                self._forget_late(peer, item.hash)

    def poll(self, now_ms: int) -> None:
        """Fetch whole what has waited too long."""
        for block_hash in [name for name, entry in self._open.items() if entry.deadline_ms <= now_ms]:
            entry = self._open.pop(block_hash)
            late = self._late.setdefault(entry.peer, {})
            late[block_hash] = None
            if len(late) > self._limits.compact_open_max:
                del late[next(iter(late))]
            self._fetch_whole(block_hash, entry)

    def _forget_late(self, peer: Peer, block_hash: Hash) -> None:
        self._late.get(peer, {}).pop(block_hash, None)

    def _finish(self, block_hash: Hash, entry: _Open) -> PackedBlock | None:
        transactions: Sequence[PackedTransaction] = [slot for slot in entry.slots if slot is not None]
        block = complete(entry.compact, transactions)
        if block is None:
            # A name shared by chance looks the same as a lie: the whole block tells, and costs its sender if it lies.
            self._fetch_whole(block_hash, entry)
        return block

    def _fetch_whole(self, block_hash: Hash, entry: _Open) -> None:
        # Whoever was first with a block must not be the only one that is asked for the rest of it.
        for peer in (entry.peer, *entry.others):
            self._fetcher.want(Item(ItemKind.BLOCK, block_hash), peer)
