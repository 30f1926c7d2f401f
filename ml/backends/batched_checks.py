"""Local checks by the thousand: the rows that many places opened, laid end to end, one record a kind of check.

`ml.checks` says what a check reads; here is what is left once it is read and paths are verified: arithmetic. Every
backend of checks has one function, `verify(batch)`, that returns a verdict a place: `ml.backends.reference_checks` is
the authority, `cpu.checks` and `cuda.checks` are its twins. A value outside its range makes a verdict false, never an
error. `starts` (n + 1,) int64 says where the elements of each place begin in the flat arrays, and where the last ends.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from math import isqrt
from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt

from ml import arithmetic
from ml.arithmetic import I8, I32, I64, U64, IntArray
from ml.backends.reference import get_root_scale

Arrays: TypeAlias = tuple[IntArray | U64, ...]
"""What a kind of check reads, in the order of `ml.backends.cpu.places`."""
Verdicts: TypeAlias = npt.NDArray[np.bool_]
"""One a place."""

EXPONENT_MAX = 25
VARIANCE_MAX = 1 << 62
DIFFERENCE_MAX = 2 * arithmetic.INT32_MAX
"""Of two weights: what a delta quantises."""

RELU, RELU_BACKWARD, RELU_SQUARED, RELU_SQUARED_BACKWARD, ADD = range(5)
"""Rules of an `ElementwiseBatch`."""


@dataclass(frozen=True, slots=True)
class LinearBatch:
    """An element of a product each: a row of either operand."""

    a: I8
    b: I8
    claimed: I32
    """(n,)"""
    starts: I64
    settings: I64
    """(n, 4): exponents of a and b, shift, and 1 where a causal product is zero."""


@dataclass(frozen=True, slots=True)
class QuantiseBatch:
    """A row of mantissas each, or the first elements of one. x is int64, as a delta's difference is."""

    x: I64
    mantissas: I8
    starts: I64
    settings: I64
    """(n, 6): bits of a mantissa without its sign (6; of a delta 7 or 3), elements and exponent claimed, 1 if
    stochastic, first row and column."""
    keys: U64
    """(n,): of the op, where it is stochastic."""


@dataclass(frozen=True, slots=True)
class ElementwiseBatch:
    """A block each of an op whose elements depend on the same elements alone; `second` is read where there is one."""

    first: I32
    second: I32
    claimed: I32
    starts: I64
    rules: I64
    """(n,)"""


@dataclass(frozen=True, slots=True)
class NormaliseBatch:
    """A row of a normalisation each, or of its backward pass, which alone reads `gradient`."""

    x: I32
    gradient: I32
    claimed: I32
    starts: I64
    is_backward: I64
    """(n,): 0 or 1."""


@dataclass(frozen=True, slots=True)
class SoftmaxBatch:
    """A row of attention's softmax each."""

    scores: I32
    claimed: I32
    starts: I64
    settings: I64
    """(n, 2): position in the sequence, head width."""


@dataclass(frozen=True, slots=True)
class SoftmaxBackwardBatch:
    """A row of the softmax's backward pass each."""

    probabilities: I32
    gradient: I32
    claimed: I32
    starts: I64
    head_widths: I64
    """(n,)"""


@dataclass(frozen=True, slots=True)
class LossBatch:
    """A row of the loss each."""

    z: I32
    claimed: I32
    starts: I64
    settings: I64
    """(n, 2): label, and loss claimed."""


@dataclass(frozen=True, slots=True)
class AdamBatch:
    """A block of the optimizer each."""

    before: I64
    """(4, elements): weights, first and second moments, gradients."""
    after: I64
    """(3, elements): weights and moments claimed."""
    starts: I64
    settings: I64
    """(n, 3): step, rate, decay."""


@dataclass(frozen=True, slots=True)
class RotateBatch:
    """A row of a rotation each; its length is even."""

    x: I32
    turns: I32
    """(2, elements / 2): cosines and sines of each row's position."""
    claimed: I32
    starts: I64
    is_inverse: I64
    """(n,): 0 or 1."""


@dataclass(frozen=True, slots=True)
class EmbedBatch:
    """A block of an embedding each: elements of both tables, zeros where there is no second."""

    parts: I32
    """(2, elements)"""
    claimed: I32
    starts: I64


@dataclass(frozen=True, slots=True)
class SumBatch:
    """An element of the gradient of an embedding or of positions each: a row, summed where it is hit."""

    values: I32
    hits: I8
    """0 or 1 an element."""
    starts: I64
    settings: I64
    """(n, 2): shift, and element claimed."""


@dataclass(frozen=True, slots=True)
class EqualBatch:
    """Elements that were moved and not changed: batches, heads, transposes."""

    found: I32
    expected: I32
    starts: I64


Batch: TypeAlias = (
    LinearBatch
    | QuantiseBatch
    | ElementwiseBatch
    | NormaliseBatch
    | SoftmaxBatch
    | SoftmaxBackwardBatch
    | LossBatch
    | AdamBatch
    | RotateBatch
    | EmbedBatch
    | SumBatch
    | EqualBatch
)


Verify: TypeAlias = Callable[[Batch], Verdicts]
"""What every backend of checks offers."""


def compute_softmax_settings(settings: I64) -> I64:
    """Return positions and scales log2(e) / sqrt(head width) in F30: (n, 2)."""
    scales = [(arithmetic.LOG2_E_F30 << 30) // isqrt(width << 60) for width in settings[:, 1].tolist()]
    return np.stack([settings[:, 0], np.array(scales, np.int64)], axis=1)


def compute_root_scales(head_widths: I64) -> I64:
    """Return 1 / sqrt(head width) in F16: (n,)."""
    return np.array([get_root_scale(width) for width in head_widths.tolist()], np.int64)


def compute_adam_settings(settings: I64) -> I64:
    """Return bias corrections in F30, rates and decays: (n, 3)."""
    corrections = [arithmetic.compute_bias_correction(step) for step in settings[:, 0].tolist()]
    return np.concatenate([np.array(corrections, np.int64)[:, None], settings[:, 1:]], axis=1)


def compute_root_widths(starts: I64) -> I64:
    """Return the square root of each row's width in F20: (n,)."""
    return np.array([isqrt(width << 40) for width in np.diff(starts).tolist()], np.int64)


def join_batches(parts: Sequence[Batch]) -> Batch:
    """Return one batch of all places of `parts`, which are of one kind, in order."""
    kind = type(parts[0])
    assert all(type(part) is kind for part in parts)
    counts = [int(part.starts[-1]) for part in parts]
    offsets = np.cumsum([0, *counts])
    starts = [part.starts[:-1] + offset for part, offset in zip(parts, offsets.tolist(), strict=False)]
    joined: dict[str, IntArray] = {"starts": np.append(np.concatenate(starts), offsets[-1])}
    for field in fields(kind):
        if field.name != "starts":
            # Settings have a row a place; whatever else has two dimensions has elements along the second.
            axis = 0 if field.name == "settings" else -1
            joined[field.name] = np.concatenate([getattr(part, field.name) for part in parts], axis=axis)
    return cast(Callable[..., Batch], kind)(**joined)
