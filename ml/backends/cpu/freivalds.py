"""Freivalds residues compiled for the CPU: one pass over each of A, B and C for both vectors, exact modulo 2**31 - 1.

Twin of `ml.backends.reference_freivalds`. An entry is kept balanced around zero and, beside int8, cut into two signed
halves of 16 bits; every sum is flushed before its lane could overflow. It draws no vector and knows no transcript.
"""

import numpy as np

from ml.arithmetic import I8, I32, I64
from ml.backends.cpu.emit import LANES
from ml.backends.cpu.folds import HALVES, I16, LONGS, ROWS_AT_ONCE, STRIPE, WIDE, add_stripe, fold_rows, sum_rows
from ml.backends.cpu.kernel import kernel
from ml.backends.cpu.scalar import widen
from ml.backends.reference_freivalds import MODULUS, OUT_OF_RANGE, VECTORS, Product

PAIRS_AT_ONCE = 4
"""Pairs of rows of B that are read side by side: as many streams as memory follows."""
PAIRS_MAX = 128
"""Pairs of rows of B until 32-bit sums are flushed: 128 * 2 * 128 * 2**15 = 2**30."""
COLUMNS_MAX = 4096
"""Columns of A until 32-bit sums are flushed, in 16 lanes: 4096 / 16 * 128 * 2**15 = 2**30."""
ENTRY_BITS = 30
"""A balanced entry is at most 2**30."""
_ROW_SUMS, _ROW_LONGS = ROWS_AT_ONCE * HALVES, ROWS_AT_ONCE * VECTORS

Place = tuple[int, int]
"""First row of a group and how many."""


def compute_residues(product: Product, vectors: I64) -> I64:
    """Return the residues of every row: (groups * M, 2) int64 in [0, p), or OUT_OF_RANGE.

    vectors: (2, N) int64 in [0, p).
    """
    assert vectors.shape == (VECTORS, product.c.shape[1])
    assert 2 * product.bound < MODULUS
    residues = np.empty((len(product.c), VECTORS), np.int64)
    a, b, c = np.ascontiguousarray(product.a), np.ascontiguousarray(product.b), np.ascontiguousarray(product.c)
    _compute_groups(a, b, c, (product.groups, product.bound), vectors, residues)
    return residues


@kernel
def _balance(x: int) -> int:
    return x - MODULUS if x > MODULUS >> 1 else x


@kernel
def _cut(x: int) -> tuple[int, int]:
    """Return the signed halves of a balanced entry: low + high * 2**16."""
    low = ((x + 32768) & 65535) - 32768
    return low, (x - low) >> 16


