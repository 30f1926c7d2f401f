"""A heartbeat on the event loop: how late it comes is how long everything else on the loop has to wait.

It measures and reports; it never acts.
"""

import asyncio
import contextlib

BEAT_S = 0.5
MEMORY_BEATS = 20
"""Beats over which the worst lateness is remembered."""


class Heartbeat:
    """Beats until it is stopped."""

    def __init__(self) -> None:
        """Expect no beat yet."""
        self._late_ms: list[int] = []
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to beat."""
        self._task = asyncio.create_task(self._beat(), name="heartbeat")

    async def stop(self) -> None:
        """Beat no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def get_lag_ms(self) -> int:
        """Return the worst lateness of the last beats, in milliseconds."""
        return max(self._late_ms, default=0)

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + BEAT_S
            await asyncio.sleep(BEAT_S)
            self._late_ms = [*self._late_ms[1 - MEMORY_BEATS :], max(0, int((loop.time() - due_s) * 1000))]
