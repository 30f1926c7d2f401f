"""Threads for compiled kernels and signatures: a pool that runs the ranges of one work side by side.

The core knows no thread; whoever trains composes it with this. It knows no op: the ranges it cuts decide no byte.
Several callers may share one pool.
"""

from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # A light client borrows threads too, and loads no compiled kernel.
    from ml.backends.cpu.backend import Spread, Work


def spread_in_line(work: "Work", n: int) -> None:
    """Run all of a work in the caller's own thread."""
    work(0, n)


def spread_over_threads(threads: int) -> "Spread":
    """Return a spread that cuts a work into one range a thread, the caller's own included; `threads` >= 1.

    It returns when all ranges are done, and raises what the first range that failed raised.
    """
    assert threads >= 1
    if threads == 1:
        return spread_in_line
    pool = ThreadPoolExecutor(threads - 1, thread_name_prefix="kernel")

    def spread(work: "Work", n: int) -> None:
        edges = [n * part // threads for part in range(threads + 1)]
        ranges = [(start, stop) for start, stop in pairwise(edges) if start < stop]
        others = [pool.submit(work, *each) for each in ranges[1:]]
        try:
            work(*(ranges[0] if ranges else (0, n)))
        finally:
            # The arrays of this call must not be written any more once it has ended, well or badly.
            wait(others)
        for other in others:
            other.result()

    return spread
