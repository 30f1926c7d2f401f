"""The two orders of the transaction pool: which account a block takes from next, and which one makes room first.

Each account stands in each order with one item. A new item takes the place of the old one, which is skipped when it
comes up and swept when such leftovers are the most, so every step costs the logarithm of the accounts. It knows no
transaction.
"""

import heapq
from dataclasses import dataclass
from itertools import count
from typing import Generic, TypeVar

from chain.primitives import Hash, PublicKey

T = TypeVar("T")

Rank = tuple[bool, int]
"""Reports of equivocation before all else, then atoms per 1,000 units of weight."""

Place = tuple[int, int, Hash, int]
"""What a heap sorts by: both parts of the rank, turned round where the greatest comes first, the name, and a serial."""

SWEEP_MIN = 64
"""Leftovers that are not worth a sweep."""


@dataclass(frozen=True, slots=True)
class Standing(Generic[T]):
    """What stands for an account, and with which rank."""

    account: PublicKey
    rank: Rank
    name: Hash
    value: T


class AccountOrder(Generic[T]):
    """Accounts by the rank of what stands for them: the least first, or the greatest."""

    def __init__(self, *, is_greatest_first: bool) -> None:
        """Start empty."""
        self._sign = -1 if is_greatest_first else 1
        self._heap: list[tuple[Place, Standing[T]]] = []
        self._current: dict[PublicKey, Standing[T]] = {}
        self._serials = count()

    def put(self, standing: Standing[T]) -> None:
        """Let something stand for an account in the place of what did before."""
        before = self._current.get(standing.account)
        if before is None or before.rank != standing.rank or before.value is not standing.value:
            self._current[standing.account] = standing
            heapq.heappush(self._heap, self.make_item(standing))
            self._sweep()

    def remove(self, account: PublicKey) -> None:
        """Let nothing stand for an account."""
        self._current.pop(account, None)
        self._sweep()

    def get_first(self) -> Standing[T] | None:
        """Return what comes first, None when nothing stands."""
        while self._heap and not self._is_current(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][1] if self._heap else None

    def copy_heap(self) -> list[tuple[Place, Standing[T]]]:
        """Return a heap of all that stands, for a reader that takes from it and adds with `make_item`."""
        items = [item for item in self._heap if self._is_current(item)]
        heapq.heapify(items)
        return items

    def make_item(self, standing: Standing[T]) -> tuple[Place, Standing[T]]:
        """Return what a heap of this order holds; names decide between equal ranks, serials between equal names."""
        is_report, rate = standing.rank
        return (self._sign * is_report, self._sign * rate, standing.name, next(self._serials)), standing

    def _is_current(self, item: tuple[Place, Standing[T]]) -> bool:
        return self._current.get(item[1].account) is item[1]

    def _sweep(self) -> None:
        if len(self._heap) > 2 * len(self._current) + SWEEP_MIN:
            self._heap = self.copy_heap()
