"""The compiled backend: the ops of training by fused Numba kernels, equal to the reference byte for byte.

It chooses the kernel of each op, makes room for its result and cuts its work into ranges. Who runs the ranges, on one
thread or more, is its maker's choice and touches no byte.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt

import numpy as np

from ml.arithmetic import I8, I32, I64, compute_bias_correction
from ml.backends import U8, AdamState, Groups, Heads, Quantised, Rounding
from ml.backends.cpu import adam, elementwise, layout, matmul, normalise, quantise, softmax
from ml.backends.cpu import attention as fused
from ml.backends.reference import get_root_scale, get_softmax_scale
from ml.fusion import Attention, Shifts

Work = Callable[[int, int], None]
"""Does the part [start, stop) of something."""
Spread = Callable[[Work, int], None]
"""Calls a work over ranges that cover [0, n) once, in any order; returns when all are done, raises what it raises."""

SPREAD_ELEMENTS = 1 << 19
"""Elements from which waking other threads pays for itself."""
_NO_ROUNDING = (np.uint64(0), 0, 0)
_NO_ROTATION = (np.empty((0, 0), np.int32), np.empty((0, 0), np.int32))
for _table in _NO_ROTATION:
    # Of the type of a real table, which is read-only: one kernel serves both.
    _table.setflags(write=False)


def run_inline(work: Work, n: int) -> None:
    """Do all of it here and now."""
    work(0, n)


def _place(rounding: Rounding | None) -> quantise.Place:
    return _NO_ROUNDING if rounding is None else (np.uint64(rounding.key), rounding.row, rounding.column)


def _get_constants(attention: Attention) -> tuple[fused.Scales, Shifts, I64, fused.Table]:
    width = attention.heads.width
    scales = get_softmax_scale(width), get_root_scale(width)
    return scales, attention.shifts, softmax.get_table(), attention.rotation or _NO_ROTATION


@dataclass(frozen=True, slots=True)
class CpuBackend:
    """`ml.backends.Backend` in Numba, with torch for large products."""

    spread: Spread = run_inline

    @property
    def name(self) -> str:
        """Return "cpu"."""
        return "cpu"

    def draw_batch(self, x: I32, labels: I32, key: int, batch: int) -> tuple[I32, I32]:
        """Return the rows whose indexes are (prf * n) >> 64."""
        x_drawn, labels_drawn = np.empty((batch, x.shape[1]), np.int32), np.empty((batch, 1), np.int32)
        layout.draw_batch(x, labels, np.uint64(key), x_drawn, labels_drawn)
        return x_drawn, labels_drawn

    def draw_windows(self, stream: U8, key: int, batch: int, context: int) -> tuple[I32, I32]:
        """Return stretches that start at (prf * (n - context)) >> 64; a target is the next token."""
        tokens, targets = (np.empty((batch * context, 1), np.int32) for _ in range(2))
        layout.draw_windows(stream, np.uint64(key), context, tokens, targets)
        return tokens, targets

    def quantise_rows(self, x: I32, rounding: Rounding | None = None) -> Quantised:
        """Return mantissas in [-63, 63] and exponents of the rows."""
        result = np.empty(x.shape, np.int8), np.empty((len(x), 1), np.int32)
        place, is_stochastic = _place(rounding), rounding is not None
        self._run(lambda i, j: quantise.quantise_rows(x, place, is_stochastic, result, i, j), len(x), x.size)
        return result

    def quantise_transposed(
        self, x: I32, rounding: Rounding | None = None, groups: int = 1, exponents: I32 | None = None
    ) -> Quantised:
        """Return mantissas in [-63, 63] and exponents of the columns of each group, as rows."""
        rows, columns = x.shape
        own = np.empty((groups * columns, 1), np.int32) if exponents is None else exponents
        result = np.empty((groups * columns, rows // groups), np.int8), own
        place, flags = _place(rounding), (rounding is not None, exponents is not None)
        units = groups * -(-columns // quantise.STRIPE)
        self._run(lambda i, j: quantise.quantise_transposed(x, groups, place, flags, result, (i, j)), units, x.size)
        return result

    def compute_column_exponents(self, x: I32) -> I32:
        """Return max(0, bits - 6) of each column."""
        exponents = np.empty((x.shape[1], 1), np.int32)
        quantise.compute_column_exponents(x, exponents)
        return exponents

    def quantise_delta(self, after: I32, before: I32, bits: int) -> Quantised:
        """Return mantissas of so many bits and exponents of the rows of after - before."""
        result = np.empty(after.shape, np.int8), np.empty((len(after), 1), np.int32)
        self._run(lambda i, j: quantise.quantise_delta((after, before), bits, result, i, j), len(after), after.size)
        return result

    def multiply(self, a: I8, b: I8) -> I32:
        """Return a (M, K) times b (N, K) transposed, exact."""
        result = np.empty((len(a), len(b)), np.int32)
        macs = result.size * a.shape[1]
        product = matmul.get_product(macs)
        self._run(lambda i, j: product(a, b, result, i, j), len(a), macs >> 5)
        return result

    def rescale(self, product: I32, a_exponents: I32, b_exponents: I32, shift: int) -> I32:
        """Return the product shifted by both exponents."""
        result, exponents = np.empty_like(product), (a_exponents, b_exponents)
        work = lambda i, j: elementwise.rescale(product, exponents, shift, result, i, j)  # noqa: E731
        self._run(work, len(product), product.size)
        return result

    def multiply_groups(self, a: Quantised, b: Quantised, groups: Groups) -> I32:
        """Return the rescaled product of each group."""
        result = np.empty((len(a[0]), len(b[0]) // groups.groups), np.int32)
        operands, attributes = (*a, *b), (groups.shift, groups.is_causal)
        work = lambda i, j: matmul.multiply_groups(operands, groups.groups, attributes, result, i, j)  # noqa: E731
        self._run(work, groups.groups, result.size)
        return result

    def relu(self, z: I32) -> I32:
        """Return max(z, 0)."""
        result = np.empty_like(z)
        self._run(lambda i, j: elementwise.relu(z, result, i, j), len(z), z.size)
        return result

    def relu_backward(self, gradient: I32, z: I32) -> I32:
        """Return gradient where z > 0, else 0."""
        result = np.empty_like(z)
        self._run(lambda i, j: elementwise.relu_backward(gradient, z, result, i, j), len(z), z.size)
        return result

    def relu_squared(self, h: I32) -> I32:
        """Return max(h, 0)**2."""
        result = np.empty_like(h)
        self._run(lambda i, j: elementwise.relu_squared(h, result, i, j), len(h), h.size)
        return result

    def relu_squared_backward(self, gradient: I32, h: I32) -> I32:
        """Return 2 max(h, 0) gradient."""
        result = np.empty_like(h)
        self._run(lambda i, j: elementwise.relu_squared_backward(gradient, h, result, i, j), len(h), h.size)
        return result

    def add(self, a: I32, b: I32) -> I32:
        """Return a + b, saturated."""
        result = np.empty_like(a)
        self._run(lambda i, j: elementwise.add(a, b, result, i, j), len(a), a.size)
        return result

    def normalise(self, x: I32) -> I32:
        """Return x over the root of its row's mean square."""
        result, root = np.empty_like(x), isqrt(x.shape[1] << 40)
        self._run(lambda i, j: normalise.normalise(x, root, result, i, j), len(x), x.size)
        return result

    def normalise_backward(self, gradient: I32, x: I32) -> I32:
        """Return the gradient of `normalise`'s input."""
        result, root = np.empty_like(x), isqrt(x.shape[1] << 40)
        self._run(lambda i, j: normalise.normalise_backward(gradient, x, root, result, i, j), len(x), x.size)
        return result

    def embed(self, tokens: I32, tables: tuple[I32, ...]) -> I32:
        """Return the sum of both tables' rows."""
        result = np.empty((len(tokens), tables[0].shape[1]), np.int32)
        if len(tables) == 1:
            self._run(lambda i, j: layout.embed(tokens, tables[0], result, i, j), len(tokens), result.size)
        else:
            both = tables[0], tables[1]
            work = lambda i, j: layout.embed_with_positions(tokens, *both, result, i, j)  # noqa: E731
            self._run(work, len(tokens), result.size)
        return result

    def transpose(self, x: I32) -> I32:
        """Return x transposed, laid out by rows."""
        result = np.empty((x.shape[1], len(x)), np.int32)
        self._run(lambda i, j: layout.transpose(x, result, i, j), len(result), x.size)
        return result

    def compute_embedding_gradient(self, transposed: I32, tokens: I32, vocabulary: int, shift: int) -> I32:
        """Return the sum of each token's columns, shifted."""
        result = np.empty((vocabulary, len(transposed)), np.int32)
        work = lambda i, j: layout.add_up_tokens(transposed, tokens, shift, result, i, j)  # noqa: E731
        self._run(work, len(transposed), transposed.size)
        return result

    def compute_position_gradient(self, transposed: I32, context: int, shift: int) -> I32:
        """Return the sum of each position's columns, shifted."""
        result = np.empty((context, len(transposed)), np.int32)
        work = lambda i, j: layout.add_up_positions(transposed, shift, result, i, j)  # noqa: E731
        self._run(work, len(transposed), transposed.size)
        return result

    def split_heads(self, x: I32, part: int, heads: Heads) -> I32:
        """Return one part of the columns, by (sequence, head, position)."""
        result = np.empty((len(x) * heads.heads, heads.width), np.int32)
        place = part, heads.context, heads.heads
        self._run(lambda i, j: layout.split_heads(x, place, result, i, j), len(result), result.size)
        return result

    def merge_heads(self, parts: tuple[I32, ...], heads: Heads) -> I32:
        """Return the parts side by side, by (sequence, position)."""
        rows = len(parts[0]) // heads.heads
        result = np.empty((rows, len(parts) * heads.heads * heads.width), np.int32)

        def work(start: int, stop: int) -> None:
            for part, x in enumerate(parts):
                layout.merge_heads(x, (part, heads.context, heads.heads), result, start, stop)

        self._run(work, rows, result.size)
        return result

    def rotate(self, x: I32, table: tuple[I32, I32], is_inverse: bool) -> I32:
        """Return x with columns j and j + half turned."""
        result = np.empty_like(x)
        self._run(lambda i, j: layout.rotate(x, table, is_inverse, result, i, j), len(x), x.size)
        return result

    def causal_softmax(self, scores: I32, head_width: int) -> I32:
        """Return the base-2 softmax of each row up to its own position."""
        result, scale, table = np.empty_like(scores), get_softmax_scale(head_width), softmax.get_table()
        work = lambda i, j: softmax.causal_softmax(scores, scale, table, result, i, j)  # noqa: E731
        self._run(work, len(scores), scores.size)
        return result

    def causal_softmax_backward(self, probabilities: I32, gradient: I32, head_width: int) -> I32:
        """Return P (dP - sum P dP) / sqrt(head_width)."""
        result, scale = np.empty_like(gradient), get_root_scale(head_width)
        work = lambda i, j: softmax.causal_softmax_backward(probabilities, gradient, scale, result, i, j)  # noqa: E731
        self._run(work, len(gradient), gradient.size)
        return result

    def compute_loss_gradient(self, z: I32, labels: I32) -> tuple[I32, I32]:
        """Return softmax - onehot and the loss of each row."""
        result, table = (np.empty_like(z), np.empty((len(z), 1), np.int32)), softmax.get_table()
        self._run(lambda i, j: softmax.compute_loss_gradient(z, labels, table, result, i, j), len(z), z.size)
        return result

    def update_adam(self, state: AdamState, gradient: I32, step: int, rate: int, decay: int) -> AdamState:
        """Return w, m, v after one step."""
        w, m, v = state
        results = np.empty_like(w), np.empty_like(m), np.empty_like(v)
        flat = w.reshape(-1), m.reshape(-1), v.reshape(-1)
        targets = results[0].reshape(-1), results[1].reshape(-1), results[2].reshape(-1)
        flat_gradient, rates = gradient.reshape(-1), (compute_bias_correction(step), rate, decay)
        self._run(lambda i, j: adam.update_adam(flat, flat_gradient, rates, targets, i, j), w.size, w.size)
        return results

    def multiply_rescaled(self, a: Quantised, b: Quantised, shift: int) -> I32:
        """Return `rescale(multiply)`, whose product is never written out."""
        result, operands = np.empty((len(a[0]), len(b[0])), np.int32), (*a, *b)
        work = lambda i, j: matmul.multiply_rescaled(operands, shift, result, i, j)  # noqa: E731
        self._run(work, len(result), max(result.size, result.size * a[0].shape[1] >> 5))
        return result

    def attend(self, qkv: I32, attention: Attention) -> I32:
        """Return the weighted values of queries, keys and values side by side."""
        heads = attention.heads
        result = np.empty((len(qkv), heads.heads * heads.width), np.int32)
        shape, constants = (heads.context, heads.heads, heads.width), _get_constants(attention)
        groups = len(qkv) // heads.context * heads.heads
        work = lambda i, j: fused.attend(qkv, shape, constants, result, i, j)  # noqa: E731
        self._run(work, groups, qkv.size * heads.context)
        return result

    def attend_backward(self, qkv: I32, gradient: I32, attention: Attention, keys: tuple[int, ...]) -> I32:
        """Return the gradient of qkv from that of the weighted values."""
        heads, tensors, result = attention.heads, (qkv, gradient), np.empty_like(qkv)
        shape, constants = (heads.context, heads.heads, heads.width), _get_constants(attention)
        u64s = np.uint64(keys[0]), np.uint64(keys[1]), np.uint64(keys[2]), np.uint64(keys[3])
        groups = len(qkv) // heads.context * heads.heads
        work = lambda i, j: fused.attend_backward(tensors, shape, constants, u64s, result, (i, j))  # noqa: E731
        self._run(work, groups, qkv.size * heads.context)
        return result

    def _run(self, work: Work, n: int, elements: int) -> None:
        if elements < SPREAD_ELEMENTS:
            work(0, n)
        else:
            self.spread(work, n)
