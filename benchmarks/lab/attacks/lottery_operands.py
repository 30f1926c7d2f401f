"""Threats 47, 48 and 63: operands that might make the noised matmul cheap, and noise that might make zeros cheap.

Zero, equal and trained operands under the protocol's noise; then the same zeros under noise of other kinds, by the
ranks that its folds leave. The products are computed, not assumed: wrong digests end a case with an error.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.lab.attacks.case import Attack, Effort, Ending, Outcome
from benchmarks.lab.attacks.lottery_arithmetic import (
    Lattice,
    Meter,
    Scene,
    add_noise,
    choose_columns,
    get_protocol_lattice,
    make_lap_seed,
    make_operands,
    make_scene,
)
from benchmarks.lab.attacks.lottery_cached import Prefixes, compare, get_size, place_columns
from benchmarks.lab.attacks.lottery_structure import (
    Matrix,
    compute_edges,
    compute_edges_of_any,
    compute_tree_cost,
    count_shared_cells,
    list_relations,
    share_increments,
)
from ml.backends import get_backend
from ml.checkpoint import compute_initial_checkpoint
from ml.dataset import load_digits
from ml.models import build_program
from ml.noise import I8, I32, OPERAND_MAX, TILE
from ml.segment import Runner, StepTensors, as_i8, run_steps
from ml.spec import DIGITS

RANK = 32


def multiply_noise_alone(meter: Meter, scene: Scene, _cached: tuple[I32, ...]) -> Iterator[I32]:
    """Yield the accumulators where A is zero: E_L x V, V gathered from B'."""
    lattice, noise = scene.lattice, scene.noise
    noised_b = meter.add(scene.bt, choose_columns(noise.dense_b, noise.choice_b, slice(0, lattice.K)))
    v = np.zeros(0, np.int32)
    for columns, is_first in lattice.iterate_folds():
        v = np.zeros((lattice.N, lattice.rank), np.int32) if is_first else v
        v = place_columns(meter, v, noised_b, noise.choice_a, columns)
        yield meter.multiply_onto(0, noise.dense_a, v)


