"""Which steps from line to line of this project's rooms an input takes: what guides the choice of inputs to keep.

Python's own tracing does it, at some twenty times the cost, so only a share of inputs is traced. Code outside of the
rooms, and compiled code, is not seen. It knows no decoder.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING

import chain

if TYPE_CHECKING:
    from _typeshed import TraceFunction

ROOMS = ("chain", "consensus", "ml", "p2p", "node")
Edge = tuple[int, int, int]
"""Which code, from which line, to which."""


class Tracer:
    """Follows calls through the rooms; edges of one tracer can be compared with each other alone."""

    def __init__(self) -> None:
        """Number the code objects in the order in which they are met."""
        root = Path(chain.__file__).parents[1]
        self._prefixes = tuple(f"{root / room}/" for room in ROOMS)
        self._numbers: dict[int, int] = {}
        # Identities are those of code that lives; so it is held.
        self._held: list[CodeType] = []
        self._edges: set[Edge] = set()

    def trace(self, act: Callable[[], object]) -> set[Edge]:
        """Return the edges that `act` takes."""
        self._edges = set()
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            act()
        finally:
            sys.settrace(before)
        return self._edges

    def _enter(self, frame: FrameType, _event: str, _argument: object) -> "TraceFunction | None":
        code = frame.f_code
        number = self._numbers.get(id(code))
        if number is None:
            self._held.append(code)
            is_ours = code.co_filename.startswith(self._prefixes)
            number = self._numbers[id(code)] = len(self._held) if is_ours else -1
        return self._make_follower(number) if number >= 0 else None

    def _make_follower(self, number: int) -> "TraceFunction":
        last, edges = 0, self._edges

        def follow(frame: FrameType, event: str, _argument: object) -> "TraceFunction":
            nonlocal last
            if event == "line":
                edges.add((number, last, frame.f_lineno))
                last = frame.f_lineno
            return follow

        return follow
