"""The kernel of Adam in integers: weights and both moments in one pass.

Twin of `update_adam` in `ml.backends.reference`, where every bound is derived. It knows no schedule: rates are handed
in.
"""

import torch
import triton.language as tl
from torch import Tensor

from ml import arithmetic
from ml.backends.cuda.device import Block, divide_up, kernel, split_word
from ml.backends.cuda.rules import compute_reciprocal_root, round_shift, saturate

TensorState = tuple[Tensor, Tensor, Tensor]
"""Weights int32 F24, first moments int32 F20, second moments int64 F32."""

_BLOCK = 1024
_GRADIENT_MAX = tl.constexpr(arithmetic.WEIGHT_GRADIENT_MAX)
_MEAN_BITS, _MEAN_SHIFT = tl.constexpr(arithmetic.MEAN_BITS), tl.constexpr(arithmetic.MEAN_SHIFT)
_VARIANCE_SHIFT = tl.constexpr(arithmetic.VARIANCE_SHIFT)
_VARIANCE_FLOOR = tl.constexpr(arithmetic.VARIANCE_FLOOR)
_UPDATE_MAX, _CORRECTION_BITS = tl.constexpr(arithmetic.UPDATE_MAX), tl.constexpr(arithmetic.CORRECTION_BITS)


@kernel(varying=("correction", "rate", "decay_low", "decay_high"))
def _update_adam(
    weights: Block,
    means: Block,
    variances: Block,
    gradient: Block,
    weights_after: Block,
    means_after: Block,
    variances_after: Block,
    count: Block,
    correction: Block,
    rate: Block,
    decay_low: Block,
    decay_high: Block,
    block: tl.constexpr,
) -> None:
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    mask = at < count
    g = tl.load(gradient + at, mask=mask, other=0).to(tl.int64)
    g = tl.minimum(tl.maximum(g, -_GRADIENT_MAX), _GRADIENT_MAX)
    mean, variance = tl.load(means + at, mask=mask, other=0).to(tl.int64), tl.load(variances + at, mask=mask, other=0)
    mean += round_shift((g << _MEAN_BITS) - mean, _MEAN_SHIFT)
    variance += round_shift(g * g - variance, _VARIANCE_SHIFT)
    reciprocal, shift = compute_reciprocal_root(variance + _VARIANCE_FLOOR)
    quotient = (tl.abs(mean) * reciprocal) >> (shift - (16 - _MEAN_BITS))
    update = (tl.minimum(quotient, _UPDATE_MAX) * correction) >> _CORRECTION_BITS
    update = tl.where(mean < 0, -update, update)
    weight = tl.load(weights + at, mask=mask, other=0).to(tl.int64)
    decay = (decay_high.to(tl.int64) << 32) | decay_low.to(tl.uint32).to(tl.int64)
    moved = weight - round_shift(update * rate, 24) - round_shift(weight * decay, 32)
    tl.store(weights_after + at, saturate(moved), mask=mask)
    tl.store(means_after + at, mean.to(tl.int32), mask=mask)
    tl.store(variances_after + at, variance, mask=mask)


def update_adam(state: TensorState, gradient: Tensor, step: int, rate: int, decay: int) -> TensorState:
    """Return weights and moments after one step with gradient int32 F16; rates are in units of 2**-32."""
    w, m, v = (torch.empty_like(part) for part in state)
    count, correction = gradient.numel(), arithmetic.compute_bias_correction(step)
    grid = (divide_up(count, _BLOCK),)
    _update_adam[grid](*state, gradient, w, m, v, count, correction, rate, *split_word(decay), _BLOCK)
    return w, m, v
