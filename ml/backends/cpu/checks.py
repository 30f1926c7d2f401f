"""Batched checks compiled for the CPU: a loop over the places of a batch, without the interpreter lock.

Twin of `ml.backends.reference_checks`. A caller with several cores gives each a part of the places. `get_arrays` lists
what a kind of check reads, for this and for the GPU.
"""

from collections.abc import Callable

import numpy as np

from ml.arithmetic import get_exp2_table
from ml.backends import batched_checks as batches
from ml.backends.batched_checks import Arrays, Batch, Verdicts
from ml.backends.cpu.kernel import kernel
from ml.backends.cpu.places import (
    is_adam,
    is_elementwise,
    is_embedded,
    is_equal,
    is_linear,
    is_loss,
    is_normalised,
    is_quantised,
    is_rotated,
    is_softmax,
    is_softmax_backward,
    is_sum,
)

Check = Callable[[int, Arrays], bool]
"""Says whether the place with this number holds."""


def get_arrays(batch: Batch) -> Arrays:
    """Return the arrays that `ml.backends.cpu.places` reads for a batch of this kind, in its order."""
    return _ARRAYS[type(batch)](batch)


_ARRAYS: dict[type[Batch], Callable[..., Arrays]] = {
    batches.LinearBatch: lambda batch: (batch.a, batch.b, batch.claimed, batch.starts, batch.settings),
    batches.QuantiseBatch: lambda batch: (batch.x, batch.mantissas, batch.starts, batch.settings, batch.keys),
    batches.ElementwiseBatch: lambda batch: (batch.first, batch.second, batch.claimed, batch.starts, batch.rules),
    batches.NormaliseBatch: lambda batch: (
        batch.x,
        batch.gradient,
        batch.claimed,
        batch.starts,
        batch.is_backward,
        batches.compute_root_widths(batch.starts),
    ),
    batches.SoftmaxBatch: lambda batch: (
        batch.scores,
        batch.claimed,
        batch.starts,
        batches.compute_softmax_settings(batch.settings),
        get_exp2_table(),
    ),
    batches.SoftmaxBackwardBatch: lambda batch: (
        batch.probabilities,
        batch.gradient,
        batch.claimed,
        batch.starts,
        batches.compute_root_scales(batch.head_widths),
    ),
    batches.LossBatch: lambda batch: (batch.z, batch.claimed, batch.starts, batch.settings, get_exp2_table()),
    batches.AdamBatch: lambda batch: (
        batch.before,
        batch.after,
        batch.starts,
        batches.compute_adam_settings(batch.settings),
    ),
    batches.RotateBatch: lambda batch: (batch.x, batch.turns, batch.claimed, batch.starts, batch.is_inverse),
    batches.EmbedBatch: lambda batch: (batch.parts, batch.claimed, batch.starts),
    batches.SumBatch: lambda batch: (batch.values, batch.hits, batch.starts, batch.settings),
    batches.EqualBatch: lambda batch: (batch.found, batch.expected, batch.starts),
}


def verify(batch: Batch) -> Verdicts:
    """Return whether each place of the batch holds: (n,) bool."""
    verdicts = np.zeros(len(batch.starts) - 1, np.bool_)
    _get_loop(type(batch))(get_arrays(batch), verdicts)
    return verdicts


@kernel
def _verify_linear(arrays: Arrays, verdicts: Verdicts) -> None:
    for place in range(verdicts.size):
        verdicts[place] = is_linear(place, arrays)


@kernel
def _verify_quantised(arrays: Arrays, verdicts: Verdicts) -> None:
    for place in range(verdicts.size):
        verdicts[place] = is_quantised(place, arrays)


@kernel
def _verify_elementwise(arrays: Arrays, verdicts: Verdicts) -> None:
    for place in range(verdicts.size):
        verdicts[place] = is_elementwise(place, arrays)


@kernel
def _verify_normalised(arrays: Arrays, verdicts: Verdicts) -> None:
    for place in range(verdicts.size):
        verdicts[place] = is_normalised(place, arrays)


@kernel
def _verify_softmax(arrays: Arrays, verdicts: Verdicts) -> None:
    for place in range(verdicts.size):
        verdicts[place] = is_softmax(place, arrays)


@kernel
def _verify_softmax_backward(arrays: Arrays, verdicts: Verdicts) -> None:
    for place in range(verdicts.size):
        verdicts[place] = is_softmax_backward(place, arrays)


@kernel
def _verify_loss(arrays: Arrays, verdicts: Verdicts) -> None:
    for place in range(verdicts.size):
        verdicts[place] = is_loss(place, arrays)


@kernel
def _verify_adam(arrays: Arrays, verdicts: Verdicts) -> None:
    for place in range(verdicts.size):
        verdicts[place] = is_adam(place, arrays)


@kernel
def _verify_rotated(arrays: Arrays, verdicts: Verdicts) -> None:
    for place in range(verdicts.size):
        verdicts[place] = is_rotated(place, arrays)


@kernel
def _verify_embedded(arrays: Arrays, verdicts: Verdicts) -> None:
    for place in range(verdicts.size):
        verdicts[place] = is_embedded(place, arrays)


@kernel
def _verify_sum(arrays: Arrays, verdicts: Verdicts) -> None:
    for place in range(verdicts.size):
        verdicts[place] = is_sum(place, arrays)


@kernel
def _verify_equal(arrays: Arrays, verdicts: Verdicts) -> None:
    for place in range(verdicts.size):
        verdicts[place] = is_equal(place, arrays)


def _get_loop(kind: type[Batch]) -> Callable[[Arrays, Verdicts], None]:
    loops: dict[type[Batch], Callable[[Arrays, Verdicts], None]] = {
        batches.LinearBatch: _verify_linear,
        batches.QuantiseBatch: _verify_quantised,
        batches.ElementwiseBatch: _verify_elementwise,
        batches.NormaliseBatch: _verify_normalised,
        batches.SoftmaxBatch: _verify_softmax,
        batches.SoftmaxBackwardBatch: _verify_softmax_backward,
        batches.LossBatch: _verify_loss,
        batches.AdamBatch: _verify_adam,
        batches.RotateBatch: _verify_rotated,
        batches.EmbedBatch: _verify_embedded,
        batches.SumBatch: _verify_sum,
        batches.EqualBatch: _verify_equal,
    }
    return loops[kind]
