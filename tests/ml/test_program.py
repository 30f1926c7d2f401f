"""The program of a step: every tensor made before it is read, every bound of the spec refused, a fixed split."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from chain.codec import encode
from chain.errors import DecodeError
from ml.dataset import load_digits
from ml.program import Dtype, OpKind, TensorKind, build_program
from ml.spec import DIGITS, MlpSpec, decode_spec, encode_spec

PROGRAM = build_program(DIGITS)


def test_ids_and_indexes_are_positions() -> None:
    assert [tensor.id for tensor in PROGRAM.tensors] == list(range(len(PROGRAM.tensors)))
    ops = PROGRAM.get_step_ops(PROGRAM.steps - 1)
    assert [op.index for op in ops] == list(range(len(ops)))
    assert len(PROGRAM.get_step_ops(0)) == len(ops) - PROGRAM.layers
    assert len({tensor.name for tensor in PROGRAM.tensors}) == len(PROGRAM.tensors)


def test_every_tensor_is_made_before_it_is_read_and_only_once() -> None:
    known = {*PROGRAM.state_inputs, *PROGRAM.checkpoint_weights}
    for op in PROGRAM.ops + PROGRAM.delta_ops:
        assert known.issuperset(op.inputs)
        assert known.isdisjoint(op.outputs)
        known.update(op.outputs)
    assert known == {tensor.id for tensor in PROGRAM.tensors}


def test_state_goes_out_as_it_came_in() -> None:
    for before, after in zip(PROGRAM.state_inputs, PROGRAM.state_outputs, strict=True):
        one, other = PROGRAM.tensors[before], PROGRAM.tensors[after]
        assert (one.kind, other.kind) == (TensorKind.STATE, TensorKind.OUTPUT)
        assert (one.rows, one.columns, one.dtype, f"{one.name}.after") == (
            other.rows,
            other.columns,
            other.dtype,
            other.name,
        )


def test_every_op_kind_occurs_and_has_a_producer_for_each_output() -> None:
    ops = PROGRAM.ops + PROGRAM.delta_ops
    assert {op.kind for op in ops} == set(OpKind)
    assert all(PROGRAM.get_producer(output) is op for op in ops for output in op.outputs)
    assert PROGRAM.get_producer(PROGRAM.state_inputs[0]) is None


def test_matmuls_are_the_linear_ops() -> None:
    linear = [op.index for op in PROGRAM.ops if op.kind is OpKind.LINEAR]
    assert [matmul.op for matmul in PROGRAM.matmuls] == linear
    for matmul in PROGRAM.matmuls:
        a, b = PROGRAM.tensors[matmul.a], PROGRAM.tensors[matmul.b]
        assert (a.rows, a.columns, b.rows, b.columns) == (matmul.M, matmul.K, matmul.N, matmul.K)
        assert (a.dtype, b.dtype) == (Dtype.INT8, Dtype.INT8)
        assert PROGRAM.get_matmul(matmul.op) is matmul
    assert PROGRAM.get_matmul(0) is None


def test_macs_are_three_products_a_layer_but_for_the_input_gradient() -> None:
    pairs = [wide * narrow for wide, narrow in pairwise(DIGITS.widths)]
    assert PROGRAM.step_macs == DIGITS.batch * (3 * sum(pairs) - pairs[0])
    assert PROGRAM.segment_macs == PROGRAM.steps * PROGRAM.step_macs


def test_the_spec_has_one_encoding() -> None:
    assert decode_spec(encode_spec(DIGITS)) == DIGITS


@pytest.mark.parametrize(
    "spec",
    [
        replace(DIGITS, version=2),
        replace(DIGITS, widths=(64,)),
        replace(DIGITS, widths=(64, 0, 10)),
        replace(DIGITS, widths=(64, 1)),
        replace(DIGITS, widths=(131_072, 10)),
        replace(DIGITS, batch=0),
        replace(DIGITS, batch=131_072),
        replace(DIGITS, segment_steps=0, warmup_steps=0, decay_steps=0),
        replace(DIGITS, segment_steps=1025),
        replace(DIGITS, warmup_steps=40, decay_steps=40),
        replace(DIGITS, learning_rate=1 << 29),
        replace(DIGITS, outer_momentum=16),
        replace(DIGITS, outer_rate=0),
        replace(DIGITS, outer_rate=17),
    ],
)
def test_a_spec_beyond_its_bounds_is_refused(spec: MlpSpec) -> None:
    with pytest.raises(DecodeError, match="MlpSpec: expected"):
        encode_spec(spec)
    with pytest.raises(DecodeError, match="MlpSpec: expected"):
        decode_spec(encode(spec))


def test_the_digits_are_split_once_and_for_all() -> None:
    digits = load_digits(360)
    assert digits.x.shape == (1437, 64)
    assert digits.heldout_x.shape == (360, 64)
    assert {digits.x.dtype, digits.labels.dtype} == {np.dtype(np.int32)}
    assert (int(digits.x.min()), int(digits.x.max())) == (-65536, 65536)
    assert np.bincount(digits.heldout_labels[:, 0]).min() > 20
    assert load_digits(359).root != digits.root
