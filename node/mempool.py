"""The transaction pool: bounded, ordered by nonce within an account and by fee for weight between accounts.

It knows no ledger rule; the caller has validated what it adds and tells it the nonces of the accounts that a block
touched. When it is full the tails that are worth least make room, so a flood costs its sender more than it costs the
node; what no block takes in long enough is let go. Reports of equivocation pay nothing and come first; one a miner may
wait, so they are few.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from chain.errors import InvalidTransaction
from chain.ledger.weight import compute_weight
from chain.packed import PackedTransaction
from chain.primitives import Hash, PublicKey
from chain.transaction import MarketAction, PostBond, ReportEquivocation, Transaction, Transfer, WithdrawBond
from node.observability.tally import Tally
from node.pool_order import AccountOrder, Rank, Standing

EVICTIONS_MAX = 512
"""What one transaction may push out, enough for the openings of a segment over transfers; else a large one that finds
no room in the end would cost the node much and its sender nothing."""

REPLACEMENT_PERCENT = 110
"""A replacement must offer more than this share of the fee rate that it replaces, or every atom more would be told to
the whole network again."""


@dataclass(frozen=True, slots=True)
class PoolBounds:
    """How much may wait, and how long."""

    bytes_max: int = 15_000_000
    """Ten blocks of transactions."""
    account_transactions_max: int = 64
    """What one account may have waiting; also how far its nonces may run ahead."""
    wait_blocks_max: int = 1_000
    """A transaction that so many blocks left out pays too little: the pool could have been emptied a hundred times."""
    wait_ms_max: int = 24 * 3_600 * 1_000
    """Who sent a transaction a day ago has sent it again, or no longer wants it."""


DEFAULT_BOUNDS = PoolBounds()


class AddResult(Enum):
    """What became of a transaction that was offered."""

    ADDED = auto()
    REPLACED = auto()
    ALREADY_KNOWN = auto()


@dataclass(frozen=True, slots=True)
class PooledTransaction:
    """A transaction, its rank, the atoms that it takes, and since which height and time (ms) it waits."""

    packed: PackedTransaction
    rank: Rank
    cost: int
    height: int
    time_ms: int

    @property
    def sender(self) -> PublicKey:
        """Whose it is."""
        return self.packed.transaction.body.sender

    @property
    def nonce(self) -> int:
        """The sender's count of earlier transactions."""
        return self.packed.transaction.body.nonce

    @property
    def size_bytes(self) -> int:
        """Bytes of its encoding."""
        return len(self.packed.data)


class _Account:
    """What one account has waiting, its nonce on the head, and of what waits the last nonce, least rank and cost."""

    __slots__ = ("cost", "last_nonce", "least_rank", "nonce", "waiting")

    def __init__(self, nonce: int) -> None:
        self.nonce = nonce
        self.waiting: dict[int, PooledTransaction] = {}
        self.last_nonce, self.least_rank, self.cost = 0, (True, 0), 0

    def add(self, entry: PooledTransaction) -> None:
        """Let `entry` wait, whose nonce is free."""
        is_first = not self.waiting
        self.waiting[entry.nonce] = entry
        self.cost += entry.cost
        self.last_nonce = entry.nonce if is_first else max(self.last_nonce, entry.nonce)
        self.least_rank = entry.rank if is_first else min(self.least_rank, entry.rank)

    def remove(self, entries: Iterable[PooledTransaction]) -> None:
        """Let `entries` wait no longer."""
        for entry in entries:
            del self.waiting[entry.nonce]
            self.cost -= entry.cost
        if self.waiting:
            self.last_nonce = max(self.waiting)
            self.least_rank = min([entry.rank for entry in self.waiting.values()])

    def compute_worth(self, nonce: int, rank: Rank) -> Rank:
        """Return the least of `rank` and those before `nonce`: no block gets past it to what comes later."""
        return min([rank, *(entry.rank for entry in self.waiting.values() if entry.nonce < nonce)])


