"""Tensor roots in compiled kernels: pieces a span of rows at a time, then strips, trees and bindings of many tensors.

The twin of `ml.tensor_tree.compute_tensor_root`, for the trace of every mined step. Sixteen inputs are hashed side by
side; a step has hundreds of small trees, and only together do they fill the lanes. Beside roots it hashes the one strip
that a ticket's verifier is shown; trees that are to be opened are built by the authority. Source: `ml.tensor_tree`.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from chain.hashing import tagged_key
from chain.primitives import Hash
from ml.backends.cpu.blake3 import (
    KEYED,
    NODE_PADDING,
    I64Array,
    U8Array,
    U32Array,
    get_key_words,
    hash_chunks,
    hash_nodes,
)
from ml.backends.cpu.kernel import kernel
from ml.program import Dtype
from ml.tensor_tree import DIGEST_BYTES, PIECE_BYTES, STRIP_ROWS, IntArray, get_shape

U64Array = NDArray[np.uint64]

_KEYS_U32: U32Array = np.stack([get_key_words(tagged_key(tag)) for tag in ("piece", "strip", "tensor")])
_PIECE, _STRIP, _TENSOR = 0, 1, 2
_BOUND_BYTES = 57
"""Four u32 lengths, dtype, rows, columns, tree root."""
_LEAF, _INNER = 0, 1
PIECES_AT_ONCE = 8192
"""So many piece digests, 256 KiB, stay in cache until their strips are hashed, and are no new memory to every step."""
_Shape = tuple[int, int, int, int, int]
"""Rows, columns, dtype, pieces of a row, and how many of those are whole."""
_Span = tuple[int, int, int, int, int, int, int]
"""Rows of a tensor that are hashed together: their shape, the tensor's place and the first row."""
_ITEM_BYTES = {int(dtype): dtype.itemsize for dtype in Dtype}
_WORDS = DIGEST_BYTES // 8
"""Digests are moved as words of 8 bytes."""


def compute_tensor_roots(arrays: Sequence[IntArray]) -> tuple[Hash, ...]:
    """Return the root of each of `arrays`, (rows, columns) int8, int32 or int64."""
    if not arrays:
        return ()
    shapes = tuple(_describe(array.shape, array.dtype) for array in arrays)
    flat_u8 = [np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in arrays]
    strips_u8 = np.empty(sum(map(_count_strips, shapes)) * DIGEST_BYTES + NODE_PADDING, np.uint8)
    start = 0
    for spans, spans_i64 in _cut(shapes, PIECES_AT_ONCE):
        end = start + sum(map(_count_strips, spans)) * DIGEST_BYTES
        pieces_u8 = _hash_spans(flat_u8, spans)
        _hash_strips(pieces_u8, spans_i64, _KEYS_U32[_STRIP], strips_u8[start:end])
        start = end
    roots_u8 = np.empty((len(arrays), DIGEST_BYTES), np.uint8)
    _hash_trees(strips_u8, np.array(shapes, np.int64), _KEYS_U32[_TENSOR], roots_u8)
    data = roots_u8.tobytes()
    return tuple(Hash(data[start : start + DIGEST_BYTES]) for start in range(0, len(data), DIGEST_BYTES))


def hash_strip_rows(rows: bytes, piece_bytes: int) -> bytes:
    """Return the digest of a strip from its raw rows, pieces of `piece_bytes` (1 to 1,024) bytes each, at most 32."""
    digest_u8 = np.empty(DIGEST_BYTES, np.uint8)
    # A copy, which is not read-only: kernels are compiled for arrays of one kind.
    _hash_strip(np.frombuffer(bytearray(rows), np.uint8), piece_bytes, _KEYS_U32[_PIECE], _KEYS_U32[_STRIP], digest_u8)
    return digest_u8.tobytes()


