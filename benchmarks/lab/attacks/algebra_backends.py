"""Threat 25: numbers at which two implementations of an op part, and claims that only a careless check lets through.

Every op is given extremes, powers of two with their neighbours, and numbers of one size with extremes strewn in; the
compiled backend has to give the reference's bytes, and nothing may leave the range that saturation keeps. Checks are
given INT_MIN, which no op has ever made, and claims that are wrong by as much in one place as in another.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from benchmarks.lab.attacks.case import Attack, Effort, Ending, Outcome
from ml.arithmetic import I8, I32, I64, INT32_MAX, MANTISSA_MAX, IntArray
from ml.backends import Backend, Groups, Rounding, get_backend, reference_checks
from ml.backends import batched_checks as batches
from ml.backends.cpu import checks as cpu_checks
from ml.backends.reference import ReferenceBackend

INT32_MIN = -(1 << 31)
EDGES = (0, 1, -1, 31, 32, 63, 64, -64, 127, 128, -128, INT32_MAX, -INT32_MAX, INT32_MAX - 1, 1 - INT32_MAX)
CONTEXT, WIDTH = 8, 24

Run = Callable[[Backend, np.random.Generator], tuple[IntArray, ...]]
"""Computes one op on numbers that the generator decides."""


def fill(rng: np.random.Generator, rows: int, columns: int) -> I32:
    """Return numbers of one size, (rows, columns) int32, with extremes and neighbours of powers of two strewn in."""
    bits = int(rng.integers(0, 32))
    values = rng.integers(-(1 << bits) + 1, 1 << bits, (rows, columns))
    near = (1 << rng.integers(0, 31, (rows, columns))) + rng.integers(-1, 2, (rows, columns))
    strewn = rng.integers(0, 8, (rows, columns))
    edges = rng.choice(EDGES, (rows, columns))
    filled = np.select([strewn == 0, strewn == 1, strewn == 2], [edges, near, -near], values)
    clipped: I32 = np.clip(filled, -INT32_MAX, INT32_MAX).astype(np.int32)
    return clipped


def run_quantisers(backend: Backend, rng: np.random.Generator) -> tuple[IntArray, ...]:
    """Quantise by rows and columns, to nearest and by chance, and a difference."""
    x, y = fill(rng, CONTEXT, WIDTH), fill(rng, CONTEXT, WIDTH)
    rounding = Rounding(int(rng.integers(1 << 62)), int(rng.integers(1 << 31)), int(rng.integers(1 << 31)))
    return (
        *backend.quantise_rows(x), *backend.quantise_rows(x, rounding), *backend.quantise_transposed(x),
        *backend.quantise_transposed(x, rounding), *backend.quantise_delta(x, y, 8), *backend.quantise_delta(x, y, 4),
    )  # fmt: skip


def run_products(backend: Backend, rng: np.random.Generator) -> tuple[IntArray, ...]:
    """Multiply mantissas at their bounds, and rescale products at theirs."""
    a, b = _fill_mantissas(rng), _fill_mantissas(rng)
    own, others = (rng.integers(0, 26, (CONTEXT, 1)).astype(np.int32) for _ in range(2))
    shift = int(rng.integers(0, 41))
    product = np.clip(fill(rng, CONTEXT, CONTEXT), -(1 << 30), 1 << 30).astype(np.int32)
    groups = Groups(2, shift, bool(rng.integers(2)))
    return (
        backend.multiply(a, b), backend.rescale(product, own, others, shift),
        backend.multiply_groups((a, own), (b, others), groups),
    )  # fmt: skip


def run_elementwise(backend: Backend, rng: np.random.Generator) -> tuple[IntArray, ...]:
    """Add, clip, square and mask."""
    x, y = fill(rng, CONTEXT, WIDTH), fill(rng, CONTEXT, WIDTH)
    return (
        backend.add(x, y), backend.relu(x), backend.relu_backward(x, y), backend.relu_squared(x),
        backend.relu_squared_backward(x, y),
    )  # fmt: skip


def run_rows(backend: Backend, rng: np.random.Generator) -> tuple[IntArray, ...]:
    """Normalise, take softmaxes and the loss, and their gradients."""
    x, y, square = fill(rng, CONTEXT, WIDTH), fill(rng, CONTEXT, WIDTH), fill(rng, CONTEXT, CONTEXT)
    probabilities = backend.causal_softmax(square, 16)
    labels = rng.integers(0, WIDTH, (CONTEXT, 1)).astype(np.int32)
    return (
        backend.normalise(x), backend.normalise_backward(y, x), probabilities,
        backend.causal_softmax_backward(probabilities, fill(rng, CONTEXT, CONTEXT), 16),
        *backend.compute_loss_gradient(x, labels),
    )  # fmt: skip


def run_optimizer(backend: Backend, rng: np.random.Generator) -> tuple[IntArray, ...]:
    """Take one step of Adam from moments at the ends of their range."""
    weights, means, gradient = (fill(rng, CONTEXT, WIDTH) for _ in range(3))
    variances: I64 = rng.integers(0, 1 << int(rng.integers(1, 62)), (CONTEXT, WIDTH))
    rates = int(rng.integers(1, 1 << 29)), int(rng.integers(0, 1 << 32))
    return backend.update_adam((weights, means, variances), gradient, int(rng.integers(0, 5000)), *rates)


OPS: dict[str, Run] = {
    "quantisation": run_quantisers,
    "products": run_products,
    "elementwise ops": run_elementwise,
    "rows": run_rows,
    "optimizer": run_optimizer,
}


def judge_ops(effort: Effort, run: Run) -> Outcome:
    """Compare both backends by bytes on numbers at the ends of every range."""
    reference, compiled = ReferenceBackend(), get_backend("cpu")
    agreed, elements = 0, 0
    for number in range(effort.trials):
        expected = run(reference, np.random.default_rng([effort.seed, number]))
        found = run(compiled, np.random.default_rng([effort.seed, number]))
        agreed += are_equal(found, expected) and not any(holds_minimum(part) for part in expected)
        elements += sum(part.size for part in expected)
    verdict = f"{elements} elements alike in every byte, none of them INT_MIN"
    if agreed < effort.trials:
        verdict = f"{effort.trials - agreed} times the backends part, or INT_MIN comes out"
    return Outcome(effort.trials, agreed, None, None, verdict)


def are_equal(found: Sequence[IntArray], expected: Sequence[IntArray]) -> bool:
    """Say whether arrays agree in dtype, shape and bytes."""
    return all(
        (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
        for one, other in zip(found, expected, strict=True)
    )


def holds_minimum(array: IntArray) -> bool:
    """Say whether the one number without a negative stands in an array."""
    return bool((array == np.iinfo(array.dtype).min).any())


def judge_minimum(effort: Effort) -> Outcome:
    """Claim INT_MIN where a sum saturates, and read it as an operand."""
    rng = np.random.default_rng(effort.seed)
    count = max(8, effort.trials // 16)
    first = np.full(count, -INT32_MAX, np.int32)
    second = rng.integers(-INT32_MAX, 0, count).astype(np.int32)
    starts = np.arange(count + 1, dtype=np.int64)
    rules = np.full(count, batches.ADD, np.int64)
    honest = batches.ElementwiseBatch(first, second, np.full(count, -INT32_MAX, np.int32), starts, rules)
    forged = replace(honest, claimed=np.full(count, INT32_MIN, np.int32))
    refused = 0
    for verify in (reference_checks.verify, cpu_checks.verify):
        assert verify(honest).all(), "what saturates is right"
        refused += count - int(verify(forged).sum())
    return Outcome(2 * count, refused, None, None, "saturation is symmetric: INT_MIN is never the right claim")


def judge_cancelling_places(effort: Effort) -> Outcome:
    """Claim in one place too much by what another place claims too little, in one batch."""
    rng = np.random.default_rng(effort.seed)
    count, depth = 2 * max(8, effort.trials // 16), 64
    a, b = (rng.integers(-MANTISSA_MAX, MANTISSA_MAX + 1, (count, depth)).astype(np.int8) for _ in range(2))
    right = (a.astype(np.int64) * b).sum(axis=1).astype(np.int32)
    settings = np.zeros((count, 4), np.int64)
    starts = np.arange(count + 1, dtype=np.int64) * depth
    honest = batches.LinearBatch(a.ravel(), b.ravel(), right, starts, settings)
    signs = np.where(np.arange(count) % 2, 1, -1) * (1 + np.arange(count) // 2)
    forged = replace(honest, claimed=(right + signs).astype(np.int32))
    assert int(signs.sum()) == 0
    refused = 0
    for verify in (reference_checks.verify, cpu_checks.verify):
        assert verify(honest).all(), "right claims pass"
        refused += count - int(verify(forged).sum())
    return Outcome(2 * count, refused, None, None, "a batch has a verdict for every place, and no sum over places")


def _fill_mantissas(rng: np.random.Generator) -> I8:
    low, high = ((-MANTISSA_MAX, MANTISSA_MAX), (MANTISSA_MAX, MANTISSA_MAX), (-128, 127))[int(rng.integers(3))]
    return rng.integers(low, high, (CONTEXT, WIDTH), np.int8, endpoint=True)


ATTACKS: tuple[Attack, ...] = (
    *(
        Attack(
            (25,), f"numbers at which backends part: {name}",
            "Extremes, powers of two and their neighbours, through the reference and the compiled backend",
            "not a byte apart", (Ending.DETECTED,), partial(judge_ops, run=run),
        )
        for name, run in OPS.items()
    ),
    Attack(
        (25,), "INT_MIN as a claim", "Claim INT_MIN where a sum saturates", "refused", (Ending.DETECTED,), judge_minimum
    ),
    Attack(
        (26,), "errors that cancel: batched checks", "Claim too much in one place and too little in the next",
        "refused", (Ending.DETECTED,), judge_cancelling_places,
    ),
)  # fmt: skip
