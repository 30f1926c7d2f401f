"""What a part counts of itself: events by name, and how long things took.

Parts add; whoever looks reads. Nothing here decides anything, so a part without a watcher runs the same. It knows no
format of metrics.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

DURATION_EDGES_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000)
"""Upper edges of the buckets; the last bucket is open."""


class Tally:
    """Events by name. Names come from the code, never from a peer, so there are few."""

    def __init__(self, names: tuple[str, ...] = ()) -> None:
        """Start with `names` at zero, so that a reader sees them before they happen."""
        self.counts: Counter[str] = Counter(dict.fromkeys(names, 0))

    def add(self, name: str, amount: int = 1) -> None:
        """Count `amount` more."""
        self.counts[name] += amount


class Clock(Protocol):
    """What tells the time of durations: an event loop does."""

    def time(self) -> float:
        """Return seconds since some moment."""


class Durations:
    """A histogram of how long one thing took."""

    def __init__(self) -> None:
        """Start empty."""
        self.counts = [0] * (len(DURATION_EDGES_MS) + 1)
        self.total_us = 0

    def add_us(self, duration_us: int) -> None:
        """Count one that took `duration_us`."""
        self.counts[bisect_left(DURATION_EDGES_MS, duration_us / 1_000)] += 1
        self.total_us += duration_us

    @contextmanager
    def measure(self, clock: Clock) -> Iterator[None]:
        """Count what happens inside, failures too."""
        start_s = clock.time()
        try:
            yield
        finally:
            self.add_us(int((clock.time() - start_s) * 1_000_000))
