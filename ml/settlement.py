"""The end of a round: settled deltas become the next checkpoint, and the held-out data says what it is worth.

The mean of the deltas is one step of an outer optimizer with Nesterov momentum; a round of one contributor takes its
delta as it is. It knows no chain: who is settled is decided elsewhere. Source: DiLoCo (arXiv 2311.08105), Nesterov.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ml.arithmetic import I8, I32, I64, divide_magnitude, round_shift, saturate
from ml.backends import Backend
from ml.checkpoint import Checkpoint
from ml.dataset import Dataset
from ml.program import Program

OUTER_BITS = 4
LINEAR_SHIFT = 24

Delta = tuple[tuple[I8, I32], ...]
"""Per layer mantissas (out, in) int8 and exponents (out, 1) int32: value = mantissa * 2**exponent, F24."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How a checkpoint does on the held-out examples."""

    loss_f16: int
    """Sum of the losses in bits, F16."""
    correct: int
    count: int


def compute_next_checkpoint(program: Program, checkpoint: Checkpoint, deltas: Sequence[Delta]) -> Checkpoint:
    """Return the checkpoint after a round with these settled deltas; the same one when there are none."""
    if not deltas:
        return checkpoint
    momentum_rate = program.spec.outer_momentum if len(deltas) > 1 else 0
    weights, momentum = [], []
    for layer in range(program.layers):
        mean = compute_mean_delta([delta[layer] for delta in deltas])
        carried = saturate(mean + round_shift(checkpoint.momentum[layer].astype(np.int64) * momentum_rate, OUTER_BITS))
        step = mean + round_shift(carried.astype(np.int64) * momentum_rate, OUTER_BITS)
        # |step| < 2**33 and the rate <= 16, so the product is far below 2**63.
        moved = checkpoint.weights[layer] + round_shift(step * program.spec.outer_rate, OUTER_BITS)
        weights.append(saturate(moved))
        momentum.append(carried)
    return Checkpoint(tuple(weights), tuple(momentum))


def compute_mean_delta(deltas: Sequence[tuple[I8, I32]]) -> I64:
    """Return the mean of one layer's dequantised deltas, magnitudes floored: (out, in) int64 F24.

    An exponent of a delta is at most 25 (a difference has 32 bits), so a sum of 2**16 deltas stays under 2**48.
    """
    total = np.zeros(deltas[0][0].shape, np.int64)
    for mantissas, exponents in deltas:
        total += mantissas.astype(np.int64) << exponents.astype(np.int64)
    return divide_magnitude(total, len(deltas))


def compute_evaluation(program: Program, backend: Backend, checkpoint: Checkpoint, dataset: Dataset) -> Evaluation:
    """Return loss and correct count of the checkpoint on the held-out examples; ties go to the lowest class."""
    z = compute_logits(program, backend, checkpoint, dataset.heldout_x)
    labels = dataset.heldout_labels
    _, loss = backend.compute_loss_gradient(z, labels)
    correct = int(np.count_nonzero(z.argmax(axis=1) == labels[:, 0]))
    return Evaluation(int(loss.astype(np.int64).sum()), correct, len(labels))


def compute_logits(program: Program, backend: Backend, checkpoint: Checkpoint, x: I32) -> I32:
    """Return the logits (n, classes) int32 F16 of inputs x (n, in) int32 F16."""
    for layer in range(program.layers):
        a, a_exponents = backend.quantise_rows(x)
        b, b_exponents = backend.quantise_rows(checkpoint.weights[layer])
        x = backend.rescale(backend.multiply(a, b), a_exponents, b_exponents, LINEAR_SHIFT)
        if layer + 1 < program.layers:
            x = backend.relu(x)
    return x
