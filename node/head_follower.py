"""Following the head: one look at a time, and one more when the head has moved meanwhile.

What is to be done is read from the head's state each time, so that neither a restart nor a reorganisation makes anybody
forget. It knows nothing of what is looked at.
"""

import asyncio
from collections.abc import Awaitable, Callable

from node.importer import HeadChange


class HeadFollower:
    """Calls `look` after every move of the head, never twice at once."""

    def __init__(self, look: Callable[[], Awaitable[None]]) -> None:
        """`look` reads the head's state and acts on it; a long one leaves off early while `has_news`."""
        self._look = look
        self._task: asyncio.Task[None] | None = None
        self._has_moved = self._is_stopping = False

    @property
    def has_news(self) -> bool:
        """Whether the look under way is of an old head, or the node stops."""
        return self._has_moved or self._is_stopping

    def on_head(self, _change: HeadChange) -> None:
        """Look at the head's state, now or as soon as what is under way is done."""
        self._has_moved = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._follow())

    async def stop(self) -> None:
        """Wait for the look under way, which leaves off as soon as it can, and begin no other."""
        self._is_stopping = True
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        while self._has_moved and not self._is_stopping:
            self._has_moved = False
            await self._look()
