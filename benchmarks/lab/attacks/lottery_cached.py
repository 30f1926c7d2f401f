"""Threat 45: operands that were multiplied before, under fresh noise, for less than the noised matmul.

The attacker keeps A x B as it stands at every fold and adds what the noise changes: A x F + E x B'. One dense factor
serves all folds, so that two thin factors, U = sum of A's columns as the permutations place them and V of B' alike,
give A x F = U x F_L and E x B' = E_L x V: 2r MACs an element and fold, against c of an honest miner. It knows the
rules of noise and fold, and no ticket rule. Source: arXiv 2504.09971, section 4; docs/security.md, The lottery.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import numpy as np

from benchmarks.lab.attacks.case import Attack, Effort, Ending, Outcome
from benchmarks.lab.attacks.lottery_arithmetic import (
    Factors,
    Lattice,
    Meter,
    Scene,
    add_noise,
    compute_digests,
    compute_honest_prefixes,
    get_protocol_lattice,
    get_reference_digests,
    make_lap_seed,
    make_operands,
    make_scene,
)
from benchmarks.lab.records import LabError
from chain.primitives import Hash
from ml.noise import I8, I32, ROLE_B, Role

Prefixes = Callable[[Meter, Scene, tuple[I32, ...]], Iterable[I32]]
"""Returns the accumulators at every fold, given the products without noise that stood there."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What an attack took beside honest work, over some laps."""

    digests: int
    cost_ratio: float
    """Operations over honest operations; the fold and the hash, the same for both, left out."""
    time_ratio: float
    """Time of both in NumPy, median over laps: a sanity check, no claim about hardware."""


def compute_cached_products(scene: Scene) -> tuple[I32, ...]:
    """Return A x B as it stands at every fold: what a first honest computation leaves behind."""
    sums, found = np.zeros((scene.lattice.M, scene.lattice.N), np.int32), []
    for columns, is_first in scene.lattice.iterate_folds():
        product = scene.a[:, columns].astype(np.int32) @ scene.bt[:, columns].astype(np.int32).T
        sums = product if is_first else sums + product
        found.append(sums)
    return tuple(found)


def place_columns(meter: Meter, thin: I32, operand: I8 | I32, factors: Factors, columns: slice) -> I32:
    """Return thin (rows, rank) with every column of `operand` added where the other operand's choice wants it."""
    rank, choice = thin.shape[1], factors.choice
    for start in range(columns.start, columns.stop, rank):
        group = slice(start, start + rank)
        for step in factors.role.steps:
            placed = np.empty_like(thin)
            placed[:, choice.targets[group]] = np.roll(operand[:, group], step, axis=1) * choice.signs[group]
            thin = meter.add(thin, placed)
    return thin


def add_changes_of_noise(meter: Meter, scene: Scene, cached: tuple[I32, ...]) -> Iterator[I32]:
    """Yield A x B, kept, plus U x F_L + E_L x V, at every fold."""
    lattice, noise = scene.lattice, scene.noise
    noised_b = noise.b.add_to(meter, scene.bt, slice(0, lattice.K))
    u = v = np.zeros(0, np.int32)
    for (columns, is_first), product in zip(lattice.iterate_folds(), cached, strict=True):
        if is_first:
            u, v = np.zeros((lattice.M, lattice.rank), np.int32), np.zeros((lattice.N, lattice.rank), np.int32)
        u = place_columns(meter, u, scene.a, noise.b, columns)
        v = place_columns(meter, v, noised_b, noise.a, columns)
        sums = meter.multiply_onto(product, u, noise.b.dense)
        yield meter.multiply_onto(sums, noise.a.dense, v)


def subtract_first_group(meter: Meter, scene: Scene, _cached: tuple[I32, ...]) -> Iterator[I32]:
    """Yield the prefixes through columns whose noise cancels: A'_g = X_g + A'_0 W_g, and X_g carries no noise.

    Every group of A' is the first group in another order and with other signs, up to a difference that the attacker
    knew before the seed. That splits a fold into X_g x B'_g and A'_0 x (W_g B'_g), each of them r MACs an element.
    """
    lattice, choice = scene.lattice, scene.noise.a.choice
    noised_a, noised_b = add_noise(meter, scene)
    sums: I32 | int = 0
    first_columns, gathered = slice(0, 0), np.zeros(0, np.int32)
    for columns, is_first in lattice.iterate_folds():
        if is_first:
            first_columns, sums, gathered = columns, 0, np.zeros((lattice.N, lattice.rank), np.int32)
        places = np.argsort(choice.targets[first_columns])[choice.targets[columns]]
        signs = choice.signs[columns] * choice.signs[first_columns][places]
        known = meter.add(scene.a[:, columns], -scene.a[:, first_columns][:, places].astype(np.int32) * signs)
        turned = np.empty_like(gathered)
        turned[:, places] = noised_b[:, columns] * signs
        gathered = meter.add(gathered, turned)
        sums = meter.multiply_onto(sums, known, noised_b[:, columns])
        yield meter.multiply_onto(sums, noised_a[:, first_columns], gathered)


