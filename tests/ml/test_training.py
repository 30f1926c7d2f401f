"""Whole training runs give the same bytes on every backend, for every number of threads, and with nothing watched.

The runs are short but real: they draw, train and carry their moments.
"""

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise

import numpy as np
import pytest

from chain.primitives import Hash
from ml.backends import Backend, get_backend
from ml.backends.cpu.backend import CpuBackend, Work
from ml.checkpoint import compute_initial_checkpoint
from ml.dataset import Dataset, Text, load_digits
from ml.fusion import Fused, FusedKind, get_plan, run_fused
from ml.models import build_program
from ml.prf import compute_key
from ml.segment import Runner, compute_initial_state, run_step
from ml.spec import DIGITS, Decoder, Positions, Spec
from ml.training import run_training_step
from node.threads import spread_over_threads

SEED = bytes(range(32))
STREAM = np.frombuffer(b"".join(b"%d squared is %d, and so on. " % (n, n * n) for n in range(600)), np.uint8)
TEXT = Text(STREAM, STREAM[:2000], Hash(bytes(32)))
CLASSIFIER = replace(DIGITS, segment_steps=20, warmup_steps=2, decay_steps=4)


def make_decoder_spec(positions: Positions, tied: int, *, context: int = 16, width: int = 32) -> Spec:
    model = Decoder(256, context, width, 2, 4, 2 * width, positions, tied)
    return replace(CLASSIFIER, model=model, batch=4, learning_rate=1 << 24, weight_decay=1 << 28)


def compute_digest(spec: Spec, dataset: Dataset, backend: Backend, steps: int = 20) -> str:
    """Return the SHA-256 of weights, moments and losses after some steps."""
    program = build_program(spec)
    checkpoint = compute_initial_checkpoint(program)
    runner = Runner(program, backend, dataset, SEED, checkpoint)
    state, digest = compute_initial_state(program, checkpoint), sha256()
    for step in range(steps):
        result = run_training_step(runner, step, state)
        state = result.state
        digest.update(result.loss_f16.to_bytes(8, "little"))
    for array in state:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("positions", Positions)
@pytest.mark.parametrize("tied", [0, 1])
def test_a_decoder_trains_to_the_same_bytes_as_the_reference(positions: Positions, tied: int) -> None:
    spec = make_decoder_spec(positions, tied)
    expected = compute_digest(spec, TEXT, get_backend("reference"))
    assert compute_digest(spec, TEXT, get_backend("cpu")) == expected


def test_a_classifier_trains_to_the_same_bytes_as_the_reference() -> None:
    dataset = load_digits(360)
    expected = compute_digest(CLASSIFIER, dataset, get_backend("reference"))
    assert compute_digest(CLASSIFIER, dataset, get_backend("cpu")) == expected


def cut_unevenly(work: Work, n: int) -> None:
    """Run ranges of odd sizes, the last one first."""
    edges = sorted({0, n, n // 7, n // 3, max(0, n - 1)})
    for start, stop in reversed(list(pairwise(edges))):
        work(start, stop)


@pytest.mark.parametrize("make", [lambda: spread_over_threads(2), lambda: spread_over_threads(3), lambda: cut_unevenly])
def test_threat_32_neither_threads_nor_cuts_reach_a_byte(
    make: Callable[[], Callable[[Work, int], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_decoder_spec(Positions.ROTARY, 1, context=66, width=72)
    expected = compute_digest(spec, TEXT, CpuBackend(), steps=3)
    monkeypatch.setattr("ml.backends.cpu.backend.SPREAD_ELEMENTS", 0)
    assert compute_digest(spec, TEXT, CpuBackend(make()), steps=3) == expected


@pytest.mark.parametrize("spec", [CLASSIFIER, make_decoder_spec(Positions.LEARNED, 0)])
def test_a_step_nobody_watches_ends_like_one_in_full_sight(spec: Spec) -> None:
    program = build_program(spec)
    checkpoint = compute_initial_checkpoint(program)
    dataset: Dataset = load_digits(360) if spec is CLASSIFIER else TEXT
    runner = Runner(program, get_backend("cpu"), dataset, SEED, checkpoint)
    state = compute_initial_state(program, checkpoint)
    for step in range(3):
        watched = run_step(runner, step, state)
        lean = run_training_step(runner, step, state)
        state = lean.state
        for found, output in zip(state, program.state_outputs, strict=True):
            assert found.tobytes() == watched[output].tobytes()
        assert lean.loss_f16 == int(watched[program.loss].astype(np.int64).sum())


@pytest.mark.parametrize("positions", Positions)
def test_each_run_of_ops_ends_like_its_last_op(positions: Positions) -> None:
    """`attend`, `attend_backward` and `multiply_rescaled` against the reference, op by op, on a step's tensors."""
    spec = make_decoder_spec(positions, 0, context=33, width=24)
    program = build_program(spec)
    runner = Runner(program, get_backend("reference"), TEXT, SEED, compute_initial_checkpoint(program))
    watched = run_step(runner, 0, compute_initial_state(program, runner.checkpoint))
    runs = [item for item in get_plan(program) if isinstance(item, Fused)]
    assert {run.kind for run in runs} == set(FusedKind)
    for run in runs:
        inputs = [watched[tensor] for tensor in run.inputs]
        found = run_fused(CpuBackend(), spec, run, inputs, lambda op: compute_key(SEED, 0, op))
        for array, output in zip(found, run.outputs, strict=True):
            assert array.tobytes() == watched[output].tobytes()


def test_a_failing_range_is_reported_after_all_have_ended() -> None:
    done = []

    def work(start: int, stop: int) -> None:
        if start == 0:
            raise ValueError("the first range")
        done.append((start, stop))

    with pytest.raises(ValueError, match="the first range"):
        spread_over_threads(3)(work, 9)
    assert sorted(done) == [(3, 6), (6, 9)]


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_ranges_cover_everything_once(threads: int, n: int) -> None:
    seen: list[int] = []
    spread_over_threads(threads)(lambda start, stop: seen.extend(range(start, stop)), n)
    assert sorted(seen) == list(range(n))
