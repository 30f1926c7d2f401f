"""Threat 46: a fold that is linear can be had from sums of operands, without the product.

The weighted sum of a tile's accumulators is one vector times another: sum_i w_i A'_i, summed once for a whole row of
tiles, times sum_j B'_j of the columns of each lane, summed once for a whole column of tiles. That is tried against a
fold of multiplications and additions, where it is exact, and against the protocol's rotations and XOR.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from benchmarks.lab.attacks.case import Attack, Effort, Ending, Outcome
from benchmarks.lab.attacks.lottery_arithmetic import (
    Integers,
    Lattice,
    Meter,
    Scene,
    add_noise,
    compute_digests,
    compute_honest_prefixes,
    fold_tiles,
    get_protocol_lattice,
    make_lap_seed,
    make_operands,
    make_scene,
    rotate,
    split_tiles,
)
from benchmarks.lab.records import LabError
from ml.backends.reference_ticket import LANES, U32, hash_fold
from ml.noise import I32, TILE, Place

K = 512
MULTIPLIER = 0x01000193
"""Of the linear fold: any odd number would do."""

POWERS_OF_TWO = np.array([1 << row for row in range(TILE)], np.int64)
POWERS = np.array([pow(MULTIPLIER, row, 1 << 32) for row in range(TILE)], np.uint32).view(np.int32)


def fold_linearly(prefixes: Iterable[I32]) -> U32:
    """Return the state (tile rows, tile columns, lanes) uint32 of a fold of multiplications and additions."""
    state: U32 = np.zeros(1, np.uint32)
    for prefix in prefixes:
        weighted = split_tiles(prefix) * POWERS.view(np.uint32)[None, :, None, None, None]
        state = state * np.uint32(MULTIPLIER) + weighted.sum(axis=(1, 3), dtype=np.uint32)
    return state


def sum_operands(meter: Meter, scene: Scene, weights: Integers) -> tuple[Integers, Integers]:
    """Return A' summed with weights over a tile's rows, (tile rows, K), and B' by lanes, (tile columns x lanes, K)."""
    lattice = scene.lattice
    noised_a, noised_b = add_noise(meter, scene)
    meter.macs += noised_a.size
    meter.adds += noised_b.size // 2
    rows = noised_a.reshape(-1, TILE, lattice.K).transpose(0, 2, 1).astype(np.int64) @ weights.astype(np.int64)
    lanes = noised_b.reshape(-1, TILE // LANES, LANES, lattice.K).sum(axis=1)
    return rows, lanes.reshape(-1, lattice.K).astype(np.int64)


def fake_weighted_sums(meter: Meter, scene: Scene, weights: Integers) -> Iterator[Integers]:
    """Yield at every fold the weighted sums of all accumulators by tile and lane, (tile rows, tile columns, lanes)."""
    rows, lanes = sum_operands(meter, scene, weights)
    sums = np.zeros((len(rows), len(lanes)), np.int64)
    for columns, is_first in scene.lattice.iterate_folds():
        assert not is_first or columns.start == 0, "one window"
        sums = sums + rows[:, columns] @ lanes[:, columns].T
        meter.macs += sums.size * (columns.stop - columns.start)
        yield sums.reshape(len(rows), -1, LANES)


def fake_linear_state(meter: Meter, scene: Scene) -> U32:
    """Return the state of the linear fold without any accumulator."""
    state: U32 = np.zeros(1, np.uint32)
    for sums in fake_weighted_sums(meter, scene, POWERS):
        state = state * np.uint32(MULTIPLIER) + sums.astype(np.uint32)
    return state


def guess_folds(meter: Meter, scene: Scene) -> Iterator[U32]:
    """Yield the best linear guess of every fold: a rotation by i is a multiplication by 2^i modulo 2^32 - 1."""
    for sums in fake_weighted_sums(meter, scene, POWERS_OF_TWO):
        yield (sums % ((1 << 32) - 1)).astype(np.uint32)


def judge_linear(effort: Effort) -> Outcome:
    """Fake a linear fold; raises LabError when the fake is not exact."""
    scene = _make_scene(effort)
    honest, attacker = Meter(), Meter()
    expected = fold_linearly(compute_honest_prefixes(honest, scene))
    found = fake_linear_state(attacker, scene)
    if not np.array_equal(found, expected):
        raise LabError("found another state, expected that of honest work")
    tiles = found.shape[0] * found.shape[1]
    ratio = attacker.total / honest.total
    return Outcome(tiles, 0, None, ratio, f"{tiles} exact states at 1/{1 / ratio:.0f} of the operations")


def judge_rotated(effort: Effort) -> Outcome:
    """Put the linear guess in place of the protocol's fold."""
    scene = _make_scene(effort)
    attacker, honest = Meter(), Meter()
    prefixes = list(compute_honest_prefixes(honest, scene))
    digests = compute_digests(scene, prefixes)
    state: U32 = np.zeros(1, np.uint32)
    bits = np.zeros(32, np.int64)
    for guess, prefix in zip(guess_folds(attacker, scene), prefixes, strict=True):
        state = rotate(state, 7) ^ guess
        bits += _count_equal_bits(guess, fold_tiles(prefix))
    guesses = [
        hash_fold(scene.seed, Place(row, column, 0), state[row, column])
        for row in range(state.shape[0])
        for column in range(state.shape[1])
    ]
    wrong = sum(guess != digest for guess, digest in zip(guesses, digests, strict=True))
    words = len(prefixes) * state.size
    rates = bits / words
    verdict = f"of each bit, right in {rates.min():.1%} to {rates.max():.1%} of {words} words: no better than a coin"
    return Outcome(len(guesses), wrong, None, attacker.total / honest.total, verdict)


def judge_unrotated(effort: Effort) -> Outcome:
    """Guess the lowest bit of a fold of XOR without rotations: parity is linear."""
    scene = _make_scene(effort)
    right = words = 0
    sums = fake_weighted_sums(Meter(), scene, np.ones(TILE, np.int64))
    for guess, prefix in zip(sums, compute_honest_prefixes(Meter(), scene), strict=True):
        folded = np.bitwise_xor.reduce(np.bitwise_xor.reduce(split_tiles(prefix), axis=3), axis=1)
        right += int((guess % 2 == folded % 2).sum())
        words += folded.size
    detected = words - right
    return Outcome(words, detected, None, None, "the lowest bit is always right: why accumulators are rotated")


def _count_equal_bits(guess: U32, fold: U32) -> Integers:
    bits = np.arange(32, dtype=np.uint32)
    differing = (guess ^ fold)[..., None] >> bits & np.uint32(1)
    equal: Integers = np.sum(differing == 0, axis=(0, 1, 2))
    return equal


def _make_scene(effort: Effort) -> Scene:
    size = 128 if effort.trials < 1024 else 512
    lattice: Lattice = get_protocol_lattice(size, size, K)
    return make_scene(lattice, make_lap_seed(effort.seed), *make_operands(size, size, K, effort.seed))


LINEAR = "Sum A' over the rows of a tile and B' over the columns of a lane, then multiply the two sums"

ATTACKS: tuple[Attack, ...] = (
    Attack((46,), "linear fold", LINEAR, "pays, were the fold linear", (Ending.ACCEPTED,), judge_linear),
    Attack(
        (46,), "the protocol's fold, guessed linearly", LINEAR, "no digest is right", (Ending.DETECTED,), judge_rotated,
    ),
    Attack(
        (46,), "XOR without rotations", LINEAR, "gives one bit of 32 away, were there no rotations", (Ending.ACCEPTED,),
        judge_unrotated,
    ),
)  # fmt: skip
