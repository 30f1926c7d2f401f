"""Threats 47 and 48: operands that might make the noised matmul cheap.

Zero, equal and trained operands under the protocol's noise. The products are computed, not assumed: wrong digests end a
case with an error. Zeros under noise of other kinds are next door, in lottery_kinds.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.lab.attacks.case import Attack, Effort, Ending, Outcome
from benchmarks.lab.attacks.lottery_arithmetic import (
    Lattice,
    Meter,
    Scene,
    add_noise,
    get_protocol_lattice,
    make_lap_seed,
    make_operands,
    make_scene,
)
from benchmarks.lab.attacks.lottery_cached import Prefixes, compare, get_size, place_columns
from benchmarks.lab.attacks.lottery_pairs import compute_pairs_cost, share_pairs
from benchmarks.lab.attacks.lottery_structure import compute_edges_of_any, compute_tree_cost, list_matrices
from ml.backends import get_backend
from ml.checkpoint import compute_initial_checkpoint
from ml.dataset import load_digits
from ml.models import build_program
from ml.noise import I8, I32, ROLE_B, TILE
from ml.segment import Runner, StepTensors, as_i8, run_steps
from ml.spec import DIGITS

RANK = 32


def multiply_noise_alone(meter: Meter, scene: Scene, _cached: tuple[I32, ...]) -> Iterator[I32]:
    """Yield the accumulators where A is zero: E_L x V, V gathered from B'."""
    lattice, noise = scene.lattice, scene.noise
    noised_b = noise.b.add_to(meter, scene.bt, slice(0, lattice.K))
    v = np.zeros(0, np.int32)
    for columns, is_first in lattice.iterate_folds():
        v = np.zeros((lattice.N, lattice.rank), np.int32) if is_first else v
        v = place_columns(meter, v, noised_b, noise.a, columns)
        yield meter.multiply_onto(0, noise.a.dense, v)


def subtract_first_tile(meter: Meter, scene: Scene, _cached: tuple[I32, ...]) -> Iterator[I32]:
    """Yield the accumulators where all tile rows of A are equal: the first honestly, the others by differences."""
    lattice, noise = scene.lattice, scene.noise
    noised_a, noised_b = add_noise(meter, scene)
    differences = meter.add(noise.a.dense[TILE:], -np.tile(noise.a.dense[:TILE], (lattice.M // TILE - 1, 1)))
    first, v = np.zeros(0, np.int32), np.zeros(0, np.int32)
    for columns, is_first in lattice.iterate_folds():
        v = np.zeros((lattice.N, lattice.rank), np.int32) if is_first else v
        v = place_columns(meter, v, noised_b, noise.a, columns)
        first = meter.multiply_onto(0 if is_first else first, noised_a[:TILE, columns], noised_b[:, columns])
        others = np.tile(first, (lattice.M // TILE - 1, 1))
        yield np.concatenate([first, meter.multiply_onto(others, differences, v)])


def judge_zeros(effort: Effort) -> Outcome:
    """Both operands zero: two folds at once."""
    size = get_size(effort)
    zeros = np.zeros((size, 2016), np.int8)
    return _judge(get_protocol_lattice(size, size, 2016), share_pairs, (zeros, zeros))


def judge_wide_zeros(effort: Effort) -> Outcome:
    """Both operands zero where the rank is 128."""
    size = get_size(effort)
    zeros = np.zeros((size, 4096), np.int8)
    return _judge(get_protocol_lattice(size, size, 4096), share_pairs, (zeros, zeros))


def judge_kept_folds(effort: Effort) -> Outcome:
    """Both operands zero: keep earlier folds, as far as differences of folds have a lower rank."""
    folds = 16 if effort.trials < 1024 else 63
    edges = compute_edges_of_any(list_matrices(_make_zero_scene(RANK * folds, effort.seed).noise, RANK))
    verdict = f"mean rank {np.diag(edges).mean():.1f} of {RANK} a fold, {folds} folds, r = {RANK}"
    return Outcome(folds, 0, None, compute_tree_cost(edges) / (RANK * folds), verdict)


def judge_wide_pairs(effort: Effort) -> Outcome:
    """Both operands zero: two folds at once, through sums of three rows each, whose width is not charged."""
    folds = 8 if effort.trials < 1024 else 63
    cost = compute_pairs_cost(list_matrices(_make_zero_scene(RANK * folds, effort.seed).noise, RANK), None, rows=3)
    verdict = f"{cost} of {RANK * folds} MACs an element; factors of up to 18 dense elements, too wide for int8"
    return Outcome(folds, 0, None, cost / (RANK * folds), verdict)


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


def judge_lap_choice(effort: Effort) -> Outcome:
    """Both operands zero: look at the permutations of many laps, mine the weakest; looking is not charged."""
    laps = (
        list_matrices(_make_zero_scene(64, lap).noise, RANK)
        for lap in range(16 if effort.trials < 1024 else effort.trials)
    )
    costs = [min(compute_tree_cost(compute_edges_of_any(lap)), compute_pairs_cost(lap, ROLE_B.bound)) for lap in laps]
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
    laps = (list_matrices(_make_zero_scene(K, lap).noise, RANK) for lap in range(8))
    return min(compute_pairs_cost(matrices, ROLE_B.bound) for matrices in laps) * RANK / K


PAIRS = "Find combinations of rows of two folds that are one vector, and compute what follows from them once for both"

ATTACKS: tuple[Attack, ...] = (
    Attack(
        (47,), "zero operands: pairs of folds, r = 32", PAIRS, "saves nothing", (Ending.UNPROFITABLE,), judge_zeros
    ),
    Attack(
        (47,), "zero operands: pairs of folds, r = 128", PAIRS, "saves nothing", (Ending.UNPROFITABLE,),
        judge_wide_zeros,
    ),
    Attack(
        (47,), "zero operands: pairs of folds, wider sums", PAIRS, "saves two thousandths at most", (Ending.OPEN,),
        judge_wide_pairs,
    ),
    Attack(
        (47,), "zero operands: kept folds",
        "Keep the products of earlier folds and add a thinner product where the difference has a lower rank",
        "saves nothing", (Ending.UNPROFITABLE,), judge_kept_folds,
    ),
    Attack(
        (47, 54), "zero operands: laps with weak permutations",
        "Look at the permutations of many laps and mine the one whose folds are most alike", "saves nothing",
        (Ending.UNPROFITABLE,), judge_lap_choice,
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
)  # fmt: skip
