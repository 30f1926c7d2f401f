"""The program of a step: every tensor made before it is read, every bound of the spec refused, a fixed split."""

import gc
import weakref
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from chain.codec import encode
from chain.errors import DecodeError
from ml.dataset import load_digits
from ml.models import PROGRAMS_KEPT, build_program
from ml.program import Dtype, OpKind, Program, TensorKind
from ml.spec import DIGITS, Decoder, Mlp, Spec, compute_spec_hash, count_weights, decode_spec, encode_spec
from tests.support.models import TINY_SPECS

PROGRAM = build_program(DIGITS)
PROGRAMS = [pytest.param(build_program(spec), id=name) for name, spec in (("digits", DIGITS), *TINY_SPECS.items())]
DECODER = TINY_SPECS["decoder"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_ids_and_indexes_are_positions(program: Program) -> None:
    assert [tensor.id for tensor in program.tensors] == list(range(len(program.tensors)))
    ops = program.get_step_ops(program.steps - 1)
    assert [op.index for op in ops] == list(range(len(ops)))
    assert [program.get_op(op.index) for op in ops] == list(ops)
    assert len(program.get_step_ops(0)) == len(ops) - len(program.parameters)
    assert len({tensor.name for tensor in program.tensors}) == len(program.tensors)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_tensor_is_made_before_it_is_read_and_only_once(program: Program) -> None:
    known = {*program.state_inputs, *program.checkpoint_weights}
    for op in program.ops + program.delta_ops:
        assert known.issuperset(op.inputs)
        assert known.isdisjoint(op.outputs)
        known.update(op.outputs)
    assert known == {tensor.id for tensor in program.tensors}


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_output_but_the_loss_is_read(program: Program) -> None:
    read = {tensor for op in program.ops for tensor in op.inputs}
    written = {output for op in program.ops for output in op.outputs}
    assert written - read == {program.loss, *program.state_outputs}


@pytest.mark.parametrize("program", PROGRAMS)
def test_state_goes_out_as_it_came_in(program: Program) -> None:
    for before, after in zip(program.state_inputs, program.state_outputs, strict=True):
        one, other = program.tensors[before], program.tensors[after]
        assert (one.kind, other.kind) == (TensorKind.STATE, TensorKind.OUTPUT)
        assert (one.rows, one.columns, one.dtype, f"{one.name}.after") == (
            other.rows,
            other.columns,
            other.dtype,
            other.name,
        )
    count = len(program.parameters)
    assert [program.tensors[t].dtype for t in program.state_inputs[:count]] == [Dtype.INT32] * count
    assert [program.tensors[t].dtype for t in program.state_inputs[2 * count :]] == [Dtype.INT64] * count


def test_every_op_kind_occurs() -> None:
    programs = [build_program(spec) for spec in TINY_SPECS.values()]
    assert {op.kind for program in programs for op in program.ops + program.delta_ops} == set(OpKind)


@pytest.mark.parametrize("program", PROGRAMS)
def test_matmuls_are_the_linear_ops(program: Program) -> None:
    linear = [op.index for op in program.ops if op.kind is OpKind.LINEAR]
    assert [matmul.op for matmul in program.matmuls] == linear
    for matmul in program.matmuls:
        a, b = program.tensors[matmul.a], program.tensors[matmul.b]
        rows = matmul.groups * matmul.M, matmul.groups * matmul.N
        assert (a.rows, a.columns, b.rows, b.columns) == (rows[0], matmul.K, rows[1], matmul.K)
        assert (a.dtype, b.dtype) == (Dtype.INT8, Dtype.INT8)
        assert program.get_matmul(matmul.op) is matmul
        assert program.get_lottery_matmul(matmul.op) is (None if matmul.is_attention else matmul)
    assert program.get_matmul(0) is None


def test_macs_are_three_products_a_layer_but_for_the_input_gradient() -> None:
    assert isinstance(DIGITS.model, Mlp)
    pairs = [wide * narrow for wide, narrow in pairwise(DIGITS.model.widths)]
    assert PROGRAM.step_macs == DIGITS.batch * (3 * sum(pairs) - pairs[0])
    assert PROGRAM.segment_macs == PROGRAM.steps * PROGRAM.step_macs


def test_a_decoders_macs_are_its_weights_and_the_positions_its_rows_see() -> None:
    program, model = build_program(DECODER), DECODER.model
    assert isinstance(model, Decoder)
    rows = DECODER.batch * model.context
    linear = sum(part.count for part in program.parameters if part.name not in ("embedding", "positions"))
    assert sum(matmul.macs for matmul in program.lottery_matmuls) == 3 * rows * linear
    seen = DECODER.batch * model.context * (model.context + 1) // 2
    assert program.step_macs - 3 * rows * linear == model.layers * 6 * seen * model.width


def test_attention_draws_no_tickets_even_with_one_head_of_one_sequence() -> None:
    program = build_program(replace(with_model(heads=1), batch=1))
    layers = {f"{part.name}" for part in program.parameters if part.name not in ("embedding", "positions")}
    names = {program.tensors[program.get_op(matmul.op).outputs[0]].name for matmul in program.lottery_matmuls}
    assert names == {f"{layer}.{output}" for layer in layers for output in ("z", "g", "dx")}
    assert len(program.matmuls) - len(program.lottery_matmuls) == 6 * 2


@pytest.mark.parametrize("program", PROGRAMS)
def test_weights_are_counted_without_the_program(program: Program) -> None:
    assert count_weights(program.spec.model) == sum(parameter.count for parameter in program.parameters)


def test_the_spec_has_one_encoding_and_one_name() -> None:
    for spec in (DIGITS, *TINY_SPECS.values()):
        assert decode_spec(encode_spec(spec)) == spec
    assert len({compute_spec_hash(spec) for spec in TINY_SPECS.values()}) == len(TINY_SPECS)


def with_model(**changes: int) -> Spec:
    assert isinstance(DECODER.model, Decoder)
    return replace(DECODER, model=replace(DECODER.model, **changes))


@pytest.mark.parametrize(
    "spec",
    [
        replace(DIGITS, version=1),
        replace(DIGITS, model=Mlp((64,))),
        replace(DIGITS, model=Mlp((64, 0, 10))),
        replace(DIGITS, model=Mlp((64, 1))),
        replace(DIGITS, model=Mlp((131_072, 10))),
        replace(DIGITS, batch=0),
        replace(DIGITS, batch=131_072),
        replace(DIGITS, segment_steps=0, warmup_steps=0, decay_steps=0),
        replace(DIGITS, warmup_steps=40, decay_steps=40),
        replace(DIGITS, learning_rate=1 << 29),
        replace(DIGITS, outer_momentum=16),
        replace(DIGITS, outer_rate=0),
        replace(DIGITS, outer_rate=17),
        replace(DIGITS, delta_bits=2),
        replace(DIGITS, delta_bits=6),
        replace(DIGITS, version=2),
        with_model(vocabulary=1),
        with_model(vocabulary=8193),
        with_model(context=0),
        with_model(context=4097),
        with_model(width=0),
        with_model(width=13),
        with_model(width=16_386),
        with_model(layers=0),
        with_model(layers=257),
        with_model(heads=0),
        with_model(heads=5),
        with_model(hidden=0),
        with_model(hidden=131_072),
        with_model(positions=2),
        with_model(tied=2),
        with_model(positions=1, heads=4),
        with_model(width=1024, heads=2),
        with_model(width=8192, heads=64, hidden=131_071, layers=8),
        replace(DIGITS, model=Mlp((64, 131_071, 131_071, 10))),
        replace(DECODER, batch=16_384),
    ],
)
def test_a_spec_beyond_its_bounds_is_refused(spec: Spec) -> None:
    with pytest.raises(DecodeError, match="Spec: expected"):
        encode_spec(spec)
    with pytest.raises(DecodeError, match="Spec: expected"):
        decode_spec(encode(spec))


def test_weight_gradients_are_scaled_by_the_rows_of_a_batch() -> None:
    for batch, expected in ((1, 16), (4, 16), (6, 17), (64, 20), (1024, 24), (1025, 25), (4096, 26)):
        program = build_program(replace(TINY_SPECS["mlp"], batch=batch))
        gradients = [
            op for op in program.ops if op.kind is OpKind.LINEAR and program.tensors[op.outputs[0]].name.endswith(".g")
        ]
        assert {op.shift for op in gradients} == {expected}


def test_the_digits_are_split_once_and_for_all() -> None:
    digits = load_digits(360)
    assert digits.x.shape == (1437, 64)
    assert digits.heldout_x.shape == (360, 64)
    assert {digits.x.dtype, digits.labels.dtype} == {np.dtype(np.int32)}
    assert (int(digits.x.min()), int(digits.x.max())) == (-65536, 65536)
    assert np.bincount(digits.heldout_labels[:, 0]).min() > 20
    assert load_digits(359).root == digits.root


def test_programs_of_specs_that_strangers_sent_do_not_stay_for_ever() -> None:
    """A posted task's program is made before the task is refused, and that costs nobody a fee."""
    first = weakref.ref(build_program(replace(DIGITS, init_seed=1 << 32)))
    for seed in range(PROGRAMS_KEPT):
        build_program(replace(DIGITS, init_seed=seed))
    gc.collect()
    assert first() is None