@lru_cache(64)
def _cut(shapes: tuple[_Shape, ...], pieces: int) -> tuple[tuple[tuple[_Span, ...], I64Array], ...]:
    """Return the rows of all tensors, by whole row blocks, in parts of `pieces` pieces or few more.

    A part is its spans, and their shapes (spans, 5). Steps of a program have the same shapes, so it is worked out once.
    """
    parts, spans, room = [], list[_Span](), pieces
    for tensor, (rows, columns, code, windows, whole) in enumerate(shapes):
        first = 0
        while first < rows:
            taken = min(rows - first, max(room // (windows * STRIP_ROWS), 1) * STRIP_ROWS)
            spans.append((taken, columns, code, windows, whole, tensor, first))
            first, room = first + taken, room - taken * windows
            if room < windows * STRIP_ROWS:
                parts.append(spans)
                spans, room = [], pieces
    parts += [spans] if spans else []
    return tuple((tuple(part), np.array([span[:5] for span in part], np.int64)) for part in parts)


def _hash_spans(flat_u8: list[U8Array], spans: tuple[_Span, ...]) -> U8Array:
    """Return the piece digests of all spans, one span after the other."""
    pieces_u8 = np.empty(sum(span[0] * span[3] for span in spans) * DIGEST_BYTES, np.uint8)
    start = 0
    for rows, columns, code, windows, _, tensor, first in spans:
        row_bytes, end = columns * _ITEM_BYTES[code], start + rows * windows * DIGEST_BYTES
        data_u8 = flat_u8[tensor][first * row_bytes : (first + rows) * row_bytes]
        _hash_pieces(data_u8, rows, row_bytes, _KEYS_U32[_PIECE], pieces_u8[start:end])
        start = end
    return pieces_u8


def _count_strips(shape: _Shape | _Span) -> int:
    return -(-shape[0] // STRIP_ROWS) * shape[3]


@lru_cache(1024)
def _describe(shape: tuple[int, ...], dtype: "np.dtype[np.signedinteger]") -> _Shape:
    """Return rows, columns, dtype, pieces of a row, and how many of those are whole."""
    tensor = get_shape(np.broadcast_to(np.zeros(1, dtype), shape))
    return tensor.rows, tensor.columns, int(tensor.dtype), tensor.windows, tensor.row_bytes // PIECE_BYTES


@kernel
def _hash_pieces(data_u8: U8Array, rows: int, row_bytes: int, key_u32: U32Array, digests_u8: U8Array) -> None:
    """Write the digests of a tensor's pieces, each strip's side by side.

    `data_u8` (flat) holds the rows one after the other. The strips of whole pieces come first, row block by row block
    and window by window; then those of the pieces at the ends of rows.
    """
    whole, rest = row_bytes // PIECE_BYTES, row_bytes % PIECE_BYTES
    if whole > 0:
        starts_i64 = np.empty(rows * whole, np.int64)
        at = 0
        for top in range(0, rows, STRIP_ROWS):
            for window in range(whole):
                for row in range(top, min(top + STRIP_ROWS, rows)):
                    starts_i64[at] = row * row_bytes + window * PIECE_BYTES
                    at += 1
        hash_chunks(key_u32, KEYED, data_u8, starts_i64, PIECE_BYTES, digests_u8[: at * DIGEST_BYTES])
    if rest > 0:
        starts_i64 = np.arange(rows) * row_bytes + whole * PIECE_BYTES
        hash_chunks(key_u32, KEYED, data_u8, starts_i64, rest, digests_u8[rows * whole * DIGEST_BYTES :])


@kernel
def _hash_strip(
    rows_u8: U8Array, piece_bytes: int, piece_key_u32: U32Array, strip_key_u32: U32Array, digest_u8: U8Array
) -> None:
    """Write the (32,) digest of the strip whose rows lie one after the other in `rows_u8` (flat)."""
    starts_i64 = np.arange(rows_u8.size // piece_bytes) * piece_bytes
    pieces_u8 = np.empty(starts_i64.size * DIGEST_BYTES, np.uint8)
    hash_chunks(piece_key_u32, KEYED, rows_u8, starts_i64, piece_bytes, pieces_u8)
    hash_chunks(strip_key_u32, KEYED, pieces_u8, starts_i64[:1], pieces_u8.size, digest_u8)


@kernel
def _hash_trees(strips_u8: U8Array, shapes_i64: I64Array, key_u32: U32Array, roots_u8: U8Array) -> None:
    """Write the root (tensors, 32) of each tensor of `shapes_i64` (tensors, 5) from the padded strip digests of all."""
    trees_u8 = _fold(strips_u8, -(-shapes_i64[:, 0] // STRIP_ROWS) * shapes_i64[:, 3])
    bound_u8 = np.zeros((shapes_i64.shape[0], _BOUND_BYTES), np.uint8)
    for tensor in range(shapes_i64.shape[0]):
        rows, columns, code = shapes_i64[tensor, 0], shapes_i64[tensor, 1], shapes_i64[tensor, 2]
        bound = bound_u8[tensor]
        bound[0], bound[4], bound[5], bound[9], bound[13], bound[17], bound[21] = (1, code, 4, 0, 4, 0, DIGEST_BYTES)
        for byte in range(4):
            bound[9 + byte] = rows >> 8 * byte & 0xFF
            bound[17 + byte] = columns >> 8 * byte & 0xFF
        bound[25:] = trees_u8[tensor * DIGEST_BYTES : (tensor + 1) * DIGEST_BYTES]
    starts_i64 = np.arange(shapes_i64.shape[0]) * _BOUND_BYTES
    hash_chunks(key_u32, KEYED, bound_u8.reshape(-1), starts_i64, _BOUND_BYTES, roots_u8.reshape(-1))


@kernel
def _hash_strips(pieces_u8: U8Array, shapes_i64: I64Array, key_u32: U32Array, strips_u8: U8Array) -> None:
    """Write the strip digests of all spans, each span's row block by row block and window by window."""
    count = strips_u8.size // DIGEST_BYTES
    starts_i64, rows_i64, is_used = (
        np.empty(count, np.int64),
        np.empty(count, np.int64),
        np.zeros(STRIP_ROWS + 1, np.bool_),
    )
    at, piece = 0, 0
    for tensor in range(shapes_i64.shape[0]):
        rows, windows, whole = shapes_i64[tensor, 0], shapes_i64[tensor, 3], shapes_i64[tensor, 4]
        for top in range(0, rows, STRIP_ROWS):
            strip_rows = min(STRIP_ROWS, rows - top)
            is_used[strip_rows] = True
            for window in range(windows):
                first = top * whole + window * strip_rows if window < whole else rows * whole + top
                starts_i64[at] = (piece + first) * DIGEST_BYTES
                rows_i64[at] = strip_rows
                at += 1
        piece += rows * windows
    strips_u64 = strips_u8.view(np.uint64)
    for rows in range(1, STRIP_ROWS + 1):
        if not is_used[rows]:
            continue
        places_i64 = np.flatnonzero(rows_i64 == rows)
        digests_u8 = np.empty(places_i64.size * DIGEST_BYTES, np.uint8)
        hash_chunks(key_u32, KEYED, pieces_u8, starts_i64[places_i64], rows * DIGEST_BYTES, digests_u8)
        digests_u64 = digests_u8.view(np.uint64)
        for i in range(places_i64.size):
            for word in range(_WORDS):
                strips_u64[_WORDS * places_i64[i] + word] = digests_u64[_WORDS * i + word]


@kernel
def _fold(leaves_u8: U8Array, leaf_counts_i64: I64Array) -> U8Array:
    """Return the RFC 6962 roots (tensors x 32, padded) of trees whose leaves lie one tree after the other."""
    counts_i64 = leaf_counts_i64.copy()
    total = counts_i64.sum()
    level_u8 = np.empty_like(leaves_u8)
    hash_nodes(_LEAF, leaves_u8, np.arange(total) * DIGEST_BYTES, DIGEST_BYTES, level_u8[: total * DIGEST_BYTES])
    while counts_i64.max() > 1:
        pairs, total = (counts_i64 // 2).sum(), (counts_i64 - counts_i64 // 2).sum()
        starts_i64, nodes_u8 = np.empty(pairs, np.int64), np.empty(pairs * DIGEST_BYTES, np.uint8)
        _list_pairs(counts_i64, starts_i64)
        hash_nodes(_INNER, level_u8, starts_i64, 2 * DIGEST_BYTES, nodes_u8)
        above_u8 = np.empty(total * DIGEST_BYTES + NODE_PADDING, np.uint8)
        nodes_u64 = nodes_u8.view(np.uint64)
        _place_nodes(level_u8.view(np.uint64), nodes_u64, counts_i64, above_u8.view(np.uint64))
        level_u8 = above_u8
        counts_i64 -= counts_i64 // 2
    return level_u8


@kernel
def _list_pairs(counts_i64: I64Array, starts_i64: I64Array) -> None:
    """Write where each pair of nodes of a level starts."""
    node, pair = 0, 0
    for tree in range(counts_i64.size):
        for left in range(0, counts_i64[tree] - 1, 2):
            starts_i64[pair] = (node + left) * DIGEST_BYTES
            pair += 1
        node += counts_i64[tree]


@kernel
def _place_nodes(level_u64: U64Array, nodes_u64: U64Array, counts_i64: I64Array, above_u64: U64Array) -> None:
    """Write the level above: each tree's new nodes, then the node that had no partner."""
    node, pair, at = 0, 0, 0
    for tree in range(counts_i64.size):
        for word in range(counts_i64[tree] // 2 * _WORDS):
            above_u64[at + word] = nodes_u64[pair + word]
        pair, at = pair + counts_i64[tree] // 2 * _WORDS, at + counts_i64[tree] // 2 * _WORDS
        node += counts_i64[tree] * _WORDS
        if counts_i64[tree] % 2 == 1:
            for word in range(_WORDS):
                above_u64[at + word] = level_u64[node - _WORDS + word]
            at += _WORDS
