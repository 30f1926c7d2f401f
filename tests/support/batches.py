"""Batches of local checks over honest rows of every kind, and the ways in which a claim in one can be altered.

`python -m tests.support.batches` holds the GPU's checks against the reference's, for a process in which Numba's
simulator stands in for a GPU.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise

import numpy as np

from ml.arithmetic import I8, I32, I64, INT32_MAX, MANTISSA_BITS, IntArray
from ml.backends import Rounding, get_backend, reference_checks
from ml.backends import batched_checks as batches
from ml.backends.batched_checks import Batch
from ml.rotary import get_rotation_table

REFERENCE = get_backend("reference")
LENGTHS = (2, 7, 1, 16, 5, 33, 12, 3)
STARTS: I64 = np.cumsum([0, *LENGTHS]).astype(np.int64)
EVEN_STARTS: I64 = STARTS * 2
PLACES = len(LENGTHS)
SIMULATED_STRIDE = 5
"""Of the altered batches, every fifth goes through the simulator, which starts a thread a place."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Where a batch claims a result: a field, and its column when it is one of a place's settings."""

    field: str
    column: int | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """An honest batch with its claims."""

    batch: Batch
    claims: tuple[Claim, ...]


def make_i32(count: int, bits: int, seed: int) -> I32:
    return np.random.default_rng([count, bits, seed]).integers(-(2**bits) + 1, 2**bits, count).astype(np.int32)


def make_rows(bits: int, seed: int, starts: I64 = STARTS) -> list[I32]:
    x = make_i32(int(starts[-1]), bits, seed)
    x[:4] = (INT32_MAX, -INT32_MAX, 0, 1) if bits == 31 else x[:4]
    return [x[start:stop] for start, stop in pairwise(starts.tolist())]


def join(rows: Sequence[IntArray]) -> I32:
    return np.concatenate(rows).astype(np.int32)


def make_linear(bound: int = 63) -> Case:
    rng = np.random.default_rng(1)
    a, b = (rng.integers(-bound, bound + 1, STARTS[-1]).astype(np.int8) for _ in range(2))
    exponents, shifts = rng.integers(0 if bound > 1 else 24, 26, (PLACES, 2)), rng.choice([16, 24, 40], (PLACES, 1))
    is_hidden = np.arange(PLACES)[:, None] % 3 == 2
    settings: I64 = np.concatenate([exponents, shifts, is_hidden], axis=1).astype(np.int64)
    claimed = []
    for place, (a_exponent, b_exponent, shift, hidden) in enumerate(settings.tolist()):
        part = slice(STARTS[place], STARTS[place + 1])
        product = REFERENCE.multiply(a[None, part], b[None, part])
        left, right = (np.full((1, 1), exponent, np.int32) for exponent in (a_exponent, b_exponent))
        claimed.append(0 if hidden else int(REFERENCE.rescale(product, left, right, shift)[0, 0]))
    return Case(batches.LinearBatch(a, b, np.array(claimed, np.int32), STARTS, settings), (Claim("claimed"),))


def make_quantise(bits: int, is_stochastic: bool, is_pair: bool) -> Case:
    lefts, rights, keys = make_rows(31, 1), make_rows(31, 2), np.arange(PLACES, dtype=np.uint64) * np.uint64(2**61 + 7)
    x, mantissas, settings = [], [], []
    for place, (left, right) in enumerate(zip(lefts, rights, strict=True)):
        rounding = Rounding(int(keys[place]), 100 + place, 9 * place) if is_stochastic else None
        if bits != MANTISSA_BITS:
            found = REFERENCE.quantise_delta(left[None, :], right[None, :], bits + 1)
            x.append(left.astype(np.int64) - right)
        else:
            found = REFERENCE.quantise_rows(left[None, :], rounding)
            x.append(left.astype(np.int64))
        compared = 1 if is_pair else len(left)
        mantissas.append(np.where(np.arange(len(left)) < compared, found[0][0], 99))
        settings.append((bits, compared, int(found[1][0, 0]), is_stochastic, 100 + place, 9 * place))
    batch = batches.QuantiseBatch(
        np.concatenate(x),
        np.concatenate(mantissas).astype(np.int8),
        STARTS,
        np.array(settings, np.int64),
        keys,
    )
    return Case(batch, (Claim("mantissas"), Claim("settings", 2)))


