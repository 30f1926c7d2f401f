"""Two folds at the price of one and a half where both operands are zero: threats 47 and 63, structured noise.

A fold adds D_a R_g D_b^T. Where a combination x of rows of R_g is a combination y of rows of R_h, two thin products of
each fold become one that both share and one of each: R_g = X + Y, R_h = X + Z, and X, Y, Z together have a rank less by
one for every such x and y. Signed permutations share every row. It knows no ticket rule. Source: docs/security.md,
Structured noise; the idea is that of fast filters, which save every fourth multiplication in the same way.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from benchmarks.lab.attacks.lottery_arithmetic import Meter, Noise, Scene
from benchmarks.lab.attacks.lottery_structure import Matrix, list_matrices
from ml.noise import I32, OPERAND_MAX

ADDITIONS = 2
"""A pair adds the shared product to both of its folds."""
ROWS = 2
"""Rows that x, and y, may combine."""
INT8_MAX = 127


@dataclass(frozen=True, slots=True)
class Shared:
    """x R_g = y R_h: coefficients (r,) of rows of both, and the two rows that x and y can stand for."""

    x: Matrix
    y: Matrix
    places: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Thin:
    """A matrix as left (r, k) times right (k, r)."""

    left: Matrix
    right: Matrix


@dataclass(frozen=True, slots=True)
class Split:
    """Two matrices as X + Y and X + Z."""

    shared: Thin
    one: Thin
    other: Thin


def list_combinations(rank: int, rows: int) -> Matrix:
    """Return all sums and differences of up to `rows` rows, up to their sign: (count, rank) of -1, 0 and 1."""
    found = []
    for count in range(1, rows + 1):
        chosen = np.array(list(combinations(range(rank), count)))
        for signs in product((1, -1), repeat=count - 1):
            block = np.zeros((len(chosen), rank), np.int64)
            np.put_along_axis(block, chosen, np.array((1, *signs)), axis=1)
            found.append(block)
    return np.concatenate(found)


def compute_names(matrix: Matrix, coefficients: Matrix) -> Matrix:
    """Return a number for every combination of rows, the same for the same vector up to its sign."""
    keys = np.random.default_rng(0).integers(1 << 61, size=matrix.shape[1])
    return np.abs(coefficients @ (matrix @ keys))


def find_shared(
    pair: tuple[Matrix, Matrix], coefficients: Matrix, names: tuple[Matrix, Matrix], bound: int | None
) -> tuple[Shared, ...]:
    """Return what both matrices have in common, no row in two of them, the fewest rows first.

    With a bound of the right dense factor's elements, only what leaves all factors in int8.
    """
    (one, other), (_, left, right) = pair, np.intersect1d(*names, return_indices=True)
    used = (coefficients[left] != 0) | (coefficients[right] != 0)
    left_over, found = np.argsort(used.sum(axis=1), kind="stable"), []
    while left_over.size:
        index, left_over = left_over[0], left_over[1:]
        x, y = coefficients[left[index]], coefficients[right[index]]
        y = y if np.array_equal(x @ one, y @ other) else -y
        places = find_places(x, y)
        if places is None or not np.any(x @ one) or not np.array_equal(x @ one, y @ other):
            continue
        shared = Shared(x, y, places)
        if bound is None or is_narrow(split_pair(one, other, [shared]), bound):
            left_over = left_over[~np.any(used[left_over] & used[index], axis=1)]
            found.append(shared)
    return tuple(found)


def is_narrow(split: Split, bound: int) -> bool:
    """Say whether all thin factors fit int8, dense elements of A within [-63, 63] and of B within the bound."""
    thins = (split.shared, split.one, split.other)
    widest_a = max(np.abs(thin.left).sum(axis=0).max(initial=0) for thin in thins)
    widest_b = max(np.abs(thin.right).sum(axis=1).max(initial=0) for thin in thins)
    return bool(max(widest_a * OPERAND_MAX, widest_b * bound) <= INT8_MAX)


def find_places(x: Matrix, y: Matrix) -> tuple[int, int] | None:
    """Return rows that x and y can stand for so that the others need no fractions, twice the same where x is y."""
    if np.array_equal(x, y):
        return int(np.flatnonzero(x)[0]), int(np.flatnonzero(x)[0])
    for i in np.flatnonzero(x).tolist():
        for j in np.flatnonzero(y).tolist():
            if abs(x[i] * y[j] - x[j] * y[i]) == 1:
                return i, j
    return None


def split_pair(one: Matrix, other: Matrix, shared: Sequence[Shared]) -> Split:
    """Return one = X + Y and other = X + Z, of a rank less by one for everything shared."""
    basis = np.eye(len(one), dtype=np.int64)
    for each in shared:
        basis[each.places[0]], basis[each.places[1]] = each.x, each.y
    inverse = np.rint(np.linalg.inv(basis)).astype(np.int64)
    assert np.array_equal(inverse @ basis, np.eye(len(one)))
    rows, others = basis @ one, basis @ other
    lefts, rights = [], []
    for each in shared:
        i, j = each.places
        vector = each.x @ one
        lefts.append(inverse[:, i] + inverse[:, j] if i != j else inverse[:, i])
        rights.append(vector)
        rows[i] = others[j] = 0
        if i != j:
            rows[j] -= vector
            others[i] -= vector
    common = Thin(np.array(lefts, np.int64).reshape(-1, len(one)).T, np.array(rights, np.int64).reshape(-1, len(one)))
    return Split(common, _drop_zeros(inverse, rows), _drop_zeros(inverse, others))


def _drop_zeros(left: Matrix, right: Matrix) -> Thin:
    kept = right.any(axis=1)
    return Thin(left[:, kept], right[kept])


def match_folds(matrices: Matrix, bound: int | None, rows: int = ROWS) -> dict[tuple[int, int], tuple[Shared, ...]]:
    """Return pairs of folds that save more than they add, the best first, no fold in two of them."""
    coefficients = list_combinations(matrices.shape[1], rows)
    names = [compute_names(matrix, coefficients) for matrix in matrices]
    found = {
        (g, h): find_shared((matrices[g], matrices[h]), coefficients, (names[g], names[h]), bound)
        for g, h in combinations(range(len(matrices)), 2)
    }
    matched: dict[tuple[int, int], tuple[Shared, ...]] = {}
    taken: set[int] = set()
    for pair, shared in sorted(found.items(), key=lambda each: -len(each[1])):
        if len(shared) > ADDITIONS and taken.isdisjoint(pair):
            taken |= set(pair)
            matched[pair] = shared
    return matched


def compute_pairs_cost(matrices: Matrix, bound: int | None, rows: int = ROWS) -> int:
    """Return the multiplications and additions an element that all folds take."""
    folds, rank, _ = matrices.shape
    matched = match_folds(matrices, bound, rows).values()
    return int(folds * rank) - sum(len(shared) - ADDITIONS for shared in matched)


def share_pairs(meter: Meter, scene: Scene, _cached: tuple[I32, ...]) -> Iterator[I32]:
    """Yield the accumulators at every fold for operands of zeros, folds that share enough two by two."""
    noise, matrices = scene.noise, list_matrices(scene.noise, scene.lattice.rank)
    pairs = match_folds(matrices, noise.b.role.bound)
    splits = {pair: split_pair(matrices[pair[0]], matrices[pair[1]], shared) for pair, shared in pairs.items()}
    places = {fold: (pair, fold == pair[0]) for pair in splits for fold in pair}
    kept: dict[tuple[int, int], I32] = {}
    sums: I32 | int = 0
    for fold, (columns, is_first) in enumerate(scene.lattice.iterate_folds()):
        if is_first:
            sums = 0
        if fold in places:
            pair, is_earlier = places[fold]
            split = splits[pair]
            if is_earlier:
                kept[pair] = multiply_thin(meter, 0, noise, split.shared)
            sums = kept[pair] if isinstance(sums, int) else meter.add(sums, kept[pair])
            sums = multiply_thin(meter, sums, noise, split.one if is_earlier else split.other)
        else:
            noised_a, noised_b = noise.a.add_to(meter, scene.a, columns), noise.b.add_to(meter, scene.bt, columns)
            sums = meter.multiply_onto(sums, noised_a, noised_b)
        yield sums


def multiply_thin(meter: Meter, sums: I32 | int, noise: Noise, thin: Thin) -> I32:
    """Return sums + D_a (left x right) D_b transposed."""
    left, right = meter.combine(noise.a.dense, thin.left), meter.combine(noise.b.dense, thin.right.T)
    return meter.multiply_onto(sums, left, right)
