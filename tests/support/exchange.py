"""An `ml.sharding.Exchange` between threads of one process, so that shards can be tested without a network.

Each thread brings its part of an exchange to a room and waits there for the others' parts. A thread that fails closes
the room, so that no other waits for it.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from ml.arithmetic import IntArray
from ml.sharding import Exchange, Pending

WAIT_S = 60
Result = TypeVar("Result")
Part = tuple[str, IntArray]


@dataclass(slots=True)
class Room:
    """Where the threads of one step meet: by turn, what each has brought."""

    size: int
    parts: dict[int, list[Part]] = field(default_factory=dict)
    is_closed: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)

    def bring(self, turn: int, part: Part) -> None:
        """Leave one thread's part of an exchange."""
        with self.changed:
            self.parts.setdefault(turn, []).append(part)
            self.changed.notify_all()

    def close(self) -> None:
        """Let nobody wait any longer."""
        with self.changed:
            self.is_closed = True
            self.changed.notify_all()

    def wait(self, turn: int) -> list[Part]:
        """Return all parts of an exchange once they are there."""
        with self.changed:
            arrived = self.changed.wait_for(lambda: self.is_closed or len(self.parts[turn]) == self.size, WAIT_S)
            assert arrived, f"turn {turn}: found {len(self.parts[turn])} parts of {self.size}"
            assert not self.is_closed, "another thread failed"
            return self.parts[turn]


@dataclass(slots=True)
class ThreadExchange:
    """What one thread sees of the room; counts the bytes that it brings, by kind of exchange."""

    room: Room
    rank: int
    turns: int = 0
    sizes_bytes: dict[str, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Return how many threads there are."""
        return self.room.size

    def start_sum(self, x: IntArray) -> Pending:
        """Bring a part of a sum."""
        return self._start("sum", x)

    def start_max(self, x: IntArray) -> Pending:
        """Bring a part of a maximum."""
        return self._start("max", x)

    def _start(self, kind: str, x: IntArray) -> Pending:
        turn, self.turns = self.turns, self.turns + 1
        self.sizes_bytes[kind] = self.sizes_bytes.get(kind, 0) + x.nbytes
        self.room.bring(turn, (kind, x))

        def finish() -> IntArray:
            parts = self.room.wait(turn)
            assert {part[0] for part in parts} == {kind}, f"turn {turn} mixes kinds"
            assert {(part[1].shape, part[1].dtype) for part in parts} == {(x.shape, x.dtype)}
            stacked = np.stack([part[1] for part in parts])
            total: IntArray = stacked.sum(axis=0, dtype=x.dtype) if kind == "sum" else stacked.max(axis=0)
            return total

        return finish


def run_threads(size: int, work: Callable[[Exchange], Result]) -> Sequence[Result]:
    """Return what `work` gives in each of `size` threads, by rank; raises what the first of them raised."""
    room = Room(size)

    def run(rank: int) -> Result:
        try:
            return work(ThreadExchange(room, rank))
        except BaseException:
            room.close()
            raise

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(run, range(size)))