def subtract_first_tile(meter: Meter, scene: Scene, _cached: tuple[I32, ...]) -> Iterator[I32]:
    """Yield the accumulators where all tile rows of A are equal: the first honestly, the others by differences."""
    lattice, noise = scene.lattice, scene.noise
    noised_a, noised_b = add_noise(meter, scene)
    differences = meter.add(noise.dense_a[TILE:], -np.tile(noise.dense_a[:TILE], (lattice.M // TILE - 1, 1)))
    first, v = np.zeros(0, np.int32), np.zeros(0, np.int32)
    for columns, is_first in lattice.iterate_folds():
        v = np.zeros((lattice.N, lattice.rank), np.int32) if is_first else v
        v = place_columns(meter, v, noised_b, noise.choice_a, columns)
        first = meter.multiply_onto(0 if is_first else first, noised_a[:TILE, columns], noised_b[:, columns])
        others = np.tile(first, (lattice.M // TILE - 1, 1))
        yield np.concatenate([first, meter.multiply_onto(others, differences, v)])


def judge_zeros(effort: Effort) -> Outcome:
    """Both operands zero: share increments between folds."""
    size = get_size(effort)
    zeros = np.zeros((size, 2016), np.int8)
    return _judge(get_protocol_lattice(size, size, 2016), share_increments, (zeros, zeros))


def judge_wide_zeros(effort: Effort) -> Outcome:
    """Both operands zero where the rank is 128."""
    size = get_size(effort)
    zeros = np.zeros((size, 4096), np.int8)
    return _judge(get_protocol_lattice(size, size, 4096), share_increments, (zeros, zeros))


def judge_one_zero(effort: Effort) -> Outcome:
    """One operand zero, the other of training's kind."""
    size = get_size(effort)
    zeros, bt = np.zeros((size, 1024), np.int8), make_operands(size, size, 1024, effort.seed)[1]
    return _judge(get_protocol_lattice(size, size, 1024), multiply_noise_alone, (zeros, bt))


def judge_equal_tiles(effort: Effort) -> Outcome:
    """All tiles of A equal, and all of B."""
    size = get_size(effort)
    a, bt = make_operands(TILE, TILE, 1024, effort.seed)
    operands = np.tile(a, (size // TILE, 1)), np.tile(bt, (size // TILE, 1))
    return _judge(get_protocol_lattice(size, size, 1024), subtract_first_tile, operands)


def _judge(lattice: Lattice, attack: Prefixes, operands: tuple[I8, I8]) -> Outcome:
    found = compare(lattice, attack, 1, operands)
    verdict = f"{found.digests} valid digests; r = {lattice.rank}, K = {lattice.K}"
    return Outcome(found.digests, 0, None, found.cost_ratio, verdict)


def judge_shared_cells(effort: Effort) -> Outcome:
    """Both operands zero: share single products and sums of them between folds."""
    scene = _make_zero_scene(2016, effort.seed)
    multiplications, additions = count_shared_cells(list_relations(scene.noise, RANK))
    verdict = f"{multiplications} products and {additions} sums an element, for 2016 MACs"
    return Outcome(1, 0, None, (multiplications + additions) / 2016, verdict)


def judge_lap_choice(effort: Effort) -> Outcome:
    """Both operands zero: look at the permutations of many laps, mine the weakest; looking is not charged."""
    costs = [
        compute_tree_cost(compute_edges(list_relations(_make_zero_scene(64, lap).noise, RANK))[0])
        for lap in range(max(16, effort.trials))
    ]
    verdict = (
        f"K = 64; {np.mean(costs) / 64:.3f} on average, the least of {len(costs)} laps as given, looking not charged"
    )
    return Outcome(len(costs), 0, None, min(costs) / 64, verdict)


def _make_zero_scene(K: int, lap: int) -> Scene:
    zeros = np.zeros((TILE, K), np.int8)
    return make_scene(get_protocol_lattice(TILE, TILE, K), make_lap_seed(lap), zeros, zeros)


def judge_trained_tiles(effort: Effort) -> Outcome:
    """Look for tiles of a trained segment whose ranks are so low that A x F + E x B + E x F costs less than A' x B'."""
    program = build_program(DIGITS)
    seed, checkpoint = make_lap_seed(effort.seed), compute_initial_checkpoint(program)
    runner = Runner(program, get_backend("reference"), load_digits(DIGITS.heldout), seed, checkpoint)
    interval = 32 if effort.trials < 1024 else 4
    ratios: list[float] = []
    least = RANK

    def look(step: int, tensors: StepTensors) -> None:
        nonlocal least
        if step % interval:
            return
        for op in program.ops:
            matmul = program.get_lottery_matmul(op.index)
            if matmul is None:
                continue
            lattice = get_protocol_lattice(matmul.M, matmul.N, matmul.K)
            if min(lattice.M, lattice.N) < TILE or lattice.K == 0:
                continue
            ranks_a, ranks_b = (_bound_ranks(as_i8(tensors[op.inputs[i]])[:, : lattice.K]) for i in (0, 2))
            pairs = ranks_a[:, None] + ranks_b[None, :]
            least = min(least, int(pairs.min()))
            costs = np.minimum(RANK, pairs + _compute_noise_cost(lattice.K)).mean(axis=2) / RANK
            ratios.extend(costs.ravel().tolist())

    run_steps(runner, look)
    cheap = sum(ratio < 1 for ratio in ratios)
    verdict = f"{cheap} of {len(ratios)} tiles cheaper; the least sum of both ranks in a fold is {least}, of 2 x {RANK}"
    return Outcome(len(ratios), 0, None, min(ratios), verdict)


def _bound_ranks(operand: I8) -> NDArray[np.int64]:
    """Return (tiles, folds): the lesser of rank and nonzero elements a row, for 32 rows and 32 columns."""
    tiles = len(operand) // TILE
    blocks = operand[: tiles * TILE].reshape(tiles, TILE, -1, RANK).transpose(0, 2, 1, 3)
    bounds: NDArray[np.int64] = np.minimum(
        np.linalg.matrix_rank(blocks.astype(np.float64)), np.count_nonzero(blocks, axis=(2, 3)) // TILE
    )
    return bounds


def _compute_noise_cost(K: int) -> float:
    """Return what E x F takes an element and fold, at best, over eight laps of so many folds."""
    laps = (_make_zero_scene(K, lap).noise for lap in range(8))
    return min(compute_tree_cost(compute_edges(list_relations(noise, RANK))[0]) for noise in laps) * RANK / K


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


def make_chained(rng: np.random.Generator, folds: int) -> Matrix:
    """Return signed permutations with a chain between them: every column of F the sum of three dense columns."""
    chain = np.eye(RANK, dtype=np.int64)
    for distance in (1, 3):
        chain += np.eye(RANK, k=distance, dtype=np.int64)
    matrices: Matrix = make_permutations(rng, folds) @ chain @ make_permutations(rng, folds)
    return matrices


def judge_kind(effort: Effort, make: Callable[[np.random.Generator, int], Matrix], is_shared: bool = True) -> Outcome:
    """Return what zero operands cost under noise of a kind, from the ranks of its folds and of their differences."""
    folds = 16 if effort.trials < 1024 else 63
    edges = compute_edges_of_any(make(np.random.default_rng(effort.seed), folds))
    ranks = np.diag(edges)
    cost = compute_tree_cost(edges) if is_shared else int(ranks.sum())
    verdict = f"mean rank {ranks.mean():.1f} of {RANK} a fold, {folds} folds, r = {RANK}"
    return Outcome(folds, 0, None, cost / (RANK * folds), verdict)


SHARED = (
    "Keep the products of earlier folds; two permutations agree on cycles, so their difference has a lower rank: add a "
    "thinner product to the kept one, along a cheapest spanning tree of all folds"
)

ATTACKS: tuple[Attack, ...] = (
    Attack((47,), "zero operands: r = 32", SHARED, "saves a seventh", (Ending.OPEN,), judge_zeros),
    Attack((47,), "zero operands: r = 128", SHARED, "saves a twentieth", (Ending.OPEN,), judge_wide_zeros),
    Attack(
        (47, 54), "zero operands: laps with weak permutations",
        "Look at the permutations of many laps and mine the one whose folds are most alike", "saves a fifth at most",
        (Ending.OPEN,), judge_lap_choice,
    ),
    Attack(
        (47, 63), "zero operands: shared cells", "Compute each product of two dense elements once, and each shared sum",
        "costs more", (Ending.UNPROFITABLE,), judge_shared_cells,
    ),
    Attack(
        (47,), "one zero operand", "Gather B' into V as the permutations place it: A' x B' = E_L x V", "costs as much",
        (Ending.UNPROFITABLE,), judge_one_zero,
    ),
    Attack(
        (47,), "tiles of a trained segment", "Search the digits segment for tiles of low rank or few nonzero elements",
        "none is cheap enough", (Ending.UNPROFITABLE,), judge_trained_tiles,
    ),
    Attack(
        (48,), "equal tiles", "Compute one tile row, and the others by what their noise differs in", "costs more",
        (Ending.UNPROFITABLE,), judge_equal_tiles,
    ),
    Attack(
        (63,), "noise of independent one-hot columns", "Zero operands: multiply by the rank that is there",
        "pays, were the noise such", (Ending.ACCEPTED,), lambda effort: judge_kind(effort, make_one_hot, False),
    ),
    Attack(
        (63,), "noise of signed permutations, fold by fold", "Zero operands: multiply by the rank that is there",
        "full rank", (Ending.UNPROFITABLE,), lambda effort: judge_kind(effort, make_permutations, False),
    ),
    Attack(
        (63,), "noise of dense factors, folds shared", SHARED, "saves nothing: what the paper's noise is worth",
        (Ending.UNPROFITABLE,), lambda effort: judge_kind(effort, make_dense),
    ),
    Attack(
        (63,), "noise of chained permutations, folds shared", SHARED, "saves nothing: what would mend ours",
        (Ending.UNPROFITABLE,), lambda effort: judge_kind(effort, make_chained),
    ),
)  # fmt: skip
