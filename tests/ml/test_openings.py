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
from ml.backends import get_backend
from ml.checkpoint import compute_initial_checkpoint
from ml.checks import CHECKS, CheckContext, check_place
from ml.dataset import load_digits
from ml.openings import OPENING_BYTES_MAX, Place, TensorReader, decode_opening, draw_places
from ml.program import Op, OpKind, TensorId, build_program
from ml.proving import open_place, prove_segment, verify_opening, verify_openings
from ml.segment import Runner, StepTensors, compute_initial_state, run_op, run_step
from ml.spec import DIGITS
from ml.tensor_tree import TensorTree, compute_tensor_root
from ml.trace import Trace, compute_step_roots

SPEC = replace(DIGITS, widths=(64, 12, 10), batch=6, segment_steps=2, warmup_steps=1, decay_steps=1)
PROGRAM = build_program(SPEC)
DATASET = load_digits(SPEC.heldout)
RUNNER = Runner(
    PROGRAM, get_backend("reference"), DATASET, tagged_hash("test", b"seed"), compute_initial_checkpoint(PROGRAM)
)
CONTEXT = CheckContext(PROGRAM, DATASET, RUNNER.segment_seed)
LAST = PROGRAM.steps - 1
OPS = PROGRAM.ops + PROGRAM.delta_ops


@cache
def run_all() -> tuple[StepTensors, ...]:
    steps, state = [], compute_initial_state(PROGRAM, RUNNER.checkpoint)
    for step in range(PROGRAM.steps):
        steps.append(run_step(RUNNER, step, state))
        state = tuple(steps[-1][output] for output in PROGRAM.state_outputs)
    return tuple(steps)


@cache
def make_trace() -> Trace:
    checkpoint = tuple(compute_tensor_root(weights) for weights in RUNNER.checkpoint.weights)
    roots = b"".join(compute_step_roots(PROGRAM, step, tensors) for step, tensors in enumerate(run_all()))
    return Trace(PROGRAM, checkpoint, roots)


def forge(step: int, tensors: StepTensors) -> Trace:
    """Return the trace with the roots of `tensors` in place of the step's own."""
    roots = [compute_step_roots(PROGRAM, s, tensors if s == step else t) for s, t in enumerate(run_all())]
    return replace(make_trace(), output_roots=b"".join(roots))


def open_without_checking(place: Place, tensors: StepTensors) -> bytes:
    reader = TensorReader(PROGRAM, tensors, {})
    with suppress(InvalidProof):
        check_place(CONTEXT, place, reader)
    return reader.encode()


def make_place(op: Op, row: int = 1, column: int = 1, step: int = LAST) -> Place:
    output = PROGRAM.tensors[op.outputs[0]]
    return Place(step, op.index, row % output.rows, column % output.columns, depth=2)


def with_change(tensor: TensorId, row: int, column: int, change: int) -> StepTensors:
    tensors = dict(run_all()[LAST])
    tensors[tensor] = tensors[tensor].copy()
    tensors[tensor][row, column] += change
    return tensors


def test_no_kind_of_op_lacks_a_check() -> None:
    assert set(CHECKS) == set(OpKind)
    assert {op.kind for op in OPS} == set(OpKind)


