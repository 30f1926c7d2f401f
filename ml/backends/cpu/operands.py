"""The operands of a mined matmul in bands: raw, under their noise, and as the factors that take the noise out again.

With A' = A + E and B' = B + F the product is C = A' x B' - [A x F_R | E_L] x [F_L | B' x E_R], of rank 2r. A
projection on a choice factor needs up to 15 bits and is kept as two bytes, v = 128 high + low. Source: arXiv
2504.09971, section 4.
"""

import numpy as np
from numpy.typing import NDArray

from ml.backends.cpu.blake3 import U32Array, fill_streams
from ml.backends.cpu.kernel import kernel, specialise
from ml.backends.cpu.moves import add_noise, copy_block, copy_half
from ml.backends.cpu.projection import project_band, put_choice
from ml.backends.cpu.tile import BLOCK_BYTES, BLOCK_COLUMNS, HALF_BYTES, TILE, U8
from ml.backends.cpu.vector import load_blocks
from ml.noise import CHAIN, I8, OPERAND_MAX, ROLE_A, ROLE_B

Plan = tuple[int, int, int]
"""Rank, columns that carry noise, whole columns of blocks."""
Roles = tuple[int, int, int]
"""Message bytes of dense and choice factor, and how many steps the chain has."""
Noise = tuple[U8, U8, U8]
"""Tables of the dense factor by row, the plan of the choice factor, and the other operand's choice factor."""
Operand = tuple[U8, U8]
"""Bands under their noise, and bands of factors that take it out: high bytes of all columns, then low ones."""

_STEPS_A, _STEPS_B = len(ROLE_A.steps), len(ROLE_B.steps)
TABLE_BYTES = 128
"""Bytes of a row's dense factor, as a table for `add_noise`: zero beyond the rank."""


@specialise("roles")
def compute_dense_kernel(key_u32: U32Array, roles: Roles, first: int, rank: int, tables_u8: U8) -> None:
    """Fill rows (count * TABLE_BYTES,) with rows `first`, `first + 1`, ... of the dense factor of `roles`."""
    (role, _, steps), rows = roles, tables_u8.size // TABLE_BYTES
    bound = OPERAND_MAX // steps
    streams_u8 = np.empty((rows, 2 * rank), np.uint8)
    fill_streams(key_u32, role, first, streams_u8)
    draws_u16 = streams_u8.reshape(-1).view(np.uint16)
    for row in range(rows):
        at = row * TABLE_BYTES
        for column in range(rank):
            tables_u8[at + column] = np.uint8(
                (np.int32(draws_u16[row * rank + column]) * (2 * bound + 1) >> 16) - bound
            )
        tables_u8[at + rank : at + TABLE_BYTES] = 0


