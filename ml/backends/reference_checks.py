"""Batched checks one place after another by the reference backend: what the compiled ones must agree with.

`ml.checks` reads what a check needs and lets this compare a single place; many go to the twins. It is not meant to be
fast, and it says what was claimed beside what is right.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ml.arithmetic import I32, INT32_MAX, MANTISSA_BITS, PROBABILITY_BITS, IntArray
from ml.backends import Rounding
from ml.backends import batched_checks as batches
from ml.backends.batched_checks import DIFFERENCE_MAX, EXPONENT_MAX, VARIANCE_MAX, Batch, Verdicts
from ml.backends.reference import ReferenceBackend, compute_causal_softmax

Sides: TypeAlias = tuple[IntArray, IntArray]
"""What was claimed and what is right, of one length."""

_BACKEND = ReferenceBackend()


@dataclass(frozen=True, slots=True)
class _Place:
    """A place of a batch: its number and its elements of the flat arrays."""

    index: int
    part: slice


def verify(batch: Batch) -> Verdicts:
    """Return whether each place of the batch holds: (n,) bool."""
    return np.array([_is_sound(compare(batch, place)) for place in range(len(batch.starts) - 1)], np.bool_)


def compare(batch: Batch, index: int) -> Sides | None:
    """Return what a place of the batch claims and what is right, or None when a value is out of its range."""
    part = slice(int(batch.starts[index]), int(batch.starts[index + 1]))
    return _CHECKS[type(batch)](batch, _Place(index, part))


def _is_sound(sides: Sides | None) -> bool:
    return sides is not None and np.array_equal(*sides)


def _row(array: IntArray) -> I32:
    return array[None, :].astype(np.int32)


def _compare_linear(batch: batches.LinearBatch, place: _Place) -> Sides | None:
    a_exponent, b_exponent, shift, is_hidden = batch.settings[place.index].tolist()
    if not (0 <= a_exponent <= EXPONENT_MAX and 0 <= b_exponent <= EXPONENT_MAX):
        return None
    product = _BACKEND.multiply(batch.a[None, place.part], batch.b[None, place.part])
    a_exponents, b_exponents = (np.full((1, 1), exponent, np.int32) for exponent in (a_exponent, b_exponent))
    expected = _BACKEND.rescale(product, a_exponents, b_exponents, shift)[0]
    return batch.claimed[place.index : place.index + 1], np.zeros_like(expected) if is_hidden else expected


def _compare_quantised(batch: batches.QuantiseBatch, place: _Place) -> Sides | None:
    bits, compared, exponent, is_stochastic, row, column = batch.settings[place.index].tolist()
    x = batch.x[None, place.part]
    is_delta = bits != MANTISSA_BITS
    bounds = (-DIFFERENCE_MAX, DIFFERENCE_MAX) if is_delta else (-(1 << 31), INT32_MAX)
    if x.min() < bounds[0] or x.max() > bounds[1]:
        return None
    if is_delta:
        # A difference is handed in as one; its halves are those of two tensors again.
        half = x >> 1
        halves = (x - half).astype(np.int32), (-half).astype(np.int32)
        mantissas, exponents = _BACKEND.quantise_delta(*halves, bits + 1)
    else:
        rounding = Rounding(int(batch.keys[place.index]), row, column) if is_stochastic else None
        mantissas, exponents = _BACKEND.quantise_rows(x.astype(np.int32), rounding)
    found = np.append(batch.mantissas[place.part][:compared].astype(np.int64), exponent)
    return found, np.append(mantissas[0, :compared].astype(np.int64), exponents[0, 0])


def _compare_elementwise(batch: batches.ElementwiseBatch, place: _Place) -> Sides:
    functions: tuple[Callable[[I32, I32], I32], ...] = (
        lambda x, _y: _BACKEND.relu(x),
        _BACKEND.relu_backward,
        lambda x, _y: _BACKEND.relu_squared(x),
        _BACKEND.relu_squared_backward,
        _BACKEND.add,
    )
    expected = functions[batch.rules[place.index]](batch.first[place.part], batch.second[place.part])
    return batch.claimed[place.part], expected


def _compare_normalised(batch: batches.NormaliseBatch, place: _Place) -> Sides:
    x, gradient = _row(batch.x[place.part]), _row(batch.gradient[place.part])
    is_backward = batch.is_backward[place.index]
    expected = _BACKEND.normalise_backward(gradient, x) if is_backward else _BACKEND.normalise(x)
    return batch.claimed[place.part], expected[0]


def _compare_softmax(batch: batches.SoftmaxBatch, place: _Place) -> Sides:
    position, head_width = batch.settings[place.index].tolist()
    scores = _row(batch.scores[place.part])
    return batch.claimed[place.part], compute_causal_softmax(scores, np.array([position]), head_width)[0]


def _compare_softmax_backward(batch: batches.SoftmaxBackwardBatch, place: _Place) -> Sides | None:
    p, gradient = _row(batch.probabilities[place.part]), _row(batch.gradient[place.part])
    if p.min() < 0 or p.max() > 1 << PROBABILITY_BITS:
        return None
    expected = _BACKEND.causal_softmax_backward(p, gradient, int(batch.head_widths[place.index]))
    return batch.claimed[place.part], expected[0]


def _compare_loss(batch: batches.LossBatch, place: _Place) -> Sides | None:
    label, claimed = batch.settings[place.index].tolist()
    z = _row(batch.z[place.part])
    if not 0 <= label < z.shape[1]:
        return None
    gradient, loss = _BACKEND.compute_loss_gradient(z, np.full((1, 1), label, np.int32))
    found = np.append(batch.claimed[place.part].astype(np.int64), claimed)
    return found, np.append(gradient[0].astype(np.int64), loss[0, 0])


def _compare_adam(batch: batches.AdamBatch, place: _Place) -> Sides | None:
    w, m, v, gradient = batch.before[:, place.part]
    in_int32 = all(part.min() >= -INT32_MAX and part.max() <= INT32_MAX for part in (w, m, gradient))
    if not in_int32 or v.min() < 0 or v.max() >= VARIANCE_MAX:
        return None
    state = w.astype(np.int32), m.astype(np.int32), v
    step, rate, decay = batch.settings[place.index].tolist()
    after: tuple[IntArray, ...] = _BACKEND.update_adam(state, gradient.astype(np.int32), step, rate, decay)
    expected = np.concatenate([part.astype(np.int64) for part in after])
    return batch.after[:, place.part].reshape(-1), expected


def _compare_rotated(batch: batches.RotateBatch, place: _Place) -> Sides:
    turns = batch.turns[:, place.part.start // 2 : place.part.stop // 2]
    table = turns[0][None, :], turns[1][None, :]
    expected = _BACKEND.rotate(_row(batch.x[place.part]), table, bool(batch.is_inverse[place.index]))
    return batch.claimed[place.part], expected[0]


def _compare_embedded(batch: batches.EmbedBatch, place: _Place) -> Sides:
    tables = tuple(_row(part[place.part]) for part in batch.parts)
    return batch.claimed[place.part], _BACKEND.embed(np.zeros((1, 1), np.int32), tables)[0]


def _compare_sum(batch: batches.SumBatch, place: _Place) -> Sides:
    shift, claimed = batch.settings[place.index].tolist()
    misses = (batch.hits[place.part] == 0).astype(np.int32)[:, None]
    expected = _BACKEND.compute_embedding_gradient(_row(batch.values[place.part]), misses, 2, shift)
    return np.array([claimed]), expected[0]


def _compare_equal(batch: batches.EqualBatch, place: _Place) -> Sides:
    return batch.found[place.part], batch.expected[place.part]


_CHECKS: dict[type[Batch], Callable[..., Sides | None]] = {
    batches.LinearBatch: _compare_linear,
    batches.QuantiseBatch: _compare_quantised,
    batches.ElementwiseBatch: _compare_elementwise,
    batches.NormaliseBatch: _compare_normalised,
    batches.SoftmaxBatch: _compare_softmax,
    batches.SoftmaxBackwardBatch: _compare_softmax_backward,
    batches.LossBatch: _compare_loss,
    batches.AdamBatch: _compare_adam,
    batches.RotateBatch: _compare_rotated,
    batches.EmbedBatch: _compare_embedded,
    batches.SumBatch: _compare_sum,
    batches.EqualBatch: _compare_equal,
}
