"""The forward program gives the training program's logits, from ops that all come from it."""

from dataclasses import replace

import numpy as np
import pytest

from ml.arithmetic import I32
from ml.evaluation import compute_logits
from ml.forward import build_forward, get_logits, load_model, run_pass, shorten
from ml.models import build_program
from ml.program import OpKind, TensorKind
from ml.spec import Decoder
from tests.support.models import TINY_SPECS, Case, make_case


def run(case: Case, given: I32) -> I32:
    model = load_model(case.spec, case.runner.backend, case.runner.checkpoint.weights)
    return get_logits(*run_pass(model, given))


def make_given(case: Case, count: int) -> I32:
    generator = np.random.default_rng(5)
    if isinstance(case.spec.model, Decoder):
        return generator.integers(0, case.spec.model.vocabulary, (count, 1)).astype(np.int32)
    return generator.integers(0, 1 << 16, (1, case.spec.model.widths[0])).astype(np.int32)


@pytest.mark.parametrize("name", TINY_SPECS)
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_pass_gives_the_logits_of_training(name: str, backend: str) -> None:
    case = make_case(name, backend)
    given = make_given(case, 7)
    labels = np.zeros((len(given), 1), np.int32)
    expected, _ = compute_logits(
        case.program, case.runner.backend, case.runner.checkpoint, case.dataset, (given, labels)
    )
    np.testing.assert_array_equal(run(case, given), expected)


@pytest.mark.parametrize("name", TINY_SPECS)
def test_its_ops_are_those_of_training(name: str) -> None:
    spec = TINY_SPECS[name]
    forward, training = build_forward(spec, 3), build_program(shorten(spec, 3))
    assert [op.index for op in forward.program.ops] == list(range(len(forward.program.ops)))
    by_outputs = {op.outputs: op for op in training.ops}
    for op in forward.program.ops:
        assert replace(op, index=0) == replace(by_outputs[op.outputs], index=0)
        assert not op.is_stochastic
    kinds = {op.kind for op in forward.program.ops}
    assert not kinds & {OpKind.BATCH, OpKind.WINDOWS, OpKind.ADAM, OpKind.DELTA, OpKind.SOFTMAX_XENT_GRADIENT}
    assert [matmul.op for matmul in forward.program.matmuls] == [
        op.index for op in forward.program.ops if op.kind is OpKind.LINEAR
    ]


@pytest.mark.parametrize("name", TINY_SPECS)
def test_everything_it_reads_is_a_weight_given_or_made(name: str) -> None:
    forward = build_forward(TINY_SPECS[name], 3)
    made = {forward.given}
    for op in forward.program.ops:
        for tensor in op.inputs:
            assert tensor in made or forward.program.tensors[tensor].kind is TensorKind.STATE
        made.update(op.outputs)
    assert forward.logits in made
    assert sorted(forward.fixed + forward.changing, key=lambda op: op.index) == list(forward.program.ops)


@pytest.mark.parametrize("name", [name for name in TINY_SPECS if name != "mlp"])
def test_weights_keep_their_shapes_in_short_windows(name: str) -> None:
    spec = TINY_SPECS[name]
    for length in (1, 3, 7):
        forward = build_forward(spec, length)
        shapes = [
            (forward.program.tensors[t].rows, forward.program.tensors[t].columns) for t in forward.program.state_inputs
        ]
        assert shapes == [(part.rows, part.columns) for part in build_program(spec).parameters]
        # What is computed once for all windows must be the same tensors in each of them.
        assert [op.outputs for op in forward.fixed] == [op.outputs for op in build_forward(spec, 2).fixed]