@specialise("roles")
def compute_choice_kernel(
    key_u32: U32Array, roles: Roles, groups_of: tuple[int, int, int], plan_u8: U8, choice_u8: U8
) -> None:
    """Fill the plan of noise and, if there is room, the choice factor; `groups_of` = first, count, rank.

    The plan (2 steps, columns) holds, for every step of the chain, a target and a sign (0 or 255) a column. Columns
    beyond the groups have neither.
    """
    (first, groups, rank), (_, role, steps) = groups_of, roles
    streams_u8 = np.empty((groups, (2 * rank + rank // 8 + 63) // 64 * 64), np.uint8)
    fill_streams(key_u32, role, first, streams_u8)
    order_u8 = np.empty(rank, np.uint8)
    for step in range(steps):
        plan_u8[2 * step] = TABLE_BYTES - 1
        plan_u8[2 * step + 1] = 0
    for group in range(groups):
        draws_u16 = streams_u8[group].view(np.uint16)
        for k in range(rank):
            order_u8[k] = k
        for k in range(rank - 1, 0, -1):
            other = np.int64(draws_u16[k]) * (k + 1) >> 16
            order_u8[k], order_u8[other] = order_u8[other], order_u8[k]
        for k in range(rank):
            sign = np.uint8(-(streams_u8[group, 2 * rank + (k >> 3)] >> (k & 7) & 1))
            for step in range(steps):
                column = group * rank + (k - CHAIN[step] & rank - 1)
                plan_u8[2 * step, column], plan_u8[2 * step + 1, column] = order_u8[k], sign
                if choice_u8.size > 0:
                    put_choice(choice_u8, rank, steps, (step, column, int(order_u8[k])), sign)


@kernel
def pack_band(rows_i8: I8, first: int, blocks: int, out_u8: U8) -> None:
    """Lay rows `first` to `first + 32` of (rows, columns) int8 out as a band of A, zero beyond the operand's edges."""
    rows, columns = rows_i8.shape
    flat_u8 = rows_i8.reshape(-1).view(np.uint8)
    count, whole = min(TILE, rows - first), columns // BLOCK_COLUMNS
    if count < TILE or whole < blocks:
        out_u8[: blocks * BLOCK_BYTES] = 0
    for block in range(whole):
        for row in range(count):
            start = (first + row) * columns + block * BLOCK_COLUMNS
            copy_block(flat_u8, (start, block * BLOCK_BYTES + row * BLOCK_COLUMNS), out_u8)
    for row in range(count):
        for column in range(whole * BLOCK_COLUMNS, columns):
            at = whole * BLOCK_BYTES + row * BLOCK_COLUMNS + column - whole * BLOCK_COLUMNS
            out_u8[at] = flat_u8[(first + row) * columns + column]


@kernel
def noise_band(raw_u8: U8, tables_u8: U8, first: int, plan_u8: U8, out_u8: U8) -> None:
    """Write a band of A under its noise; the dense factor of its first row is table `first`.

    The plan ends with the block of the last column that carries noise; what lies beyond is copied.
    """
    columns = plan_u8.shape[1]
    flat_u8 = plan_u8.reshape(-1)
    for column in range(0, columns, BLOCK_COLUMNS):
        for row in range(TILE):
            at = column * TILE + row * BLOCK_COLUMNS
            table = (first + row) * TABLE_BYTES
            add_noise(raw_u8, tables_u8, flat_u8, (at, table, at, column, columns + column), out_u8)
            for step in range(1, plan_u8.shape[0] // 2):
                targets = 2 * step * columns + column
                add_noise(out_u8, tables_u8, flat_u8, (at, table, at, targets, targets + columns), out_u8)
    for at in range(columns * TILE, raw_u8.size, BLOCK_COLUMNS):
        copy_block(raw_u8, (at, at), out_u8)


@kernel
def turn_bands(bands_u8: U8, starts_i64: NDArray[np.int64]) -> None:
    """Turn bands of A into bands of B in place; `starts_i64` are the first bytes of 16 rows of a block."""
    bands_u32, words = bands_u8.view(np.uint32), HALF_BYTES // 4
    for half in range(bands_u8.size // HALF_BYTES):
        # A half is read as a whole before it is written.
        load_blocks(bands_u8, starts_i64, half * HALF_BYTES, bands_u32[half * words : (half + 1) * words])


@kernel
def locate_factor(column: int) -> int:
    """Return the byte of a column of the first row in a band of A."""
    return (column & -BLOCK_COLUMNS) * TILE + (column & BLOCK_COLUMNS - 1)


@kernel
def put_dense(tables_u8: U8, first: int, rank: int, at: int, out_u8: U8) -> None:
    """Write the dense factor of 32 rows, from table `first` on, into every span of a band at column `at`."""
    for span in range(0, out_u8.size // TILE, 2 * rank):
        for band in range(0, rank, TILE):
            place = locate_factor(span + at + band)
            for row in range(TILE):
                copy_half(tables_u8, ((first + row) * TABLE_BYTES + band, place + row * BLOCK_COLUMNS), out_u8)


@specialise("place")
def make_band(plan: Plan, rows_i8: I8, place: tuple[int, bool], noise: Noise, out: Operand, raw_u8: U8) -> None:
    """Make one band of an operand, laid out as of A, in `out`; without room for factors there, none are made.

    `place` is the band and whether the operand is the left one; `raw_u8` is room for the raw band. Factors are
    [projection | dense] of the left operand, [dense | projection] of the right one.
    """
    (rank, _, columns), (band, is_left), (tables_u8, plan_u8, other_u8) = plan, place, noise
    noised_u8, factors_u8 = out
    pack_band(rows_i8, band * TILE, columns // BLOCK_COLUMNS, raw_u8)
    noise_band(raw_u8, tables_u8, band * TILE, plan_u8, noised_u8)
    if factors_u8.size > 0:
        # The left operand is projected on the chains of the right one's noise, and the other way round.
        steps, first = (_STEPS_B, 0) if is_left else (_STEPS_A, rank)
        project_band(raw_u8 if is_left else noised_u8, other_u8, (rank, steps), first, factors_u8)
        put_dense(tables_u8, band * TILE, rank, rank - first, factors_u8)
