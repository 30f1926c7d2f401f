"""The counter-based generator behind every batch, every rounding bit and the first weights.

A key names a use; an element of it is read without reading any other, so that a check draws one number. It is no
cipher: the key already depends on a seed that nobody chooses. Rounding bits are many, so they come from a 64-bit word a
row and 32-bit arithmetic along it, which vector units do well. Sources: splitmix64 (Steele, Lea, Flood 2014) and the
32-bit finaliser lowbias32 (Wellons 2018).
"""

import numpy as np

from chain.hashing import tagged_hash
from ml.arithmetic import I64, U64

GAMMA = 0x9E3779B97F4A7C15
MIX_1 = 0xBF58476D1CE4E5B9
MIX_2 = 0x94D049BB133111EB
U64_MASK = 2**64 - 1
U32_MASK = 2**32 - 1
COLUMN_GAMMA = 0x9E3779B9
COLUMN_MIX_1 = 0x7FEB352D
COLUMN_MIX_2 = 0x846CA68B


def compute_key(segment_seed: bytes, step: int, op: int) -> int:
    """Return the u64 key of one op of one step of the segment with this 32-byte seed."""
    return derive_key("prf", segment_seed, step.to_bytes(4, "little"), op.to_bytes(2, "little"))


def derive_key(tag: str, *parts: bytes) -> int:
    """Return the u64 key of a purpose: the first 8 bytes of its tagged hash, little-endian."""
    return int.from_bytes(tagged_hash(tag, *parts)[:8], "little")


def compute_prf(key: int, element: int) -> int:
    """Return the u64 at `element` of the stream of `key`."""
    x = (key + (element + 1) * GAMMA) & U64_MASK
    x = ((x ^ x >> 30) * MIX_1) & U64_MASK
    x = ((x ^ x >> 27) * MIX_2) & U64_MASK
    return x ^ x >> 31


def compute_prf_array(key: int, count: int) -> U64:
    """Return elements 0 .. count - 1 of the stream of `key`: (count,) uint64."""
    elements = np.arange(1, count + 1, dtype=np.uint64)
    x = np.uint64(key) + elements * np.uint64(GAMMA)
    x = (x ^ x >> np.uint64(30)) * np.uint64(MIX_1)
    x = (x ^ x >> np.uint64(27)) * np.uint64(MIX_2)
    return x ^ x >> np.uint64(31)


def draw_below(key: int, element: int, bound: int) -> int:
    """Return a number in [0, bound): the high word of prf * bound; 0 < bound < 2**48."""
    return compute_prf(key, element) * bound >> 64


def draw_array_below(key: int, count: int, bound: int) -> I64:
    """Return `draw_below` of elements 0 .. count - 1: (count,) int64."""
    x, n = compute_prf_array(key, count), np.uint64(bound)
    low = (x & np.uint64(0xFFFFFFFF)) * n >> np.uint64(32)
    return ((x >> np.uint64(32)) * n + low >> np.uint64(32)).astype(np.int64)


def compute_rounding_words(key: int, row: int, column: int, shape: tuple[int, int]) -> I64:
    """Return the 32 rounding bits of each element of a (rows, columns) block at (row, column): int64 below 2**32.

    The two halves of the row's word enter before and between the mixing steps, so that rows share no stream.
    """
    words = np.array([compute_prf(key, row + i) for i in range(shape[0])], np.uint64)[:, None]
    mask, columns = np.uint64(U32_MASK), np.arange(column, column + shape[1], dtype=np.uint64)[None, :]
    x = ((words & mask) + columns * np.uint64(COLUMN_GAMMA)) & mask
    x = (x ^ x >> np.uint64(16)) * np.uint64(COLUMN_MIX_1) & mask
    x = (x ^ x >> np.uint64(15) ^ words >> np.uint64(32)) * np.uint64(COLUMN_MIX_2) & mask
    mixed: I64 = (x ^ x >> np.uint64(16)).astype(np.int64)
    return mixed
