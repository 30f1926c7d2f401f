"""Tensor roots in compiled kernels: pieces, strips, tree and binding of one tensor in one call.

The twin of `ml.tensor_tree.compute_tensor_root`, for the trace of every mined step. It makes roots only; trees that are
to be opened are built by the authority. Source: `ml.tensor_tree`.
"""

from collections.abc import Sequence

import numpy as np

from chain.hashing import tagged_key
from chain.primitives import Hash
from ml.backends.cpu.blake3 import KEYED, PLAIN, PLAIN_KEY_U32, U8Array, U32Array, get_key_words, hash_chunks
from ml.backends.cpu.kernel import kernel
from ml.tensor_tree import DIGEST_BYTES, PIECE_BYTES, STRIP_ROWS, IntArray, get_shape

_KEYS_U32: U32Array = np.stack([get_key_words(tagged_key(tag)) for tag in ("piece", "strip", "tensor")])
_PIECE, _STRIP, _TENSOR = 0, 1, 2
_NODE_BYTES = 2 * DIGEST_BYTES + 1
_BOUND_BYTES = 57
"""Four u32 lengths, dtype, rows, columns, tree root."""


def compute_tensor_roots(arrays: Sequence[IntArray]) -> tuple[Hash, ...]:
    """Return the root of each of `arrays`, (rows, columns) int8, int32 or int64."""
    roots_u8 = np.empty((len(arrays), DIGEST_BYTES), np.uint8)
    for root_u8, array in zip(roots_u8, arrays, strict=True):
        shape = get_shape(array)
        data_u8 = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        _hash_tensor(data_u8, shape.rows, shape.columns, int(shape.dtype), _KEYS_U32, root_u8)
    data = roots_u8.tobytes()
    return tuple(Hash(data[start : start + DIGEST_BYTES]) for start in range(0, len(data), DIGEST_BYTES))


@kernel
def _hash_tensor(data_u8: U8Array, rows: int, columns: int, code: int, keys_u32: U32Array, root_u8: U8Array) -> None:
    """Write the root of the tensor whose row-major bytes are `data_u8` (flat) into `root_u8` (32,)."""
    row_bytes = data_u8.size // rows
    pieces_u8 = _hash_pieces(data_u8, rows, row_bytes, keys_u32[_PIECE])
    strips_u8 = _hash_strips(pieces_u8, rows, -(-row_bytes // PIECE_BYTES), keys_u32[_STRIP])
    bound_u8 = np.zeros(_BOUND_BYTES, np.uint8)
    bound_u8[0], bound_u8[4], bound_u8[5], bound_u8[9], bound_u8[13], bound_u8[17], bound_u8[21] = (
        1, code, 4, 0, 4, 0, DIGEST_BYTES,
    )  # fmt: skip
    for byte in range(4):
        bound_u8[9 + byte] = rows >> 8 * byte & 0xFF
        bound_u8[17 + byte] = columns >> 8 * byte & 0xFF
    bound_u8[25:] = _fold(strips_u8)
    hash_chunks(keys_u32[_TENSOR], KEYED, bound_u8, np.zeros(1, np.int64), _BOUND_BYTES, root_u8)


@kernel
def _hash_pieces(data_u8: U8Array, rows: int, row_bytes: int, key_u32: U32Array) -> U8Array:
    """Return piece digests flat, window by window and row by row, so that a strip's digests adjoin."""
    windows = -(-row_bytes // PIECE_BYTES)
    digests_u8 = np.empty(windows * rows * DIGEST_BYTES, np.uint8)
    starts_i64 = np.arange(rows) * row_bytes
    for window in range(windows):
        size_bytes = min(PIECE_BYTES, row_bytes - window * PIECE_BYTES)
        out_u8 = digests_u8[window * rows * DIGEST_BYTES : (window + 1) * rows * DIGEST_BYTES]
        hash_chunks(key_u32, KEYED, data_u8, starts_i64 + window * PIECE_BYTES, size_bytes, out_u8)
    return digests_u8


@kernel
def _hash_strips(pieces_u8: U8Array, rows: int, windows: int, key_u32: U32Array) -> U8Array:
    """Return strip digests flat, row block by row block and window by window."""
    full, rest = rows // STRIP_ROWS, rows % STRIP_ROWS
    digests_u8 = np.empty((full + min(rest, 1)) * windows * DIGEST_BYTES, np.uint8)
    starts_i64 = np.empty((full + 1) * windows, np.int64)
    for block in range(full + 1):
        for window in range(windows):
            starts_i64[block * windows + window] = (window * rows + block * STRIP_ROWS) * DIGEST_BYTES
    count = full * windows
    if count > 0:
        out_u8 = digests_u8[: count * DIGEST_BYTES]
        hash_chunks(key_u32, KEYED, pieces_u8, starts_i64[:count], STRIP_ROWS * DIGEST_BYTES, out_u8)
    if rest > 0:
        out_u8 = digests_u8[count * DIGEST_BYTES :]
        hash_chunks(key_u32, KEYED, pieces_u8, starts_i64[count:], rest * DIGEST_BYTES, out_u8)
    return digests_u8


@kernel
def _fold(leaves_u8: U8Array) -> U8Array:
    """Return the RFC 6962 root (32,) over the flat digests `leaves_u8`."""
    count = leaves_u8.size // DIGEST_BYTES
    level_u8 = np.empty(count * DIGEST_BYTES, np.uint8)
    nodes_u8 = np.empty(count * _NODE_BYTES, np.uint8)
    starts_i64 = np.arange(count) * _NODE_BYTES
    for i in range(count):
        nodes_u8[i * _NODE_BYTES] = 0
        nodes_u8[i * _NODE_BYTES + 1 : i * _NODE_BYTES + 33] = leaves_u8[i * DIGEST_BYTES : (i + 1) * DIGEST_BYTES]
    hash_chunks(PLAIN_KEY_U32, PLAIN, nodes_u8, starts_i64, 33, level_u8)
    while count > 1:
        pairs = count // 2
        for i in range(pairs):
            nodes_u8[i * _NODE_BYTES] = 1
            nodes_u8[i * _NODE_BYTES + 1 : (i + 1) * _NODE_BYTES] = level_u8[64 * i : 64 * (i + 1)]
        out_u8 = np.empty((pairs + count % 2) * DIGEST_BYTES, np.uint8)
        hash_chunks(PLAIN_KEY_U32, PLAIN, nodes_u8, starts_i64[:pairs], _NODE_BYTES, out_u8[: pairs * DIGEST_BYTES])
        if count % 2 == 1:
            out_u8[pairs * DIGEST_BYTES :] = level_u8[(count - 1) * DIGEST_BYTES : count * DIGEST_BYTES]
        level_u8, count = out_u8, pairs + count % 2
    return level_u8
