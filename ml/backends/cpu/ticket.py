"""The lottery's matmul compiled: noise, tiles, folds and digests in one pass, and the exact product back.

The twin of `ml.backends.reference_ticket`, byte for byte. Operands are widened to 16 bits and laid out for the tile
kernel once; every tile row is folded and hashed while it is in the cache. It knows neither chain nor target.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from chain.primitives import Hash
from ml.backends.cpu.blake3 import KEYED, U8Array, U32Array, fill_streams, get_key_words, hash_chunks
from ml.backends.cpu.kernel import kernel
from ml.backends.cpu.tile import TILE, add_product, fold_tile
from ml.noise import I8, I32, ROLE_A, ROLE_B, WINDOW, FoundTicket, MatmulShape, Place

I16 = NDArray[np.int16]
U16 = NDArray[np.uint16]

TICKET_BYTES = 76
"""Tile row, tile column, window and the 16 words of the fold state, u32 each."""

DENOISE_COLUMNS = 16_384
"""Columns whose low-rank products still fit 16 bits: at most 128 of rank 128, 126 each."""

_DENSE_A, _CHOICE_A = _ROLES_A = ROLE_A.dense, ROLE_A.choice
_DENSE_B, _CHOICE_B = _ROLES_B = ROLE_B.dense, ROLE_B.choice


@kernel
def compute_dense_kernel(key_u32: U32Array, role: int, first: int, dense_i16: I16) -> None:
    """Fill (rows, rank) int16 with rows `first`, `first + 1`, ... of the dense factor of `role`."""
    rows, rank = dense_i16.shape
    streams_u8 = np.empty((rows, 2 * rank), np.uint8)
    fill_streams(key_u32, role, first, streams_u8)
    draws_u16 = streams_u8.view(np.uint16)
    for row in range(rows):
        for column in range(rank):
            dense_i16[row, column] = np.int16((np.int32(draws_u16[row, column]) * 127 >> 16) - 63)


@kernel
def compute_choice_kernel(key_u32: U32Array, role: int, first: int, rank: int, picks_u16: U16) -> None:
    """Fill (groups * rank,) uint16 with groups `first`, ... of the choice factor of `role`.

    A pick below rank is the target column of a positive sign; rank is added to it for a negative one.
    """
    groups = picks_u16.size // rank
    streams_u8 = np.empty((groups, (2 * rank + rank // 8 + 63) // 64 * 64), np.uint8)
    fill_streams(key_u32, role, first, streams_u8)
    for group in range(groups):
        draws_u16 = streams_u8[group].view(np.uint16)
        order_u16 = picks_u16[group * rank : (group + 1) * rank]
        for k in range(rank):
            order_u16[k] = k
        for k in range(rank - 1, 0, -1):
            other = np.int64(draws_u16[k]) * (k + 1) >> 16
            order_u16[k], order_u16[other] = order_u16[other], order_u16[k]
        for k in range(rank):
            order_u16[k] += rank * (streams_u8[group, 2 * rank + (k >> 3)] >> (k & 7) & 1)


@kernel
def add_noise_kernel(rows_i8: I8, dense_i16: I16, picks_u16: U16, noised_i16: I16) -> None:
    """Write rows plus noise to (padded rows, padded columns) int16; columns past the last fold carry none."""
    rows, columns = rows_i8.shape
    rank, noised = dense_i16.shape[1], picks_u16.size
    signed_i16 = np.empty(2 * rank, np.int16)
    for row in range(rows):
        for k in range(rank):
            signed_i16[k], signed_i16[rank + k] = dense_i16[row, k], -dense_i16[row, k]
        source_i8, target_i16 = rows_i8[row], noised_i16[row]
        for column in range(noised):
            target_i16[column] = np.int16(source_i8[column]) + signed_i16[picks_u16[column]]
        for column in range(noised, columns):
            target_i16[column] = source_i8[column]


@kernel
def pack_pairs_kernel(rows_i16: I16) -> I16:
    """Return rows (tiles * 32, pairs * 2) laid out as (tiles, pairs, 32, 2) flat: what the tile kernel reads."""
    packed_i16 = np.empty(rows_i16.size, np.int16)
    columns = rows_i16.shape[1]
    for row in range(rows_i16.shape[0]):
        start = row // TILE * TILE * columns + row % TILE * 2
        for pair in range(columns // 2):
            packed_i16[start + pair * 2 * TILE] = rows_i16[row, 2 * pair]
            packed_i16[start + pair * 2 * TILE + 1] = rows_i16[row, 2 * pair + 1]
    return packed_i16


@kernel
def fold_windows_kernel(
    a_i16: I16, bt_i16: I16, starts: tuple[int, int, int], plan: tuple[int, int], sums_i32: I32, words_u32: U32Array
) -> None:
    """Leave the product of one tile in the (1024,) int32 sums, and each window's fold state in words 3 to 19.

    `starts` are the tile's first elements in both packed operands and the columns of a row; `plan` is the rank and the
    noised columns; words_u32 (windows, 19).
    """
    a_start, b_start, columns = starts
    rank, noised = plan
    window_i32 = np.empty(TILE * TILE, np.int32)
    sums_i32[:] = 0
    for window in range(words_u32.shape[0]):
        state_u32 = words_u32[window, 3:]
        state_u32[:] = 0
        window_i32[:] = 0
        for at in range(window * WINDOW, min((window + 1) * WINDOW, noised), rank):
            add_product(a_i16, bt_i16, (a_start + at * TILE, b_start + at * TILE, rank // 2), window_i32)
            fold_tile(window_i32, state_u32)
        sums_i32 += window_i32
    rest = (columns - noised) // 2
    add_product(a_i16, bt_i16, (a_start + noised * TILE, b_start + noised * TILE, rest), sums_i32)


@kernel
def store_tile_kernel(sums_i32: I32, row: int, column: int, product_i32: I32) -> None:
    """Write a tile's sums to the product (M, N) int32 at (row, column), cut at its edges."""
    width = min(TILE, product_i32.shape[1] - column)
    for i in range(min(TILE, product_i32.shape[0] - row)):
        product_i32[row + i, column : column + width] = sums_i32[TILE * i : TILE * i + width]


