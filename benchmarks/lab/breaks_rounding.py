"""The generator of rounding bits over ten million rows: colliding rows, and words that would not be uniform.

A counter of 32 bits wraps within one step of a large model, and rows that share a word would round alike. Format 2
gives each row a 64-bit word. The statistics are simple on purpose: they would catch a broken mixer, not prove a good
one.
"""

import numpy as np

from benchmarks.lab.probe import Finding
from ml.arithmetic import U64
from ml.prf import U32_MASK, compute_prf_array, compute_rounding_words, derive_key

ROWS = 5_000_000
"""Rows of each of two ops."""
SHAPE = (2_048, 4_096)
BINS = 256


def probe_row_words() -> Finding:
    """Count the words that two rows share, over two ops of five million rows, in 64 bits and in the lower 32."""
    keys = [derive_key("lab", bytes([op])) for op in range(2)]
    words = np.concatenate([compute_prf_array(key, ROWS) for key in keys])
    count = 2 * ROWS
    rows = [
        (f"{bits} bits", f"{_count_shared(part):,}", f"{count * (count - 1) / 2 ** (bits + 1):,.1f}")
        for bits, part in ((32, words & np.uint64(U32_MASK)), (64, words))
    ]
    return Finding(
        title="Rows that share a rounding word",
        setting=f"{count:,} rows of two ops.",
        header=("word", "rows whose word came before", "expected of random words"),
        rows=tuple(rows),
        answer="Format 2 takes a 64-bit word a row; both halves enter the mixing of its columns.",
    )


def probe_words() -> Finding:
    """Test mean, bits, bins and neighbours of the rounding words of one op."""
    words = compute_rounding_words(derive_key("lab", b"words"), 0, 0, SHAPE)
    count = words.size
    uniform = words / 2.0**32
    bins = np.bincount((words >> 24).ravel(), minlength=BINS)
    low_bins = np.bincount((words & BINS - 1).ravel(), minlength=BINS)
    bits = np.array([(words >> bit & 1).mean() for bit in range(32)])
    deviations = 2 * np.abs(bits - 0.5) * count**0.5
    rows = [
        ("mean, standard errors from 1/2", f"{(uniform.mean() - 0.5) * (12 * count) ** 0.5:+.2f}", "0 ± 1"),
        ("chi-square, top 8 bits", f"{_compute_chi_square(bins, count):.0f}", "255 ± 23"),
        ("chi-square, low 8 bits", f"{_compute_chi_square(low_bins, count):.0f}", "255 ± 23"),
        ("worst of 32 bits, standard errors", f"{deviations.max():.2f}", "below 4"),
        ("neighbours in a row, standard errors", f"{_correlate(uniform[:, 1:], uniform[:, :-1]):+.2f}", "0 ± 1"),
        ("neighbours in a column, standard errors", f"{_correlate(uniform[1:], uniform[:-1]):+.2f}", "0 ± 1"),
    ]
    return Finding(
        title="Rounding words along a row",
        setting=f"{SHAPE[0]:,} rows of {SHAPE[1]:,} columns of one op.",
        header=("statistic", "found", "expected"),
        rows=tuple(rows),
        answer="32-bit arithmetic along a row is enough for unbiased rounding.",
    )


def _count_shared(words: U64) -> int:
    ordered = np.sort(words)
    return int(np.count_nonzero(ordered[1:] == ordered[:-1]))


def _compute_chi_square(bins: np.ndarray[tuple[int], np.dtype[np.int64]], count: int) -> float:
    expected = count / len(bins)
    return float((np.square(bins - expected) / expected).sum())


def _correlate(
    a: np.ndarray[tuple[int, ...], np.dtype[np.float64]], b: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
) -> float:
    """Return the mean product of both about 1/2, in standard errors."""
    product = (a - 0.5) * (b - 0.5)
    return float(product.mean() * 12 * product.size**0.5)
