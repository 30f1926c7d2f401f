"""How many answers are computed at once, and how many may wait: a bound on what strangers can make a machine do.

A job computes in threads, one pass at a time, and is given up between passes. It knows no HTTP.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from node.inference.completions import ApiError

T = TypeVar("T")

ANSWER_TIMEOUT_S = 300
"""An answer is given up after so long, waiting and its reader's slowness included; 4,096 passes of 70 ms."""


@dataclass(slots=True)
class Jobs:
    """The answers under way: at most `running_max` compute, at most `waiting_max` more wait."""

    running_max: int
    waiting_max: int
    timeout_s: float = ANSWER_TIMEOUT_S
    running: int = 0
    waiting: int = 0
    is_stopping: bool = False
    _slots: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        """Make the slots."""
        self._slots = asyncio.Semaphore(self.running_max)

    @asynccontextmanager
    async def enter(self) -> AsyncIterator["Job"]:
        """Hold a slot for one answer; raises ApiError when too many wait, or when it takes too long."""
        self.refuse_when_stopping()
        if self.running + self.waiting >= self.running_max + self.waiting_max:
            raise ApiError(503, f"found {self.waiting} answers waiting, expected fewer; try again", code="overloaded")
        job = Job(self, asyncio.get_running_loop().time() + self.timeout_s)
        await self._take_slot()
        try:
            yield job
        finally:
            self.running -= 1
            self._slots.release()

    def refuse_when_stopping(self) -> None:
        """Raise ApiError when no pass is to be started any more."""
        if self.is_stopping:
            raise ApiError(503, "the server is stopping", code="stopping")

    async def _take_slot(self) -> None:
        self.waiting += 1
        try:
            async with asyncio.timeout(self.timeout_s):
                await self._slots.acquire()
        except TimeoutError:
            raise ApiError(503, f"found no free slot in {self.timeout_s} s", code="timeout") from None
        finally:
            self.waiting -= 1
        self.running += 1


@dataclass(frozen=True, slots=True)
class Job:
    """One answer's slot, until its deadline on the event loop's clock."""

    jobs: Jobs
    deadline_s: float

    async def run(self, work: Callable[[], T]) -> T:
        """Return the result of `work`, computed in a thread; raises ApiError past the deadline or at a stop."""
        self.jobs.refuse_when_stopping()
        if asyncio.get_running_loop().time() > self.deadline_s:
            raise ApiError(503, f"found no whole answer in {self.jobs.timeout_s} s", code="timeout")
        return await asyncio.to_thread(work)
