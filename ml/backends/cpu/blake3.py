"""BLAKE3 in compiled kernels: many inputs of at most one chunk each, hashed sixteen at a time.

Only what the trace and the lottery need: single-chunk inputs (at most 1,024 bytes), keyed or plain, and the extended
output of one block. It knows no tensor and no ticket. Source: BLAKE3 specification, sections 2.1 to 2.6.
"""

import numpy as np
from numpy.typing import NDArray

from ml.backends.cpu.kernel import kernel
from ml.backends.cpu.vector import LANES, compress, load_blocks, store_lanes

U8Array = NDArray[np.uint8]
U32Array = NDArray[np.uint32]
I64Array = NDArray[np.int64]

CHUNK_BYTES = 1024
PLAIN = 0
KEYED = 16

_START, _END, _ROOT = 1, 2, 8
_IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)

PLAIN_KEY_U32: U32Array = np.array(_IV, dtype=np.uint32)
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
    1 <= size_bytes <= 1024; out_u8 (count, 32) receives the digests. Arrays are C-contiguous; places are not checked.
    """
    state_u32, message_u32 = np.empty(16 * LANES, np.uint32), np.empty(16 * LANES, np.uint32)
    tail_u8, tail_starts_i64 = np.zeros(64 * LANES, np.uint8), np.arange(LANES) * 64
    lane_starts_i64 = np.empty(LANES, np.int64)
    digests_u32 = out_u8.reshape(-1).view(np.uint32)
    full, tail = size_bytes // 64, size_bytes % 64
    last = full if tail > 0 else full - 1
    for first in range(0, starts_i64.size, LANES):
        lanes = min(LANES, starts_i64.size - first)
        for lane in range(LANES):
            lane_starts_i64[lane] = starts_i64[first + min(lane, lanes - 1)]
        _set_key(state_u32, key_u32)
        for block in range(full):
            load_blocks(data_u8, lane_starts_i64, 64 * block, message_u32)
            _set_block(state_u32, 64, mode | (_START if block == 0 else 0) | (_END | _ROOT if block == last else 0))
            compress(state_u32, message_u32)
        if tail > 0:
            for lane in range(lanes):
                start = lane_starts_i64[lane] + 64 * full
                for byte in range(tail):
                    tail_u8[64 * lane + byte] = data_u8[start + byte]
            load_blocks(tail_u8, tail_starts_i64, 0, message_u32)
            _set_block(state_u32, tail, mode | (_START if full == 0 else 0) | _END | _ROOT)
            compress(state_u32, message_u32)
        store_lanes(state_u32, message_u32)
        for lane in range(lanes):
            for word in range(8):
                digests_u32[8 * (first + lane) + word] = message_u32[16 * lane + word]


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
        _set_block(state_u32, 5, KEYED | _START | _END | _ROOT)
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
