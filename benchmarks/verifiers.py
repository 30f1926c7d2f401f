"""Three ways to verify a step, side by side: spot checks, Freivalds over a transcript, re-execution.

For each model: what a verifier costs, what it needs from the prover, what memory it takes, and how likely it is to
catch one wrong element, computed and measured with planted errors. Then what a spot check of each kind of op costs.
`mathesis lab verifiers` writes the page.
"""

import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median, quantiles

import numpy as np

from benchmarks.lab.tables import describe_run, format_table
from benchmarks.openings import pick_largest
from benchmarks.verifier_cases import (
    PLACES,
    StepCase,
    commit_to,
    compute_chance,
    is_caught_by_freivalds,
    is_caught_by_places,
    make_case,
    make_verifier,
    plant,
    reexecute,
)
from chain.hashing import tagged_hash
from ml.backends import Groups, Quantised, get_backend
from ml.backends.batched_checks import Batch, join_batches
from ml.backends.cpu import checks
from ml.backends.cpu.freivalds import compute_residues
from ml.backends.reference_freivalds import MODULUS, Product
from ml.batching import Submission, find_faults, verify_submissions
from ml.checks import read_claims
from ml.dataset import Dataset, load_digits
from ml.freivalds import draw_vectors, verify_step
from ml.openings import OpeningReader, Place, decode_opening, draw_places
from ml.program import Op, OpKind, TensorId
from ml.proving import open_place, verify_opening
from ml.segment import as_i8, as_i32
from ml.spec import DIGITS, Decoder, Positions, Spec
from ml.tensor_tree import TensorTree
from node.datasets.registry import load_dataset
from node.models.specs import find_spec

