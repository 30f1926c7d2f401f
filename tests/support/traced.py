"""Steps of small models with their traces, honest ones and such as a liar commits to."""

from dataclasses import dataclass, replace
from functools import cache

from chain.primitives import Hash
from ml.arithmetic import I8, I32
from ml.backends import get_backend
from ml.checks import CheckContext
from ml.program import Matmul, Program, TensorId
from ml.segment import Runner, StepTensors, compute_initial_state, run_step
from ml.tensor_tree import compute_tensor_root
from ml.trace import Trace, compute_step_roots
from ml.transcript import ACCUMULATOR_BYTES, compute_transcript_size, get_product_shape
from tests.support.models import make_case

CPU = get_backend("cpu")


@dataclass(frozen=True, slots=True)
class Segment:
    """Every tensor of every step, and the trace that commits to them."""

    context: CheckContext
    steps: tuple[StepTensors, ...]
    trace: Trace


def run_segment_of(runner: Runner) -> Segment:
    """Return the segment that `runner` computes, committed to as it is."""
    program, steps = runner.program, []
    state = compute_initial_state(program, runner.checkpoint)
    for step in range(program.steps):
        steps.append(run_step(runner, step, state))
        state = tuple(steps[-1][output] for output in program.state_outputs)
    roots = b"".join(compute_step_roots(program, step, tensors) for step, tensors in enumerate(steps))
    checkpoint = tuple(map(compute_tensor_root, runner.checkpoint.weights))
    context = CheckContext(program, runner.dataset, runner.segment_seed)
    return Segment(context, tuple(steps), Trace(program, checkpoint, roots))


@cache
def make_segment(name: str) -> Segment:
    """Return the honest segment of the small model `name`."""
    return run_segment_of(replace(make_case(name).runner, backend=CPU))


def make_forged_segment(name: str, op: int, difference: I32) -> Segment:
    """Return a segment whose product of one op is off by `difference` in its last step, and which goes on from it."""
    runner = replace(make_case(name).runner, backend=CPU)
    seen = []

    def multiply(matmul: Matmul, a: I8, b: I8) -> I32:
        product = CPU.multiply(a, b)
        if matmul.op != op:
            return product
        seen.append(matmul)
        return product + difference if len(seen) == runner.program.steps else product

    return run_segment_of(replace(runner, multiply=multiply))


def commit_to(segment: Segment, step: int, tensors: StepTensors, changed: TensorId) -> Trace:
    """Return the segment's trace with one root of `step` taken from `tensors`."""
    program, roots = segment.context.program, segment.trace.output_roots
    before = sum(len(program.get_step_outputs(earlier)) for earlier in range(step))
    start = 32 * (before + program.get_step_outputs(step).index(changed))
    root: Hash = compute_tensor_root(tensors[changed])
    return replace(segment.trace, output_roots=roots[:start] + root + roots[start + 32 :])


def find_product(program: Program, step: int, op: int) -> int:
    """Return where the product of an op starts in the transcript of `step`."""
    start = compute_transcript_size(program, step)
    for matmul in reversed(program.matmuls):
        rows, columns = get_product_shape(matmul)
        start -= ACCUMULATOR_BYTES * rows * columns
        if matmul.op == op:
            return start
    raise AssertionError(f"op {op} is no matmul")
