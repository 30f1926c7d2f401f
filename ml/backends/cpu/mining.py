"""The mined matmul in kernels: bands of both operands, tiles with their folds, digests, and the noise taken out.

The second operand is laid out once; bands of the first are laid out, multiplied, cleaned and hashed a few at a time,
while they are in the cache. It knows neither seeds nor targets.
"""

import numpy as np

from ml.backends.cpu.blake3 import KEYED, U32Array, hash_chunks
from ml.backends.cpu.emit import LANES
from ml.backends.cpu.kernel import kernel, specialise
from ml.backends.cpu.moves import copy_block
from ml.backends.cpu.operands import (
    TABLE_BYTES,
    Noise,
    Operand,
    Plan,
    Roles,
    compute_choice_kernel,
    compute_dense_kernel,
    make_band,
    turn_bands,
)
from ml.backends.cpu.projection import SPAN, make_choice
from ml.backends.cpu.tile import BLOCK_COLUMNS, ROW_BYTES, STATE, TILE, U8
from ml.backends.cpu.tiles import (
    clean_tile,
    compute_offsets,
    configure,
    make_aligned,
    make_scratch,
    release,
    run_tile,
    shift_bands,
)
from ml.noise import I8, I32, ROLE_A, ROLE_B, WINDOW

TICKET_BYTES = 76
"""Tile row, tile column, window and the 16 words of the fold state, u32 each."""
TILES_AT_ONCE = 16
"""Tiles of a band of the product that are copied to it together."""
BANDS_AT_ONCE = 8
"""Bands of A that stay in the second cache while the bands of B pass by."""

Machine = tuple[int, U8]
"""The unit, and its configuration for the steps between two folds."""
Right = tuple[U8, U8, I32, I32]
"""Bands of B under their noise, bands of factors, and the offsets of both; all flat."""
Group = tuple[U32Array, I32]
"""Words of tickets (bands of A, bands of B, windows, 19), and clean tiles (bands of A, tiles, 1024), or none."""

_STARTS_I64 = np.arange(LANES) * BLOCK_COLUMNS
_ROLES_A, _ROLES_B = ((role.dense, role.choice, len(role.steps)) for role in (ROLE_A, ROLE_B))


