"""How far a fetch has come: told to a callback, and drawn as bars where a person watches.

Bars go to standard error, so that results on standard output stay clean. It knows nothing of what is fetched.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

OnProgress = Callable[[str, int, int], None]
"""Takes what is being done, bytes done, and bytes in all, or 0 where nobody knows."""


def ignore_progress(_what: str, _done: int, _total: int) -> None:
    """Tell nobody."""


def is_watched() -> bool:
    """Say whether standard error is a terminal that can draw."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


@contextmanager
def show_progress(is_silent: bool, console: "Console | None" = None) -> Iterator[OnProgress]:
    """Yield a callback that draws one bar for each thing being done, or does nothing when silent or unwatched."""
    if is_silent or (console is None and not is_watched()):
        yield ignore_progress
        return
    from rich.console import Console as RichConsole  # noqa: PLC0415 - 60 ms that only a terminal needs
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description:<10}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console or RichConsole(stderr=True)) as progress:
        tasks = {}

        def on_progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=None)
            progress.update(tasks[what], completed=done, total=max(done, total) if total else None)

        yield on_progress
