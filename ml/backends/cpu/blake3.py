"""BLAKE3 in compiled kernels: many inputs of at most one chunk each, hashed sixteen at a time.

Only what the trace and the lottery need: single-chunk inputs (at most 1,024 bytes), keyed or plain, and the extended
output of one block. It knows no tensor and no ticket. Source: BLAKE3 specification, sections 2.1 to 2.6.
"""

import numpy as np
from numpy.typing import NDArray

from ml.backends.cpu.emit import LANES
from ml.backends.cpu.kernel import kernel
from ml.backends.cpu.vector import (
    BLOCK_BYTES,
    END,
    IV,
    ROOT,
    START,
    absorb_blocks,
    absorb_last,
    compress,
    load_blocks,
    store_digests,
    store_lanes,
)

U8Array = NDArray[np.uint8]
U32Array = NDArray[np.uint32]
I64Array = NDArray[np.int64]

CHUNK_BYTES = 1024
DIGEST_BYTES = 32
NODE_PADDING = 32
"""Bytes behind the last digest of a level that `hash_nodes` may read."""
PLAIN = 0
KEYED = 16


PLAIN_KEY_U32: U32Array = np.array(IV, dtype=np.uint32)
"""(8,) uint32: what stands in a key's place when BLAKE3 is not keyed."""


def get_key_words(key: bytes) -> U32Array:
    """Return a 32-byte key as the (8,) uint32 words that the kernels take."""
    assert len(key) == 32
    return np.frombuffer(key, dtype="<u4").astype(np.uint32)


@kernel
def _set_key(state_u32: U32Array, key_u32: U32Array) -> None:
    for word in range(8):
        state_u32[word * LANES : (word + 1) * LANES] = key_u32[word]


@kernel
def _set_block(state_u32: U32Array, size: int, flags: int) -> None:
    for word in range(4):
        state_u32[(8 + word) * LANES : (9 + word) * LANES] = PLAIN_KEY_U32[word]
    state_u32[12 * LANES : 14 * LANES] = np.uint32(0)
    state_u32[14 * LANES : 15 * LANES] = np.uint32(size)
    state_u32[15 * LANES : 16 * LANES] = np.uint32(flags)


@kernel
def hash_chunks(
    key_u32: U32Array, mode: int, data_u8: U8Array, starts_i64: I64Array, size_bytes: int, out_u8: U8Array
) -> None:
    """Hash many inputs of one size: input i is `data_u8[starts_i64[i] : starts_i64[i] + size_bytes]`.

    `key_u32` (8,) with mode KEYED, or PLAIN_KEY_U32 with mode PLAIN; data_u8 flat; starts_i64 (count,);
    1 <= size_bytes <= 1024; out_u8 (32 count,) receives the digests. Arrays are contiguous; places are not checked.
    """
    state_u32, places_i64 = np.empty(8 * LANES, np.uint32), np.empty(2 * LANES, np.int64)
    tails_u8, digests_u8 = np.empty(BLOCK_BYTES * LANES, np.uint8), np.empty(DIGEST_BYTES * LANES, np.uint8)
    tail_starts_i64 = np.arange(LANES) * BLOCK_BYTES
    full, tail = size_bytes // BLOCK_BYTES, size_bytes % BLOCK_BYTES
    flags = mode | END | ROOT | (START if full == 0 else 0)
    for first in range(0, starts_i64.size, LANES):
        _set_places(starts_i64, first, places_i64)
        _set_key(state_u32, key_u32)
        if full > 0:
            absorb_blocks(state_u32, data_u8, places_i64, full, mode, 0 if tail > 0 else END | ROOT)
        if tail > 0:
            offset = BLOCK_BYTES * full
            if places_i64[:LANES].max() + offset + BLOCK_BYTES <= data_u8.size:
                absorb_last(state_u32, data_u8, places_i64, offset, tail, flags)
            else:
                _copy_tails(data_u8, places_i64, offset, tail, tails_u8)
                absorb_last(state_u32, tails_u8, tail_starts_i64, 0, tail, flags)
        _write_digests(state_u32, digests_u8, out_u8[DIGEST_BYTES * first :])


@kernel
def _set_places(starts_i64: I64Array, first: int, places_i64: I64Array) -> None:
    """Write the starts of LANES inputs, then of the LANES after them; lanes past the end repeat the last input."""
    last = starts_i64.size - 1
    if first + 2 * LANES <= starts_i64.size:
        places_i64[:] = starts_i64[first : first + 2 * LANES]
    else:
        for lane in range(2 * LANES):
            places_i64[lane] = starts_i64[min(first + lane, last)]


