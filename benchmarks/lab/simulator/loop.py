"""An event loop with time of its own: callbacks run in one order that a seed decides, and waiting costs nothing.

It offers what asyncio asks of a running loop, so the node's code runs on it unchanged; threads become callbacks that
run a moment later. Every callback belongs to a process, found in its context, and a process can be paused or killed as
one of the kernel's can. It knows no node and no network. It reads no clock and opens no socket.
"""

import asyncio
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import TypeVar, TypeVarTuple, Unpack, cast

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

THREAD_S_MEAN = 0.01
"""How long a thread takes on average to come to its work; the work itself takes no time."""

STEPS_PER_INSTANT_MAX = 100_000
"""Callbacks at one point of time; more is a loop that never sleeps."""


UNWINDINGS_MAX = 100
"""Rounds of callbacks in which the tasks of a killed process have to end."""


class NeverSleeps(Exception):
    """Callbacks beget callbacks and time stands still."""


@dataclass(eq=False, slots=True)
class Process:
    """What is paused and killed together."""

    name: str
    is_paused: bool = False
    is_dead: bool = False
    held: list[events.Handle] = field(default_factory=list)
    tasks: dict["asyncio.Task[object]", None] = field(default_factory=dict)


PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)
"""The process that runs; None is the world outside of all nodes."""


class VirtualLoop:
    """Runs callbacks in order of time, then of arrival."""

    def __init__(self, random: Random) -> None:
        """Start at time 0; `random` decides how long threads take."""
        self._random = random
        self._now_s = 0.0
        self._ready: deque[events.Handle] = deque()
        self._timers: list[tuple[float, int, events.TimerHandle]] = []
        self._count = 0
        # Sockets and signals are missing on purpose: what asks for them fails.
        self._loop = cast(asyncio.AbstractEventLoop, self)
        self.world: Context = copy_context()
        self.errors: list[str] = []

    def time(self) -> float:
        """Return seconds since the beginning."""
        return self._now_s

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> events.Handle:
        """Run a callback behind all that are due."""
        handle = events.Handle(callback, args, self._loop, context)
        self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> events.TimerHandle:
        """Run a callback `delay` seconds from now."""
        return self.call_at(self._now_s + max(0.0, delay), callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> events.TimerHandle:
        """Run a callback at a time."""
        handle = events.TimerHandle(when, callback, args, self._loop, context)
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, handle))
        return handle

    def create_future(self) -> "asyncio.Future[object]":
        """Return a future of this loop."""
        return asyncio.Future(loop=self._loop)

    def create_task(
        self, coro: Coroutine[object, object, T], *, name: str | None = None, context: Context | None = None
    ) -> "asyncio.Task[T]":
        """Run a coroutine, as part of the process whose context it gets."""
        context = context or copy_context()
        task = asyncio.Task(coro, loop=self._loop, name=name, context=context)
        process = context.get(PROCESS)
        if process is not None:
            process.tasks[task] = None
            task.add_done_callback(partial(_on_done, process), context=self.world)
        return task

    def run_in_executor(self, executor: object, func: Callable[[Unpack[Ts]], T], *args: *Ts) -> "asyncio.Future[T]":
        """Run a thread's work in one piece, a random moment from now."""
        del executor
        future: asyncio.Future[T] = asyncio.Future(loop=self._loop)

        def work() -> None:
            if future.cancelled():
                return
            try:
                result = func(*args)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self.call_later(self._random.expovariate(1 / THREAD_S_MEAN), work)
        return future

    def spawn(self, process: Process, work: Coroutine[object, object, T]) -> "asyncio.Task[T]":
        """Run a coroutine as the beginning of a process."""
        context = self.world.copy()
        context.run(PROCESS.set, process)
        return self.create_task(work, context=context)

    def resume(self, process: Process) -> None:
        """Let a paused process go on with all that became due meanwhile."""
        process.is_paused = False
        self._ready.extend(process.held)
        process.held.clear()

    def kill(self, process: Process) -> None:
        """End a process; what it still does to unwind reaches nobody, as it has lost its wires and its disk."""
        process.is_dead, process.is_paused = True, False
        for _ in range(UNWINDINGS_MAX):
            living = [task for task in process.tasks if not task.done()]
            if not living:
                return
            for task in living:
                task.cancel()
            self._unwind(process)
        self.errors.append(f"tasks of {process.name} cannot be ended: {living}")

    def run_until(self, end_s: float) -> None:
        """Run everything that is due up to a time, which it then is."""
        with self.entered():
            steps = 0
            while self._ready or (self._timers and self._timers[0][0] <= end_s):
                if self._ready:
                    self._run(self._ready.popleft())
                    steps += 1
                    if steps > STEPS_PER_INSTANT_MAX:
                        raise NeverSleeps(f"{steps} callbacks at {self._now_s:.3f} s")
                    continue
                steps = 0
                when, _, handle = heapq.heappop(self._timers)
                self._now_s = max(self._now_s, when)
                self._run(handle)
            self._now_s = end_s

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be the running loop for whoever looks for one, though no callback runs."""
        before = events._get_running_loop()
        events._set_running_loop(self._loop)
        try:
            yield
        finally:
            events._set_running_loop(before)

    def is_running(self) -> bool:
        """Say whether callbacks run now."""
        return events._get_running_loop() is self._loop

    def is_closed(self) -> bool:
        """Say that it never closes."""
        return False

    def get_debug(self) -> bool:
        """Say that asyncio's own checks are off."""
        return False

    def call_exception_handler(self, context: dict[str, object]) -> None:
        """Keep what nobody has caught."""
        self.errors.append(f"{context.get('message')}: {context.get('exception')!r}")

    def default_exception_handler(self, context: dict[str, object]) -> None:
        """Keep what nobody has caught."""
        self.call_exception_handler(context)

    def _timer_handle_cancelled(self, handle: events.TimerHandle) -> None:
        """Leave a cancelled timer where it is: it does nothing when its time comes."""

    def _run(self, handle: events.Handle) -> None:
        if handle.cancelled():
            return
        process = handle._context.get(PROCESS)  # type: ignore[attr-defined]  # asyncio gives no public way to it
        if process is None or not (process.is_paused or process.is_dead):
            handle._run()
        else:
            # A task that was woken has to wake even to be ended.
            process.held.append(handle)

    def _unwind(self, process: Process) -> None:
        """Run what a dead process has to do at once, and nothing else."""
        mine, others = deque(process.held), deque[events.Handle]()
        process.held.clear()
        while self._ready:
            handle = self._ready.popleft()
            is_mine = handle._context.get(PROCESS) is process  # type: ignore[attr-defined]
            (mine if is_mine else others).append(handle)
        for handle in mine:
            if not handle.cancelled():
                handle._run()
        others.extend(self._ready)
        self._ready = others


def _on_done(process: Process, task: "asyncio.Task[object]") -> None:
    process.tasks.pop(task, None)
    if process.is_dead and not task.cancelled():
        # What goes wrong in one that has lost everything is no error; asking for it says that it was seen.
        task.exception()