def test_every_element_of_an_honest_segment_verifies() -> None:
    for step, tensors in enumerate(run_all()):
        for op in PROGRAM.get_step_ops(step):
            output = PROGRAM.tensors[op.outputs[0]]
            trees: dict[TensorId, TensorTree] = {}
            stride = max(1, output.rows * output.columns // 12)
            for element in range(0, output.rows * output.columns, stride):
                place = make_place(op, *divmod(element, output.columns), step)
                data = open_place(CONTEXT, place, tensors, trees)
                assert len(data) <= OPENING_BYTES_MAX
                verify_opening(CONTEXT, make_trace(), place, data)


@pytest.mark.parametrize("op", OPS, ids=lambda op: f"{op.index}-{op.kind.name}")
def test_a_forged_output_is_caught_where_it_is_drawn(op: Op) -> None:
    for output in op.outputs:
        tensor = PROGRAM.tensors[output]
        for element in range(0, tensor.rows * tensor.columns, max(1, tensor.rows * tensor.columns // 6)):
            row, column = divmod(element, tensor.columns)
            for change in (1, -1):
                tensors = with_change(output, row, column, change)
                place = make_place(op, row, column)
                with pytest.raises(InvalidProof, match=r"^(op-|exponent-range|moment-range|label-range)"):
                    verify_opening(CONTEXT, forge(LAST, tensors), place, open_without_checking(place, tensors))
                with pytest.raises(InvalidProof):
                    open_place(CONTEXT, place, tensors)


@pytest.mark.parametrize("op", OPS, ids=lambda op: f"{op.index}-{op.kind.name}")
def test_a_segment_that_read_other_inputs_is_spliced_and_caught(op: Op) -> None:
    """Each half is honest for itself: the op's output is right for an input that its producer never made."""
    trace, tensors = make_trace(), run_all()[LAST]
    place = make_place(op)
    good = decode_opening(open_place(CONTEXT, place, tensors))
    other = decode_opening(open_place(CONTEXT, make_place(op, step=0), run_all()[0])) if op in PROGRAM.ops else good
    for index in range(len(good.pieces)):
        if other.pieces[index] != good.pieces[index]:
            pieces = (*good.pieces[:index], other.pieces[index], *good.pieces[index + 1 :])
            with pytest.raises(InvalidProof):
                verify_opening(CONTEXT, trace, place, encode(replace(good, pieces=pieces)))


def test_another_producer_of_a_matmul_row_is_caught_by_a_draw_of_the_matmul() -> None:
    for matmul in PROGRAM.matmuls:
        for operand in (matmul.a, matmul.b):
            tensors = dict(run_all()[LAST])
            tensors[operand] = np.zeros_like(tensors[operand])
            op = PROGRAM.get_op(matmul.op)
            (tensors[op.outputs[0]],) = run_op(RUNNER, LAST, op, [tensors[tensor] for tensor in op.inputs])
            honest, place = run_all()[LAST], make_place(op)
            row = place.row if operand == matmul.a else place.column
            place = replace(place, depth=int(np.abs(honest[operand][row].astype(np.int32)).argmax()))
            if honest[operand][row].any():
                with pytest.raises(InvalidProof, match="op-quantise"):
                    verify_opening(CONTEXT, forge(LAST, tensors), place, open_without_checking(place, tensors))


@pytest.mark.parametrize("change", [1, 3, -1])
def test_a_loose_exponent_is_refused(change: int) -> None:
    """Mantissas rounded honestly to an exponent that is not the row's own, in rows and in transposed views."""
    for op in PROGRAM.ops:
        if op.kind in (OpKind.QUANTISE_ROWS, OpKind.QUANTISE_TRANSPOSED) and not op.stochastic:
            tensors = dict(run_all()[LAST])
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
            place = make_place(op, row, int(np.abs(x[row]).argmax()))
            with pytest.raises(InvalidProof, match="op-quantise"):
                verify_opening(CONTEXT, forge(LAST, tensors), place, open_without_checking(place, tensors))


@pytest.mark.parametrize("op", OPS, ids=lambda op: f"{op.index}-{op.kind.name}")
def test_a_changed_opening_is_refused(op: Op) -> None:
    place, trace = make_place(op), make_trace()
    data = open_place(CONTEXT, place, run_all()[LAST])
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
                verify_opening(CONTEXT, trace, place, encode(opening))
    for broken in (data[:-1], data + b"\x00", b"", bytes(OPENING_BYTES_MAX + 1)):
        with pytest.raises(InvalidProof, match="opening-encoding"):
            verify_opening(CONTEXT, trace, place, broken)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_one_changed_byte_anywhere_is_refused(data: st.DataObject) -> None:
    place = make_place(data.draw(st.sampled_from(OPS)))
    opening = bytearray(open_place(CONTEXT, place, run_all()[LAST]))
    at = data.draw(st.integers(0, len(opening) - 1))
    opening[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(InvalidProof):
        verify_opening(CONTEXT, make_trace(), place, bytes(opening))


def test_an_opening_stands_for_its_own_place_segment_and_data() -> None:
    op = PROGRAM.ops[0]
    place = make_place(op)
    data = open_place(CONTEXT, place, run_all()[LAST])
    with pytest.raises(InvalidProof):
        verify_opening(CONTEXT, make_trace(), replace(place, row=place.row + 1), data)
    with pytest.raises(InvalidProof):
        verify_opening(CONTEXT, make_trace(), replace(place, step=0), data)
    with pytest.raises(InvalidProof, match="op-batch"):
        verify_opening(replace(CONTEXT, segment_seed=bytes(32)), make_trace(), place, data)
    shifted = replace(DATASET, x=DATASET.x + 1)
    with pytest.raises(InvalidProof, match="op-batch"):
        verify_opening(replace(CONTEXT, dataset=shifted), make_trace(), place, data)


def test_values_that_no_honest_step_reaches_are_refused_before_they_are_used() -> None:
    adam = next(op for op in PROGRAM.ops if op.kind is OpKind.ADAM)
    loss = next(op for op in PROGRAM.ops if op.kind is OpKind.SOFTMAX_XENT_GRADIENT)
    linear = next(op for op in PROGRAM.ops if op.kind is OpKind.LINEAR)
    cases = [
        (linear, 1, 63, "exponent-range"),
        (linear, 1, -40, "exponent-range"),
        (loss, 1, 1000, "label-range"),
        (adam, 3, -(2**31), "int-min"),
    ]
    for op, place_of_input, value, rule in cases:
        tensors = dict(run_all()[LAST])
        tensor = op.inputs[place_of_input]
        tensors[tensor] = np.full_like(tensors[tensor], value)
        with pytest.raises(InvalidProof, match=rule):
            verify_opening(
                CONTEXT, forge(LAST, tensors), make_place(op), open_without_checking(make_place(op), tensors)
            )


def test_a_proven_segment_verifies_and_only_for_its_challenge() -> None:
    challenge = tagged_hash("test", b"challenge")
    openings = prove_segment(RUNNER, challenge, 8)
    verify_openings(CONTEXT, make_trace(), challenge, 8, openings)
    with pytest.raises(InvalidProof, match="opening-count"):
        verify_openings(CONTEXT, make_trace(), challenge, 8, openings[:-1])
    with pytest.raises(InvalidProof):
        verify_openings(CONTEXT, make_trace(), challenge, 8, openings[::-1])
    with pytest.raises(InvalidProof):
        verify_openings(CONTEXT, make_trace(), tagged_hash("test", b"other"), 8, openings)


def test_places_follow_macs_and_records_and_stay_inside() -> None:
    program = build_program(DIGITS)
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
    assert {op.index for op in program.ops} <= set(by_record)
    assert max(by_record.values()) < 130
    assert len({place.step for place in places}) == program.steps