@kernel
def subtract_tile_kernel(sums_i32: I32, row: int, column: int, product_i32: I32) -> None:
    """Subtract a tile's sums from the product (M, N) int32 at (row, column), cut at its edges."""
    width = min(TILE, product_i32.shape[1] - column)
    for i in range(min(TILE, product_i32.shape[0] - row)):
        product_i32[row + i, column : column + width] -= sums_i32[TILE * i : TILE * i + width]


@kernel
def noise_operand_kernel(key_u32: U32Array, roles: tuple[int, int], plan: tuple[int, int], rows_i8: I8) -> I16:
    """Return an operand (rows, K) int8 under its noise, (whole tiles of rows, even columns) int16, zero outside."""
    rows, columns = rows_i8.shape
    rank, noised = plan
    noised_i16 = np.zeros(((rows + TILE - 1) // TILE * TILE, (columns + 1) // 2 * 2), np.int16)
    dense_i16 = np.empty((rows, rank), np.int16)
    picks_u16 = np.empty(noised, np.uint16)
    compute_dense_kernel(key_u32, roles[0], 0, dense_i16)
    compute_choice_kernel(key_u32, roles[1], 0, rank, picks_u16)
    add_noise_kernel(rows_i8, dense_i16, picks_u16, noised_i16)
    return noised_i16


@kernel
def mine_kernel(
    key_u32: U32Array, plan: tuple[int, int], a_i8: I8, bt_i8: I8, digests_u8: U8Array, product_i32: I32
) -> None:
    """Write C' (M, N) int32 and the digests (tile rows, tile columns, windows, 32) uint8."""
    a_i16 = noise_operand_kernel(key_u32, _ROLES_A, plan, a_i8)
    bt_i16 = noise_operand_kernel(key_u32, _ROLES_B, plan, bt_i8)
    a_pairs_i16, bt_pairs_i16 = pack_pairs_kernel(a_i16), pack_pairs_kernel(bt_i16)
    columns, sums_i32 = a_i16.shape[1], np.empty(TILE * TILE, np.int32)
    tile_rows, tile_columns, windows, _ = digests_u8.shape
    words_u32 = np.empty((bt_i16.shape[0] // TILE, windows, 19), np.uint32)
    starts_i64 = np.arange(tile_columns * windows) * TICKET_BYTES
    for i in range(a_i16.shape[0] // TILE):
        for j in range(bt_i16.shape[0] // TILE):
            for window in range(windows):
                words_u32[j, window, 0], words_u32[j, window, 1], words_u32[j, window, 2] = i, j, window
            starts = (i * TILE * columns, j * TILE * columns, columns)
            fold_windows_kernel(a_pairs_i16, bt_pairs_i16, starts, plan, sums_i32, words_u32[j])
            store_tile_kernel(sums_i32, i * TILE, j * TILE, product_i32)
        if i < tile_rows:
            tickets_u8 = words_u32.reshape(-1).view(np.uint8)
            hash_chunks(key_u32, KEYED, tickets_u8, starts_i64, TICKET_BYTES, digests_u8[i].reshape(-1, 32))


@kernel
def digest_kernel(
    key_u32: U32Array, plan: tuple[int, int], place: tuple[int, int, int], a_i8: I8, bt_i8: I8, digest_u8: U8Array
) -> None:
    """Write the (1, 32) uint8 digest at `place` from the raw rows of its tile, (32, columns of the window) int8."""
    rank, columns = plan
    words_u32, sums_i32 = np.zeros((1, 19), np.uint32), np.empty(TILE * TILE, np.int32)
    picks_u16 = np.empty(columns, np.uint16)
    a_i16, b_i16 = np.empty((TILE, columns), np.int16), np.empty((TILE, columns), np.int16)
    dense_i16 = np.empty((TILE, rank), np.int16)
    first = place[2] * WINDOW // rank
    compute_dense_kernel(key_u32, _DENSE_A, place[0] * TILE, dense_i16)
    compute_choice_kernel(key_u32, _CHOICE_A, first, rank, picks_u16)
    add_noise_kernel(a_i8, dense_i16, picks_u16, a_i16)
    compute_dense_kernel(key_u32, _DENSE_B, place[1] * TILE, dense_i16)
    compute_choice_kernel(key_u32, _CHOICE_B, first, rank, picks_u16)
    add_noise_kernel(bt_i8, dense_i16, picks_u16, b_i16)
    pairs = pack_pairs_kernel(a_i16), pack_pairs_kernel(b_i16)
    words_u32[0, 0], words_u32[0, 1], words_u32[0, 2] = place
    fold_windows_kernel(pairs[0], pairs[1], (0, 0, columns), plan, sums_i32, words_u32)
    hash_chunks(key_u32, KEYED, words_u32.reshape(-1).view(np.uint8), np.zeros(1, np.int64), TICKET_BYTES, digest_u8)


@kernel
def project_kernel(rows_i16: I16, rank: int, picks_u16: U16, out_i16: I16) -> None:
    """Write rows (rows, columns) times a choice factor transposed, (rows, rank) int16 that cannot overflow."""
    signed_i16 = np.empty(2 * rank, np.int16)
    for row in range(rows_i16.shape[0]):
        signed_i16[:] = 0
        source_i16 = rows_i16[row]
        for column in range(picks_u16.size):
            signed_i16[picks_u16[column]] += source_i16[column]
        out_i16[row, :] = signed_i16[:rank] - signed_i16[rank:]


@kernel
def denoise_kernel(key_u32: U32Array, plan: tuple[int, int], a_i16: I16, bt_i16: I16, product_i32: I32) -> None:
    """Subtract [A x F_L | E_L] x [F_R | E_R x B'] from C' in place, over a run of columns at a time.

    a_i16 as it is and bt_i16 under its noise, (whole tiles of rows, even columns) int16.
    """
    rank, noised = plan
    left_i16 = np.empty((a_i16.shape[0], 2 * rank), np.int16)
    right_i16 = np.empty((bt_i16.shape[0], 2 * rank), np.int16)
    sums_i32 = np.empty(TILE * TILE, np.int32)
    compute_dense_kernel(key_u32, _DENSE_A, 0, left_i16[:, rank:])
    compute_dense_kernel(key_u32, _DENSE_B, 0, right_i16[:, :rank])
    for start in range(0, noised, DENOISE_COLUMNS):
        end = min(start + DENOISE_COLUMNS, noised)
        picks_u16 = np.empty(end - start, np.uint16)
        compute_choice_kernel(key_u32, _CHOICE_B, start // rank, rank, picks_u16)
        project_kernel(a_i16[:, start:end], rank, picks_u16, left_i16[:, :rank])
        compute_choice_kernel(key_u32, _CHOICE_A, start // rank, rank, picks_u16)
        project_kernel(bt_i16[:, start:end], rank, picks_u16, right_i16[:, rank:])
        left_pairs_i16, right_pairs_i16 = pack_pairs_kernel(left_i16), pack_pairs_kernel(right_i16)
        for row in range(0, a_i16.shape[0], TILE):
            for column in range(0, bt_i16.shape[0], TILE):
                places = row * 2 * rank, column * 2 * rank, rank
                sums_i32[:] = 0
                add_product(left_pairs_i16, right_pairs_i16, places, sums_i32)
                subtract_tile_kernel(sums_i32, row, column, product_i32)


def denoise_product(seed: Hash, a: I8, bt: I8, noised_product: I32) -> I32:
    """Return the product of the operands as they were: C = C' - A x F - E x B', (M, N) int32, exact."""
    shape = MatmulShape(a.shape[0], bt.shape[0], a.shape[1])
    key_u32, plan = get_key_words(seed), (shape.rank, shape.noised_columns)
    a_i16 = np.zeros((-(-shape.M // TILE) * TILE, shape.K), np.int16)
    a_i16[: shape.M] = a
    bt_i16 = noise_operand_kernel(key_u32, _ROLES_B, plan, np.ascontiguousarray(bt))
    product_i32 = noised_product.copy()
    denoise_kernel(key_u32, plan, a_i16, bt_i16, product_i32)
    return product_i32


def mine_matmul(seed: Hash, a: I8, bt: I8, thresholds: Sequence[int]) -> tuple[tuple[FoundTicket, ...], I32]:
    """Return the winning tickets, by tile row, column and window, and the noised product C' (M, N) int32.

    a (M, K) and bt (N, K) int8 in [-63, 63]; a digest of window w wins below `thresholds[w]`.
    """
    shape = MatmulShape(a.shape[0], bt.shape[0], a.shape[1])
    digests_u8 = np.empty((shape.tile_rows, shape.tile_columns, shape.windows, 32), np.uint8)
    product_i32 = np.empty((shape.M, shape.N), np.int32)
    plan = shape.rank, shape.noised_columns
    left, right = np.ascontiguousarray(a), np.ascontiguousarray(bt)
    mine_kernel(get_key_words(seed), plan, left, right, digests_u8, product_i32)
    return _find_winners(digests_u8, thresholds), product_i32


def _find_winners(digests_u8: U8Array, thresholds: Sequence[int]) -> tuple[FoundTicket, ...]:
    if digests_u8.size == 0:
        return ()
    heads_u64 = np.ascontiguousarray(digests_u8[..., :8]).view(">u8")[..., 0]
    limits_u64 = np.array([threshold - 1 >> 192 if threshold > 0 else 0 for threshold in thresholds], np.uint64)
    found = []
    for place in np.argwhere(heads_u64 <= limits_u64).tolist():
        digest = Hash(digests_u8[tuple(place)].tobytes())
        if int.from_bytes(digest, "big") < thresholds[place[2]]:
            found.append(FoundTicket(Place(*place), digest))
    return tuple(found)


def compute_ticket_digest(seed: Hash, shape: MatmulShape, place: Place, rows_a: I8, rows_b: I8) -> Hash:
    """Return the digest of one tile and window from its raw operand rows, (32, columns of the window) int8 each."""
    digest_u8 = np.empty((1, 32), np.uint8)
    plan, where = (shape.rank, rows_a.shape[1]), (place.tile_row, place.tile_column, place.window)
    rows = np.ascontiguousarray(rows_a), np.ascontiguousarray(rows_b)
    digest_kernel(get_key_words(seed), plan, where, *rows, digest_u8)
    return Hash(digest_u8.tobytes())