def make_elementwise() -> Case:
    functions: tuple[Callable[[I32, I32], I32], ...] = (
        lambda x, _y: REFERENCE.relu(x),
        REFERENCE.relu_backward,
        lambda x, _y: REFERENCE.relu_squared(x),
        REFERENCE.relu_squared_backward,
        REFERENCE.add,
    )
    rules = np.arange(PLACES, dtype=np.int64) % len(functions)
    firsts, seconds = make_rows(31, 3), make_rows(31, 4)
    claimed = [functions[rule](*pair) for rule, *pair in zip(rules, firsts, seconds, strict=True)]
    batch = batches.ElementwiseBatch(join(firsts), join(seconds), join(claimed), STARTS, rules)
    return Case(batch, (Claim("claimed"),))


def make_normalise(bits: int) -> Case:
    xs, gradients = make_rows(bits, 5), make_rows(24, 6)
    flags = np.arange(PLACES, dtype=np.int64) % 2
    claimed = [
        (REFERENCE.normalise_backward(g[None, :], x[None, :]) if flag else REFERENCE.normalise(x[None, :]))[0]
        for x, g, flag in zip(xs, gradients, flags, strict=True)
    ]
    batch = batches.NormaliseBatch(join(xs), join(gradients), join(claimed), STARTS, flags)
    return Case(batch, (Claim("claimed"),))


