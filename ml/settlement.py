"""The end of a round: settled deltas become the next checkpoint.

The mean of the deltas is one step of an outer optimizer with Nesterov momentum; a round of one contributor takes its
delta as it is. It knows no chain: who is settled is decided elsewhere. Source: DiLoCo (arXiv 2311.08105), Nesterov.
"""

from collections.abc import Sequence

import numpy as np

from ml.arithmetic import I8, I32, I64, divide_magnitude, round_shift, saturate
from ml.checkpoint import Checkpoint
from ml.program import Program

OUTER_BITS = 4

Delta = tuple[tuple[I8, I32], ...]
"""By parameter mantissas (out, in) int8 and exponents (out, 1) int32: value = mantissa * 2**exponent, F24."""


def compute_next_checkpoint(program: Program, checkpoint: Checkpoint, deltas: Sequence[Delta]) -> Checkpoint:
    """Return the checkpoint after a round with these settled deltas; the same one when there are none."""
    if not deltas:
        return checkpoint
    momentum_rate = program.spec.outer_momentum if len(deltas) > 1 else 0
    weights, momentum = [], []
    for place in range(len(program.parameters)):
        mean = compute_mean_delta([delta[place] for delta in deltas])
        carried = saturate(mean + round_shift(checkpoint.momentum[place].astype(np.int64) * momentum_rate, OUTER_BITS))
        step = mean + round_shift(carried.astype(np.int64) * momentum_rate, OUTER_BITS)
        # |step| < 2**33 and the rate <= 16, so the product is far below 2**63.
        moved = checkpoint.weights[place] + round_shift(step * program.spec.outer_rate, OUTER_BITS)
        weights.append(saturate(moved))
        momentum.append(carried)
    return Checkpoint(tuple(weights), tuple(momentum))


def compute_mean_delta(deltas: Sequence[tuple[I8, I32]]) -> I64:
    """Return the mean of one parameter's dequantised deltas, magnitudes floored: (out, in) int64 F24.

    An exponent of a delta is at most 25 (a difference has 32 bits), so a sum of 2**16 deltas stays under 2**48.
    """
    total = np.zeros(deltas[0][0].shape, np.int64)
    for mantissas, exponents in deltas:
        total += mantissas.astype(np.int64) << exponents.astype(np.int64)
    return divide_magnitude(total, len(deltas))
