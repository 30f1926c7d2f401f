"""What signed permutations give away where both operands are zero: threats 47 and 63, structured noise.

There only E x F is left: D_a R_g D_b^T at every fold, D the dense factors. Without a chain R_g is a signed permutation.
Two of them are alike on cycles: R_g -+ R_h has rank r less one for every cycle whose signs cancel. Whoever keeps the
product of fold h gets that of fold g by a thinner matmul; a spanning tree over all folds says which to keep. It knows
no ticket rule. Source: docs/security.md, Structured noise.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.lab.attacks.lottery_arithmetic import Meter, Noise, Scene
from ml.noise import I32, compute_noise

Matrix = NDArray[np.int64]
Edges = NDArray[np.int64]
"""(folds, folds): what fold i costs in MACs an element when fold h is at hand; the diagonal, without any."""


@dataclass(frozen=True, slots=True)
class Relation:
    """R_g: row p holds `signs[p]` in column `columns[p]`."""

    columns: Matrix
    signs: Matrix


@dataclass(frozen=True, slots=True)
class Cycle:
    """Rows on which two relations visit the same columns, and factors under which their difference's rows cancel."""

    rows: tuple[int, ...]
    factors: tuple[int, ...]
    is_balanced: bool
    """Whether they cancel: then one row is a sum of the others."""


def list_matrices(noise: Noise, rank: int) -> Matrix:
    """Return R_g of every group, (groups, r, r): E_g x F_g = D_a x R_g x D_b transposed."""
    # A choice factor is what it makes of unit vectors.
    a, b = (
        compute_noise(np.eye(rank, dtype=np.int8), factors.choice, factors.role).reshape(rank, -1, rank)
        for factors in (noise.a, noise.b)
    )
    matrices: Matrix = np.einsum("pgk,qgk->gpq", a, b, dtype=np.int64)
    return matrices


def list_relations(noise: Noise, rank: int) -> tuple[Relation, ...]:
    """Return R_g of every group as signed permutations; the noise has no chain."""
    assert noise.b.role.steps == (0,)
    matrices = list_matrices(noise, rank)
    columns = np.abs(matrices).argmax(axis=2)
    signs = np.take_along_axis(matrices, columns[..., None], axis=2)[..., 0]
    return tuple(map(Relation, columns, signs))


def list_cycles(one: Relation, other: Relation, sign: int) -> tuple[Cycle, ...]:
    """Return the cycles of one - sign x other."""
    rows_by_column = np.argsort(one.columns)
    left, found = set(range(len(one.columns))), []
    while left:
        rows, factors = [min(left)], [1]
        while True:
            left.discard(rows[-1])
            carried = sign * int(other.signs[rows[-1]]) * factors[-1]
            following = int(rows_by_column[other.columns[rows[-1]]])
            if following == rows[0]:
                break
            rows.append(following)
            factors.append(carried * int(one.signs[following]))
        found.append(Cycle(tuple(rows), tuple(factors), carried == int(one.signs[rows[0]])))
    return tuple(found)


def factor_difference(one: Relation, other: Relation, sign: int) -> tuple[Matrix, Matrix]:
    """Return left (r, k) and right (k, r) whose product is one - sign x other; k is its rank."""
    rank = len(one.columns)
    lefts, rights = [], []
    for cycle in list_cycles(one, other, sign):
        dropped = cycle.rows[0] if cycle.is_balanced else None
        for row, factor in zip(cycle.rows, cycle.factors, strict=True):
            if row == dropped:
                continue
            left, right = np.zeros(rank, np.int64), np.zeros(rank, np.int64)
            left[row] = 1
            if dropped is not None:
                left[dropped] = -factor
            right[one.columns[row]] += one.signs[row]
            right[other.columns[row]] -= sign * other.signs[row]
            lefts.append(left)
            rights.append(right)
    return np.array(lefts, np.int64).reshape(-1, rank).T, np.array(rights, np.int64).reshape(-1, rank)


def count_lost_rank(one: Relation, other: Relation) -> tuple[int, int]:
    """Return by how much less than r the rank of one - sign x other is, for the better sign, and that sign."""
    lost = [(sum(cycle.is_balanced for cycle in list_cycles(one, other, sign)), sign) for sign in (1, -1)]
    return max(lost)


