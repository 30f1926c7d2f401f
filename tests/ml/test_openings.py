"""Every kind of op has a local check: honest openings pass, and a lie is caught where it is drawn."""

from collections import Counter
from contextlib import suppress
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.codec import encode
from chain.errors import InvalidProof
from chain.hashing import tagged_hash
from chain.primitives import Hash
from ml.checks import CHECKS, CheckContext, check_place
from ml.dataset import Dataset, Text
from ml.models import build_program
from ml.openings import OPENING_BYTES_MAX, Place, TensorReader, decode_opening, draw_places
from ml.program import Op, OpKind, TensorId
from ml.proving import open_place, prove_segment, verify_opening, verify_openings
from ml.segment import StepTensors, compute_initial_state, run_op, run_step
from ml.spec import DIGITS, Spec
from ml.tensor_tree import TensorTree, compute_tensor_root
from ml.trace import Trace, compute_step_roots
from tests.support.models import TINY_SPECS, make_case

NAMES = tuple(TINY_SPECS)


def pick_ops(name: str) -> list[Op]:
    """Return an op of each kind and attributes, the last of its sort: earlier layers repeat them."""
    program = make_case(name).program
    ops = {}
    for op in (*program.ops, *program.delta_ops):
        ops[op.kind, op.is_stochastic, op.groups, op.is_causal, op.part, op.is_inverse, len(op.inputs)] = op
    return list(ops.values())


CASE_OPS = [pytest.param(name, op, id=f"{name}-{op.index}-{op.kind.name}") for name in NAMES for op in pick_ops(name)]
LAST = TINY_SPECS["mlp"].segment_steps - 1


def make_context(name: str) -> CheckContext:
    case = make_case(name)
    return CheckContext(case.program, case.dataset, case.runner.segment_seed)


@cache
def run_all(name: str) -> tuple[StepTensors, ...]:
    case = make_case(name)
    steps, state = [], compute_initial_state(case.program, case.runner.checkpoint)
    for step in range(case.program.steps):
        steps.append(run_step(case.runner, step, state))
        state = tuple(steps[-1][output] for output in case.program.state_outputs)
    return tuple(steps)


@cache
def make_trace(name: str) -> Trace:
    case = make_case(name)
    checkpoint = tuple(compute_tensor_root(weights) for weights in case.runner.checkpoint.weights)
    roots = b"".join(compute_step_roots(case.program, step, tensors) for step, tensors in enumerate(run_all(name)))
    return Trace(case.program, checkpoint, roots)


def forge(name: str, tensors: StepTensors, changed: TensorId) -> Trace:
    """Return the trace with the last step's root of the tensor `changed` taken from `tensors`."""
    program, trace = make_case(name).program, make_trace(name)
    place = program.get_step_outputs(LAST).index(changed)
    start = sum(len(program.get_step_outputs(step)) for step in range(LAST)) + place
    root, roots = compute_tensor_root(tensors[changed]), trace.output_roots
    return replace(trace, output_roots=roots[: 32 * start] + root + roots[32 * start + 32 :])


def open_without_checking(name: str, place: Place, tensors: StepTensors) -> bytes:
    reader = TensorReader(make_case(name).program, tensors, {})
    with suppress(InvalidProof):
        check_place(make_context(name), place, reader)
    return reader.encode()


def make_place(name: str, op: Op, row: int = 1, column: int = 1, step: int = LAST) -> Place:
    output = make_case(name).program.tensors[op.outputs[0]]
    return Place(step, op.index, row % output.rows, column % output.columns, depth=2)


def with_change(name: str, tensor: TensorId, row: int, column: int, change: int) -> StepTensors:
    tensors = dict(run_all(name)[LAST])
    tensors[tensor] = tensors[tensor].copy()
    tensors[tensor][row, column] += change
    return tensors


def test_no_kind_of_op_lacks_a_check() -> None:
    assert set(CHECKS) == set(OpKind)
    assert {op.kind for name in NAMES for op in pick_ops(name)} == set(OpKind)


