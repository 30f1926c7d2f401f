"""Threats 47 and 63: what zero operands would cost under noise of other kinds than the protocol's.

Signed permutations alone, the first version of the tickets, with products computed and digests compared; chains of two
and three, one-hot columns and dense factors by what their folds have in common. It knows no ticket rule. Source:
docs/security.md, Structured noise.
"""

from collections.abc import Callable

import numpy as np

from benchmarks.lab.attacks.case import Attack, Effort, Ending, Outcome
from benchmarks.lab.attacks.lottery_arithmetic import (
    PERMUTED_B,
    get_protocol_lattice,
    make_lap_seed,
    make_scene,
)
from benchmarks.lab.attacks.lottery_cached import Prefixes, compare, get_size
from benchmarks.lab.attacks.lottery_pairs import compute_pairs_cost, share_pairs
from benchmarks.lab.attacks.lottery_structure import (
    Matrix,
    compute_edges_of_any,
    compute_tree_cost,
    count_shared_cells,
    list_relations,
    share_increments,
)
from ml.noise import CHAIN, OPERAND_MAX, TILE

RANK = 32
K = 2016


def judge_permutations(effort: Effort, attack: Prefixes) -> Outcome:
    """Return what an attack on zero operands takes where B's noise has no chain, with digests of honest work."""
    size, columns = get_size(effort), K if effort.trials >= 1024 else K // 2
    zeros = np.zeros((size, columns), np.int8)
    found = compare(get_protocol_lattice(size, size, columns), attack, 1, (zeros, zeros), PERMUTED_B)
    verdict = f"{found.digests} digests of honest work; r = {RANK}, K = {columns}"
    return Outcome(found.digests, _count_dear(found.digests, found.cost_ratio), None, found.cost_ratio, verdict)


def judge_shared_cells(effort: Effort) -> Outcome:
    """Share single products and sums of them between folds, where there is no chain."""
    zeros = np.zeros((TILE, K), np.int8)
    scene = make_scene(get_protocol_lattice(TILE, TILE, K), make_lap_seed(effort.seed), zeros, zeros, PERMUTED_B)
    multiplications, additions = count_shared_cells(list_relations(scene.noise, RANK))
    verdict = f"{multiplications} products and {additions} sums an element, for {K} MACs"
    return Outcome(1, 0, None, (multiplications + additions) / K, verdict)


def make_permutations(rng: np.random.Generator, folds: int) -> Matrix:
    """Return signed permutations (folds, r, r)."""
    found = np.zeros((folds, RANK, RANK), np.int64)
    for matrix in found:
        matrix[np.arange(RANK), rng.permutation(RANK)] = rng.choice([-1, 1], RANK)
    return found


def make_one_hot(rng: np.random.Generator, folds: int) -> Matrix:
    """Return products of two factors whose columns each choose one place, independently of each other."""
    found = np.zeros((folds, RANK, RANK), np.int64)
    for matrix in found:
        np.add.at(matrix, tuple(rng.integers(RANK, size=(2, RANK))), rng.choice([-1, 1], RANK))
    return found


def make_dense(rng: np.random.Generator, folds: int) -> Matrix:
    """Return products of two dense factors, as in the paper."""
    left, right = rng.integers(-OPERAND_MAX, OPERAND_MAX + 1, (2, folds, RANK, RANK))
    matrices: Matrix = left @ right
    return matrices


def make_chained(rng: np.random.Generator, folds: int, steps: tuple[int, ...]) -> Matrix:
    """Return signed permutations with a chain between them: every column of F the sum of some dense columns."""
    chain = np.sum([np.roll(np.eye(RANK, dtype=np.int64), step, axis=1) for step in steps], axis=0)
    matrices: Matrix = make_permutations(rng, folds) @ chain @ make_permutations(rng, folds)
    return matrices


def judge_kind(
    effort: Effort, make: Callable[[np.random.Generator, int], Matrix], *, bound: int = OPERAND_MAX,
    is_shared: bool = True,
) -> Outcome:  # fmt: skip
    """Return what zero operands cost under noise of a kind, from the ranks of its folds and what they have in common.

    The bound is that of the right dense factor's elements.
    """
    folds = 16 if effort.trials < 1024 else 63
    matrices = make(np.random.default_rng(effort.seed), folds)
    edges = compute_edges_of_any(matrices)
    ranks = np.diag(edges)
    cost = min(compute_tree_cost(edges), compute_pairs_cost(matrices, bound)) if is_shared else int(ranks.sum())
    verdict = f"mean rank {ranks.mean():.1f} of {RANK} a fold, {folds} folds, r = {RANK}"
    return Outcome(folds, _count_dear(folds, cost / (RANK * folds)), None, cost / (RANK * folds), verdict)


def _count_dear(tried: int, cost_ratio: float) -> int:
    """Return all that was tried where honest work is as cheap: then noise of this kind is no weakness."""
    return tried if cost_ratio >= 1 else 0


def judge_chain(effort: Effort, steps: tuple[int, ...]) -> Outcome:
    """Return what zero operands cost under noise in chains."""
    return judge_kind(effort, lambda rng, folds: make_chained(rng, folds, steps), bound=OPERAND_MAX // len(steps))


SHARED = "Two folds at once, or kept products of earlier folds, whichever is cheaper"

ATTACKS: tuple[Attack, ...] = (
    Attack(
        (47, 63), "noise of signed permutations, folds in pairs",
        "One fold's row p and another's row q hold the same column: three products of half the rank for two folds",
        "pays, were the noise such", (Ending.ACCEPTED,), lambda effort: judge_permutations(effort, share_pairs),
    ),
    Attack(
        (47, 63), "noise of signed permutations, kept folds",
        "Two permutations agree on cycles, so their difference has a lower rank: add a thinner product to a kept one, "
        "along a cheapest spanning tree of all folds",
        "pays, were the noise such", (Ending.ACCEPTED,), lambda effort: judge_permutations(effort, share_increments),
    ),
    Attack(
        (47, 63), "noise of signed permutations, shared cells",
        "Compute each product of two dense elements once, and each shared sum", "costs more", (Ending.UNPROFITABLE,),
        judge_shared_cells,
    ),
    Attack(
        (63,), "noise of signed permutations, fold by fold", "Zero operands: multiply by the rank that is there",
        "full rank", (Ending.UNPROFITABLE,), lambda effort: judge_kind(effort, make_permutations, is_shared=False),
    ),
    Attack(
        (63,), "noise of independent one-hot columns", "Zero operands: multiply by the rank that is there",
        "pays, were the noise such", (Ending.ACCEPTED,),
        lambda effort: judge_kind(effort, make_one_hot, is_shared=False),
    ),
    Attack(
        (63,), "noise in chains of two, folds shared", SHARED, "pays, were the noise such", (Ending.ACCEPTED,),
        lambda effort: judge_chain(effort, CHAIN[:2]),
    ),
    Attack(
        (63,), "noise in the protocol's chains, folds shared", SHARED, "saves nothing", (Ending.UNPROFITABLE,),
        lambda effort: judge_chain(effort, CHAIN),
    ),
    Attack(
        (63,), "noise of dense factors, folds shared", SHARED, "saves nothing", (Ending.UNPROFITABLE,),
        lambda effort: judge_kind(effort, make_dense),
    ),
)  # fmt: skip
