"""Demands of a dispute over the tensors of a program: do they name something, what answers them, what does that show.

It joins the chain's records of disputes with ml's proofs. It knows neither deposits nor turns.
"""

from collections.abc import Mapping

from chain.dispute import Demand, DemandDigests, DemandOpening, DemandStrip
from chain.errors import InvalidTransaction
from chain.ledger.learning import Leaf
from ml.checks import CheckContext, make_check_context
from ml.disputing import (
    Difference,
    choose_place,
    find_element,
    find_strip,
    open_digests,
    open_whole_strip,
    verify_digests,
    verify_whole_strip,
)
from ml.openings import Place
from ml.program import Op, Program, TensorId
from ml.proving import State, open_place, rerun_step, verify_opening
from ml.segment import Runner, StepTensors
from ml.trace import Trace, get_tensor_shape


def validate_demand(program: Program, leaf: Leaf, demand: Demand) -> None:
    """Check that a demand names an output, strip or place of an op that exists; raises InvalidTransaction."""
    if leaf.step >= program.steps:
        raise InvalidTransaction("demand-step", f"found step {leaf.step}, expected one below {program.steps}")
    ops = program.get_step_ops(leaf.step)
    if leaf.op >= len(ops):
        raise InvalidTransaction("demand-op", f"found op {leaf.op}, expected one below {len(ops)}")
    op = ops[leaf.op]
    if isinstance(demand, DemandOpening):
        _validate_place(program, op, demand)
        return
    if demand.output >= len(op.outputs):
        raise InvalidTransaction("demand-output", f"found output {demand.output}, expected below {len(op.outputs)}")
    strips = get_tensor_shape(program.tensors[op.outputs[demand.output]]).strips
    if isinstance(demand, DemandStrip) and demand.strip >= strips:
        raise InvalidTransaction("demand-strip", f"found strip {demand.strip}, expected one below {strips}")


def verify_answer(context: CheckContext, trace: Trace, demanded: tuple[Leaf, Demand], answer: bytes) -> None:
    """Check that `answer` shows what was demanded, and that an opened op holds; raises InvalidProof."""
    leaf, demand = demanded
    outputs = context.program.get_op(leaf.op).outputs
    match demand:
        case DemandDigests(output=output):
            verify_digests(trace, leaf.step, outputs[output], answer)
        case DemandStrip(output=output, strip=strip):
            verify_whole_strip(trace, leaf.step, outputs[output], strip, answer)
        case DemandOpening(row=row, column=column, depth=depth):
            verify_opening(context, trace, Place(leaf.step, leaf.op, row, column, depth), answer)


def make_answer(runner: Runner, demanded: tuple[Leaf, Demand], states: Mapping[int, State] | None = None) -> bytes:
    """Return what answers a demand of the runner's segment; raises InvalidProof when an op does not hold."""
    leaf, demand = demanded
    tensors = rerun_step(runner, leaf.step, states)
    outputs: tuple[TensorId, ...] = runner.program.get_op(leaf.op).outputs
    match demand:
        case DemandDigests(output=output):
            return open_digests(tensors[outputs[output]])
        case DemandStrip(output=output, strip=strip):
            return open_whole_strip(tensors[outputs[output]], strip)
        case DemandOpening(row=row, column=column, depth=depth):
            context = make_check_context(runner)
            return open_place(context, Place(leaf.step, leaf.op, row, column, depth), tensors)


def make_next_demand(trace: Trace, difference: Difference, shown: tuple[Demand, bytes], tensors: StepTensors) -> Demand:
    """Return what a challenger demands after an answer, from its own `tensors` of the step.

    `shown` is the last demand with its answer, which holds and differs from the challenger's own.
    """
    program, (demand, answer) = trace.program, shown
    tensor = program.get_op(difference.op).outputs[difference.output]
    if isinstance(demand, DemandDigests):
        return DemandStrip(difference.output, find_strip(tensors[tensor], answer))
    assert isinstance(demand, DemandStrip), "an opening that holds ends a dispute"
    rows = verify_whole_strip(trace, difference.step, tensor, demand.strip, answer)
    element = find_element(tensors[tensor], demand.strip, rows)
    place = choose_place(program, difference, element, tensors)
    return DemandOpening(place.row, place.column, place.depth)


def _validate_place(program: Program, op: Op, demand: DemandOpening) -> None:
    output, matmul = program.tensors[op.outputs[0]], program.get_matmul(op.index)
    if demand.row >= output.rows or demand.column >= output.columns:
        found, expected = (demand.row, demand.column), (output.rows, output.columns)
        raise InvalidTransaction("demand-place", f"found element {found}, expected one inside {expected}")
    depth_max = 0 if matmul is None else matmul.K - 1
    if demand.depth > depth_max:
        raise InvalidTransaction("demand-place", f"found depth {demand.depth}, expected at most {depth_max}")
