"""The ops of training in plain NumPy: the authority that every other backend equals byte for byte.

It is written to be read beside the numerics, not to be fast. It knows no program and keeps no state.
Values are fixed point: weights F24, activations F16, their gradients F24, weight gradients F16. Every bound that keeps
an intermediate inside int64 stands beside it.
"""

from dataclasses import dataclass
from math import isqrt
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ml import arithmetic
from ml.arithmetic import I8, I32, I64, MANTISSA_BITS, MANTISSA_MAX, get_delta_max, round_shift, saturate
from ml.backends import U8, AdamState, Groups, Heads, Quantised, Rounding
from ml.prf import compute_rounding_words, draw_array_below
from ml.rotary import ROTATION_BITS

Mask: TypeAlias = npt.NDArray[np.bool_]

NORM_BITS = 24
"""Rows are brought below 2**24 before they are squared."""
NORM_EPSILON = 64
"""Added to each square, F32: the norm of a row of zeros is not zero."""


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

    def draw_windows(self, stream: U8, key: int, batch: int, context: int) -> tuple[I32, I32]:
        """Return stretches that start at (prf * (n - context)) >> 64; a target is the next token."""
        starts = draw_array_below(key, batch, len(stream) - context)
        places = (starts[:, None] + np.arange(context)).reshape(-1, 1)
        return stream[places].astype(np.int32), stream[places + 1].astype(np.int32)

    def quantise_rows(self, x: I32, rounding: Rounding | None = None) -> Quantised:
        """Return mantissas in [-63, 63] and exponents max(0, bits - 6)."""
        x_i64 = x.astype(np.int64)
        return _quantise(x_i64, _compute_exponents(x_i64, MANTISSA_BITS), rounding, MANTISSA_MAX)

    def quantise_transposed(
        self, x: I32, rounding: Rounding | None = None, groups: int = 1, exponents: I32 | None = None
    ) -> Quantised:
        """Return `quantise_rows` of the groups' transposes; the PRF counts rows and columns of the result."""
        rows, columns = x.shape
        blocks = np.ascontiguousarray(x.reshape(groups, rows // groups, columns).transpose(0, 2, 1))
        transposed = blocks.reshape(groups * columns, rows // groups).astype(np.int64)
        own = _compute_exponents(transposed, MANTISSA_BITS) if exponents is None else exponents
        return _quantise(transposed, own, rounding, MANTISSA_MAX)

    def compute_column_exponents(self, x: I32) -> I32:
        """Return max(0, bits - 6) of each column."""
        return _compute_exponents(x.T.astype(np.int64), MANTISSA_BITS)

    def quantise_delta(self, after: I32, before: I32, bits: int) -> Quantised:
        """Return mantissas of `bits` with their sign and exponents max(0, bit length - bits + 1)."""
        difference = after.astype(np.int64) - before
        return _quantise(difference, _compute_exponents(difference, bits - 1), None, get_delta_max(bits))

    def multiply(self, a: I8, b: I8) -> I32:
        """Return the exact product; |sum| <= K * 127**2 < 2**31."""
        return a.astype(np.int32) @ b.astype(np.int32).T

    def rescale(self, product: I32, a_exponents: I32, b_exponents: I32, shift: int) -> I32:
        """Return the product shifted by both exponents, which are at most 25 each."""
        # The shift is 16 or more, so at most 34 bits to the left. Beyond 30 bits a left shift saturates any product but
        # zero, as it does at 31: the cap keeps 2**31 * 2**31 = 2**62 the bound of the intermediate.
        exponents = a_exponents.astype(np.int64) + b_exponents.astype(np.int64).T
        shifts = np.maximum(shift - exponents, -31)
        return saturate(arithmetic.scale_shift(product.astype(np.int64), shifts))

    def multiply_groups(self, a: Quantised, b: Quantised, groups: Groups) -> I32:
        """Return `rescale(multiply)` of each group; a causal product is zero above the diagonal."""
        blocks = [np.split(part, groups.groups) for part in (*a, *b)]
        products = [
            self.rescale(self.multiply(left, right), left_exponents, right_exponents, groups.shift)
            for left, left_exponents, right, right_exponents in zip(*blocks, strict=True)
        ]
        return np.concatenate([np.tril(product) if groups.is_causal else product for product in products])

    def relu(self, z: I32) -> I32:
        """Return max(z, 0)."""
        return np.maximum(z, 0)

    def relu_backward(self, gradient: I32, z: I32) -> I32:
        """Return gradient where z > 0, else 0."""
        return np.where(z > 0, gradient, 0).astype(np.int32)

    def relu_squared(self, h: I32) -> I32:
        """Return max(h, 0)**2; the square is below 2**62."""
        positive = np.maximum(h, 0).astype(np.int64)
        return saturate(round_shift(positive * positive, arithmetic.ACTIVATION_BITS))

    def relu_squared_backward(self, gradient: I32, h: I32) -> I32:
        """Return 2 max(h, 0) gradient; the product is below 2**62."""
        positive = np.maximum(h, 0).astype(np.int64)
        return saturate(round_shift(positive * gradient, arithmetic.ACTIVATION_BITS - 1))

    def add(self, a: I32, b: I32) -> I32:
        """Return a + b, saturated."""
        return saturate(a.astype(np.int64) + b)

    def normalise(self, x: I32) -> I32:
        """Return x times the reciprocal of its norm; |result| <= sqrt(width) in F16."""
        short, _, reciprocal, shift = _compute_norms(x)
        # |short| <= 2**24 and the reciprocal < 2**31.
        return saturate(round_shift(short * reciprocal, shift))

    def normalise_backward(self, gradient: I32, x: I32) -> I32:
        """Return (gradient - y mean(gradient y)) over the norm, y = normalise(x)."""
        _, drop, reciprocal, shift = _compute_norms(x)
        y, g = self.normalise(x).astype(np.int64), gradient.astype(np.int64)
        # By Cauchy-Schwarz |sum| <= 2**31 sqrt(width) * 2**16 sqrt(width): below 2**60 for a width of 2**13.
        mean = arithmetic.divide_magnitude((g * y).sum(axis=1, keepdims=True), x.shape[1])
        along = round_shift(y * round_shift(mean, arithmetic.ACTIVATION_BITS), arithmetic.ACTIVATION_BITS)
        rest = saturate(g - along).astype(np.int64)
        # |rest| < 2**31 and the reciprocal < 2**31.
        return saturate(round_shift(rest * reciprocal, shift + drop))

    def embed(self, tokens: I32, tables: tuple[I32, ...]) -> I32:
        """Return the sum of both tables' rows, F24 to F16."""
        x = tables[0][tokens[:, 0]].astype(np.int64)
        if len(tables) > 1:
            x += tables[1][np.arange(len(tokens)) % len(tables[1])]
        return saturate(round_shift(x, arithmetic.WEIGHT_BITS - arithmetic.ACTIVATION_BITS))

    def transpose(self, x: I32) -> I32:
        """Return x transposed, laid out by rows."""
        return np.ascontiguousarray(x.T)

    def compute_embedding_gradient(self, transposed: I32, tokens: I32, vocabulary: int, shift: int) -> I32:
        """Return exact sums, rounded once; 2**14 rows of 2**31 stay below 2**45."""
        sums = np.zeros((vocabulary, len(transposed)), np.int64)
        np.add.at(sums, tokens[:, 0], transposed.T.astype(np.int64))
        return saturate(round_shift(sums, shift))

    def compute_position_gradient(self, transposed: I32, context: int, shift: int) -> I32:
        """Return exact sums over the sequences, rounded once."""
        sums = transposed.astype(np.int64).reshape(len(transposed), -1, context).sum(axis=1)
        return saturate(round_shift(np.ascontiguousarray(sums.T), shift))

    def split_heads(self, x: I32, part: int, heads: Heads) -> I32:
        """Return one part of the columns, by (sequence, head, position)."""
        width = heads.heads * heads.width
        columns = x[:, part * width : (part + 1) * width]
        split = columns.reshape(-1, heads.context, heads.heads, heads.width).transpose(0, 2, 1, 3)
        return np.ascontiguousarray(split).reshape(-1, heads.width)

    def merge_heads(self, parts: tuple[I32, ...], heads: Heads) -> I32:
        """Return the parts side by side, by (sequence, position)."""
        shape = (-1, heads.heads, heads.context, heads.width)
        blocks = [part.reshape(shape).transpose(0, 2, 1, 3) for part in parts]
        merged = np.stack(blocks, axis=2)
        return np.ascontiguousarray(merged.reshape(-1, len(parts) * heads.heads * heads.width))

    def rotate(self, x: I32, table: tuple[I32, I32], is_inverse: bool) -> I32:
        """Return (x1 c - x2 s, x1 s + x2 c), with s negated for the inverse; sums stay below 2**62."""
        context, half = table[0].shape
        cosines, sines = (part.astype(np.int64)[np.arange(len(x)) % context] for part in table)
        if is_inverse:
            sines = -sines
        first, second = x[:, :half].astype(np.int64), x[:, half:].astype(np.int64)
        turned = (first * cosines - second * sines, first * sines + second * cosines)
        return saturate(round_shift(np.concatenate(turned, axis=1), ROTATION_BITS))

    def causal_softmax(self, scores: I32, head_width: int) -> I32:
        """Return the base-2 softmax of each row up to its own position."""
        rows, context = scores.shape
        return compute_causal_softmax(scores, np.arange(rows) % context, head_width)

    def causal_softmax_backward(self, probabilities: I32, gradient: I32, head_width: int) -> I32:
        """Return P (dP - sum P dP) / sqrt(head_width)."""
        p, g = probabilities.astype(np.int64), gradient.astype(np.int64)
        # The probabilities of a row add up to at most 2**24, so the sum stays below 2**55.
        mean = round_shift((p * g).sum(axis=1, keepdims=True), arithmetic.PROBABILITY_BITS)
        # 2**24 * 2**32 = 2**56, then 2**36 * 2**16.
        drop = arithmetic.PROBABILITY_BITS + arithmetic.GRADIENT_BITS - arithmetic.SCORE_GRADIENT_BITS
        scaled = round_shift(p * (g - mean), drop) * get_root_scale(head_width)
        return saturate(round_shift(scaled, 16))

    def compute_loss_gradient(self, z: I32, labels: I32) -> tuple[I32, I32]:
        """Return P - onehot in F24, and log2(sum) - log2(term of the label) in F16."""
        rows = np.arange(len(z))
        terms, total, powers = _compute_terms(z, arithmetic.LOG2_E_F30, np.ones(z.shape, np.bool_))
        gradient = _divide_terms(terms, total)
        gradient[rows, labels[:, 0]] -= 1 << arithmetic.PROBABILITY_BITS
        label_power = round_shift(powers[rows, labels[:, 0]], 8)
        loss = arithmetic.compute_log2(total[:, 0]) - (arithmetic.EXP2_BITS << 16) + label_power
        return saturate(gradient), saturate(np.maximum(loss, 0))[:, None]

    def update_adam(self, state: AdamState, gradient: I32, step: int, rate: int, decay: int) -> AdamState:
        """Move both moments, then w by the bounded, bias-corrected quotient and by its decay."""
        w, m_before, v = state
        bound = arithmetic.WEIGHT_GRADIENT_MAX
        g = np.clip(gradient.astype(np.int64), -bound, bound)
        m = m_before + round_shift((g << arithmetic.MEAN_BITS) - m_before, arithmetic.MEAN_SHIFT)
        # g * g < 2**54 and v never exceeds the largest g * g.
        v = v + round_shift(g * g - v, arithmetic.VARIANCE_SHIFT)
        reciprocal, shift = arithmetic.compute_reciprocal_root(v + arithmetic.VARIANCE_FLOOR)
        # |m| < 2**31, the reciprocal <= 2**31, the shift at least 30 + 5 - 12.
        quotient = np.abs(m) * reciprocal >> shift - (16 - arithmetic.MEAN_BITS)
        capped = np.minimum(quotient, arithmetic.UPDATE_MAX)
        # 10 * 2**16 < 2**20, the correction <= 2**30, the rate < 2**29, w * decay < 2**63: no product overflows.
        update = np.sign(m) * (capped * arithmetic.compute_bias_correction(step) >> arithmetic.CORRECTION_BITS)
        w_i64 = w.astype(np.int64)
        moved = w_i64 - round_shift(update * rate, 24) - round_shift(w_i64 * decay, 32)
        return saturate(moved), m.astype(np.int32), v


def get_root_scale(head_width: int) -> int:
    """Return 1 / sqrt(head_width) in F16."""
    return (1 << 46) // isqrt(head_width << 60)


def get_softmax_scale(head_width: int) -> int:
    """Return log2(e) / sqrt(head_width) in F30."""
    return (arithmetic.LOG2_E_F30 << 30) // isqrt(head_width << 60)


def compute_causal_softmax(scores: I32, positions: I64, head_width: int) -> I32:
    """Return the softmax of each row of scores (rows, context) up to the row's position, (rows,); 0 beyond, F24."""
    visible: Mask = np.arange(scores.shape[1])[None, :] <= positions[:, None]
    terms, total, _ = _compute_terms(scores, get_softmax_scale(head_width), visible)
    return np.where(visible, _divide_terms(terms, total), 0).astype(np.int32)


def _compute_exponents(x: I64, bits: int) -> I32:
    """Return how many bits the tallest element of each row has beyond `bits`: (rows, 1) int32."""
    tallest = np.abs(x).max(axis=1, keepdims=True)
    return np.maximum(0, arithmetic.compute_bit_length(tallest) - bits).astype(np.int32)


def _quantise(x: I64, exponents: I32, rounding: Rounding | None, mantissa_max: int) -> Quantised:
    shifts = exponents.astype(np.int64)
    if rounding is None:
        shifted = round_shift(x, shifts)
    else:
        words = compute_rounding_words(rounding.key, rounding.row, rounding.column, (x.shape[0], x.shape[1]))
        shifted = x + (words & (np.int64(1) << shifts) - 1) >> shifts
    return np.clip(shifted, -mantissa_max, mantissa_max).astype(np.int8), exponents


def _compute_norms(x: I32) -> tuple[I64, I64, I64, I64]:
    """Return each row short of 2**24, the bits it dropped, and reciprocal and shift of its root mean square.

    The short row times the reciprocal, shifted right, is the normalised row in F16.
    """
    width = x.shape[1]
    x_i64 = x.astype(np.int64)
    drop = np.maximum(0, arithmetic.compute_bit_length(np.abs(x_i64).max(axis=1, keepdims=True)) - NORM_BITS)
    short = round_shift(x_i64, drop)
    # Squares of at most 2**48 over a width of at most 2**13, and the epsilon: below 2**61 + 2**20.
    squares = (short * short).sum(axis=1, keepdims=True) + (width * NORM_EPSILON >> np.minimum(2 * drop, 62))
    even = 62 - arithmetic.compute_bit_length(squares) & -2
    root = arithmetic.compute_isqrt(squares << even)
    # sqrt(width) in F20 times 2**36 is below 2**63; over a root in [2**30, 2**31) below 2**33, then cut to 31 bits.
    long = (isqrt(width << 40) << 36) // root
    cut = np.maximum(0, arithmetic.compute_bit_length(long) - 31)
    return short, drop, long >> cut, 40 - (even >> 1) - cut


def _compute_terms(z: I32, scale: int, visible: Mask) -> tuple[I64, I64, I64]:
    """Return 2**-power F30 of each visible element, their sum (rows, 1), and the powers F24 below the highest."""
    z_i64 = z.astype(np.int64)
    highest = np.where(visible, z_i64, -arithmetic.INT32_MAX).max(axis=1, keepdims=True)
    below = np.where(visible, highest - z_i64, 0)
    # below < 2**32 and the scale < 2**30.6, so the product stays under 2**62.6.
    powers = round_shift(below * scale, 22)
    terms = np.where(visible, arithmetic.compute_exp2(powers), 0)
    return terms, terms.sum(axis=1, keepdims=True), powers


def _divide_terms(terms: I64, total: I64) -> I64:
    """Return terms / total in F24 by a reciprocal a row; total is 2**30 or more, so no product is beyond 2**62."""
    return terms * ((1 << 62) // total) >> 62 - arithmetic.PROBABILITY_BITS