class Mempool:
    """Transactions that wait for a block."""

    def __init__(self, bounds: PoolBounds = DEFAULT_BOUNDS) -> None:
        """Start empty with these bounds."""
        self._bounds = bounds
        self._by_hash: dict[Hash, PooledTransaction] = {}
        self._accounts: dict[PublicKey, _Account] = {}
        self._heads: AccountOrder[PooledTransaction] = AccountOrder(is_greatest_first=True)
        self._tails: AccountOrder[PooledTransaction] = AccountOrder(is_greatest_first=False)
        self._ages: deque[PooledTransaction] = deque()
        self._passing: dict[Hash, PooledTransaction] = {}
        self._reported: dict[PublicKey, Hash] = {}
        self._height = 0
        self.size_bytes = 0
        self.drops = Tally(("included", "expired", "evicted", "replaced", "outdated"))

    def __len__(self) -> int:
        return len(self._by_hash)

    def iter_hashes(self) -> Iterator[Hash]:
        """Yield the hashes of all that waits."""
        return iter(self._by_hash)

    def get(self, transaction_hash: Hash) -> PackedTransaction | None:
        """Return a waiting transaction."""
        entry = self._by_hash.get(transaction_hash)
        return entry.packed if entry else None

    def compute_waiting_cost(self, sender: PublicKey, left_out: int) -> int:
        """Return the atoms that all takes which an account has waiting, but for the nonce `left_out`."""
        account = self._accounts.get(sender)
        if account is None:
            return 0
        entry = account.waiting.get(left_out)
        return account.cost - (entry.cost if entry is not None else 0)

    def validate_price(self, packed: PackedTransaction) -> None:
        """Check, before anything costly is, that a full pool would make room for a transaction; raises."""
        first = self._tails.get_first() if self.size_bytes + len(packed.data) > self._bounds.bytes_max else None
        if first is not None and first.rank >= _compute_rank(packed):
            raise _make_full_error(_compute_rank(packed))

    def validate_nonce(self, nonce: int, account_nonce: int) -> None:
        """Check that a nonce is one that an account may have waiting; raises InvalidTransaction."""
        last_nonce = account_nonce + self._bounds.account_transactions_max - 1
        if not account_nonce <= nonce <= last_nonce:
            raise InvalidTransaction("nonce", f"found nonce {nonce}, expected {account_nonce} to {last_nonce}")

    def add(self, packed: PackedTransaction, account_nonce: int, time_ms: int, cost: int = 0) -> AddResult:
        """Take a validated transaction that takes `cost` atoms from its sender.

        Raises InvalidTransaction when its nonce or the pool leaves no room.
        """
        if packed.hash in self._by_hash:
            return AddResult.ALREADY_KNOWN
        entry = PooledTransaction(packed, _compute_rank(packed), cost, self._height, time_ms)
        self.validate_nonce(entry.nonce, account_nonce)
        account = self._accounts.get(entry.sender)
        replaced = account.waiting.get(entry.nonce) if account else None
        if replaced is not None:
            _validate_replacement(replaced, entry)
        self._validate_report(packed.transaction)
        self._make_room(entry, replaced)
        self._insert(entry, account_nonce)
        self._ages.append(entry)
        return AddResult.REPLACED if replaced is not None else AddResult.ADDED

    def drop(self, transaction_hash: Hash) -> None:
        """Forget a transaction, if it is there."""
        entry = self._by_hash.get(transaction_hash)
        if entry is not None:
            self._remove(entry)
            self.drops.add("outdated")

    def on_head(self, nonces: Mapping[PublicKey, int], height: int, time_ms: int) -> None:
        """Take the nonces of the accounts that the way to a new head touched; forget what it made impossible or old."""
        self._height = height
        for sender, nonce in nonces.items():
            account = self._accounts.get(sender)
            if account is None:
                continue
            account.nonce = nonce
            stale = [account.waiting[spent] for spent in account.waiting if spent < nonce]
            self._remove_all(account, sender, stale)
            self.drops.add("included", len(stale))
        self._expire(height - self._bounds.wait_blocks_max, time_ms - self._bounds.wait_ms_max)

    def drop_passing(self, is_outdated: Callable[[Transaction], bool]) -> None:
        """Forget what `is_outdated` of all but transfers and bonds; later nonces of its account wait for another."""
        for entry in [entry for entry in self._passing.values() if is_outdated(entry.packed.transaction)]:
            self._remove(entry)
            self.drops.add("outdated")

    def compute_next_nonce(self, sender: PublicKey, account_nonce: int) -> int:
        """Return the first nonce of `sender` that neither the chain nor the pool has used."""
        account = self._accounts.get(sender)
        while account is not None and account_nonce in account.waiting:
            account_nonce += 1
        return account_nonce

    def iter_candidates(self) -> Iterator[PackedTransaction]:
        """Yield transactions as a block should take them: reports, then dearest first, each account in nonce order."""
        heap = self._heads.copy_heap()
        while heap:
            entry = heapq.heappop(heap)[1].value
            yield entry.packed
            following = self._accounts[entry.sender].waiting.get(entry.nonce + 1)
            if following is not None:
                heapq.heappush(heap, self._heads.make_item(_stand(following, following.rank)))

    def _validate_report(self, transaction: Transaction) -> None:
        action = transaction.body.action
        if isinstance(action, ReportEquivocation) and action.first.foliage.miner in self._reported:
            miner = action.first.foliage.miner.hex()
            raise InvalidTransaction("report-waiting", f"found a second report of {miner}, expected one at a time")

    def _make_room(self, entry: PooledTransaction, replaced: PooledTransaction | None) -> None:
        """Remove what is replaced and the tails that are worth least, or nothing; raises InvalidTransaction."""
        removed = [] if replaced is None else [self._remove(replaced)]
        if self.size_bytes + entry.size_bytes > self._bounds.bytes_max:
            self._evict(entry, removed)
        self.drops.add("replaced", int(replaced is not None))
        self.drops.add("evicted", len(removed) - (replaced is not None))

    def _evict(self, entry: PooledTransaction, removed: list[tuple[PooledTransaction, int]]) -> None:
        """Remove tails for `entry` and add them to `removed`, or put all of these back; raises InvalidTransaction."""
        account = self._accounts.get(entry.sender)
        worth = account.compute_worth(entry.nonce, entry.rank) if account else entry.rank
        while self.size_bytes + entry.size_bytes > self._bounds.bytes_max:
            first = self._tails.get_first()
            if first is None or first.rank >= worth or len(removed) > EVICTIONS_MAX:
                for victim, nonce in reversed(removed):
                    self._insert(victim, nonce)
                raise _make_full_error(worth)
            removed.append(self._remove(first.value))

    def _expire(self, height: int, time_ms: int) -> None:
        while self._ages:
            oldest = self._ages[0]
            is_waiting = self._by_hash.get(oldest.packed.hash) is oldest
            if is_waiting and oldest.height > height and oldest.time_ms > time_ms:
                break
            self._ages.popleft()
            if is_waiting:
                self._remove(oldest)
                self.drops.add("expired")

    def _insert(self, entry: PooledTransaction, account_nonce: int) -> None:
        account = self._accounts.setdefault(entry.sender, _Account(account_nonce))
        account.nonce = account_nonce
        account.add(entry)
        self._by_hash[entry.packed.hash] = entry
        self.size_bytes += entry.size_bytes
        action = entry.packed.transaction.body.action
        if not isinstance(action, _LASTING):
            self._passing[entry.packed.hash] = entry
        if isinstance(action, ReportEquivocation):
            self._reported[action.first.foliage.miner] = entry.packed.hash
        self._reorder(entry.sender)

    def _remove(self, entry: PooledTransaction) -> tuple[PooledTransaction, int]:
        """Forget an entry; return it with its account's nonce, for whoever puts it back."""
        account = self._accounts[entry.sender]
        self._remove_all(account, entry.sender, (entry,))
        return entry, account.nonce

    def _remove_all(self, account: _Account, sender: PublicKey, entries: Sequence[PooledTransaction]) -> None:
        """Forget some of what `sender` has waiting, and put its account where the rest belongs."""
        account.remove(entries)
        for entry in entries:
            del self._by_hash[entry.packed.hash]
            self.size_bytes -= entry.size_bytes
            self._passing.pop(entry.packed.hash, None)
            action = entry.packed.transaction.body.action
            if isinstance(action, ReportEquivocation):
                del self._reported[action.first.foliage.miner]
        self._reorder(sender)

    def _reorder(self, sender: PublicKey) -> None:
        """Put an account where its first and last transaction belong."""
        account = self._accounts.get(sender)
        if account is None or not account.waiting:
            self._accounts.pop(sender, None)
            self._heads.remove(sender)
            self._tails.remove(sender)
            return
        head, tail = account.waiting.get(account.nonce), account.waiting[account.last_nonce]
        # No block gets to the last before it has taken all that is worth less.
        self._tails.put(_stand(tail, account.least_rank))
        if head is None:
            self._heads.remove(sender)
        else:
            self._heads.put(_stand(head, head.rank))