@kernel
def count_factor_columns(plan: Plan, noise: Noise) -> int:
    """Return the columns of one band of factors: none where the noise has no factor of the other operand."""
    rank, _, columns = plan
    return 4 * rank * ((columns + SPAN - 1) // SPAN) if noise[2].size > 0 else 0


@specialise("is_left")
def make_bands(plan: Plan, rows_i8: I8, noise: Noise, bands: tuple[int, int], is_left: bool) -> Operand:
    """Return bands [start, stop) of an operand, laid out as of A."""
    size_bytes, factor_bytes = plan[2] * TILE, count_factor_columns(plan, noise) * TILE
    count, raw_u8 = bands[1] - bands[0], make_aligned(size_bytes)
    noised_u8, factors_u8 = make_aligned(count * size_bytes), make_aligned(count * factor_bytes)
    for i in range(count):
        own = (
            noised_u8[i * size_bytes : (i + 1) * size_bytes],
            factors_u8[i * factor_bytes : (i + 1) * factor_bytes],
        )
        make_band(plan, rows_i8, (bands[0] + i, is_left), noise, own, raw_u8)
    return noised_u8, factors_u8


@kernel
def make_left(unit: int, plan: Plan, a_i8: I8, noise: Noise, bands: tuple[int, int]) -> Operand:
    """Return bands [start, stop) of the first operand."""
    noised_u8, factors_u8 = make_bands(plan, a_i8, noise, bands, True)
    shift_bands(unit, noised_u8)
    shift_bands(unit, factors_u8)
    return noised_u8, factors_u8


@kernel
def make_right(unit: int, plan: Plan, bt_i8: I8, noise: Noise, columns: int) -> Right:
    """Return all bands of the second operand, laid out as of B, with their offsets."""
    noised_u8, factors_u8 = make_bands(plan, bt_i8, noise, (0, columns), False)
    turn_bands(noised_u8, _STARTS_I64)
    turn_bands(factors_u8, _STARTS_I64)
    offsets_i32, factor_offsets_i32 = (
        np.empty(noised_u8.size // TILE, np.int32),
        np.empty(factors_u8.size // TILE, np.int32),
    )
    compute_offsets(unit, noised_u8, plan[2], offsets_i32)
    compute_offsets(unit, factors_u8, count_factor_columns(plan, noise), factor_offsets_i32)
    return noised_u8, factors_u8, offsets_i32, factor_offsets_i32


@kernel
def add_sums(sums_i32: I32, total_i32: I32) -> None:
    """Add the first (32, 32) int32 of one scratch to another's."""
    for place in range(TILE * TILE):
        total_i32[place] += sums_i32[place]


@kernel
def put_sums(total_i32: I32, out_i32: I32) -> None:
    """Copy a tile's sums, (1024,) int32, out of a scratch."""
    # A loop, which LLVM makes one copy of: an assignment of slices would first ask whether they overlap.
    for place in range(TILE * TILE):
        out_i32[place] = total_i32[place]


@kernel
def run_group(unit: int, plan: Plan, left: Operand, right: Right, group: Group, tiles: tuple[int, int]) -> None:
    """Run all bands of the left against bands [start, stop) of the right: states of folds and clean tiles.

    The order keeps the left's bands in the second cache and one of the right in the first.
    """
    (rank, noised, columns), (words_u32, stage_i32) = plan, group
    size_bytes, step, count = columns * TILE, min(rank, BLOCK_COLUMNS), words_u32.shape[0]
    factor_bytes = left[1].size // count
    total_i32, sums_i32 = make_scratch(), make_scratch()
    for j in range(tiles[0], tiles[1]):
        for i in range(count):
            for start in range(0, noised, WINDOW):
                run = i * size_bytes, j * size_bytes, start, min(WINDOW, noised - start), rank, step
                run_tile(unit, left[0], right[0], run, right[2], total_i32 if start == 0 else sums_i32)
                for word in range(LANES):
                    state_i32 = total_i32[STATE + word] if start == 0 else sums_i32[STATE + word]
                    words_u32[i, j, start // WINDOW, 3 + word] = state_i32
                if start > 0:
                    add_sums(sums_i32, total_i32)
            if stage_i32.size == 0:
                continue
            if columns > noised:
                run = i * size_bytes, j * size_bytes, noised, columns - noised, 0, step
                run_tile(unit, left[0], right[0], run, right[2], total_i32 if noised == 0 else sums_i32)
                if noised > 0:
                    add_sums(sums_i32, total_i32)
            if factor_bytes > 0:
                run = i * factor_bytes, j * factor_bytes, 0, factor_bytes // (2 * TILE), 0, step
                clean_tile(unit, left[1], right[1], run, right[3], (total_i32, sums_i32))
            put_sums(total_i32, stage_i32[i, j - tiles[0]])


@kernel
def put_tiles(tiles_i32: I32, tiles: int, row: int, column: int, product_i32: I32) -> None:
    """Copy tiles that lie side by side, (>= tiles, 1024) int32, to the product at (row, column), cut at its edges.

    Whole stretches of a row at a time: rows lie pages apart, and a tile by itself would touch 32 of them.
    """
    rows, columns = product_i32.shape
    whole = min(tiles, (columns - column) // TILE)
    source_u8, target_u8 = tiles_i32.reshape(-1).view(np.uint8), product_i32.reshape(-1).view(np.uint8)
    for i in range(min(TILE, rows - row)):
        target = 4 * ((row + i) * columns + column)
        for tile in range(whole):
            source = (tile * TILE + i) * ROW_BYTES
            copy_block(source_u8, (source, target + tile * ROW_BYTES), target_u8)
            copy_block(source_u8, (source + ROW_BYTES // 2, target + tile * ROW_BYTES + ROW_BYTES // 2), target_u8)
        for tile in range(whole, tiles):
            for j in range(columns - column - tile * TILE):
                product_i32[row + i, column + tile * TILE + j] = tiles_i32[tile, i * TILE + j]


@kernel
def hash_tickets(key_u32: U32Array, first: tuple[int, int, int], words_u32: U32Array, digests_u8: U8) -> None:
    """Write the digests (tile columns, windows, 32) of one tile row; states stand in words (..., 3 to 19).

    `first` is the place of the first ticket: tile row, tile column, window.
    """
    for j in range(words_u32.shape[0]):
        for window in range(words_u32.shape[1]):
            words_u32[j, window, 0] = first[0]
            words_u32[j, window, 1], words_u32[j, window, 2] = first[1] + j, first[2] + window
    starts_i64 = np.arange(digests_u8.size // 32) * TICKET_BYTES
    tickets_u8 = words_u32.reshape(-1).view(np.uint8)
    hash_chunks(key_u32, KEYED, tickets_u8, starts_i64, TICKET_BYTES, digests_u8.reshape(-1))


@specialise("roles")
def make_noise(
    key_u32: U32Array,
    plan: Plan,
    roles: Roles,
    rows: tuple[int, int],
    groups: tuple[int, int],
    factor_columns: int,
) -> Noise:
    """Return the noise of `rows` = (first, count) of an operand and of `groups` = (first, count) of its columns.

    The choice factor has room for so many columns: all, or none where it is not needed.
    """
    rank, noised, _ = plan
    tables_u8 = np.empty(rows[1] * TABLE_BYTES, np.uint8)
    plan_u8 = np.empty((2 * roles[2], (noised + BLOCK_COLUMNS - 1) // BLOCK_COLUMNS * BLOCK_COLUMNS), np.uint8)
    choice_u8 = make_choice(rank, roles[2], factor_columns)
    compute_dense_kernel(key_u32, roles, rows[0], rank, tables_u8)
    compute_choice_kernel(key_u32, roles, (groups[0], groups[1], rank), plan_u8, choice_u8)
    return tables_u8, plan_u8, choice_u8


@kernel
def mine_kernel(
    machine: Machine, key_u32: U32Array, plan: Plan, operands: tuple[I8, I8], digests_u8: U8, product_i32: I32
) -> None:
    """Write the digests (tile rows, tile columns, windows, 32) and the product (M, N), or none, of two operands."""
    (unit, config_u8), (a_i8, bt_i8) = machine, operands
    bands, columns = (a_i8.shape[0] + TILE - 1) // TILE, (bt_i8.shape[0] + TILE - 1) // TILE
    groups, factor_columns = (0, plan[1] // plan[0]), plan[2] if product_i32.size > 0 and plan[1] > 0 else 0
    noise_a = make_noise(key_u32, plan, _ROLES_A, (0, bands * TILE), groups, factor_columns)
    noise_b = make_noise(key_u32, plan, _ROLES_B, (0, columns * TILE), groups, factor_columns)
    stage_i32 = make_aligned(4 * BANDS_AT_ONCE * TILES_AT_ONCE * TILE * TILE).view(np.int32)
    stage_i32 = stage_i32.reshape(BANDS_AT_ONCE, TILES_AT_ONCE, TILE * TILE)
    stage_i32 = stage_i32 if product_i32.size > 0 else stage_i32[:0]
    configure(unit, config_u8)
    right = make_right(unit, plan, bt_i8, (noise_b[0], noise_b[1], noise_a[2]), columns)
    for first in range(0, bands, BANDS_AT_ONCE):
        stop = min(first + BANDS_AT_ONCE, bands)
        left = make_left(unit, plan, a_i8, (noise_a[0], noise_a[1], noise_b[2]), (first, stop))
        words_u32 = np.empty((stop - first, columns, digests_u8.shape[2], 3 + LANES), np.uint32)
        for start in range(0, columns, TILES_AT_ONCE):
            end = min(start + TILES_AT_ONCE, columns)
            run_group(unit, plan, left, right, (words_u32, stage_i32), (start, end))
            for i in range(stop - first if product_i32.size > 0 else 0):
                put_tiles(stage_i32[i], end - start, (first + i) * TILE, start * TILE, product_i32)
        for i in range(first, min(stop, digests_u8.shape[0])):
            hash_tickets(key_u32, (i, 0, 0), words_u32[i - first, : digests_u8.shape[1]], digests_u8[i])
    release(unit)


@kernel
def digest_kernel(
    machine: Machine, key_u32: U32Array, plan: Plan, place: tuple[int, int, int], rows: tuple[I8, I8], digest_u8: U8
) -> None:
    """Write the (1, 1, 32) uint8 digest at `place` from the raw rows of its tile, (32, columns of the window) int8."""
    (unit, config_u8), (rank, noised, _) = machine, plan
    groups = place[2] * WINDOW // rank, noised // rank
    noise_a = make_noise(key_u32, plan, _ROLES_A, (place[0] * TILE, TILE), groups, 0)
    noise_b = make_noise(key_u32, plan, _ROLES_B, (place[1] * TILE, TILE), groups, 0)
    left = make_left(unit, plan, rows[0], noise_a, (0, 1))
    right = make_right(unit, plan, rows[1], noise_b, 1)
    words_u32 = np.empty((1, 1, 1, 3 + LANES), np.uint32)
    configure(unit, config_u8)
    run_group(unit, plan, left, right, (words_u32, np.empty((0, 0, 0), np.int32)), (0, 1))
    release(unit)
    hash_tickets(key_u32, place, words_u32[0], digest_u8)
