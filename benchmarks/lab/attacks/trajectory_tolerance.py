"""A verifier with a tolerance, as published proof-of-learning has it, and the attacks that it lets through.

The prover names states, batches and rates of float SGD; the verifier runs some intervals again, those with the largest
updates first, and accepts states that come near enough, because floats differ from machine to machine. It stands beside
our rules to show what the attacks live on, and is no part of them. Sources: Jia et al. 2021 ("Proof-of-Learning:
Definitions and Practice"), Zhang et al. 2022, Fang et al. 2023.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from math import ceil, sqrt
from time import process_time

import torch
from torch import Tensor

from benchmarks.lab.attacks.case import Attack, Effort, Ending, Outcome
from benchmarks.lab.attacks.trajectory_bench import get_bench
from benchmarks.lab.float_model import compute_mean_loss, make_weights
from ml.arithmetic import ACTIVATION_BITS
from ml.dataset import Examples

STEPS, BATCH, RATE = 600, 64, 0.05
TINY_RATE = 1e-9
TOLERANCE = 0.05
"""Of the distance between two honest runs, by which the published scheme measures distances."""
TOP = 5
"""Largest updates that a verifier of few runs again."""
TRIALS_PER_PROOF = 512

State = list[Tensor]
Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Proof:
    """What a prover claims: the states, and between any two the batch and the rate."""

    states: Sequence[State]
    batches: Sequence[Batch]
    rates: Sequence[float]


@dataclass(frozen=True, slots=True)
class Setting:
    """An honest run, a second one that gives the scale of distances, and what the first took."""

    proof: Proof
    tolerance: float
    seconds: float


@lru_cache(maxsize=16)
def make_setting(seed: int) -> Setting:
    """Return a setting of two honest runs from the same first state."""
    other = train(draw_batches(seed + 1_000_000, STEPS))
    start_s = process_time()
    proof = train(draw_batches(seed, STEPS))
    seconds = process_time() - start_s
    return Setting(proof, TOLERANCE * measure_distance(proof.states[-1], other.states[-1]), seconds)


def draw_batches(seed: int, count: int) -> list[Batch]:
    """Return `count` batches of the training data."""
    data, generator = get_bench().task.dataset, torch.Generator().manual_seed(seed)
    assert isinstance(data, Examples)
    x = torch.from_numpy(data.x / 2.0**ACTIVATION_BITS).float()
    labels = torch.from_numpy(data.labels[:, 0].astype("int64"))
    rows = torch.randint(len(x), (count, BATCH), generator=generator)
    return [(x[part], labels[part]) for part in rows]


def train(batches: Sequence[Batch], rate: float = RATE) -> Proof:
    """Return an honest proof."""
    states = [_detach(make_weights(get_bench().checkpoint))]
    for batch in batches:
        states.append(take_step(states[-1], batch, rate))
    return Proof(states, batches, [rate] * len(batches))


def take_step(state: State, batch: Batch, rate: float) -> State:
    """Return the state after one step of SGD."""
    return [part - rate * gradient for part, gradient in zip(state, _compute_gradients(state, batch), strict=True)]


def measure_distance(left: State, right: State) -> float:
    """Return the Euclidean distance of two states."""
    return sqrt(sum(float((a - b).square().sum()) for a, b in zip(left, right, strict=True)))


def measure_errors(proof: Proof, count: int) -> list[float]:
    """Return how far the `count` intervals with the largest updates end from where a verifier ends."""
    updates = [measure_distance(before, after) for before, after in pairwise(proof.states)]
    chosen = sorted(range(len(updates)), key=lambda i: -updates[i])[:count]
    return [
        measure_distance(take_step(proof.states[i], proof.batches[i], proof.rates[i]), proof.states[i + 1])
        for i in chosen
    ]


def forge_by_tiny_rate(setting: Setting, seed: int) -> tuple[Proof, int]:
    """Return states on a line to the stolen model, under a rate that moves nothing; all intervals are verified."""
    states = _interpolate(setting)
    batches = draw_batches(seed, len(states) - 1)
    return Proof(states, batches, [TINY_RATE] * len(batches)), len(batches)


def forge_by_crafted_data(setting: Setting, seed: int) -> tuple[Proof, int]:
    """Return states on that line under the honest rate, with images faded until their step ends near the next state."""
    states = _interpolate(setting)
    factor, batches = 1.0, []
    for (before, after), batch in zip(pairwise(states), draw_batches(seed, len(states) - 1), strict=True):
        factor = _fade(before, after, batch, (factor, setting.tolerance))
        batches.append((factor * batch[0], batch[1]))
    return Proof(states, batches, [RATE] * len(batches)), len(batches)


def forge_behind_blindfold(setting: Setting, seed: int) -> tuple[Proof, int]:
    """Return few honest steps with large updates, then a line of smaller ones that a verifier of few never runs."""
    batches = draw_batches(seed, TOP)
    states = list(train(batches, 4 * RATE).states)
    smallest = min(measure_distance(a, b) for a, b in pairwise(states))
    line = _interpolate_from(states[-1], setting.proof.states[-1], smallest / 2)
    rates = [4 * RATE] * TOP + [RATE] * (len(line) - 1)
    return Proof(states + line[1:], batches + draw_batches(seed + 1, len(line) - 1), rates), TOP


Forge = Callable[[Setting, int], tuple[Proof, int]]
"""Returns a proof that ends in the stolen model, and how many intervals the verifier runs again."""


def judge_by_tolerance(forge: Forge, effort: Effort) -> Outcome:
    """Return how many forged proofs a verifier with a tolerance refuses."""
    # The matrices are small: more threads than one only wait for each other.
    torch.set_num_threads(1)
    count = max(2, effort.trials // TRIALS_PER_PROOF)
    refused, ratios, errors = 0, [], []
    for number in range(count):
        setting = make_setting(effort.seed + number)
        start_s = process_time()
        proof, intervals = forge(setting, effort.seed + 2_000_000 + number)
        ratios.append((process_time() - start_s) / setting.seconds)
        missed = measure_errors(proof, intervals)
        assert measure_distance(proof.states[-1], setting.proof.states[-1]) < 1e-5, "it ends in the stolen model"
        refused += max(missed) > setting.tolerance
        errors += [error / setting.tolerance for error in missed]
    found = f"errors of {min(errors):.2g} to {max(errors):.2g} tolerances where equality would ask for none"
    verdict = found if max(errors) else "what is run again is honest, and nobody runs the rest again"
    return Outcome(count, refused, None, sum(ratios) / count, verdict)


def _detach(state: State) -> State:
    return [part.detach() for part in state]


def _compute_gradients(state: State, batch: Batch) -> tuple[Tensor, ...]:
    weights = [part.detach().requires_grad_() for part in state]
    loss = compute_mean_loss(get_bench().task.program.spec.model, weights, *batch)
    return torch.autograd.grad(loss, weights)


def _interpolate(setting: Setting) -> list[State]:
    # Two thirds of the tolerance are for the distance to the next state, the rest for what a step moves.
    return _interpolate_from(setting.proof.states[0], setting.proof.states[-1], 2 * setting.tolerance / 3)


def _interpolate_from(start: State, end: State, spacing: float) -> list[State]:
    count = ceil(measure_distance(start, end) / spacing)
    return [[torch.lerp(a, b, number / count) for a, b in zip(start, end, strict=True)] for number in range(count + 1)]


def _fade(state: State, goal: State, batch: Batch, fading: tuple[float, float]) -> float:
    """Return by how much the images are faded towards grey for their step from `state` to end near `goal`.

    `fading` holds the factor to begin with and the tolerance. Zhang et al. search for points whose gradients vanish;
    without biases, fading finds them.
    """
    factor, tolerance = fading
    while measure_distance(take_step(state, (factor * batch[0], batch[1]), RATE), goal) > tolerance:
        factor /= 2
    return factor


def _make_case(rows: tuple[int, ...], name: str, forge: Forge) -> Attack:
    return Attack(
        rows,
        f"{name}: a verifier with a tolerance",
        forge.__doc__ or name,
        "accepted by a verifier with a tolerance",
        (Ending.ACCEPTED,),
        partial(judge_by_tolerance, forge),
    )


TOLERATED = (
    _make_case((1,), "crafted data, published setting", forge_by_crafted_data),
    _make_case((2, 4, 7), "tiny rate on a line, published setting", forge_by_tiny_rate),
    _make_case((3,), "blindfold, published setting", forge_behind_blindfold),
)
"""What the attacks come to elsewhere."""
