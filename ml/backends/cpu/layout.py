"""Compiled ops that move elements: batches, embeddings and their gradients, heads, rotations, transposes.

The twins of the methods of the same purpose in `ml.backends.reference`. A kernel fills a range of its outputs, so that
ranges can run side by side.
"""

import numpy as np

from ml.arithmetic import ACTIVATION_BITS, I32, WEIGHT_BITS
from ml.backends import U8
from ml.backends.cpu.kernel import kernel
from ml.backends.cpu.scalar import draw_below_scalar, round_shift_scalar, saturate_scalar, widen
from ml.rotary import ROTATION_BITS

_EMBED_SHIFT = WEIGHT_BITS - ACTIVATION_BITS
_EMBED_HALF, _TURN_HALF = 1 << (_EMBED_SHIFT - 1), 1 << (ROTATION_BITS - 1)
TRANSPOSE_BLOCK = 16


@kernel
def draw_batch(x: I32, labels: I32, key: np.uint64, x_drawn: I32, labels_drawn: I32) -> None:
    """Write the rows whose indexes are (prf * n) >> 64, and their labels."""
    for i in range(x_drawn.shape[0]):
        row = draw_below_scalar(key, i, x.shape[0])
        x_drawn[i, :] = x[row, :]
        labels_drawn[i, 0] = labels[row, 0]


@kernel
def draw_windows(stream: U8, key: np.uint64, context: int, tokens: I32, targets: I32) -> None:
    """Write stretches (rows, 1) that start at (prf * (n - context)) >> 64; a target is the next token."""
    for sequence in range(tokens.shape[0] // context):
        start = draw_below_scalar(key, sequence, stream.shape[0] - context)
        for t in range(context):
            tokens[sequence * context + t, 0] = stream[start + t]
            targets[sequence * context + t, 0] = stream[start + t + 1]


@kernel
def embed(tokens: I32, table: I32, result: I32, start: int, stop: int) -> None:
    """Write rows [start, stop): the tokens' rows of a table F24, in F16."""
    for i in range(start, stop):
        token = tokens[i, 0]
        for j in range(table.shape[1]):
            result[i, j] = saturate_scalar((widen(table[token, j]) + _EMBED_HALF) >> _EMBED_SHIFT)


@kernel
def embed_with_positions(tokens: I32, table: I32, positions: I32, result: I32, start: int, stop: int) -> None:
    """Write rows [start, stop): the tokens' rows and the positions' rows of two tables F24 added up, in F16."""
    for i in range(start, stop):
        token, position = tokens[i, 0], i % positions.shape[0]
        for j in range(table.shape[1]):
            total = widen(table[token, j]) + widen(positions[position, j])
            result[i, j] = saturate_scalar((total + _EMBED_HALF) >> _EMBED_SHIFT)


@kernel
def transpose(x: I32, result: I32, start: int, stop: int) -> None:
    """Write rows [start, stop) of the transpose, in blocks that stay in cache."""
    rows = x.shape[0]
    for left in range(start, stop, TRANSPOSE_BLOCK):
        for top in range(0, rows, TRANSPOSE_BLOCK):
            for j in range(left, min(left + TRANSPOSE_BLOCK, stop)):
                for i in range(top, min(top + TRANSPOSE_BLOCK, rows)):
                    result[j, i] = x[i, j]


@kernel
def add_up_tokens(transposed: I32, tokens: I32, shift: int, result: I32, start: int, stop: int) -> None:
    """Write columns [start, stop) of each token's sum over `transposed` (width, rows): (vocabulary, width)."""
    sums = np.empty(result.shape[0], np.int64)
    for j in range(start, stop):
        sums[:] = 0
        for i in range(transposed.shape[1]):
            sums[tokens[i, 0]] += widen(transposed[j, i])
        for token in range(result.shape[0]):
            result[token, j] = saturate_scalar(round_shift_scalar(sums[token], shift))


@kernel
def add_up_positions(transposed: I32, shift: int, result: I32, start: int, stop: int) -> None:
    """Write columns [start, stop) of each position's sum over `transposed` (width, rows): (context, width)."""
    context = result.shape[0]
    sums = np.empty(context, np.int64)
    for j in range(start, stop):
        sums[:] = 0
        for first in range(0, transposed.shape[1], context):
            for t in range(context):
                sums[t] += widen(transposed[j, first + t])
        for t in range(context):
            result[t, j] = saturate_scalar(round_shift_scalar(sums[t], shift))


@kernel
def split_heads(x: I32, place: tuple[int, int, int], result: I32, start: int, stop: int) -> None:
    """Write rows [start, stop), by (sequence, head, position), of one part; place: part, context, heads."""
    part, context, heads = place
    width = result.shape[1]
    for i in range(start, stop):
        group, t = i // context, i % context
        sequence, head = group // heads, group % heads
        row, left = sequence * context + t, (part * heads + head) * width
        for j in range(width):
            result[i, j] = x[row, left + j]


@kernel
def merge_heads(x: I32, place: tuple[int, int, int], result: I32, start: int, stop: int) -> None:
    """Write rows [start, stop) of one part's columns of the merged tensor; place: part, context, heads."""
    part, context, heads = place
    width = x.shape[1]
    for i in range(start, stop):
        sequence, t = i // context, i % context
        for head in range(heads):
            row, left = (sequence * heads + head) * context + t, (part * heads + head) * width
            for j in range(width):
                result[i, left + j] = x[row, j]


@kernel
def rotate(x: I32, table: tuple[I32, I32], is_inverse: bool, result: I32, start: int, stop: int) -> None:
    """Write rows [start, stop) with columns j and j + half turned by the angle of the row's position."""
    cosines, sines = table
    context, half = cosines.shape
    sign = -1 if is_inverse else 1
    for i in range(start, stop):
        t = i % context
        for j in range(half):
            cosine, sine = widen(cosines[t, j]), sign * widen(sines[t, j])
            first, second = widen(x[i, j]), widen(x[i, half + j])
            result[i, j] = saturate_scalar((first * cosine - second * sine + _TURN_HALF) >> ROTATION_BITS)
            result[i, half + j] = saturate_scalar((first * sine + second * cosine + _TURN_HALF) >> ROTATION_BITS)
