"""`python -m benchmarks.near_duplicates`: what the rule against copied data sets sees, what it does not, what it takes.

Alterations of real data are held against their originals, disjoint pieces of one source against each other; beside the
measured rates stand those of the closed form, 1 - (1 - s^3)^32 for a meeting and a binomial for the sketch. Writes
benchmarks/results/near_duplicates.md; asks for the data sets that ship a manifest (`mathesis dataset fetch`).
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import cache
from itertools import combinations
from math import comb
from pathlib import Path

import numpy as np

from benchmarks.altered_data import ALTERATIONS, BLOB_BYTES_MAX, Records, cut_records, read_records
from benchmarks.lab.tables import describe_run, format_table
from chain.ledger.economy_records import BAND_DATASETS_MAX, BandEntry, DatasetSketch, SketchBand
from chain.ledger.keys import sketch_key
from chain.ledger.near_duplicates import MATCHES_MIN, count_matches, find_resembling, list_bands
from chain.primitives import Hash
from chain.state.tree import EMPTY_ROOT, MemoryNodes
from chain.state.view import StateView
from ml.sketch import MINIMA, WINDOW_BYTES, compute_sketch

RESULTS = Path(__file__).parent / "results" / "near_duplicates.md"
SOURCES = ("digits", "mnist_5k", "plays", "sympy")
PIECES_MAX = 16
"""Disjoint pieces of a source that are held against each other."""
CURVE = (10, 20, 30, 40, 45, 50, 55, 60, 70, 80, 90, 99)
CURVE_WINDOWS = 2_000
REPEATS = 15


@cache
def compute_meeting(similarity: float) -> float:
    """Return the probability that two sets meet in one of 32 bands of 3 minima: the closed form."""
    return 1 - (1 - similarity**3) ** 32


@cache
def compute_agreement(similarity: float) -> float:
    """Return the probability that at least half of the minima agree: a binomial."""
    return sum(
        comb(MINIMA, k) * similarity**k * (1 - similarity) ** (MINIMA - k) for k in range(MATCHES_MIN, MINIMA + 1)
    )


def find_windows(blob: bytes) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """Return the different windows of a blob in order."""
    return np.unique(
        np.lib.stride_tricks.sliding_window_view(np.frombuffer(blob, np.uint8), WINDOW_BYTES).copy().view("<u8")
    )


def compute_similarity(one: bytes, other: bytes) -> float:
    """Return the true similarity of two blobs: windows that both have, of all that there are."""
    first, second = find_windows(one), find_windows(other)
    shared = len(np.intersect1d(first, second, assume_unique=True))
    return shared / (len(first) + len(second) - shared)


def judge(one: bytes, other: bytes) -> tuple[bool, bool]:
    """Say of two sketches whether they share a band, and whether the rule takes them for near-duplicates."""
    is_met = bool(set(list_bands(one)) & set(list_bands(other)))
    return is_met, is_met and count_matches(one, other) >= MATCHES_MIN


def measure_alterations(pieces: dict[str, list[Records]], trials: int) -> list[tuple[str, ...]]:
    """Return a row an alteration: per source the median similarity and how many of the copies are seen."""
    rows = []
    for name, alter in ALTERATIONS.items():
        cells = [name]
        for source in SOURCES:
            own, fresh = pieces[source][:2]
            blob = own.encode()
            sketch, found, similar = compute_sketch(blob), 0, []
            for trial in range(trials):
                copy = alter(own, fresh, np.random.default_rng(trial))
                found += judge(sketch, compute_sketch(copy))[1]
                if trial < 5:
                    similar.append(compute_similarity(blob, copy))
            middle = statistics.median(similar)
            closed = compute_meeting(middle) * compute_agreement(middle)
            cells += [f"{middle:.3f}", f"{closed:.3f}", f"{found} of {trials}"]
        rows.append(tuple(cells))
    return rows


def measure_unrelated(pieces: dict[str, list[Records]]) -> list[tuple[str, ...]]:
    """Return a row a source: pairs of pieces that share no record, and pairs of different sources."""
    blobs = {source: [piece.encode() for piece in found[:PIECES_MAX]] for source, found in pieces.items()}
    pairs = {f"{source}, disjoint pieces": list(combinations(found, 2)) for source, found in blobs.items()}
    for one, other in combinations(SOURCES, 2):
        pairs[f"{one} and {other}"] = [(a, b) for a in blobs[one][:6] for b in blobs[other][:6]]
    return [(name, *_describe_pairs(found)) for name, found in pairs.items()]


def _describe_pairs(pairs: list[tuple[bytes, bytes]]) -> tuple[str, ...]:
    similar = [compute_similarity(*pair) for pair in pairs[:24]]
    sketches = {blob: compute_sketch(blob) for pair in pairs for blob in pair}
    verdicts = [judge(sketches[one], sketches[other]) for one, other in pairs]
    matches = max(count_matches(sketches[one], sketches[other]) for one, other in pairs)
    met, near = (sum(column) for column in zip(*verdicts, strict=True))
    return (
        f"{len(pairs)}",
        f"{statistics.median(similar):.3f}",
        f"{max(similar):.3f}",
        f"{met}",
        f"{matches}",
        f"{near}",
    )


def measure_halves(records: Records, trials: int) -> tuple[str, ...]:
    """Return the row of random halves of a source: two sets of one kind that share no record."""
    pairs = []
    for trial in range(trials):
        order = np.random.default_rng(trial).permutation(len(records.rows))
        half = min(len(order) // 2, (BLOB_BYTES_MAX - 64) // (records.rows.shape[1] + 1))
        pairs.append((records.take(order[:half]).encode(), records.take(order[half : 2 * half]).encode()))
    return _describe_pairs(pairs)


def measure_curve(trials: int) -> list[tuple[str, ...]]:
    """Return a row a similarity of sets that are drawn to have it: closed form and measured."""
    rows: list[tuple[str, ...]] = []
    for percent in CURVE:
        shared = 2 * CURVE_WINDOWS * percent // (100 + percent)
        verdicts = []
        for trial in range(trials):
            rng = np.random.default_rng((percent, trial))
            both, one, other = rng.bytes(shared), rng.bytes(CURVE_WINDOWS - shared), rng.bytes(CURVE_WINDOWS - shared)
            verdicts.append(judge(compute_sketch(both + one), compute_sketch(both + other)))
        met, near = (sum(column) / trials for column in zip(*verdicts, strict=True))
        true = percent / 100
        closed = compute_meeting(true), compute_meeting(true) * compute_agreement(true)
        rows.append((f"{true:.2f}", f"{closed[0]:.3f}", f"{met:.3f}", f"{closed[1]:.3f}", f"{near:.3f}"))
    return rows


def measure_costs() -> list[tuple[str, ...]]:
    """Return what a sketch takes and what a lookup takes where every band is full of sets that do not resemble it."""
    rng = np.random.default_rng(7)
    blob, zeros = rng.bytes(BLOB_BYTES_MAX), bytes(BLOB_BYTES_MAX)
    sketch, view = compute_sketch(blob), StateView(EMPTY_ROOT, MemoryNodes())
    for key in list_bands(sketch):
        entries = [BandEntry(height, Hash(rng.bytes(32))) for height in range(BAND_DATASETS_MAX)]
        for entry in entries:
            view.put(sketch_key(entry.dataset), DatasetSketch(rng.bytes(4 * MINIMA)))
        view.put(key, SketchBand(tuple(entries)))
    root, changes = view.commit()
    nodes = MemoryNodes(changes)
    return [
        ("sketch of 512 KiB, random bytes", _measure_ms(lambda: compute_sketch(blob))),
        ("sketch of 512 KiB, zeros", _measure_ms(lambda: compute_sketch(zeros))),
        ("lookup, 32 full bands, 128 sketches", _measure_ms(lambda: find_resembling(StateView(root, nodes), sketch))),
    ]


def _measure_ms(act: Callable[[], object]) -> str:
    taken = []
    for _ in range(REPEATS):
        start = time.thread_time()
        act()
        taken.append(1_000 * (time.thread_time() - start))
    return f"{statistics.median(taken):.1f}"


def make_page(trials: int) -> str:
    """Measure all and return the page."""
    records = {source: read_records(source) for source in SOURCES}
    pieces = {source: cut_records(found) for source, found in records.items()}
    altered = ("alteration", *(part for source in SOURCES for part in (f"{source}: similarity", "closed form", "seen")))
    pair = ("pair", "pairs", "similarity, median", "most", "share a band", f"minima alike of {MINIMA}, most", "seen")
    curve = ("similarity", "meet: closed form", "measured", "seen: closed form", "measured")
    unrelated = measure_unrelated(pieces)
    for source in ("digits", "mnist_5k"):
        unrelated.append((f"{source}, random halves", *measure_halves(records[source], trials)))
    return "\n".join(
        (
            "# Near-duplicates\n",
            f"{describe_run()}\n",
            f"Copies of a data set, {trials} each. Similarity is the true one, of all windows of {WINDOW_BYTES} bytes:",
            "the median of five copies.\n",
            format_table(altered, measure_alterations(pieces, trials)),
            "Data that share no record. If one were seen, an honest owner would have to name a stranger.\n",
            format_table(pair, unrelated),
            f"Sets drawn to a similarity, {10 * trials} pairs each.\n",
            format_table(curve, measure_curve(10 * trials)),
            f"Processor time of one core, medians of {REPEATS}; the lookup is over a state in memory.\n",
            format_table(("what", "ms"), measure_costs()),
        )
    )


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=40)
    page = make_page(parser.parse_args().trials)
    RESULTS.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