def make_softmax(bits: int) -> Case:
    scores, widths = make_rows(bits, 7), np.array([1, 2, 4, 64, 80, 128, 6, 32], np.int64)
    positions = np.array([length * 2 // 3 for length in LENGTHS], np.int64)
    claimed = []
    for row, position, width in zip(scores, positions, widths, strict=True):
        stacked = np.zeros((len(row), len(row)), np.int32)
        stacked[position] = row
        claimed.append(REFERENCE.causal_softmax(stacked, int(width))[position])
    settings = np.stack([positions, widths], axis=1)
    return Case(batches.SoftmaxBatch(join(scores), join(claimed), STARTS, settings), (Claim("claimed"),))


def make_softmax_backward() -> Case:
    forward = make_softmax(18).batch
    assert isinstance(forward, batches.SoftmaxBatch)
    gradient, widths = make_rows(31, 8), forward.settings[:, 1].copy()
    parts = [forward.claimed[start:stop] for start, stop in pairwise(STARTS.tolist())]
    claimed = [
        REFERENCE.causal_softmax_backward(p[None, :], g[None, :], int(width))[0]
        for p, g, width in zip(parts, gradient, widths, strict=True)
    ]
    batch = batches.SoftmaxBackwardBatch(forward.claimed, join(gradient), join(claimed), STARTS, widths)
    return Case(batch, (Claim("claimed"),))


def make_loss(bits: int) -> Case:
    rows, settings, claimed = make_rows(bits, 9), [], []
    for row in rows:
        label = len(row) // 2
        gradient, loss = REFERENCE.compute_loss_gradient(row[None, :], np.full((1, 1), label, np.int32))
        claimed.append(gradient[0])
        settings.append((label, int(loss[0, 0])))
    batch = batches.LossBatch(join(rows), join(claimed), STARTS, np.array(settings, np.int64))
    return Case(batch, (Claim("claimed"), Claim("settings", 1)))


def make_adam() -> Case:
    w, m, gradient = (np.concatenate(make_rows(bits, 10)) for bits in (31, 20, 28))
    v = np.random.default_rng(11).integers(0, 2**54, len(w))
    before = np.stack([w.astype(np.int64), m, v, gradient])
    settings = np.array([(9 * place, 1 << 3 * place, 1 << 4 * place) for place in range(PLACES)], np.int64)
    after = np.empty((3, len(w)), np.int64)
    for place, rates in enumerate(settings.tolist()):
        part = slice(STARTS[place], STARTS[place + 1])
        after[:, part] = REFERENCE.update_adam((w[part], m[part], v[part]), gradient[part], *rates)
    return Case(batches.AdamBatch(before, after, STARTS, settings), (Claim("after"),))


def make_rotate() -> Case:
    rows, flags = make_rows(31, 12, EVEN_STARTS), np.arange(PLACES, dtype=np.int64) % 2
    tables = [get_rotation_table(PLACES, len(row)) for row in rows]
    turns = [[table[i] for table in tables] for i in (0, 1)]
    own = [np.concatenate([part[place] for place, part in enumerate(side)]) for side in turns]
    claimed = []
    for place, (row, table) in enumerate(zip(rows, tables, strict=True)):
        pair = table[0][place : place + 1], table[1][place : place + 1]
        claimed.append(REFERENCE.rotate(row[None, :], pair, bool(flags[place]))[0])
    batch = batches.RotateBatch(join(rows), np.stack(own), join(claimed), EVEN_STARTS, flags)
    return Case(batch, (Claim("claimed"),))


def make_embed() -> Case:
    parts = np.stack([np.concatenate(make_rows(31, seed)) for seed in (13, 14)])
    token = np.zeros((1, 1), np.int32)
    claimed = REFERENCE.embed(token, (parts[0][None, :], parts[1][None, :]))[0]
    return Case(batches.EmbedBatch(parts, claimed, STARTS), (Claim("claimed"),))


def make_sum() -> Case:
    rows, settings = make_rows(31, 15), []
    hits: I8 = np.random.default_rng(16).integers(0, 2, STARTS[-1]).astype(np.int8)
    for place, row in enumerate(rows):
        misses = (hits[STARTS[place] : STARTS[place + 1]] == 0).astype(np.int32)[:, None]
        total = REFERENCE.compute_embedding_gradient(row[None, :], misses, 2, place)
        settings.append((place, int(total[0, 0])))
    return Case(batches.SumBatch(join(rows), hits, STARTS, np.array(settings, np.int64)), (Claim("settings", 1),))


def make_equal() -> Case:
    rows = join(make_rows(31, 17))
    return Case(batches.EqualBatch(rows, rows.copy(), STARTS), (Claim("found"),))


CASES: dict[str, Callable[[], Case]] = {
    "linear": make_linear,
    "linear-small": lambda: make_linear(1),
    "quantise-nearest": lambda: make_quantise(6, False, False),
    "quantise-stochastic": lambda: make_quantise(6, True, False),
    "quantise-element": lambda: make_quantise(6, True, True),
    "delta": lambda: make_quantise(7, False, False),
    "delta-half-bytes": lambda: make_quantise(3, False, False),
    "elementwise": make_elementwise,
    "normalise": lambda: make_normalise(20),
    "normalise-tall": lambda: make_normalise(31),
    "softmax": lambda: make_softmax(18),
    "softmax-tall": lambda: make_softmax(31),
    "softmax-backward": make_softmax_backward,
    "loss": lambda: make_loss(18),
    "loss-tall": lambda: make_loss(31),
    "adam": make_adam,
    "rotate": make_rotate,
    "embed": make_embed,
    "sum": make_sum,
    "equal": make_equal,
}


def alter(case: Case, claim: Claim, place: int, change: int) -> Batch:
    """Return the batch with the bits of `change` turned over in one claim of one place."""
    array = getattr(case.batch, claim.field).copy()
    rng = np.random.default_rng([place, change])
    if claim.column is not None:
        array[place, claim.column] ^= change
    elif array.shape == (PLACES,):
        array[place] ^= change
    else:
        starts = case.batch.starts
        stop = starts[place + 1]
        if isinstance(case.batch, batches.QuantiseBatch):
            stop = starts[place] + case.batch.settings[place, 1]
        element = int(rng.integers(starts[place], stop))
        array[(*(int(rng.integers(size)) for size in array.shape[:-1]), element)] ^= change
    return replace(case.batch, **{claim.field: array})


def list_altered(case: Case) -> Iterator[tuple[int, Batch]]:
    """Yield a place and the batch in which a claim of it is altered, for each place and claim."""
    for claim in case.claims:
        for place in range(PLACES):
            for change in (1, 2, 64):
                yield place, alter(case, claim, place, change)


def list_disturbed(case: Case) -> Iterator[Batch]:
    """Yield the batch with wild values in each of its arrays, which may make any place true or false."""
    for field in fields(case.batch):
        array = getattr(case.batch, field.name)
        if field.name in ("starts", "settings", "keys", "rules", "head_widths"):
            continue
        info = np.iinfo(array.dtype)
        for seed, value in enumerate((info.min, info.max, 0, -1)):
            wild = array.copy()
            wild.flat[np.random.default_rng(seed).integers(array.size, size=3)] = value
            yield replace(case.batch, **{field.name: wild})


def count_differences(verify: Callable[[Batch], batches.Verdicts], name: str, stride: int = 1) -> int:
    """Return on how many batches of a case, one of every `stride`, `verify` and the reference differ."""
    case = CASES[name]()
    probes = [case.batch, *(batch for _, batch in list_altered(case)), *list_disturbed(case)]
    return sum(not np.array_equal(verify(probe), reference_checks.verify(probe)) for probe in probes[::stride])


def main() -> int:
    """Print on how many batches of each case the GPU's checks differ; return 1 when any do."""
    from ml.backends.cuda import checks  # Numba decides at import whether it simulates

    total = 0
    for name in CASES:
        found = count_differences(checks.verify, name, SIMULATED_STRIDE)
        print(f"{name}: {found} differences", flush=True)
        total += found
    return min(total, 1)


if __name__ == "__main__":
    sys.exit(main())