def compare(
    lattice: Lattice, attack: Prefixes, laps: int, operands: tuple[I8, I8], role_b: Role = ROLE_B
) -> Comparison:
    """Return what `attack` takes over some laps; raises LabError when a digest is not the honest one."""
    cached = compute_cached_products(make_scene(lattice, make_lap_seed(0), *operands))
    attacker, honest, times, digests = Meter(), Meter(), [], 0
    for lap in range(1, laps + 1):
        scene = make_scene(lattice, make_lap_seed(lap), *operands, role_b)
        start_s = perf_counter()
        expected = list(compute_honest_prefixes(honest, scene))
        middle_s = perf_counter()
        found = list(attack(attacker, scene, cached))
        times.append((perf_counter() - middle_s) / (middle_s - start_s))
        digests += _count_equal(compute_digests(scene, found), compute_digests(scene, expected))
        if role_b == ROLE_B and lattice == get_protocol_lattice(lattice.M, lattice.N, lattice.K):
            _count_equal(compute_digests(scene, found), get_reference_digests(scene))
    return Comparison(digests, attacker.total / honest.total, median(times))


def _count_equal(found: tuple[Hash, ...], expected: tuple[Hash, ...]) -> int:
    if found != expected:
        wrong = sum(one != other for one, other in zip(found, expected, strict=True))
        raise LabError(f"found {wrong} wrong digests of {len(expected)}, expected those of an honest miner")
    return len(found)


def judge(effort: Effort, lattice: Lattice, attack: Prefixes) -> Outcome:
    """Return the outcome of an attack on uniform operands: what it costs, with digests that verify."""
    laps = 1 if effort.trials < 1024 else 5
    operands = make_operands(lattice.M, lattice.N, lattice.K, effort.seed)
    found = compare(lattice, attack, laps, operands)
    verdict = (
        f"{found.digests} valid digests; r = {lattice.rank}, c = {lattice.fold}, K = {lattice.K}; "
        f"{found.time_ratio:.2f} of the time in NumPy"
    )
    return Outcome(found.digests, 0, None, found.cost_ratio, verdict)


def get_size(effort: Effort) -> int:
    """Return the rows of both operands: enough in a full run for what is paid once a row to fade."""
    return 64 if effort.trials < 1024 else 256


def judge_protocol(effort: Effort) -> Outcome:
    """Use cached products at the protocol's own rank and interval."""
    size = get_size(effort)
    return judge(effort, get_protocol_lattice(size, size, 1024), add_changes_of_noise)


def judge_windows(effort: Effort) -> Outcome:
    """Use cached products where K has two windows and rank 128."""
    return judge(effort, get_protocol_lattice(64, 64, 4096), add_changes_of_noise)


def judge_differences(effort: Effort) -> Outcome:
    """Use differences of columns at the protocol's own rank and interval."""
    size = get_size(effort)
    return judge(effort, get_protocol_lattice(size, size, 1024), subtract_first_group)


def judge_weakened(effort: Effort, rank: int, fold: int) -> Outcome:
    """Use cached products where rank and interval are not the protocol's; detected when honest work is cheaper."""
    size = get_size(effort)
    found = judge(effort, Lattice(size, size, 1024, rank, fold), add_changes_of_noise)
    assert found.cost_ratio is not None
    detected = found.tried if found.cost_ratio >= 1 else 0
    return Outcome(found.tried, detected, None, found.cost_ratio, found.verdict)


CACHED = "Keep A x B at every fold; for a new lap add what the new noise changes, as two products of thin factors"

ATTACKS: tuple[Attack, ...] = (
    Attack((45, 54), "cached product: r = c = 32", CACHED, "costs more", (Ending.UNPROFITABLE,), judge_protocol),
    Attack((45, 54), "cached product: r = c = 128", CACHED, "costs more", (Ending.UNPROFITABLE,), judge_windows),
    Attack(
        (45,), "cached product: rank an eighth of the fold", CACHED, "pays, were the rank lowered", (Ending.ACCEPTED,),
        lambda effort: judge_weakened(effort, 8, 64),
    ),
    Attack(
        (45,), "cached product: rank half of the fold", CACHED, "breaks even", (Ending.UNPROFITABLE,),
        lambda effort: judge_weakened(effort, 32, 64),
    ),
    Attack(
        (45,), "cached product: one fold, at the end", CACHED, "pays, were folds rare", (Ending.ACCEPTED,),
        lambda effort: judge_weakened(effort, 32, 1024),
    ),
    Attack(
        (45, 63), "differences of columns",
        "Columns of one target carry the same noise: their difference carries none, so split every fold by it",
        "costs more", (Ending.UNPROFITABLE,), judge_differences,
    ),
)  # fmt: skip