@kernel
def _lay_pairs(vectors: I64, halves: I16) -> None:
    """Lay vectors (2, rows) out as halves (pair, half, row of the pair)."""
    for j in range(halves.size // (2 * HALVES) * 2):
        for r in range(VECTORS):
            low, high = _cut(_balance(vectors[r, j]))
            at = (j >> 1) * 2 * HALVES + (j & 1)
            halves[at + 4 * r], halves[at + 4 * r + 2] = low, high


@kernel
def _flush(sums: I32, depth: int, result: I64) -> None:
    for r in range(VECTORS):
        for k in range(depth):
            low, high = 2 * r * depth + k, (2 * r + 1) * depth + k
            result[r, k] += widen(sums[low]) + (widen(sums[high]) << 16)
    sums[:] = 0


@kernel
def _project_columns(b: I8, place: Place, vectors: I64, halves: I16, sums: I32, result: I64) -> None:
    """Write vectors (2, count) times `count` rows of b from `first` on, modulo p: result (2, K)."""
    first, count = place
    depth, flat = b.shape[1], b.reshape(-1)
    whole, pairs = depth // STRIPE * STRIPE, count // 2
    result[:] = 0
    sums[:] = 0
    for pair in range(0, pairs, PAIRS_AT_ONCE):
        together = min(PAIRS_AT_ONCE, pairs - pair)
        for k in range(0, whole, STRIPE):
            start = (first + 2 * pair) * depth + k
            add_stripe(flat, (start, depth, pair, together, k, depth), halves, sums)
        if (pair + PAIRS_AT_ONCE) % PAIRS_MAX == 0:
            _flush(sums, depth, result)
    _flush(sums, depth, result)
    for j in range(count):
        for k in range(whole if j < 2 * pairs else 0, depth):
            for r in range(VECTORS):
                result[r, k] += widen(b[first + j, k]) * _balance(vectors[r, j])
    for r in range(VECTORS):
        for k in range(depth):
            result[r, k] %= MODULUS


@kernel
def _sum_four(a: I8, row: int, halves: I16, sums: I32, totals: I64) -> None:
    """Write ROWS_AT_ONCE rows of a from `row` on times the halves (HALVES, K): totals (rows x HALVES)."""
    depth, flat = a.shape[1], a.reshape(-1)
    whole = depth // WIDE * WIDE
    totals[:] = 0
    for k in range(0, whole, COLUMNS_MAX):
        count = min(COLUMNS_MAX, whole - k) // WIDE
        sum_rows(flat, (row * depth + k, depth, k, depth, count, 0), halves, sums)
        for i in range(ROWS_AT_ONCE * HALVES):
            total = 0
            for lane in range(i * LANES, (i + 1) * LANES):
                total += widen(sums[lane])
            totals[i] += total
    for i in range(ROWS_AT_ONCE):
        for k in range(whole, depth):
            for half in range(HALVES):
                totals[i * HALVES + half] += widen(a[row + i, k]) * widen(halves[half * depth + k])


@kernel
def _fold_four(c: I32, row: int, bound: int, entries: I32, sums: I64, totals: I64) -> bool:
    """Write ROWS_AT_ONCE rows of c from `row` on times both vectors; say whether all elements are in range."""
    columns, flat = c.shape[1], c.reshape(-1)
    whole = columns // LANES * LANES
    # A lane adds up one product in LONGS columns, each at most bound * 2**30.
    step = LONGS * ((1 << 62) // (bound << ENTRY_BITS)) // LANES * LANES
    totals[:] = 0
    highest = 0
    for j in range(0, whole, step):
        count = min(step, whole - j) // LANES
        fold_rows(flat, (row * columns + j, columns, j, columns, count, bound), entries, sums)
        for i in range(ROWS_AT_ONCE * VECTORS):
            total = 0
            for lane in range(i * LONGS, (i + 1) * LONGS):
                # 2**31 is 1 modulo p: what is left is below 2**33.
                total += (sums[lane] & MODULUS) + (sums[lane] >> 31)
            totals[i] += total
        for word in sums[ROWS_AT_ONCE * VECTORS * LONGS :].view(np.uint32):
            highest = max(highest, widen(word))
    for i in range(ROWS_AT_ONCE):
        for j in range(whole, columns):
            x = widen(c[row + i, j])
            highest = max(highest, bound + abs(x))
            for r in range(VECTORS):
                totals[i * VECTORS + r] += x * widen(entries[r * columns + j]) % MODULUS
    return highest <= 2 * bound


@kernel
def _fold_row(c: I32, bound: int, entries: I32, residue: I64) -> None:
    """Write one row of c times both vectors, or that it is out of range."""
    for r in range(VECTORS):
        total = 0
        for j in range(c.size):
            if abs(widen(c[j])) > bound:
                residue[:] = OUT_OF_RANGE
                return
            total += widen(c[j]) * widen(entries[r * c.size + j]) % MODULUS
        residue[r] = total % MODULUS


@kernel
def _lay_halves(w: I64, halves: I16) -> None:
    """Lay w (2, K) modulo p out as halves (HALVES, K)."""
    depth = w.shape[1]
    for r in range(VECTORS):
        for k in range(depth):
            low, high = _cut(_balance(w[r, k]))
            halves[2 * r * depth + k], halves[(2 * r + 1) * depth + k] = low, high


@kernel
def _lay_entries(vectors: I64) -> I32:
    """Return balanced entries (2 x N)."""
    entries = np.empty(vectors.size, np.int32)
    for r in range(VECTORS):
        for j in range(vectors.shape[1]):
            entries[r * vectors.shape[1] + j] = _balance(vectors[r, j])
    return entries


@kernel
def _fold_rows(c: I32, bound: int, entries: I32, residues: I64) -> None:
    """Write rows of c times both vectors, or that a row is out of range."""
    whole = c.shape[0] // ROWS_AT_ONCE * ROWS_AT_ONCE
    sums, totals = np.empty((_ROW_LONGS + 1) * LONGS, np.int64), np.empty(_ROW_LONGS, np.int64)
    for row in range(0, whole, ROWS_AT_ONCE):
        if _fold_four(c, row, bound, entries, sums, totals):
            for i in range(_ROW_LONGS):
                residues[row + i // VECTORS, i % VECTORS] = totals[i] % MODULUS
        else:
            for i in range(row, row + ROWS_AT_ONCE):
                _fold_row(c[i], bound, entries, residues[i])
    for row in range(whole, c.shape[0]):
        _fold_row(c[row], bound, entries, residues[row])


@kernel
def _subtract_rows(a: I8, w: I64, residues: I64) -> None:
    """Take rows of a times w (2, K) from the residues of rows in range."""
    whole = a.shape[0] // ROWS_AT_ONCE * ROWS_AT_ONCE
    halves, sums = np.empty(HALVES * a.shape[1], np.int16), np.empty(_ROW_SUMS * LANES, np.int32)
    totals = np.empty(_ROW_SUMS, np.int64)
    _lay_halves(w, halves)
    for row in range(0, whole, ROWS_AT_ONCE):
        _sum_four(a, row, halves, sums, totals)
        for i in range(_ROW_LONGS):
            at = row + i // VECTORS, i % VECTORS
            if residues[at] != OUT_OF_RANGE:
                residues[at] = (residues[at] - totals[2 * i] - (totals[2 * i + 1] << 16)) % MODULUS
    for row in range(whole, a.shape[0]):
        for r in range(VECTORS):
            total = 0
            for k in range(a.shape[1]):
                total += widen(a[row, k]) * w[r, k]
            if residues[row, r] != OUT_OF_RANGE:
                residues[row, r] = (residues[row, r] - total) % MODULUS


@kernel
def _compute_groups(a: I8, b: I8, c: I32, attributes: tuple[int, int], vectors: I64, residues: I64) -> None:
    groups, bound = attributes
    rows, columns, depth = c.shape[0] // groups, c.shape[1], a.shape[1]
    pairs, w = np.empty(columns // 2 * 2 * HALVES, np.int16), np.empty((VECTORS, depth), np.int64)
    sums, entries = np.empty(HALVES * depth, np.int32), _lay_entries(vectors)
    _lay_pairs(vectors, pairs)
    for group in range(groups):
        _project_columns(b, (group * columns, columns), vectors, pairs, sums, w)
        part = slice(group * rows, (group + 1) * rows)
        # One after the other: vectors and halves together leave the nearest cache at a width of 4,096.
        _fold_rows(c[part], bound, entries, residues[part])
        _subtract_rows(a[part], w, residues[part])