COIN = tagged_hash("benchmark", b"coin")
BATCH_OPENINGS = 64
MIB = 1 << 20
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure."""

    repeats: int = 9
    trials: int = 20_000
    """Errors planted for spot checks."""
    planted: int = 60
    """Errors planted for the complete verifiers."""
    sizes: tuple[int, ...] = (256, 512, 1024, 2048, 4096)


QUICK = Plan(repeats=3, trials=200, planted=4, sizes=(256, 512))


@dataclass(frozen=True, slots=True)
class NamedCase:
    """A model with its data."""

    title: str
    spec: Spec
    load: Callable[[], Dataset]


def list_cases() -> list[NamedCase]:
    """Return the models of the report."""
    tiny = find_spec("plays-tiny").spec
    wide = replace(tiny, model=Decoder(256, 128, 512, 1, 8, 2048, int(Positions.ROTARY), 0), batch=16)
    load = partial(load_dataset, "plays", tiny.heldout)
    return [
        NamedCase("Digits, a classifier 64-128-128-10", DIGITS, lambda: load_digits(DIGITS.heldout)),
        NamedCase("plays-tiny, a decoder of width 64 and 2 layers", tiny, load),
        NamedCase("One layer of width 512, 2,048 tokens", wide, load),
    ]


def measure_ms(function: Callable[[], object], repeats: int) -> list[float]:
    """Return the processor milliseconds of each of `repeats` calls, after one that is not counted."""
    function()
    samples = []
    for _ in range(repeats):
        start_ns = time.process_time_ns()
        function()
        samples.append((time.process_time_ns() - start_ns) / 1e6)
    return samples


def measure_peak_mib(function: Callable[[], object]) -> float:
    """Return how much memory a call had allocated at most, beyond what was there before."""
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / MIB


def format_ms(samples: Sequence[float]) -> str:
    """Return the median and the quartiles."""
    low, _, high = quantiles(samples, n=4)
    return f"{median(samples):.3g} ({low:.3g} – {high:.3g})"


def run_report(plan: Plan, say: Say) -> str:
    """Return the page of a plan, telling `say` what is under way."""
    parts = [_INTRODUCTION.format(run=describe_run())]
    for named in list_cases():
        say(f"verifying {named.title}")
        case = make_case(named.spec, named.load())
        parts += [f"## {named.title}\n", report_case(case, plan), _PRODUCTS_TITLE, report_step_products(case, plan)]
        parts += ["A spot check by kind of op, of the largest op of its kind:\n", report_ops(case, plan)]
    say("products")
    return "\n".join([*parts, report_products(plan)])


def report_case(case: StepCase, plan: Plan) -> str:
    """Return the table of the verifiers of one step."""
    verifier = make_verifier()
    places = draw_places(case.program, tagged_hash("benchmark", b"places"), PLACES)
    submissions = submit(case, places)
    many = submit(case, draw_places(case.program, tagged_hash("benchmark", b"many"), BATCH_OPENINGS))
    one_by_one = partial(verify_one_by_one, submissions)
    batched = lambda: verify_submissions(many, checks.verify)  # noqa: E731
    whole = lambda: verify_step(verifier, case.context, case.trace, 0, case.transcript, COIN)  # noqa: E731
    again = lambda: reexecute(case)  # noqa: E731
    assert reexecute(case)
    runs = [measure_ms(function, plan.repeats) for function in (one_by_one, batched, whole, again)]
    runs[1] = [sample * PLACES / BATCH_OPENINGS for sample in runs[1]]
    base = median(runs[3])
    chance, measured = compute_chance(case), measure_places(case, plan.trials)
    caught = measure_complete(case, plan.planted)
    size = sum(len(s.data) for s in submissions)
    spot = f"{chance:.3%}", f"{measured:.3%} of {plan.trials:,}"
    rows = [
        ("8 spot checks", size, measure_peak_mib(one_by_one), *spot, "data set, roots, 8 openings"),
        ("8 spot checks, of 64 in a batch", size, measure_peak_mib(batched), *spot, "the same"),
        (
            "Freivalds",
            len(case.transcript),
            measure_peak_mib(whole),
            "1 − 2⁻⁶²",
            caught[0],
            "data set, roots, transcript",
        ),
        ("re-execution", 0, measure_peak_mib(again), "1", caught[1], "data set, roots, weights and moments"),
    ]
    table = [
        (name, format_ms(run), f"{median(run) / base:.3f}", f"{data:,}", f"{peak:.2f}", computed, found, needs)
        for (name, data, peak, computed, found, needs), run in zip(rows, runs, strict=True)
    ]
    return format_table(_CASE_HEADER, table)


def verify_one_by_one(submissions: Sequence[Submission]) -> None:
    """Verify openings by the reference."""
    for submission in submissions:
        verify_opening(submission.context, submission.trace, submission.place, submission.data)


def submit(case: StepCase, places: Sequence[Place]) -> list[Submission]:
    """Return openings of places."""
    trees: dict[TensorId, TensorTree] = {}
    return [
        Submission(case.context, case.trace, place, open_place(case.context, place, case.tensors, trees))
        for place in places
    ]


def measure_places(case: StepCase, trials: int) -> float:
    """Return the share of planted errors that a challenge's places have shown."""
    rng, caught = np.random.default_rng(1), 0
    for trial in range(trials):
        op, tensors = plant(case, rng)
        caught += is_caught_by_places(case, op, tensors, trial.to_bytes(4, "little"))
    return caught / trials


def measure_complete(case: StepCase, planted: int) -> tuple[str, str]:
    """Return how many planted errors Freivalds and re-execution have caught: in roots, and in served products."""
    rng, verifier, found = np.random.default_rng(2), make_verifier(), [0, 0]
    products = sum(tensor.M * tensor.N * tensor.groups for tensor in case.program.matmuls) * 4
    for trial in range(planted):
        op, tensors = plant(case, rng)
        trace = commit_to(case, op, tensors)
        if trial % 2:
            served = bytearray(case.transcript)
            served[len(served) - products + int(rng.integers(products))] ^= 1 << int(rng.integers(8))
            found[0] += is_caught_by_freivalds(verifier, case, case.trace, bytes(served))
        else:
            found[0] += is_caught_by_freivalds(verifier, case, trace, case.transcript)
        found[1] += not reexecute(replace(case, trace=trace))
    return f"{found[0]} of {planted}", f"{found[1]} of {planted}"


