"""A call that many ask for and that is made once for all of them, soon, and with a pause between two.

What a node has to do next is looked up after every message. Under a flood that look would cost more than the messages
do, one by one. It knows nothing of what it calls.
"""

import asyncio
from collections.abc import Callable


class Pulse:
    """Makes one call for whatever asked since the last one; under a flood of asking it has a steady, small price."""

    def __init__(self, call: Callable[[], None], pause_s: float) -> None:
        """Make `call` on the event loop; it must not raise."""
        self._call = call
        self._pause_s = pause_s
        self._next_s = 0.0
        self._handle: asyncio.TimerHandle | None = None

    def ask(self) -> None:
        """Have the call made: in the loop's next turn, or when the pause after the last one is over."""
        if self._handle is None:
            loop = asyncio.get_running_loop()
            self._handle = loop.call_at(max(loop.time(), self._next_s), self._run)

    def stop(self) -> None:
        """Make no call that was asked for before."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _run(self) -> None:
        self._handle = None
        self._next_s = asyncio.get_running_loop().time() + self._pause_s
        self._call()
