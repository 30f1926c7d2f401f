"""Delta debugging: the fewest bytes that still show a fault. Source: Zeller and Hildebrandt, "Simplifying and Isolating
Failure-Inducing Input" (2002).

It knows no decoder: whether a shorter input still shows the fault is asked.
"""

from collections.abc import Callable

TRIES_MAX = 4_000


def shrink(data: bytes, is_shown: Callable[[bytes], bool]) -> bytes:
    """Return what is left of `data` when no run of bytes can go any more, or when enough was tried."""
    tries, size_bytes = 0, len(data)
    while (size_bytes := size_bytes // 2) >= 1:
        place = 0
        while place < len(data) and tries < TRIES_MAX:
            shorter = data[:place] + data[place + size_bytes :]
            tries += 1
            if is_shown(shorter):
                data = shorter
            else:
                place += size_bytes
    return data
