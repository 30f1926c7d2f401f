"""Disputes over tensors: wherever one element of one output is wrong, the challenger's demands lead to where no opening
holds; what the segment itself gives answers every demand."""

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from chain.dispute import ANSWER_BYTES_MAX, Demand, DemandDigests, DemandOpening, DemandStrip
from chain.errors import InvalidProof, InvalidTransaction
from chain.ledger.learning import Leaf
from ml.backends import Rounding
from ml.backends.reference import ReferenceBackend
from ml.checks import check_place
from ml.disputing import Difference, find_difference, open_digests, open_whole_strip, verify_whole_strip
from ml.openings import Place, TensorReader
from ml.prf import compute_key
from ml.program import Op, OpKind, TensorId
from ml.provable import DIGESTS_BYTES_MAX
from ml.segment import StepTensors, as_i32
from ml.tensor_tree import DIGEST_BYTES, STRIP_ROWS
from ml.trace import Trace, get_tensor_shape
from node.demands import make_answer, make_next_demand, validate_demand, verify_answer
from tests.ml.test_openings import (
    CASE_OPS,
    LAST,
    NAMES,
    forge,
    make_context,
    make_trace,
    pick_ops,
    run_all,
    with_change,
)
from tests.support.models import make_case


class HidingReader(TensorReader):
    """Points at the tallest element that fits the exponents as they were committed, not at the tallest of all."""

    def find_tallest(self, tensor: TensorId, column: int, rows: tuple[int, int]) -> int:
        """Return a row whose element explains the committed exponent, if there is one."""
        program = self.program
        op = next(op for op in program.ops if op.kind is OpKind.QUANTISE_TRANSPOSED and op.inputs[0] == tensor)
        group = rows[0] // (rows[1] - rows[0])
        exponent = int(self.tensors[op.outputs[1]][group * program.tensors[tensor].columns + column, 0])
        heights = [int(abs(int(x))).bit_length() for x in self.tensors[tensor][rows[0] : rows[1], column]]
        self.witnesses.append(rows[0] + (heights.index(exponent + 6) if exponent + 6 in heights else 0))
        return self.witnesses[-1]


Reads = type[TensorReader]


def show(name: str, tensors: StepTensors, demand: Demand, op: Op, make_reader: Reads) -> bytes:
    """Return the best answer that whoever committed to `tensors` has, whether or not the op holds."""
    match demand:
        case DemandDigests(output=output):
            return open_digests(tensors[op.outputs[output]])
        case DemandStrip(output=output, strip=strip):
            return open_whole_strip(tensors[op.outputs[output]], strip)
        case DemandOpening(row=row, column=column, depth=depth):
            reader = make_reader(make_case(name).program, tensors, {})
            with suppress(InvalidProof):
                check_place(make_context(name), Place(LAST, op.index, row, column, depth), reader)
            return reader.encode()


def dispute(name: str, claimed: Trace, shown: StepTensors, op: Op, reader: Reads = TensorReader) -> str:
    """Play a dispute out against the best answers there are; return the rule that refuses the last one."""
    own, leaf, context = make_trace(name), Leaf(LAST, op.index), make_context(name)
    difference = find_difference(claimed.program, own.output_roots, claimed.output_roots)
    assert difference is not None
    assert (difference.step, difference.op) == (LAST, op.index)
    demand: Demand = DemandDigests(difference.output)
    for _ in range(2):
        validate_demand(claimed.program, leaf, demand)
        answer = show(name, shown, demand, op, reader)
        verify_answer(context, claimed, (leaf, demand), answer)
        demand = make_next_demand(claimed, difference, (demand, answer), run_all(name)[LAST])
    validate_demand(claimed.program, leaf, demand)
    with pytest.raises(InvalidProof) as refused:
        verify_answer(context, claimed, (leaf, demand), show(name, shown, demand, op, reader))
    return refused.value.rule


def change(name: str, tensor: TensorId, row: int, column: int) -> StepTensors:
    """Return the last step's tensors with one element moved by one, within what its dtype holds."""
    before = run_all(name)[LAST][tensor]
    step = -1 if int(before[row, column]) == np.iinfo(before.dtype).max else 1
    return with_change(name, tensor, row, column, step)


