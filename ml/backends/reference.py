"""The ops of training in plain NumPy: the authority that every other backend equals byte for byte.

It is written to be read beside the numerics, not to be fast. It knows no program and keeps no state.
Values are fixed point: weights F24, activations F16, their gradients F20, weight gradients F16.
"""

from dataclasses import dataclass

import numpy as np

from ml import arithmetic
from ml.arithmetic import DELTA_BITS, DELTA_MAX, I8, I32, I64, MANTISSA_BITS, MANTISSA_MAX, round_shift, saturate
from ml.backends import Quantised
from ml.prf import compute_prf_array, draw_array_below


@dataclass(frozen=True, slots=True)
class ReferenceBackend:
    """`ml.backends.Backend` in NumPy."""

    @property
    def name(self) -> str:
        """Return "reference"."""
        return "reference"

    def draw_batch(self, x: I32, labels: I32, key: int, batch: int) -> tuple[I32, I32]:
        """Return the rows whose indexes are (prf * n) >> 64."""
        rows = draw_array_below(key, batch, len(x))
        return x[rows], labels[rows]

    def quantise_rows(self, x: I32, key: int | None = None) -> Quantised:
        """Return mantissas in [-63, 63] and exponents max(0, bits - 6)."""
        return _quantise(x.astype(np.int64), key, MANTISSA_BITS, MANTISSA_MAX)

    def quantise_transposed(self, x: I32, key: int | None = None) -> Quantised:
        """Return `quantise_rows` of the transpose; the PRF counts elements of the result."""
        return self.quantise_rows(np.ascontiguousarray(x.T), key)

    def quantise_delta(self, after: I32, before: I32) -> Quantised:
        """Return mantissas in [-127, 127] and exponents max(0, bits - 7)."""
        return _quantise(after.astype(np.int64) - before, None, DELTA_BITS, DELTA_MAX)

    def multiply(self, a: I8, b: I8) -> I32:
        """Return the exact product; |sum| <= K * 127**2 < 2**31."""
        return a.astype(np.int32) @ b.astype(np.int32).T

    def rescale(self, product: I32, a_exponents: I32, b_exponents: I32, shift: int) -> I32:
        """Return the product shifted by both exponents, which are at most 25 each."""
        # The shift is 20 or more, so at most 30 bits to the left: 2**31 * 2**30 = 2**61 bounds the intermediate.
        exponents = a_exponents.astype(np.int64) + b_exponents.astype(np.int64).T
        return saturate(arithmetic.scale_shift(product.astype(np.int64), shift - exponents))

    def relu(self, z: I32) -> I32:
        """Return max(z, 0)."""
        return np.maximum(z, 0)

    def relu_backward(self, gradient: I32, z: I32) -> I32:
        """Return gradient where z > 0, else 0."""
        return np.where(z > 0, gradient, 0).astype(np.int32)

    def compute_loss_gradient(self, z: I32, labels: I32) -> tuple[I32, I32]:
        """Return P - onehot with P in F24 rounded to F20, and log2(sum) - log2(term of the label) in F16."""
        z_i64, rows = z.astype(np.int64), np.arange(len(z))
        below = z_i64.max(axis=1, keepdims=True) - z_i64
        # below < 2**32 and log2(e) in F30 < 2**30.6, so the product stays under 2**62.6.
        powers = round_shift(below * arithmetic.LOG2_E_F30, 22)
        terms = arithmetic.compute_exp2(powers)
        total = terms.sum(axis=1, keepdims=True)
        gradient = (terms << arithmetic.PROBABILITY_BITS) // total
        gradient[rows, labels[:, 0]] -= 1 << arithmetic.PROBABILITY_BITS
        label_power = round_shift(powers[rows, labels[:, 0]], 8)
        loss = arithmetic.compute_log2(total[:, 0]) - (arithmetic.EXP2_BITS << 16) + label_power
        return saturate(round_shift(gradient, 4)), saturate(np.maximum(loss, 0))[:, None]

    def update_adam(
        self, state: tuple[I32, I64, I64], gradient: I32, step: int, rate: int, decay: int
    ) -> tuple[I32, I64, I64]:
        """Move both moments, then w by the bounded, bias-corrected quotient and by its decay."""
        w, m, v = state
        g = gradient.astype(np.int64)
        m = m + round_shift((g << arithmetic.MEAN_BITS) - m, arithmetic.MEAN_SHIFT)
        # g * g < 2**62 and v never exceeds the largest g * g, so neither the square nor the difference overflows.
        v = v + round_shift(g * g - v, arithmetic.VARIANCE_SHIFT)
        quotient = (np.abs(m) << 8) // (arithmetic.compute_isqrt(v) + 1)
        capped = np.minimum(quotient, arithmetic.UPDATE_MAX)
        # 10 * 2**16 < 2**20, the correction <= 2**30, the rate < 2**29: no product reaches 2**51.
        update = np.sign(m) * (capped * arithmetic.compute_bias_correction(step) >> arithmetic.CORRECTION_BITS)
        w_i64 = w.astype(np.int64)
        moved = w_i64 - round_shift(update * rate, 24) - round_shift(w_i64 * decay, 32)
        return saturate(moved), m, v


def _quantise(x: I64, key: int | None, bits: int, mantissa_max: int) -> Quantised:
    tallest = np.abs(x).max(axis=1, keepdims=True)
    exponents = np.maximum(0, arithmetic.compute_bit_length(tallest) - bits)
    if key is None:
        shifted = round_shift(x, exponents)
    else:
        noise = compute_prf_array(key, x.size).reshape(x.shape)
        mask = (np.int64(1) << exponents) - 1
        shifted = x + (noise & mask.astype(np.uint64)).astype(np.int64) >> exponents
    return np.clip(shifted, -mantissa_max, mantissa_max).astype(np.int8), exponents.astype(np.int32)