_LASTING = Transfer | PostBond | WithdrawBond | MarketAction
"""Actions that neither a height nor a report makes impossible, nor what another sends."""


def _stand(entry: PooledTransaction, rank: Rank) -> Standing[PooledTransaction]:
    return Standing(entry.sender, rank, entry.packed.hash, entry)


def _compute_rank(packed: PackedTransaction) -> Rank:
    body = packed.transaction.body
    rate = body.fee * 1000 // compute_weight(packed.transaction, len(packed.data))
    return isinstance(body.action, ReportEquivocation), rate


def _validate_replacement(before: PooledTransaction, after: PooledTransaction) -> None:
    least = before.rank[1] * REPLACEMENT_PERCENT // 100
    if after.rank[1] <= least:
        message = f"found fee rate {after.rank[1]}, expected more than {least}, {REPLACEMENT_PERCENT} % of what waits"
        raise InvalidTransaction("replacement-fee", message)
    fees = after.packed.transaction.body.fee, before.packed.transaction.body.fee
    if fees[0] < fees[1]:
        raise InvalidTransaction("replacement-fee", f"found a fee of {fees[0]} atoms, expected at least {fees[1]}")


def _make_full_error(rank: Rank) -> InvalidTransaction:
    message = f"found fee rate {rank[1]}, expected more than the least that waits in a full pool"
    return InvalidTransaction("pool-full", message)