@pytest.mark.parametrize(("name", "op"), CASE_OPS)
def test_one_wrong_element_is_led_to_where_no_opening_holds(name: str, op: Op) -> None:
    program = make_case(name).program
    for output in op.outputs:
        rows, columns = program.tensors[output].rows, program.tensors[output].columns
        for row, column in {(rows - 1, columns - 1), (rows // 2, columns // 3)}:
            tensors = change(name, output, row, column)
            rule = dispute(name, forge(name, tensors, output), tensors, op)
            assert not rule.startswith(("tensor-root", "opening")), rule


def hide_tallest(name: str, op: Op) -> StepTensors | None:
    """Return tensors in which a row is quantised as if it had no tallest element; None where that shows anyway."""
    case, tensors = make_case(name), run_all(name)[LAST]
    source, (mantissas, exponents) = tensors[op.inputs[0]], op.outputs
    columns = case.program.tensors[op.inputs[0]].columns
    per_group = len(source) // op.groups
    for row in range(len(tensors[exponents])):
        group, column = divmod(row, columns)
        exponent = int(tensors[exponents][row, 0])
        part = source[group * per_group : (group + 1) * per_group, column]
        heights = [int(abs(int(x))).bit_length() for x in part]
        # The first column must not be the tallest element's, and another element must explain the lower exponent.
        if exponent and heights[0] < exponent + 6 and exponent + 5 in heights:
            forged = dict(tensors)
            forged[exponents] = tensors[exponents].copy()
            forged[exponents][row, 0] -= 1
            rounding = Rounding(compute_key(case.runner.segment_seed, LAST, op.index)) if op.is_stochastic else None
            lowered = as_i32(forged[exponents])
            forged[mantissas] = ReferenceBackend().quantise_transposed(as_i32(source), rounding, op.groups, lowered)[0]
            return forged
    return None


def forge_both(name: str, tensors: StepTensors, outputs: tuple[TensorId, ...]) -> Trace:
    """Return the trace with the last step's roots of two tensors that were changed."""
    first, second = (forge(name, tensors, output) for output in outputs)
    place = first.program.get_step_outputs(LAST).index(outputs[1])
    start = (sum(len(first.program.get_step_outputs(step)) for step in range(LAST)) + place) * DIGEST_BYTES
    stop = start + DIGEST_BYTES
    roots = first.output_roots[:start] + second.output_roots[start:stop] + first.output_roots[stop:]
    return replace(first, output_roots=roots)


@pytest.mark.parametrize("name", NAMES)
def test_a_hidden_tallest_element_is_shown(name: str) -> None:
    tried = 0
    for op in (op for op in make_case(name).program.ops if op.kind is OpKind.QUANTISE_TRANSPOSED):
        forged = hide_tallest(name, op)
        if forged is not None:
            tried += 1
            assert (
                dispute(name, forge_both(name, forged, op.outputs), forged, op, HidingReader)
                == "op-quantise-transposed"
            )
    assert tried


@pytest.mark.parametrize("name", NAMES)
def test_an_honest_segment_answers_whatever_is_demanded(name: str) -> None:
    case, trace, context = make_case(name), make_trace(name), make_context(name)
    for op in pick_ops(name):
        leaf = Leaf(LAST, op.index)
        output = len(op.outputs) - 1
        tensor = case.program.tensors[op.outputs[output]]
        last = get_tensor_shape(tensor).strips - 1
        first = case.program.tensors[op.outputs[0]]
        for demand in (
            DemandDigests(output),
            DemandStrip(output, last),
            DemandOpening(first.rows - 1, first.columns - 1, 0),
        ):
            validate_demand(case.program, leaf, demand)
            answer = make_answer(case.runner, (leaf, demand))
            assert len(answer) <= ANSWER_BYTES_MAX
            verify_answer(context, trace, (leaf, demand), answer)


def test_equal_traces_have_no_difference_and_the_first_of_several_is_found() -> None:
    name = "mlp"
    program, trace = make_case(name).program, make_trace(name)
    assert find_difference(program, trace.output_roots, trace.output_roots) is None
    zeros = bytes(len(trace.output_roots))
    assert find_difference(program, trace.output_roots, zeros) == Difference(0, 0, len(program.ops[0].outputs) - 1)


def test_answers_of_another_size_place_or_tensor_are_refused() -> None:
    case, trace = make_case("mlp"), make_trace("mlp")
    op = next(op for op in case.program.ops if op.kind is OpKind.LINEAR)
    leaf, context = Leaf(LAST, op.index), make_context("mlp")
    strip = DemandStrip(0, 0)
    digests, rows = (make_answer(case.runner, (leaf, demand)) for demand in (DemandDigests(0), strip))
    with pytest.raises(InvalidProof, match="digests-size"):
        verify_answer(context, trace, (leaf, DemandDigests(0)), digests + bytes(DIGEST_BYTES))
    with pytest.raises(InvalidProof, match="digests-root"):
        verify_answer(context, trace, (leaf, DemandDigests(0)), bytes(len(digests)))
    with pytest.raises(InvalidProof, match="strip-encoding"):
        verify_answer(context, trace, (leaf, strip), digests)
    with pytest.raises(InvalidProof, match="tensor-root"):
        verify_answer(context, trace, (Leaf(LAST - 1, op.index), strip), rows)
    shown = verify_whole_strip(trace, LAST, op.outputs[0], 0, rows)
    assert np.array_equal(shown, run_all("mlp")[LAST][op.outputs[0]][:STRIP_ROWS, : shown.shape[1]])


@pytest.mark.parametrize(
    ("leaf", "demand", "rule"),
    [
        (Leaf(LAST + 1, 0), DemandDigests(0), "demand-step"),
        (Leaf(0, 10_000), DemandDigests(0), "demand-op"),
        (Leaf(0, 0), DemandDigests(2), "demand-output"),
        (Leaf(0, 0), DemandStrip(0, 10_000), "demand-strip"),
        (Leaf(0, 0), DemandOpening(10_000, 0, 0), "demand-place"),
        (Leaf(0, 0), DemandOpening(0, 0, 1), "demand-place"),
    ],
)
def test_demands_of_what_does_not_exist_are_refused(leaf: Leaf, demand: Demand, rule: str) -> None:
    with pytest.raises(InvalidTransaction, match=rule):
        validate_demand(make_case("mlp").program, leaf, demand)


def test_delta_ops_can_be_demanded_of_the_last_step_alone() -> None:
    program = make_case("mlp").program
    op = program.delta_ops[0].index
    validate_demand(program, Leaf(LAST, op), DemandDigests(0))
    with pytest.raises(InvalidTransaction, match="demand-op"):
        validate_demand(program, Leaf(LAST - 1, op), DemandDigests(0))


def test_the_digests_that_a_task_may_need_fit_an_answer() -> None:
    assert DIGESTS_BYTES_MAX == ANSWER_BYTES_MAX
