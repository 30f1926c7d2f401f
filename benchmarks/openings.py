"""`python -m benchmarks.openings`: time and size of one opening check by kind of op, and the cost of a step's trace.

Digits at full size and a small decoder; the medians of repeated runs on the machine it runs on. It writes nothing.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from chain.hashing import tagged_hash
from ml.backends import get_backend
from ml.backends.cpu.tensor_hash import compute_tensor_roots
from ml.checkpoint import compute_initial_checkpoint
from ml.checks import CheckContext
from ml.dataset import Dataset, load_digits
from ml.models import build_program
from ml.openings import Place
from ml.program import Op, OpKind, Program
from ml.proving import open_place, prove_segment, verify_opening, verify_openings
from ml.segment import Runner, StepTensors, run_steps
from ml.spec import DIGITS, Spec
from ml.tensor_tree import compute_tensor_root
from ml.trace import Trace, compute_step_roots, compute_trace_root
from node.datasets.registry import load_dataset
from node.models.specs import find_spec

REPEATS = 41
PLACES = 8


def measure_us(function: Callable[[], object], repeats: int = REPEATS) -> float:
    """Return the median microseconds of one call."""
    function()
    samples = []
    for _ in range(repeats):
        start_ns = time.perf_counter_ns()
        function()
        samples.append(time.perf_counter_ns() - start_ns)
    return statistics.median(samples) / 1000


def pick_largest(program: Program, kind: OpKind) -> Op:
    """Return the op of `kind` whose inputs and outputs have the most bytes."""
    ops = [op for op in program.ops + program.delta_ops if op.kind is kind]
    return max(ops, key=lambda op: sum(program.tensors[t].size_bytes for t in op.inputs + op.outputs))


def main() -> None:
    """Print the tables of a classifier and of a decoder."""
    print_ops(DIGITS, load_digits(DIGITS.heldout), is_whole=True)
    decoder = replace(find_spec("plays-tiny").spec, segment_steps=2, warmup_steps=1, decay_steps=1)
    print_ops(decoder, load_dataset("plays", decoder.heldout), is_whole=False)


def print_ops(spec: Spec, dataset: Dataset, *, is_whole: bool) -> None:
    """Print what a check of each kind of op costs, and if `is_whole` the costs of a segment."""
    program = build_program(spec)
    checkpoint = compute_initial_checkpoint(program)
    runner = Runner(program, get_backend("cpu"), dataset, tagged_hash("benchmark", b"openings"), checkpoint)
    roots: list[bytes] = []
    last: list[StepTensors] = []

    def on_step(step: int, tensors: StepTensors) -> None:
        roots.append(compute_step_roots(program, step, tensors, compute_tensor_roots))
        last[:] = [tensors]

    run_steps(runner, on_step)
    trace = Trace(program, tuple(map(compute_tensor_root, checkpoint.weights)), b"".join(roots))
    context = CheckContext(program, dataset, runner.segment_seed)
    print(f"{'op':24}{'check us':>10}{'opening bytes':>16}")
    for kind in sorted({op.kind for op in (*program.ops, *program.delta_ops)}):
        op = pick_largest(program, kind)
        output = program.tensors[op.outputs[0]]
        place = Place(program.steps - 1, op.index, output.rows // 2, output.columns // 2, 3)
        data = open_place(context, place, last[0])
        check_us = measure_us(partial(verify_opening, context, trace, place, data))
        print(f"{kind.name:24}{check_us:>10.0f}{len(data):>16,}")
    if is_whole:
        print_segment(runner, trace, last[0])


def print_segment(runner: Runner, trace: Trace, tensors: StepTensors) -> None:
    """Print what a whole segment's trace and proof cost."""
    context = CheckContext(runner.program, runner.dataset, runner.segment_seed)
    challenge = tagged_hash("benchmark", b"challenge")
    openings = prove_segment(runner, challenge, PLACES)
    size_bytes = sum(map(len, openings))
    step_us = measure_us(lambda: compute_step_roots(runner.program, 0, tensors, compute_tensor_roots))
    prove_us = measure_us(lambda: prove_segment(runner, challenge, PLACES), 5)
    check_us = measure_us(lambda: verify_openings(context, trace, challenge, PLACES, openings))
    print(f"output roots of one step: {step_us:,.0f} us")
    print(f"plain segment of {runner.program.steps} steps: {measure_us(lambda: run_steps(runner), 5):,.0f} us")
    print(f"trace root of a segment: {measure_us(lambda: compute_trace_root(trace)):,.0f} us")
    print(f"prove {PLACES} places: {prove_us:,.0f} us; verify: {check_us:,.0f} us; {size_bytes:,} bytes")


if __name__ == "__main__":
    main()
