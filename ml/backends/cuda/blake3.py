"""BLAKE3 on the device: many inputs of at most one chunk each, one a thread.

The twin of `ml.backends.cpu.blake3`; digests are rows of eight 32-bit words. The functions are inlined into kernels
that make their messages themselves. It knows no tensor's tree and no ticket. Source: BLAKE3 specification, section 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import triton.language as tl
from torch import Tensor

from ml.backends.cuda.device import Block, Constant, divide_up, function, kernel, upload

CHUNK_BYTES = 1024
DIGEST_WORDS = 8
THREADS = 128
"""Of a program: each hashes one input."""

START, END, ROOT, KEYED = (tl.constexpr(flag) for flag in (1, 2, 8, 16))
WHOLE = tl.constexpr(1 | 2 | 8)
"""Of an input of one block: it is the first, the last and the root."""

_CHUNK = tl.constexpr(CHUNK_BYTES)
_ROUNDS = tl.constexpr(7)
_IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
_IV_0, _IV_1, _IV_2, _IV_3 = (tl.constexpr(word) for word in _IV[:4])

Words: TypeAlias = tl.tuple
"""Inside a kernel: 32-bit words, unsigned, each a block with one element an input."""


def upload_key(key: bytes | None) -> Tensor:
    """Return the (8,) int32 words of a 32-byte key, or what stands in its place when BLAKE3 is not keyed."""
    words_u32 = np.array(_IV, np.uint32) if key is None else np.frombuffer(key, "<u4")
    assert words_u32.size == DIGEST_WORDS, f"found {words_u32.size} words, expected a key of {DIGEST_WORDS}"
    return upload(words_u32.view(np.int32))


@function
def _load_word(source: Block, word: tl.constexpr, rest: Block, is_aligned: tl.constexpr) -> Block:
    if is_aligned:
        return tl.load(source + word, mask=rest > 4 * word, other=0).to(tl.uint32)
    value = tl.zeros_like(rest).to(tl.uint32)
    for byte in tl.static_range(4):
        at = 4 * word + byte
        value |= tl.load(source + at, mask=rest > at, other=0).to(tl.uint32) << (8 * byte)
    return value


@function
def load_words(source: Block, rest: Block, is_aligned: tl.constexpr) -> Words:
    """Return the eight words from each pointer of `source` on, with zeros for what lies `rest` bytes behind or more.

    Pointers are to int32, or to uint8 where inputs are not whole words.
    """
    return (
        _load_word(source, 0, rest, is_aligned),
        _load_word(source, 1, rest, is_aligned),
        _load_word(source, 2, rest, is_aligned),
        _load_word(source, 3, rest, is_aligned),
        _load_word(source, 4, rest, is_aligned),
        _load_word(source, 5, rest, is_aligned),
        _load_word(source, 6, rest, is_aligned),
        _load_word(source, 7, rest, is_aligned),
    )


@function
def load_digest(source: Block, at: Block) -> Words:
    """Return the eight words from each element `at` of `source` (int32) on: a digest, or a key where `at` is zero."""
    return load_words(source + at, at * 0 + 32, True)


@function
def store_words(target: Block, words: Words, mask: Block) -> None:
    """Store words one after another from each pointer of `target` (int32) on."""
    for word in tl.static_range(len(words)):
        tl.store(target + word, words[word].to(tl.int32), mask=mask)


@function
def _mix(a: Block, b: Block, c: Block, d: Block, x: Block, y: Block) -> tuple[Block, Block, Block, Block]:
    a = a + b + x
    d = d ^ a
    d = (d >> 16) | (d << 16)
    c = c + d
    b = b ^ c
    b = (b >> 12) | (b << 20)
    a = a + b + y
    d = d ^ a
    d = (d >> 8) | (d << 24)
    c = c + d
    b = b ^ c
    b = (b >> 7) | (b << 25)
    return a, b, c, d


@function
def compress(chain: Words, m: Words, counter: Block, size: Block, flags: Block) -> tuple[Words, Words]:
    """Return the two halves, eight words each, of the output for a block `m` of 16 words: the first is the digest."""
    zero = chain[0] ^ chain[0]
    a0, a1, a2, a3, b0, b1, b2, b3 = chain
    c0, c1, c2, c3 = zero + _IV_0, zero + _IV_1, zero + _IV_2, zero + _IV_3
    d0, d1, d2, d3 = zero | counter, zero, zero | size, zero | flags
    # A loop, which LLVM unrolls: Triton takes the square of what is written out here, a minute for seven rounds.
    for _ in range(_ROUNDS):
        a0, b0, c0, d0 = _mix(a0, b0, c0, d0, m[0], m[1])
        a1, b1, c1, d1 = _mix(a1, b1, c1, d1, m[2], m[3])
        a2, b2, c2, d2 = _mix(a2, b2, c2, d2, m[4], m[5])
        a3, b3, c3, d3 = _mix(a3, b3, c3, d3, m[6], m[7])
        a0, b1, c2, d3 = _mix(a0, b1, c2, d3, m[8], m[9])
        a1, b2, c3, d0 = _mix(a1, b2, c3, d0, m[10], m[11])
        a2, b3, c0, d1 = _mix(a2, b3, c0, d1, m[12], m[13])
        a3, b0, c1, d2 = _mix(a3, b0, c1, d2, m[14], m[15])
        m = (m[2], m[6], m[3], m[10], m[7], m[0], m[4], m[13], m[1], m[11], m[12], m[5], m[9], m[14], m[15], m[8])
    first = (a0 ^ c0, a1 ^ c1, a2 ^ c2, a3 ^ c3, b0 ^ d0, b1 ^ d1, b2 ^ d2, b3 ^ d3)
    second = (
        c0 ^ chain[0], c1 ^ chain[1], c2 ^ chain[2], c3 ^ chain[3],
        d0 ^ chain[4], d1 ^ chain[5], d2 ^ chain[6], d3 ^ chain[7],
    )  # fmt: skip
    return first, second


@function
def _choose(mask: Block, x: Words, y: Words) -> Words:
    return (
        tl.where(mask, x[0], y[0]), tl.where(mask, x[1], y[1]), tl.where(mask, x[2], y[2]), tl.where(mask, x[3], y[3]),
        tl.where(mask, x[4], y[4]), tl.where(mask, x[5], y[5]), tl.where(mask, x[6], y[6]), tl.where(mask, x[7], y[7]),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class RowPlan:
    """How the rows of some matrices of bytes, cut into chunks of 1 KiB, share the programs of one launch."""

    places: Tensor
    """Rows, bytes of a row, first program and first digest of each matrix, (matrices, 4) int64."""
    owners: Tensor
    """The matrix of each program, (programs,) int32."""
    is_aligned: bool
    """Whether all rows are whole words of four bytes."""


@kernel(varying=("sources",))
def _hash_rows(
    sources: Block,
    places: Block,
    owners: Block,
    key: Block,
    digests: Block,
    mode: tl.constexpr,
    is_aligned: tl.constexpr,
    threads: tl.constexpr,
) -> None:
    owner = tl.load(owners + tl.program_id(0))
    rows, row_bytes = tl.load(places + 4 * owner).to(tl.int32), tl.load(places + 4 * owner + 1).to(tl.int32)
    first_program, first_digest = tl.load(places + 4 * owner + 2).to(tl.int32), tl.load(places + 4 * owner + 3)
    address = tl.load(sources + owner)
    chunk = (tl.program_id(0) - first_program) * threads + tl.arange(0, threads)
    window = chunk // rows
    start = (chunk % rows).to(tl.int64) * row_bytes + window * _CHUNK
    size = tl.minimum(row_bytes - window * _CHUNK, _CHUNK)
    if is_aligned:
        source = address.to(tl.pointer_type(tl.int32)) + start // 4
    else:
        source = address.to(tl.pointer_type(tl.uint8)) + start
    chain = load_digest(key, chunk * 0)
    # Inputs of one program differ in size only where two column windows meet.
    for block in range(tl.cdiv(tl.minimum(row_bytes, _CHUNK), 64)):
        rest = size - 64 * block
        at = source + block * (16 if is_aligned else 64)
        words = load_words(at, rest, is_aligned) + load_words(at + (8 if is_aligned else 32), rest - 32, is_aligned)
        flags = mode | tl.where(block == 0, START, 0) | tl.where(rest <= 64, END | ROOT, 0)
        after, _ = compress(chain, words, 0, tl.minimum(rest, 64), flags)
        chain = _choose(rest > 0, after, chain)
    store_words(digests + (first_digest + chunk) * 8, chain, size > 0)


def plan_rows(sizes: Sequence[tuple[int, int]], first_digests: Sequence[int]) -> RowPlan:
    """Return the plan for matrices of (rows, bytes of a row), whose digests begin at `first_digests`."""
    programs = [divide_up(rows * count_windows(row_bytes), THREADS) for rows, row_bytes in sizes]
    firsts = np.cumsum([0, *programs[:-1]])
    places = np.column_stack([np.array(sizes, np.int64).reshape(-1, 2), firsts, first_digests]).astype(np.int64)
    owners = np.repeat(np.arange(len(sizes), dtype=np.int32), programs)
    return RowPlan(upload(places), upload(owners), all(row_bytes % 4 == 0 for _, row_bytes in sizes))


def count_windows(row_bytes: int) -> int:
    """Return the chunks of one row."""
    return divide_up(row_bytes, CHUNK_BYTES)


def hash_rows(sources: Tensor, plan: RowPlan, key: Tensor, digests: Tensor, mode: Constant = KEYED) -> None:
    """Write the digests of the chunks of every matrix, column window by column window and row by row.

    sources (matrices,) int64: the address of each matrix, a multiple of four where the plan is aligned; key (8,) int32
    of `upload_key`, `mode` KEYED or zero as it is keyed or not; digests (digests, 8) int32.
    """
    grid = (len(plan.owners),)
    arguments = sources, plan.places, plan.owners, key, digests
    _hash_rows[grid](*arguments, mode, plan.is_aligned, THREADS, num_warps=THREADS // 32)
