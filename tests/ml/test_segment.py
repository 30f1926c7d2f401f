"""Whole segments: both backends alike to the byte, the published state, and a model that learns."""

import hashlib
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from chain.errors import DecodeError
from ml.arithmetic import I8, I32
from ml.backends import get_backend
from ml.checkpoint import (
    Checkpoint,
    compute_checkpoint_root,
    compute_initial_checkpoint,
    decode_checkpoint,
    encode_checkpoint,
)
from ml.dataset import load_digits
from ml.evaluation import compute_evaluation
from ml.models import build_program
from ml.program import Matmul
from ml.segment import Runner, StepTensors, compute_initial_state, compute_rates, run_segment, run_step, run_steps
from ml.settlement import Delta, compute_mean_delta, compute_next_checkpoint
from ml.spec import DIGITS, Mlp

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "ml_digits.json").read_text())
REFERENCE, CPU = get_backend("reference"), get_backend("cpu")
PROGRAM = build_program(DIGITS)
DATASET = load_digits(DIGITS.heldout)
START = compute_initial_checkpoint(PROGRAM)
TINY = build_program(replace(DIGITS, model=Mlp((64, 9, 10)), batch=7, segment_steps=110, warmup_steps=5, decay_steps=7))


def make_seed(*names: int) -> bytes:
    return hashlib.sha256(repr(names).encode()).digest()


def collect(parts: list[bytes], _step: int, tensors: StepTensors) -> None:
    parts += [tensors[tensor].tobytes() for tensor in sorted(tensors)]


def test_backends_agree_on_every_tensor_of_110_steps() -> None:
    checkpoint, digests = compute_initial_checkpoint(TINY), []
    for backend in (REFERENCE, CPU):
        parts: list[bytes] = []
        run_segment(TINY, backend, checkpoint, DATASET, make_seed(1), partial(collect, parts))
        digests.append([hashlib.sha256(part).digest() for part in parts])
    assert digests[0] == digests[1]


@pytest.mark.parametrize("name", ["reference", "cpu"])
def test_a_segment_of_the_digits_is_the_published_one(name: str) -> None:
    result = run_segment(PROGRAM, get_backend(name), START, DATASET, bytes(32))
    state = hashlib.sha256(b"".join(part.tobytes() for part in result.state)).hexdigest()
    deltas = hashlib.sha256(b"".join(m.tobytes() + e.tobytes() for m, e in result.deltas)).hexdigest()
    found = {
        "dataset_root": DATASET.root.hex(),
        "checkpoint_root": compute_checkpoint_root(START).hex(),
        "segment_seed": bytes(32).hex(),
        "state_sha256": state,
        "deltas_sha256": deltas,
    }
    assert found == VECTORS


def test_the_tensors_of_a_step_have_the_shapes_of_the_program() -> None:
    state = compute_initial_state(PROGRAM, START)
    tensors = run_step(Runner(PROGRAM, CPU, DATASET, bytes(32), START), PROGRAM.steps - 1, state)
    assert sorted(tensors) == [tensor.id for tensor in PROGRAM.tensors]
    for tensor in PROGRAM.tensors:
        assert tensors[tensor.id].shape == (tensor.rows, tensor.columns)
        assert tensors[tensor.id].nbytes == tensor.size_bytes
        assert tensors[tensor.id].flags.c_contiguous


def test_a_borrowed_matmul_gives_the_same_segment() -> None:
    seen: list[Matmul] = []

    def multiply(matmul: Matmul, a: I8, b: I8) -> I32:
        assert (a.shape, b.shape) == ((matmul.M, matmul.K), (matmul.N, matmul.K))
        seen.append(matmul)
        return REFERENCE.multiply(a, b)

    checkpoint = compute_initial_checkpoint(TINY)
    borrowed = run_steps(Runner(TINY, CPU, DATASET, bytes(32), checkpoint, multiply))
    own = run_segment(TINY, CPU, checkpoint, DATASET, bytes(32))
    assert [part.tobytes() for part in borrowed.state] == [part.tobytes() for part in own.state]
    assert seen == list(TINY.matmuls) * TINY.steps


