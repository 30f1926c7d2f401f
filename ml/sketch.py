"""The sketch of a data set's bytes: 96 minima whose agreement tells how much of their windows two contents share.

A content counts as the set of its windows of 8 bytes; where they stand and how often is not looked at. Each window is
mixed once and falls into one of 96 bins, which keeps its least; a bin that none fell into borrows from another. The
part of minima in which two sketches agree estimates the Jaccard similarity of the two sets. It knows no format, no
state and no rule. It hides nothing: who wants to slip past it can compute it too.
Sources: Broder, "On the resemblance and containment of documents", 1997; Li, Owen and Zhang, "One permutation hashing",
2012; Shrivastava, "Optimal densification for fast and accurate minwise hashing", 2017; splitmix64 as in `ml/prf.py`.
"""

import numpy as np

from ml.arithmetic import U64
from ml.prf import MIX_1, MIX_2, compute_prf_array, derive_key

MINIMA = 96
"""Bins of a sketch."""
WINDOW_BYTES = 8
"""Long enough that unrelated data share few (at most 0.16 of what was measured), short enough that a changed byte in
every 64 leaves most; and a window is one word."""

_KEY = derive_key("sketch")
_LENDERS_KEY = derive_key("sketch.lenders")
_LENDERS = np.argsort(compute_prf_array(_LENDERS_KEY, MINIMA * MINIMA).reshape(MINIMA, MINIMA), axis=1, kind="stable")
"""(bin, order): whom an empty bin asks, one after another."""
_EMPTY = (1 << 32) - 1
"""What stands for the minimum of a bin that no window fell into; none is more."""


def compute_sketch(data: bytes) -> bytes:
    """Return the sketch of some bytes, at least one, that are all of a content: 96 minima as uint32, little-endian."""
    return fill_sketch(lower_minima(data))


def lower_minima(part: bytes, before: bytes | None = None) -> bytes:
    """Return the minima of a content's part, at least a byte, and of the parts `before`, if any: (96,) <u4.

    A part that is shorter than a window counts as one that zeros fill; a window across two parts counts as none.
    """
    bins, values = mix_windows(part)
    minima = np.full(MINIMA, _EMPTY, np.uint64)
    if before is not None:
        minima[:] = np.frombuffer(before, "<u4")
    np.minimum.at(minima, bins.view(np.int64), values)
    return minima.astype("<u4").tobytes()


def fill_sketch(lowered: bytes) -> bytes:
    """Return the sketch of a content by the minima of all its parts: what is empty is borrowed."""
    minima = np.frombuffer(lowered, "<u4")
    is_filled = minima < _EMPTY
    lenders = _LENDERS[np.arange(MINIMA), np.argmax(is_filled[_LENDERS], axis=1)]
    return np.where(is_filled, minima, minima[lenders]).astype("<u4").tobytes()


def mix_windows(data: bytes) -> tuple[U64, U64]:
    """Return of all windows of some bytes the bin and the value, below 2**32, that it has there: (n,) uint64 each."""
    filled = data.ljust(WINDOW_BYTES, b"\0")
    count = len(filled) - WINDOW_BYTES + 1
    words = np.empty(count, np.uint64)
    for start in range(min(WINDOW_BYTES, count)):
        words[start::WINDOW_BYTES] = np.frombuffer(filled, "<u8", (len(filled) - start) // WINDOW_BYTES, start)
    words ^= np.uint64(_KEY)
    for shift, factor in ((30, MIX_1), (27, MIX_2)):
        words ^= words >> np.uint64(shift)
        words *= np.uint64(factor)
    words ^= words >> np.uint64(31)
    bins = (words >> np.uint64(32)) * np.uint64(MINIMA) >> np.uint64(32)
    return bins, words & np.uint64(_EMPTY)
