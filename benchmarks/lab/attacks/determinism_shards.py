"""What several processes say to each other in one step, between threads of this process.

Each thread leaves its part where the others find it, by turn and rank; whoever reads waits for all parts. Sums and
maxima of integers do not depend on who came first. It knows no step.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import TypeVar

import numpy as np

from ml.arithmetic import IntArray
from ml.sharding import Exchange, Pending

WAIT_S = 60
R = TypeVar("R")


@dataclass(slots=True)
class Parts:
    """All parts that were or will be left, by turn and rank."""

    futures: dict[tuple[int, int], "Future[IntArray]"] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    def get(self, turn: int, rank: int) -> "Future[IntArray]":
        """Return a part, or the promise of it."""
        with self.lock:
            return self.futures.setdefault((turn, rank), Future())


@dataclass(slots=True)
class SharedExchange:
    """What one thread sees of all parts."""

    parts: Parts
    rank: int
    size: int
    turns: int = 0

    def start_sum(self, x: IntArray) -> Pending:
        """Leave a part of a sum."""
        wait = self._leave(x)

        def finish() -> IntArray:
            total: IntArray = np.stack(wait()).sum(axis=0, dtype=x.dtype)
            return total

        return finish

    def start_max(self, x: IntArray) -> Pending:
        """Leave a part of a maximum."""
        wait = self._leave(x)

        def finish() -> IntArray:
            largest: IntArray = np.stack(wait()).max(axis=0)
            return largest

        return finish

    def _leave(self, x: IntArray) -> Callable[[], list[IntArray]]:
        turn, self.turns = self.turns, self.turns + 1
        self.parts.get(turn, self.rank).set_result(x)
        return lambda: [self.parts.get(turn, rank).result(WAIT_S) for rank in range(self.size)]


def run_shards(size: int, work: Callable[[Exchange], R]) -> list[R]:
    """Return what `work` gives in each of `size` threads, by rank."""
    parts = Parts()
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(lambda rank: work(SharedExchange(parts, rank, size)), range(size)))