def compute_edges(relations: Sequence[Relation]) -> tuple[Edges, Matrix]:
    """Return the cost of every fold from every other, one addition for the kept product included, and the signs."""
    folds, rank = len(relations), len(relations[0].columns)
    edges, signs = np.full((folds, folds), rank), np.ones((folds, folds), np.int64)
    for i in range(folds):
        for h in range(i):
            lost, sign = count_lost_rank(relations[i], relations[h])
            edges[i, h] = edges[h, i] = min(rank, rank - lost + 1)
            signs[i, h] = signs[h, i] = sign
    return edges, signs


def compute_edges_of_any(matrices: Matrix) -> Edges:
    """Return the costs for R_g of any kind, (folds, r, r): from their ranks, computed one by one."""
    folds, rank = len(matrices), matrices.shape[1]
    edges = np.diag(np.linalg.matrix_rank(matrices.astype(np.float64)))
    for i in range(1, folds):
        pairs = np.concatenate([matrices[i] - matrices[:i], matrices[i] + matrices[:i]]).astype(np.float64)
        lowest = np.linalg.matrix_rank(pairs).reshape(2, i).min(axis=0) + 1
        edges[i, :i] = edges[:i, i] = np.minimum(lowest, rank)
    return edges


def grow_tree(edges: Edges) -> list[tuple[int, int | None]]:
    """Return (fold, its source) in an order in which sources come first: a cheapest spanning tree (Prim)."""
    tree: list[tuple[int, int | None]] = [(0, None)]
    best, sources = edges[0].copy(), np.zeros(len(edges), np.int64)
    left = set(range(1, len(edges)))
    while left:
        fold = min(sorted(left), key=lambda each: int(best[each]))
        left.discard(fold)
        is_alone = edges[fold, fold] <= best[fold]
        tree.append((fold, None if is_alone else int(sources[fold])))
        closer = edges[fold] < best
        best[closer], sources[closer] = edges[fold][closer], fold
    return tree


def compute_tree_cost(edges: Edges) -> int:
    """Return the MACs an element that all folds take."""
    return sum(int(edges[fold, fold if source is None else source]) for fold, source in grow_tree(edges))


def share_increments(meter: Meter, scene: Scene, _cached: tuple[I32, ...]) -> Iterator[I32]:
    """Yield the accumulators at every fold for operands of zeros, each fold's product made from a kept one."""
    noise, relations = scene.noise, list_relations(scene.noise, scene.lattice.rank)
    edges, signs = compute_edges(relations)
    increments: dict[int, I32] = {}
    for fold, source in grow_tree(edges):
        if source is None:
            left, right = factor_difference(relations[fold], _make_zero(relations[fold]), 1)
            kept: I32 | int = 0
        else:
            sign = int(signs[fold, source])
            left, right = factor_difference(relations[fold], relations[source], sign)
            # The sign costs nothing: it can be that of the thin factor and of the sum below.
            kept = sign * increments[source]
        thin_a, thin_b = meter.combine(noise.a.dense, left), meter.combine(noise.b.dense, right.T)
        increments[fold] = meter.multiply_onto(kept, thin_a, thin_b)
    sums = np.zeros(0, np.int32)
    for fold, (_, is_first) in enumerate(scene.lattice.iterate_folds()):
        sums = increments[fold] if is_first else meter.add(sums, increments[fold])
        yield sums


def count_shared_cells(relations: Sequence[Relation]) -> tuple[int, int]:
    """Return the multiplications and additions an element when folds share single products and sums of them.

    A cell (p, q) is a product D_a[i, p] D_b[j, q], computed once. Where two folds hold several of the same cells with
    the same signs, up to one for all, their sum is made once. Largest sums first, no cell in two of them.
    """
    folds, rank = len(relations), len(relations[0].columns)
    cells = {(p, int(relation.columns[p])) for relation in relations for p in range(rank)}
    shared: list[tuple[int, int, frozenset[int]]] = []
    for i in range(folds):
        for h in range(i):
            same = relations[i].columns == relations[h].columns
            for sign in (1, -1):
                rows = np.flatnonzero(same & (relations[i].signs == sign * relations[h].signs))
                if len(rows) > 1:
                    shared.append((i, h, frozenset(rows.tolist())))
    free = [set(range(rank)) for _ in range(folds)]
    saved = 0
    for i, h, kept in sorted(shared, key=lambda each: (-len(each[2]), each[:2])):
        if kept <= free[i] and kept <= free[h]:
            free[i] -= kept
            free[h] -= kept
            saved += len(kept) - 1
    return len(cells), folds * rank - saved


def _make_zero(relation: Relation) -> Relation:
    return Relation(relation.columns, np.zeros_like(relation.signs))
