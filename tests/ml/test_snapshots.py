"""A prover that kept states opens what it would open without them, and runs no step that it need not."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from chain.hashing import tagged_hash
from chain.primitives import Hash
from ml.backends import get_backend
from ml.checkpoint import compute_initial_checkpoint
from ml.dataset import load_digits
from ml.models import build_program
from ml.noise import I8, I32
from ml.openings import draw_places
from ml.program import Matmul
from ml.proving import SNAPSHOT_BYTES_MAX, Snapshots, compute_snapshot_interval, prove_segment
from ml.segment import Runner, StepTensors, run_steps
from ml.spec import DIGITS, Mlp

STEPS = 7
PROGRAM = build_program(
    replace(DIGITS, model=Mlp((64, 6, 10)), batch=5, segment_steps=STEPS, warmup_steps=1, decay_steps=1)
)
BACKEND, RUNS = get_backend("reference"), Counter[int]()
STATE_BYTES = sum(PROGRAM.tensors[tensor].size_bytes for tensor in PROGRAM.state_inputs)


def multiply(matmul: Matmul, a: I8, b: I8) -> I32:
    RUNS[matmul.op] += 1
    return BACKEND.multiply(a, b)


RUNNER = Runner(PROGRAM, BACKEND, load_digits(DIGITS.heldout), bytes(32), compute_initial_checkpoint(PROGRAM), multiply)


def make_snapshots(interval: int) -> Snapshots:
    snapshots = Snapshots(PROGRAM, interval)
    run_steps(RUNNER, snapshots.on_step)
    return snapshots


def draw(number: int) -> tuple[Hash, set[int]]:
    challenge = tagged_hash("test", bytes([number]))
    return challenge, {place.step for place in draw_places(PROGRAM, challenge, 2)}


def count_steps(number: int, snapshots: Snapshots) -> int:
    RUNS.clear()
    prove_segment(RUNNER, draw(number)[0], 2, snapshots.states)
    counts = list(RUNS.values())
    assert len(counts) == len(PROGRAM.matmuls)
    assert min(counts) == max(counts)
    return counts[0]


@pytest.mark.parametrize("interval", [1, 2, 3, STEPS])
def test_openings_are_the_same_with_and_without_states(interval: int) -> None:
    snapshots = make_snapshots(interval)
    assert sorted(snapshots.states) == list(range(interval, STEPS, interval))
    for number in range(6):
        challenge, _ = draw(number)
        assert prove_segment(RUNNER, challenge, 2, snapshots.states) == prove_segment(RUNNER, challenge, 2)


def test_only_the_steps_since_the_latest_state_are_run() -> None:
    for number in range(6):
        _, drawn = draw(number)
        assert count_steps(number, make_snapshots(1)) == len(drawn)
        assert count_steps(number, make_snapshots(STEPS)) == max(drawn) + 1
        expected = {step for last in drawn for step in range(last - last % 3, last + 1)}
        assert count_steps(number, make_snapshots(3)) == len(expected)


@pytest.mark.parametrize(("kept", "interval"), [(0, 7), (1, 4), (2, 3), (3, 2), (5, 2), (6, 1), (100, 1)])
def test_an_interval_keeps_snapshots_within_bytes(kept: int, interval: int) -> None:
    assert compute_snapshot_interval(PROGRAM, kept * STATE_BYTES) == interval
    assert compute_snapshot_interval(PROGRAM, (kept + 1) * STATE_BYTES - 1) == interval
    assert len(make_snapshots(interval).states) <= kept


def test_snapshots_take_no_copy() -> None:
    snapshots, seen = Snapshots(PROGRAM, 1), list[StepTensors]()

    def on_step(step: int, tensors: StepTensors) -> None:
        seen.append(tensors)
        snapshots.on_step(step, tensors)

    run_steps(RUNNER, on_step)
    for step, state in snapshots.states.items():
        for output, array in zip(PROGRAM.state_outputs, state, strict=True):
            assert np.shares_memory(seen[step - 1][output], array)


def test_every_step_of_the_digits_is_kept() -> None:
    assert compute_snapshot_interval(build_program(DIGITS), SNAPSHOT_BYTES_MAX) == 1
