"""Batched checks one place after another by the reference backend: what the compiled ones must agree with.

It is written to be read beside `ml.checks`, whose arithmetic it repeats, and not to be fast.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ml.arithmetic import DELTA_BITS, I32, INT32_MAX, PROBABILITY_BITS, IntArray
from ml.backends import Rounding
from ml.backends import batched_checks as batches
from ml.backends.batched_checks import DIFFERENCE_MAX, EXPONENT_MAX, VARIANCE_MAX, Batch, Verdicts
from ml.backends.reference import ReferenceBackend

_BACKEND = ReferenceBackend()


@dataclass(frozen=True, slots=True)
class _Place:
    """A place of a batch: its number and its elements of the flat arrays."""

    index: int
    part: slice


def verify(batch: Batch) -> Verdicts:
    """Return whether each place of the batch holds: (n,) bool."""
    check = _CHECKS[type(batch)]
    pairs = zip(batch.starts[:-1].tolist(), batch.starts[1:].tolist(), strict=True)
    return np.array([check(batch, _Place(i, slice(*pair))) for i, pair in enumerate(pairs)], np.bool_)


def _row(array: IntArray) -> I32:
    return array[None, :].astype(np.int32)


def _is_linear(batch: batches.LinearBatch, place: _Place) -> bool:
    a_exponent, b_exponent, shift, is_hidden = batch.settings[place.index].tolist()
    if not (0 <= a_exponent <= EXPONENT_MAX and 0 <= b_exponent <= EXPONENT_MAX):
        return False
    product = _BACKEND.multiply(batch.a[None, place.part], batch.b[None, place.part])
    a_exponents, b_exponents = (np.full((1, 1), exponent, np.int32) for exponent in (a_exponent, b_exponent))
    expected = 0 if is_hidden else _BACKEND.rescale(product, a_exponents, b_exponents, shift)[0, 0]
    return bool(batch.claimed[place.index] == expected)


def _is_quantised(batch: batches.QuantiseBatch, place: _Place) -> bool:
    bits, compared, exponent, is_stochastic, row, column = batch.settings[place.index].tolist()
    x = batch.x[None, place.part]
    bounds = (-DIFFERENCE_MAX, DIFFERENCE_MAX) if bits == DELTA_BITS else (-(1 << 31), INT32_MAX)
    if x.min() < bounds[0] or x.max() > bounds[1]:
        return False
    if bits == DELTA_BITS:
        # A difference is handed in as one; its halves are those of two tensors again.
        half = x >> 1
        mantissas, exponents = _BACKEND.quantise_delta((x - half).astype(np.int32), (-half).astype(np.int32))
    else:
        rounding = Rounding(int(batch.keys[place.index]), row, column) if is_stochastic else None
        mantissas, exponents = _BACKEND.quantise_rows(x.astype(np.int32), rounding)
    found = batch.mantissas[place.part][:compared]
    return bool(exponents[0, 0] == exponent and np.array_equal(found, mantissas[0, :compared]))


def _is_elementwise(batch: batches.ElementwiseBatch, place: _Place) -> bool:
    functions: tuple[Callable[[I32, I32], I32], ...] = (
        lambda x, _y: _BACKEND.relu(x),
        _BACKEND.relu_backward,
        lambda x, _y: _BACKEND.relu_squared(x),
        _BACKEND.relu_squared_backward,
        _BACKEND.add,
    )
    expected = functions[batch.rules[place.index]](batch.first[place.part], batch.second[place.part])
    return np.array_equal(batch.claimed[place.part], expected)


def _is_normalised(batch: batches.NormaliseBatch, place: _Place) -> bool:
    x, gradient = _row(batch.x[place.part]), _row(batch.gradient[place.part])
    is_backward = batch.is_backward[place.index]
    expected = _BACKEND.normalise_backward(gradient, x) if is_backward else _BACKEND.normalise(x)
    return np.array_equal(batch.claimed[place.part], expected[0])


def _is_softmax(batch: batches.SoftmaxBatch, place: _Place) -> bool:
    position, head_width = batch.settings[place.index].tolist()
    scores = _row(batch.scores[place.part])
    # The reference takes a row's position from its place in the array.
    stacked = np.zeros((scores.shape[1], scores.shape[1]), np.int32)
    stacked[position] = scores[0]
    return np.array_equal(batch.claimed[place.part], _BACKEND.causal_softmax(stacked, head_width)[position])


def _is_softmax_backward(batch: batches.SoftmaxBackwardBatch, place: _Place) -> bool:
    p, gradient = _row(batch.probabilities[place.part]), _row(batch.gradient[place.part])
    if p.min() < 0 or p.max() > 1 << PROBABILITY_BITS:
        return False
    expected = _BACKEND.causal_softmax_backward(p, gradient, int(batch.head_widths[place.index]))
    return np.array_equal(batch.claimed[place.part], expected[0])


def _is_loss(batch: batches.LossBatch, place: _Place) -> bool:
    label, claimed = batch.settings[place.index].tolist()
    z = _row(batch.z[place.part])
    if not 0 <= label < z.shape[1]:
        return False
    gradient, loss = _BACKEND.compute_loss_gradient(z, np.full((1, 1), label, np.int32))
    return bool(loss[0, 0] == claimed) and np.array_equal(batch.claimed[place.part], gradient[0])


def _is_adam(batch: batches.AdamBatch, place: _Place) -> bool:
    w, m, v, gradient = batch.before[:, place.part]
    in_int32 = all(part.min() >= -INT32_MAX and part.max() <= INT32_MAX for part in (w, m, gradient))
    if not in_int32 or v.min() < 0 or v.max() >= VARIANCE_MAX:
        return False
    state = w.astype(np.int32), m.astype(np.int32), v
    step, rate, decay = batch.settings[place.index].tolist()
    after: tuple[IntArray, ...] = _BACKEND.update_adam(state, gradient.astype(np.int32), step, rate, decay)
    return all(np.array_equal(found, part) for found, part in zip(batch.after[:, place.part], after, strict=True))


def _is_rotated(batch: batches.RotateBatch, place: _Place) -> bool:
    turns = batch.turns[:, place.part.start // 2 : place.part.stop // 2]
    table = turns[0][None, :], turns[1][None, :]
    expected = _BACKEND.rotate(_row(batch.x[place.part]), table, bool(batch.is_inverse[place.index]))
    return np.array_equal(batch.claimed[place.part], expected[0])


def _is_embedded(batch: batches.EmbedBatch, place: _Place) -> bool:
    tables = tuple(_row(part[place.part]) for part in batch.parts)
    return np.array_equal(batch.claimed[place.part], _BACKEND.embed(np.zeros((1, 1), np.int32), tables)[0])


def _is_sum(batch: batches.SumBatch, place: _Place) -> bool:
    shift, claimed = batch.settings[place.index].tolist()
    misses = (batch.hits[place.part] == 0).astype(np.int32)[:, None]
    expected = _BACKEND.compute_embedding_gradient(_row(batch.values[place.part]), misses, 2, shift)
    return bool(expected[0, 0] == claimed)


def _is_equal(batch: batches.EqualBatch, place: _Place) -> bool:
    return np.array_equal(batch.found[place.part], batch.expected[place.part])


_CHECKS: dict[type[Batch], Callable[..., bool]] = {
    batches.LinearBatch: _is_linear,
    batches.QuantiseBatch: _is_quantised,
    batches.ElementwiseBatch: _is_elementwise,
    batches.NormaliseBatch: _is_normalised,
    batches.SoftmaxBatch: _is_softmax,
    batches.SoftmaxBackwardBatch: _is_softmax_backward,
    batches.LossBatch: _is_loss,
    batches.AdamBatch: _is_adam,
    batches.RotateBatch: _is_rotated,
    batches.EmbedBatch: _is_embedded,
    batches.SumBatch: _is_sum,
    batches.EqualBatch: _is_equal,
}