@pytest.mark.parametrize("name", NAMES)
def test_every_op_of_an_honest_segment_verifies(name: str) -> None:
    case, context = make_case(name), make_context(name)
    for step, tensors in enumerate(run_all(name)):
        trees: dict[TensorId, TensorTree] = {}
        for op in case.program.get_step_ops(step):
            output = case.program.tensors[op.outputs[0]]
            stride = max(1, output.rows * output.columns // 5)
            for element in range(0, output.rows * output.columns, stride):
                place = make_place(name, op, *divmod(element, output.columns), step)
                data = open_place(context, place, tensors, trees)
                assert len(data) <= OPENING_BYTES_MAX
                verify_opening(context, make_trace(name), place, data)


@pytest.mark.parametrize(("name", "op"), CASE_OPS)
def test_a_forged_output_is_caught_where_it_is_drawn(name: str, op: Op) -> None:
    for output in op.outputs:
        tensor = make_case(name).program.tensors[output]
        for element in range(0, tensor.rows * tensor.columns, max(1, tensor.rows * tensor.columns // 5)):
            row, column = divmod(element, tensor.columns)
            for change in (1, -1):
                tensors = with_change(name, output, row, column, change)
                place = make_place(name, op, row, column)
                opening = open_without_checking(name, place, tensors)
                with pytest.raises(InvalidProof, match=r"^(op-|exponent-range|moment-range|label-range)"):
                    verify_opening(make_context(name), forge(name, tensors, output), place, opening)
                with pytest.raises(InvalidProof):
                    open_place(make_context(name), place, tensors)


@pytest.mark.parametrize(("name", "op"), CASE_OPS)
def test_a_segment_that_read_other_inputs_is_spliced_and_caught(name: str, op: Op) -> None:
    """Each half is honest for itself: the op's output is right for an input that its producer never made."""
    context, trace, place = make_context(name), make_trace(name), make_place(name, op)
    good = decode_opening(open_place(context, place, run_all(name)[LAST]))
    other = good
    if op in make_case(name).program.ops:
        other = decode_opening(open_place(context, make_place(name, op, step=0), run_all(name)[0]))
    for index in range(min(len(good.pieces), len(other.pieces))):
        if other.pieces[index] != good.pieces[index]:
            pieces = (*good.pieces[:index], other.pieces[index], *good.pieces[index + 1 :])
            with pytest.raises(InvalidProof):
                verify_opening(context, trace, place, encode(replace(good, pieces=pieces)))


@pytest.mark.parametrize("name", ["mlp", "decoder-tied"])
def test_another_producer_of_a_matmul_row_is_caught_by_a_draw_of_the_matmul(name: str) -> None:
    case, honest = make_case(name), run_all(name)[LAST]
    for matmul in case.program.matmuls:
        for operand in (matmul.a, matmul.b):
            tensors = dict(honest)
            tensors[operand] = np.zeros_like(tensors[operand])
            op = case.program.get_op(matmul.op)
            (output,) = op.outputs
            (tensors[output],) = run_op(case.runner, LAST, op, [tensors[tensor] for tensor in op.inputs])
            place = make_place(name, op, row=matmul.M - 1, column=0)
            row = place.row if operand == matmul.a else place.row // matmul.M * matmul.N + place.column
            place = replace(place, depth=int(np.abs(honest[operand][row].astype(np.int32)).argmax()))
            if honest[operand][row].any():
                one, other = (forge(name, tensors, changed) for changed in (operand, output))
                trace = replace(one, output_roots=merge_roots(one, other, make_trace(name)))
                with pytest.raises(InvalidProof, match="op-quantise"):
                    verify_opening(make_context(name), trace, place, open_without_checking(name, place, tensors))


def merge_roots(one: Trace, other: Trace, honest: Trace) -> bytes:
    """Return the honest roots with the changes of both traces."""
    parts = zip(*(trace.output_roots for trace in (one, other, honest)), strict=True)
    return bytes(a if a != c else b for a, b, c in parts)


@pytest.mark.parametrize("change", [1, 3, -1])
@pytest.mark.parametrize("name", ["mlp", "decoder"])
def test_a_loose_exponent_is_refused(name: str, change: int) -> None:
    """Mantissas rounded honestly to an exponent that is not the row's own, in rows and in transposed views."""
    for op in pick_ops(name):
        if op.kind in (OpKind.QUANTISE_ROWS, OpKind.QUANTISE_TRANSPOSED) and not op.is_stochastic and op.groups == 1:
            tensors = dict(run_all(name)[LAST])
            mantissas, exponents = (tensors[output].copy() for output in op.outputs)
            source = tensors[op.inputs[0]].astype(np.int64)
            x = source if op.kind is OpKind.QUANTISE_ROWS else source.T
            row = int(exponents[:, 0].argmax())
            exponents[row] += change
            shift = int(exponents[row, 0])
            if shift < 0:
                continue
            mantissas[row] = np.clip((x[row] + (1 << shift >> 1)) >> shift, -63, 63)
            tensors.update(zip(op.outputs, (mantissas, exponents), strict=True))
            place = make_place(name, op, row, int(np.abs(x[row]).argmax()))
            one, other = (forge(name, tensors, output) for output in op.outputs)
            trace = replace(one, output_roots=merge_roots(one, other, make_trace(name)))
            with pytest.raises(InvalidProof, match="op-quantise"):
                verify_opening(make_context(name), trace, place, open_without_checking(name, place, tensors))


@pytest.mark.parametrize(("name", "op"), CASE_OPS)
def test_a_changed_opening_is_refused(name: str, op: Op) -> None:
    context, trace, place = make_context(name), make_trace(name), make_place(name, op)
    data = open_place(context, place, run_all(name)[LAST])
    good = decode_opening(data)
    cut, first = good.pieces[:-1], good.pieces[0]
    forged = [
        replace(good, pieces=cut),
        replace(good, pieces=(*good.pieces, first)),
        replace(good, pieces=(replace(first, data=first.data[:-1]), *good.pieces[1:])) if len(first.data) > 1 else None,
        replace(good, pieces=(replace(first, path=(*first.path, Hash(bytes(32)))), *good.pieces[1:])),
        replace(good, witnesses=(*good.witnesses, 0)),
        replace(good, witnesses=tuple(2**32 - 1 for _ in good.witnesses)) if good.witnesses else None,
        replace(good, witnesses=good.witnesses[:-1]) if good.witnesses else None,
    ]
    for opening in forged:
        if opening is not None:
            with pytest.raises(InvalidProof):
                verify_opening(context, trace, place, encode(opening))
    for broken in (data[:-1], data + b"\x00", b"", bytes(OPENING_BYTES_MAX + 1)):
        with pytest.raises(InvalidProof, match="opening-encoding"):
            verify_opening(context, trace, place, broken)


def test_a_witness_of_another_head_is_refused() -> None:
    """The tallest element of a grouped view is sought within the group alone."""
    name = "decoder"
    op = next(op for op in pick_ops(name) if op.kind is OpKind.QUANTISE_TRANSPOSED and op.groups > 1)
    place = make_place(name, op, row=0)
    good = decode_opening(open_place(make_context(name), place, run_all(name)[LAST]))
    outside = make_case(name).program.tensors[op.outputs[0]].columns
    with pytest.raises(InvalidProof, match="witness-row"):
        verify_opening(
            make_context(name), make_trace(name), place, encode(replace(good, witnesses=(outside, *good.witnesses[1:])))
        )


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_one_changed_byte_anywhere_is_refused(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(NAMES))
    place = make_place(name, data.draw(st.sampled_from(pick_ops(name))))
    opening = bytearray(open_place(make_context(name), place, run_all(name)[LAST]))
    at = data.draw(st.integers(0, len(opening) - 1))
    opening[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(InvalidProof):
        verify_opening(make_context(name), make_trace(name), place, bytes(opening))


@pytest.mark.parametrize(("name", "rule"), [("mlp", "op-batch"), ("decoder", "op-windows")])
def test_an_opening_stands_for_its_own_place_segment_and_data(name: str, rule: str) -> None:
    context, trace, op = make_context(name), make_trace(name), make_case(name).program.ops[0]
    place = make_place(name, op)
    data = open_place(context, place, run_all(name)[LAST])
    with pytest.raises(InvalidProof):
        verify_opening(context, trace, replace(place, row=place.row + 1), data)
    with pytest.raises(InvalidProof):
        verify_opening(context, trace, replace(place, step=0), data)
    with pytest.raises(InvalidProof, match=rule):
        verify_opening(replace(context, segment_seed=bytes(32)), trace, place, data)
    with pytest.raises(InvalidProof, match=rule):
        verify_opening(replace(context, dataset=change_data(context.dataset)), trace, place, data)


def change_data(dataset: Dataset) -> Dataset:
    if isinstance(dataset, Text):
        return replace(dataset, stream=dataset.stream ^ np.uint8(1))
    return replace(dataset, x=dataset.x + 1)


@pytest.mark.parametrize(
    ("name", "kind", "place_of_input", "value", "rule"),
    [
        ("mlp", OpKind.LINEAR, 1, 63, "exponent-range"),
        ("mlp", OpKind.LINEAR, 1, -40, "exponent-range"),
        ("mlp", OpKind.SOFTMAX_XENT_GRADIENT, 1, 1000, "label-range"),
        ("mlp", OpKind.ADAM, 2, -1, "moment-range"),
        ("mlp", OpKind.ADAM, 3, -(2**31), "int-min"),
        ("decoder", OpKind.EMBED, 0, 128, "token-range"),
        ("decoder", OpKind.EMBED, 0, -1, "token-range"),
        ("decoder", OpKind.CAUSAL_SOFTMAX_BACKWARD, 0, -1, "probability-range"),
        ("decoder", OpKind.CAUSAL_SOFTMAX_BACKWARD, 0, 1 << 24, "found a sum of"),
        ("mlp", OpKind.DELTA, 0, -(2**31), "int-min"),
    ],
)
def test_values_that_no_honest_step_reaches_are_refused_before_they_are_used(
    name: str, kind: OpKind, place_of_input: int, value: int, rule: str
) -> None:
    program = make_case(name).program
    op = next(op for op in (*program.ops, *program.delta_ops) if op.kind is kind)
    tensors, tensor = dict(run_all(name)[LAST]), op.inputs[place_of_input]
    tensors[tensor] = np.full_like(tensors[tensor], value)
    place, context, trace = make_place(name, op), make_context(name), make_trace(name)
    if make_case(name).program.get_producer(tensor) is not None:
        trace = forge(name, tensors, tensor)
        with pytest.raises(InvalidProof, match=rule):
            verify_opening(context, trace, place, open_without_checking(name, place, tensors))
    else:
        with pytest.raises(InvalidProof, match=rule):
            open_place(context, place, tensors)


@pytest.mark.parametrize("name", NAMES)
def test_a_proven_segment_verifies_and_only_for_its_challenge(name: str) -> None:
    challenge, context, trace = tagged_hash("test", b"challenge"), make_context(name), make_trace(name)
    openings = prove_segment(make_case(name).runner, challenge, 8)
    verify_openings(context, trace, challenge, 8, openings)
    with pytest.raises(InvalidProof, match="opening-count"):
        verify_openings(context, trace, challenge, 8, openings[:-1])
    with pytest.raises(InvalidProof):
        verify_openings(context, trace, challenge, 8, openings[::-1])
    with pytest.raises(InvalidProof):
        verify_openings(context, trace, tagged_hash("test", b"other"), 8, openings)


@pytest.mark.parametrize("spec", [DIGITS, TINY_SPECS["decoder-rotary"]])
def test_places_follow_macs_and_records_and_stay_inside(spec: Spec) -> None:
    program = build_program(spec)
    places = draw_places(program, tagged_hash("test", b"places"), 4000)
    for place in places:
        output = program.tensors[program.get_op(place.op).outputs[0]]
        assert place.row < output.rows
        assert place.column < output.columns
        assert program.get_op(place.op) in program.get_step_ops(place.step)
    by_macs, by_record = Counter(p.op for p in places[0::2]), Counter(p.op for p in places[1::2])
    for matmul in program.matmuls:
        assert abs(by_macs[matmul.op] - 2000 * matmul.macs // program.step_macs) < 120
    assert sum(by_macs.values()) == sum(by_macs[matmul.op] for matmul in program.matmuls)
    assert len({op.index for op in program.ops} - set(by_record)) <= len(program.ops) // 50
    assert max(by_record.values()) < 4 * 2000 // len(program.ops) + 30
    assert len({place.step for place in places}) == program.steps