def report_step_products(case: StepCase, plan: Plan) -> str:
    """Return what the products of one step cost to compute and to check, in linear layers and inside attention."""
    rows = []
    for title, is_attention in (("linear layers", False), ("attention", True)):
        ops = [case.program.get_op(m.op) for m in case.program.matmuls if m.is_attention is is_attention]
        if not ops:
            continue
        products = [_get_product(case, op) for op in ops]
        vectors = [draw_vectors(tagged_hash("benchmark", b"v"), product.c.shape[1]) for product in products]
        multiply = partial(_multiply_all, case, ops)
        check = lambda p=products, v=vectors: list(map(compute_residues, p, v))  # noqa: E731
        computed, checked = measure_ms(multiply, plan.repeats), measure_ms(check, plan.repeats)
        served = sum(product.c.nbytes for product in products)
        ratio = f"{median(checked) / median(computed):.2f}"
        rows.append((title, str(len(ops)), format_ms(computed), format_ms(checked), ratio, f"{served:,}"))
    return format_table(("of", "matmuls", "multiplied, ms", "checked, ms", "ratio", "bytes served"), rows)


def _get_pairs(case: StepCase, op: Op) -> tuple[Quantised, Quantised]:
    a, a_exponents, b, b_exponents = (case.tensors[tensor] for tensor in op.inputs)
    return (as_i8(a), as_i32(a_exponents)), (as_i8(b), as_i32(b_exponents))


def _get_product(case: StepCase, op: Op) -> Product:
    (a, _), (b, _) = _get_pairs(case, op)
    parts = zip(np.split(a, op.groups), np.split(b, op.groups), strict=True)
    multiply = case.runner.backend.multiply
    return Product(a, b, np.concatenate([multiply(left, right) for left, right in parts]), op.groups)


def _multiply_all(case: StepCase, ops: Sequence[Op]) -> None:
    backend = case.runner.backend
    for op in ops:
        a, b = _get_pairs(case, op)
        if op.groups > 1 or op.is_causal:
            backend.multiply_groups(a, b, Groups(op.groups, op.shift, op.is_causal))
        else:
            backend.multiply(a[0], b[0])


def report_ops(case: StepCase, plan: Plan) -> str:
    """Return what a spot check of each kind of op costs, alone and in a batch, and what it catches."""
    rows = []
    for kind in sorted({op.kind for op in case.ops}):
        op = pick_largest(case.program, kind)
        output = case.program.tensors[op.outputs[0]]
        rng = np.random.default_rng(kind)
        drawn = rng.integers(0, (output.rows, output.columns), (BATCH_OPENINGS, 2)).tolist()
        submissions = submit(case, [Place(0, op.index, row, column, 3) for row, column in drawn])
        batches = join_claims(submissions)
        functions = (
            partial(verify_one_by_one, submissions),
            partial(find_faults, submissions, checks.verify),
            partial(_verify_batches, batches),
        )
        times = [1000 * median(measure_ms(function, plan.repeats)) / BATCH_OPENINGS for function in functions]
        size = sum(len(submission.data) for submission in submissions) // BATCH_OPENINGS
        shown = f"{times[0]:.0f}", f"{times[1]:.0f}", f"{times[2]:.2f}"
        rows.append((kind.name, *shown, f"{size:,}", f"{output.rows:,} x {output.columns:,}", CATCHES[kind]))
    return format_table(_OPS_HEADER, rows)


def join_claims(submissions: Sequence[Submission]) -> list[Batch]:
    """Return what openings claim, a batch a kind of arithmetic: what is left once they are read."""
    parts: dict[type[Batch], list[Batch]] = {}
    for submission in submissions:
        reader = OpeningReader(submission.trace, submission.place.step, decode_opening(submission.data))
        for claim in read_claims(submission.context, submission.place, reader):
            parts.setdefault(type(claim.batch), []).append(claim.batch)
    return [join_batches(batches) for batches in parts.values()]


def _verify_batches(batches: Sequence[Batch]) -> None:
    assert all(checks.verify(batch).all() for batch in batches)