@kernel
def _copy_tails(data_u8: U8Array, places_i64: I64Array, offset: int, size: int, tails_u8: U8Array) -> None:
    """Write `size` bytes of each lane to where a whole block can be read."""
    for lane in range(LANES):
        start = places_i64[lane] + offset
        for byte in range(size):
            tails_u8[BLOCK_BYTES * lane + byte] = data_u8[start + byte]


@kernel
def _write_digests(state_u32: U32Array, digests_u8: U8Array, out_u8: U8Array) -> None:
    """Write as many of the LANES digests as `out_u8` has room for; `digests_u8` is a room to use."""
    if out_u8.size >= digests_u8.size:
        store_digests(state_u32, out_u8)
    else:
        store_digests(state_u32, digests_u8)
        out_u8[:] = digests_u8[: out_u8.size]


@kernel
def hash_nodes(prefix: int, data_u8: U8Array, starts_i64: I64Array, size_bytes: int, out_u8: U8Array) -> None:
    """Hash many nodes of a tree, not keyed: node i is the byte `prefix` and then `size_bytes` from `starts_i64[i]` on.

    `size_bytes` is 32 (a leaf) or 64 (two children); 64 bytes must be readable at every start; the rest as in
    `hash_chunks`. The byte is put before the data while both are in registers, so no node is written out.
    """
    state_u32, message_u32 = np.empty(16 * LANES, np.uint32), np.empty(16 * LANES, np.uint32)
    last_u32, places_i64 = np.zeros(16 * LANES, np.uint32), np.empty(2 * LANES, np.int64)
    digests_u8 = np.empty(DIGEST_BYTES * LANES, np.uint8)
    for first in range(0, starts_i64.size, LANES):
        _set_places(starts_i64, first, places_i64)
        _set_key(state_u32, PLAIN_KEY_U32)
        load_blocks(data_u8, places_i64, 0, message_u32)
        _prepend(prefix, message_u32, last_u32)
        if size_bytes == BLOCK_BYTES:
            _set_block(state_u32, BLOCK_BYTES, START)
            compress(state_u32, message_u32)
            _set_block(state_u32, 1, END | ROOT)
            compress(state_u32, last_u32)
        else:
            message_u32[8 * LANES : 9 * LANES] &= np.uint32(0xFF)
            message_u32[9 * LANES :] = np.uint32(0)
            _set_block(state_u32, size_bytes + 1, START | END | ROOT)
            compress(state_u32, message_u32)
        _write_digests(state_u32, digests_u8, out_u8[DIGEST_BYTES * first :])


@kernel
def _prepend(prefix: int, message_u32: U32Array, last_u32: U32Array) -> None:
    """Move a block of each lane one byte on, behind `prefix`; its last byte becomes the first of `last_u32`."""
    for lane in range(LANES):
        last_u32[lane] = message_u32[15 * LANES + lane] >> np.uint32(24)
    for i in range(16 * LANES - 1, LANES - 1, -1):
        message_u32[i] = message_u32[i] << np.uint32(8) | message_u32[i - LANES] >> np.uint32(24)
    for lane in range(LANES):
        message_u32[lane] = message_u32[lane] << np.uint32(8) | np.uint32(prefix)


@kernel
def fill_streams(key_u32: U32Array, role: int, first_index: int, out_u8: U8Array) -> None:
    """Fill a keyed stream of output into every row.

    Row i of `out_u8`, C-contiguous (count, multiple of 64) uint8, is the stream of the message
    role u8 || (first_index + i) u32 LE.
    """
    state_u32, message_u32 = np.empty(16 * LANES, np.uint32), np.empty(16 * LANES, np.uint32)
    streams_u32 = out_u8.reshape(-1).view(np.uint32)
    blocks, total = out_u8.shape[1] // 64, out_u8.size // 64
    for first in range(0, total, LANES):
        _set_key(state_u32, key_u32)
        _set_block(state_u32, 5, KEYED | START | END | ROOT)
        message_u32[:] = np.uint32(0)
        for lane in range(LANES):
            row, block = divmod(first + lane, blocks)
            row += first_index
            message_u32[lane] = np.uint32(role | row << 8)
            message_u32[LANES + lane] = np.uint32(row >> 24)
            state_u32[12 * LANES + lane] = np.uint32(block)
        compress(state_u32, message_u32)
        store_lanes(state_u32, message_u32)
        words = 16 * min(LANES, total - first)
        streams_u32[16 * first : 16 * first + words] = message_u32[:words]