def test_another_seed_is_another_segment() -> None:
    checkpoint = compute_initial_checkpoint(TINY)
    one, other = (run_segment(TINY, CPU, checkpoint, DATASET, make_seed(name)).deltas for name in (1, 2))
    assert one[0][0].tobytes() != other[0][0].tobytes()


def test_rates_rise_and_fall_and_never_vanish() -> None:
    rates = [compute_rates(DIGITS, 0, step)[0] for step in range(DIGITS.segment_steps)]
    top = rates.index(max(rates))
    assert max(rates) == DIGITS.learning_rate
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert min(rates) > 0


def test_one_segment_alone_learns() -> None:
    deltas = run_segment(PROGRAM, CPU, START, DATASET, make_seed(0)).deltas
    after = compute_evaluation(PROGRAM, CPU, compute_next_checkpoint(PROGRAM, START, [deltas]), DATASET)
    before = compute_evaluation(PROGRAM, CPU, START, DATASET)
    assert before.correct < after.count // 2
    assert after.correct * 100 >= 95 * after.count
    assert after.loss_f16 < before.loss_f16 // 4


def test_three_rounds_of_four_segments_learn() -> None:
    checkpoint = START
    for round_number in range(3):
        seeds = [make_seed(round_number, miner, index) for miner in range(2) for index in range(2)]
        deltas = [run_segment(PROGRAM, CPU, checkpoint, DATASET, seed).deltas for seed in seeds]
        checkpoint = compute_next_checkpoint(PROGRAM, checkpoint, deltas)
    evaluation = compute_evaluation(PROGRAM, CPU, checkpoint, DATASET)
    assert evaluation.correct * 100 >= 96 * evaluation.count
    assert compute_evaluation(PROGRAM, REFERENCE, checkpoint, DATASET) == evaluation


def make_delta(value: int) -> Delta:
    return tuple((np.full_like(part, value, np.int8), np.full((len(part), 1), 3, np.int32)) for part in START.weights)


def test_a_mean_floors_magnitudes() -> None:
    deltas = [(np.array([[value]], np.int8), np.zeros((1, 1), np.int32)) for value in (-5, 0)]
    assert compute_mean_delta(deltas).tolist() == [[-2]]


def test_momentum_counts_only_in_company() -> None:
    alone = compute_next_checkpoint(PROGRAM, START, [make_delta(10)])
    assert [part[0, 0] for part in alone.momentum] == [80] * 3
    assert (alone.weights[0] - START.weights[0] == 80).all()
    company = compute_next_checkpoint(PROGRAM, alone, [make_delta(10), make_delta(20)])
    assert (company.momentum[0] == 120 + 40).all()
    assert (company.weights[0] - alone.weights[0] == 120 + 80).all()
    assert (compute_next_checkpoint(PROGRAM, company, [make_delta(1)]).momentum[0] == 8).all()


def test_an_empty_round_changes_nothing() -> None:
    assert compute_next_checkpoint(PROGRAM, START, []) is START


def test_weights_saturate_at_settlement() -> None:
    high = Checkpoint(tuple(np.full_like(part, 2**31 - 1) for part in START.weights), START.momentum)
    assert (compute_next_checkpoint(PROGRAM, high, [make_delta(127)]).weights[0] == 2**31 - 1).all()


def test_a_checkpoint_survives_its_bytes() -> None:
    data = encode_checkpoint(START)
    again = decode_checkpoint(PROGRAM, data)
    assert encode_checkpoint(again) == data
    assert compute_checkpoint_root(again) == compute_checkpoint_root(START)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (encode_checkpoint(START)[:-1], "found 206847 bytes, expected 206848"),
        (encode_checkpoint(START) + b"\0", "found 206849 bytes"),
        ((-(2**31)).to_bytes(4, "little", signed=True) + encode_checkpoint(START)[4:], "found -2147483648"),
    ],
)
def test_a_bad_checkpoint_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        decode_checkpoint(PROGRAM, data)


def test_every_part_of_a_checkpoint_enters_its_root() -> None:
    roots = {compute_checkpoint_root(START)}
    for field in range(2):
        for layer in range(3):
            parts = [[part.copy() for part in group] for group in (START.weights, START.momentum)]
            parts[field][layer][-1, -1] += 1
            roots.add(compute_checkpoint_root(Checkpoint(tuple(parts[0]), tuple(parts[1]))))
    assert len(roots) == 7
