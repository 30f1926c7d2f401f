"""The integer rules of `ml.arithmetic` and `ml.prf` for blocks of numbers, inlined into the kernels that call them.

Each function is the twin of the rule of the same name; the rules and their bounds are written there. Blocks are int64
unless a name says otherwise. Quotients are taken of magnitudes alone, where all ways of rounding agree. They seldom
call each other: in the interpreter a call costs as much as ten operations.
"""

import triton.language as tl

from ml import arithmetic, prf
from ml.backends.cuda.device import Block, function

_INT32_MAX = tl.constexpr(arithmetic.INT32_MAX)
_ROOT_0, _ROOT_1, _ROOT_2 = (tl.constexpr(x) for x in (arithmetic.ROOT_0, arithmetic.ROOT_1, arithmetic.ROOT_2))
_GAMMA, _MIX_1, _MIX_2 = (tl.constexpr(x) for x in (prf.GAMMA, prf.MIX_1, prf.MIX_2))
_COLUMN_GAMMA = tl.constexpr(prf.COLUMN_GAMMA)
_COLUMN_MIX_1, _COLUMN_MIX_2 = tl.constexpr(prf.COLUMN_MIX_1), tl.constexpr(prf.COLUMN_MIX_2)


@function
def get_power(shift: Block) -> Block:
    """Return 2**shift as int64."""
    return tl.full((), 1, tl.int64) << shift


@function
def round_shift(x: Block, shift: Block) -> Block:
    """Return x / 2**shift rounded half up; shift >= 0."""
    return (x + ((tl.full((), 1, tl.int64) << shift) >> 1)) >> shift


@function
def scale_shift(x: Block, shift: Block) -> Block:
    """Return x / 2**shift, rounded half up, for a shift of either sign."""
    return tl.where(shift >= 0, round_shift(x, tl.maximum(shift, 0)), x << tl.maximum(-shift, 0))


@function
def saturate(x: Block) -> Block:
    """Return x clamped to +-(2**31 - 1) as int32."""
    return tl.minimum(tl.maximum(x, -_INT32_MAX), _INT32_MAX).to(tl.int32)


@function
def compute_bit_length(x: Block) -> Block:
    """Return the number of bits of each x >= 0."""
    length, rest = x * 0, x
    for half in tl.static_range(6):
        is_tall = rest >= (1 << (32 >> half))
        length += tl.where(is_tall, 32 >> half, 0)
        rest = tl.where(is_tall, rest >> (32 >> half), rest)
    return length + rest


@function
def compute_isqrt(x: Block) -> Block:
    """Return floor(sqrt(x)) of each 0 <= x < 2**62, bit by bit."""
    root, rest, bit = x * 0, x, tl.full((), 1 << 60, tl.int64)
    for _ in range(31):
        trial = root + bit
        fits = rest >= trial
        rest = tl.where(fits, rest - trial, rest)
        root = (root >> 1) + tl.where(fits, bit, 0)
        bit = bit >> 2
    return root


@function
def compute_reciprocal_root(x: Block) -> tuple[Block, Block]:
    """Return y and shift with 1 / sqrt(x) = y / 2**shift, of each 1 <= x < 2**62."""
    length = compute_bit_length(x)
    even = length + (length & 1)
    mantissa = tl.where(even >= 31, x >> tl.maximum(even - 31, 0), x << tl.maximum(31 - even, 0))
    y = _ROOT_0 - ((mantissa * (_ROOT_1 - ((mantissa * _ROOT_2) >> 31))) >> 31)
    for _ in tl.static_range(2):
        y = (y * ((3 << 30) - ((mantissa * ((y * y) >> 30)) >> 31))) >> 31
    return y, 30 + (even >> 1)


@function
def compute_exp2(x: Block, table: Block) -> Block:
    """Return 2**(-x) in F30 for x >= 0 in F24."""
    whole, index, rest = x >> 24, (x >> 16) & 255, x & 0xFFFF
    high, low = tl.load(table + index), tl.load(table + index + 1)
    value = high - (((high - low) * rest) >> 16)
    return tl.where(whole < 32, round_shift(value, tl.minimum(whole, 32)), 0)


@function
def compute_log2(x: Block) -> Block:
    """Return floor(log2(x) * 2**16) of each 1 <= x < 2**62."""
    length = compute_bit_length(x) - 1
    mantissa = tl.where(length >= 30, x >> tl.maximum(length - 30, 0), x << tl.maximum(30 - length, 0))
    result = length << 16
    for place in range(16):
        mantissa = (mantissa * mantissa) >> 30
        bit = mantissa >> 31
        result += bit << (15 - place)
        mantissa = mantissa >> bit
    return result


@function
def compute_row_words(key_low: Block, key_high: Block, rows: Block) -> Block:
    """Return the uint64 at each of `rows` of the stream of a key, given as two int32 halves."""
    key = (key_high.to(tl.uint32).to(tl.uint64) << 32) | key_low.to(tl.uint32).to(tl.uint64)
    x = key + (rows.to(tl.uint64) + 1) * _GAMMA
    x = (x ^ (x >> 30)) * _MIX_1
    x = (x ^ (x >> 27)) * _MIX_2
    return x ^ (x >> 31)


@function
def compute_rounding_bits(words: Block, columns: Block) -> Block:
    """Return 32 rounding bits of each element as int64, from its row's word and its column."""
    x = words.to(tl.uint32) + columns.to(tl.uint32) * _COLUMN_GAMMA
    x = (x ^ (x >> 16)) * _COLUMN_MIX_1
    x = (x ^ (x >> 15) ^ (words >> 32).to(tl.uint32)) * _COLUMN_MIX_2
    return (x ^ (x >> 16)).to(tl.int64)