def report_products(plan: Plan) -> str:
    """Return the tables of square products: with all of this machine's units, and without its matrix unit."""
    parts = [_SQUARES, time_products(plan)]
    environment = dict(os.environ) | {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"}
    arguments = f"Plan({plan.repeats}, sizes={plan.sizes})"
    script = f"from benchmarks.verifiers import Plan, time_products; print(time_products({arguments}))"
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return "\n".join([*parts, "The same without the matrix unit (oneDNN held to AVX512 VNNI):\n", result.stdout])


def time_products(plan: Plan) -> str:
    """Return the table of square products of `plan.sizes`."""
    backend, rows = get_backend("cpu"), []
    for n in plan.sizes:
        rng = np.random.default_rng(n)
        a, b = (rng.integers(-63, 64, (n, n)).astype(np.int8) for _ in range(2))
        product = Product(a, b, backend.multiply(a, b))
        vectors = rng.integers(0, MODULUS, (2, n))
        assert not compute_residues(product, vectors).any()
        multiplied = measure_ms(partial(backend.multiply, a, b), plan.repeats)
        checked = measure_ms(partial(compute_residues, product, vectors), plan.repeats)
        rate = n**3 / median(multiplied) / 1e6
        ratio = median(checked) / median(multiplied)
        read = (a.nbytes + b.nbytes + product.c.nbytes) / median(checked) / 1e6
        rows.append((f"{n:,}", format_ms(multiplied), f"{rate:.0f}", format_ms(checked), f"{read:.0f}", f"{ratio:.3f}"))
    return format_table(("n", "multiplied, ms", "GMAC/s", "checked, ms", "GB/s read", "ratio"), rows)


CATCHES: dict[OpKind, str] = {
    **dict.fromkeys(OpKind, "the drawn row"),
    **dict.fromkeys((OpKind.RELU, OpKind.RELU_BACKWARD, OpKind.RELU_SQUARED), "the drawn block of up to 128 columns"),
    **dict.fromkeys((OpKind.RELU_SQUARED_BACKWARD, OpKind.ADD, OpKind.EMBED), "the drawn block of up to 128 columns"),
    OpKind.ADAM: "the drawn block of weights and both moments",
    OpKind.LINEAR: "the drawn element, and both operands' producers at the drawn depth",
    OpKind.QUANTISE_TRANSPOSED: "the drawn mantissa, and its row's exponent, held by the tallest element",
    OpKind.QUANTISE_ROWS: "the drawn row and its exponent",
    OpKind.DELTA: "the drawn row and its exponent",
    OpKind.TRANSPOSE: "the drawn element",
    OpKind.EMBEDDING_GRADIENT: "the drawn element, a sum over all tokens",
    OpKind.POSITION_GRADIENT: "the drawn element, a sum over all sequences",
    OpKind.SPLIT_HEADS: "the drawn row of one head",
    OpKind.MERGE_HEADS: "the drawn head of the drawn row",
    OpKind.SOFTMAX_XENT_GRADIENT: "the drawn row and its loss",
}

_CASE_HEADER = (
    "verifier", "ms", "to re-execution", "bytes from the prover", "peak MiB", "catches one wrong element", "measured",
    "needs",
)  # fmt: skip
_OPS_HEADER = (
    "op", "alone, µs", "in a batch of 64, µs", "of which arithmetic", "bytes", "output", "catches an error in",
)  # fmt: skip
_PRODUCTS_TITLE = (
    "Its products alone (inside attention multiplied and rescaled in one kernel, checked before rescaling):\n"
)
_SQUARES = (
    "## Square products\n\nC = A Bᵀ of n × n operands, one thread, both residues of every row. "
    "A check reads operands and product once:\n"
)
_INTRODUCTION = """# Three verifiers

`mathesis lab verifiers`: {run}
One thread, processor time, medians (quartiles). One step, the only one of its segment, so that its delta is in it;
times hold hashing: Freivalds and re-execution compare the root of every tensor.

- **Spot checks** open 8 drawn places. The chance is that of catching one changed element of one tensor, every tensor
  alike, whose maker goes on from it honestly; measured by planting such errors. A batch is 64 openings, its cost scaled
  to 8.
- **Freivalds** takes state and products from a transcript and computes all else
  ([ADR 0021](../../docs/adr/0021-freivalds-over-a-transcript.md)). Two vectors modulo 2³¹ − 1 miss a wrong step with a
  chance of 2⁻⁶². Half of the planted errors are bits of products.
- **Re-execution** runs the step from weights and moments that it must hold, or have run all earlier steps to get.

Peak memory is what a call allocates beyond its arguments (a transcript, or the state).
"""
