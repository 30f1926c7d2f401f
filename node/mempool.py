"""The transaction pool: bounded, ordered by nonce within an account and by fee per byte between accounts.

It knows no ledger rule; the caller has validated what it adds and tells it the accounts' nonces after each block. When
it is full the cheapest tails make room, so a flood costs its sender more than it costs the node. Reports of
equivocation pay nothing and come first; one a miner may wait, so they are few.
"""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from chain.codec import encode
from chain.errors import InvalidTransaction
from chain.primitives import Hash, PublicKey
from chain.transaction import ReportEquivocation, Transaction, compute_transaction_hash

POOL_BYTES_MAX = 15_000_000
"""Ten blocks of transactions."""

ACCOUNT_TRANSACTIONS_MAX = 64
"""What one account may have waiting; also how far its nonces may run ahead."""


class AddResult(Enum):
    """What became of a transaction that was offered."""

    ADDED = auto()
    REPLACED = auto()
    ALREADY_KNOWN = auto()


@dataclass(frozen=True, slots=True)
class PooledTransaction:
    """A transaction with what ordering needs."""

    transaction: Transaction
    hash: Hash
    size_bytes: int

    @property
    def fee_rate(self) -> int:
        """Atoms per 1,000 bytes, floored: the order between accounts."""
        return self.transaction.body.fee * 1000 // self.size_bytes

    @property
    def is_report(self) -> bool:
        """Whether it shows a miner's equivocation."""
        return isinstance(self.transaction.body.action, ReportEquivocation)

    @property
    def rank(self) -> tuple[bool, int]:
        """The order between accounts: reports, then by fee rate."""
        return self.is_report, self.fee_rate

    @property
    def nonce(self) -> int:
        """The sender's count of earlier transactions."""
        return self.transaction.body.nonce


class Mempool:
    """Transactions that wait for a block."""

    def __init__(
        self, bytes_max: int = POOL_BYTES_MAX, account_transactions_max: int = ACCOUNT_TRANSACTIONS_MAX
    ) -> None:
        """Start empty with these bounds."""
        self._bytes_max = bytes_max
        self._account_transactions_max = account_transactions_max
        self._by_hash: dict[Hash, PooledTransaction] = {}
        self._by_account: dict[PublicKey, dict[int, PooledTransaction]] = {}
        self._reported: dict[PublicKey, Hash] = {}
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._by_hash)

    def get(self, transaction_hash: Hash) -> Transaction | None:
        """Return a waiting transaction."""
        entry = self._by_hash.get(transaction_hash)
        return entry.transaction if entry else None

    def add(self, transaction: Transaction, account_nonce: int) -> AddResult:
        """Take a validated transaction; raises InvalidTransaction when its nonce or the pool leaves no room."""
        entry = PooledTransaction(transaction, compute_transaction_hash(transaction), len(encode(transaction)))
        if entry.hash in self._by_hash:
            return AddResult.ALREADY_KNOWN
        sender, nonce = transaction.body.sender, entry.nonce
        last_nonce = account_nonce + self._account_transactions_max - 1
        if not account_nonce <= nonce <= last_nonce:
            raise InvalidTransaction("nonce", f"found nonce {nonce}, expected {account_nonce} to {last_nonce}")
        replaced = self._by_account.get(sender, {}).get(nonce)
        if replaced is not None and entry.fee_rate <= replaced.fee_rate * 110 // 100:
            raise InvalidTransaction(
                "replacement-fee", f"found fee rate {entry.fee_rate}, expected more than 110 % of {replaced.fee_rate}"
            )
        self._validate_report(transaction)
        if replaced is not None:
            self._remove(replaced)
        self._make_room(entry)
        if isinstance(transaction.body.action, ReportEquivocation):
            self._reported[transaction.body.action.first.foliage.miner] = entry.hash
        self._by_hash[entry.hash] = entry
        self._by_account.setdefault(sender, {})[nonce] = entry
        self.size_bytes += entry.size_bytes
        return AddResult.REPLACED if replaced is not None else AddResult.ADDED

    def drop(self, transaction_hash: Hash) -> None:
        """Forget a transaction, if it is there."""
        entry = self._by_hash.get(transaction_hash)
        if entry is not None:
            self._remove(entry)

    def on_head(self, get_account_nonce: Callable[[PublicKey], int]) -> None:
        """Forget what the new head has included or made impossible."""
        for sender in list(self._by_account):
            nonce = get_account_nonce(sender)
            for stale in [entry for entry in self._by_account[sender].values() if entry.nonce < nonce]:
                self._remove(stale)

    def drop_where(self, is_outdated: Callable[[Transaction], bool]) -> None:
        """Forget every transaction of which `is_outdated` says so; later nonces of its account wait for another."""
        for entry in [entry for entry in self._by_hash.values() if is_outdated(entry.transaction)]:
            self._remove(entry)

    def compute_next_nonce(self, sender: PublicKey, account_nonce: int) -> int:
        """Return the first nonce of `sender` that neither the chain nor the pool has used."""
        waiting = self._by_account.get(sender, {})
        while account_nonce in waiting:
            account_nonce += 1
        return account_nonce

    def iter_candidates(self, get_account_nonce: Callable[[PublicKey], int]) -> Iterator[Transaction]:
        """Yield transactions as a block should take them: reports, then dearest first, each account in nonce order."""
        heap: list[tuple[tuple[bool, int], Hash, PooledTransaction]] = []
        for sender, waiting in self._by_account.items():
            first = waiting.get(get_account_nonce(sender))
            if first is not None:
                heap.append((_invert(first.rank), first.hash, first))
        heapq.heapify(heap)
        while heap:
            entry = heapq.heappop(heap)[2]
            yield entry.transaction
            following = self._by_account.get(entry.transaction.body.sender, {}).get(entry.nonce + 1)
            if following is not None:
                heapq.heappush(heap, (_invert(following.rank), following.hash, following))

    def _validate_report(self, transaction: Transaction) -> None:
        action = transaction.body.action
        if isinstance(action, ReportEquivocation) and action.first.foliage.miner in self._reported:
            miner = action.first.foliage.miner.hex()
            raise InvalidTransaction("report-waiting", f"found a second report of {miner}, expected one at a time")

    def _make_room(self, entry: PooledTransaction) -> None:
        while self.size_bytes + entry.size_bytes > self._bytes_max:
            tails = [max(waiting.values(), key=lambda tail: tail.nonce) for waiting in self._by_account.values()]
            cheapest = min(tails, key=lambda tail: (tail.rank, tail.hash), default=None)
            if cheapest is None or cheapest.rank >= entry.rank:
                raise InvalidTransaction(
                    "pool-full", f"found fee rate {entry.fee_rate}, expected more than the cheapest waiting transaction"
                )
            self._remove(cheapest)

    def _remove(self, entry: PooledTransaction) -> None:
        del self._by_hash[entry.hash]
        self.size_bytes -= entry.size_bytes
        sender, action = entry.transaction.body.sender, entry.transaction.body.action
        if isinstance(action, ReportEquivocation):
            del self._reported[action.first.foliage.miner]
        waiting = self._by_account[sender]
        del waiting[entry.nonce]
        if not waiting:
            del self._by_account[sender]


def _invert(rank: tuple[bool, int]) -> tuple[bool, int]:
    """Return what sorts the other way."""
    return not rank[0], -rank[1]
