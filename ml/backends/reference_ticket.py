"""The lottery's matmul as the protocol writes it: noise, tiles, folds, digests, and the exact product back.

The authority that compiled twins are compared with, and what a light client verifies with: NumPy and BLAKE3 alone.
It knows neither chain nor target: thresholds and seeds are given. Source: arXiv 2504.09971; docs/protocol.md.
"""

from collections.abc import Sequence

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from chain.primitives import Hash
from ml.noise import (
    I8,
    I32,
    ROLE_A,
    ROLE_B,
    TILE,
    WINDOW,
    FoundTicket,
    MatmulShape,
    Place,
    Role,
    compute_choice_factor,
    compute_dense_factor,
    compute_noise,
    compute_operand_noise,
)
from ml.tensor_tree import HashStripRows
from ml.tensor_tree import hash_strip_rows as hash_rows

U32 = NDArray[np.uint32]

LANES = 16
"""Words that a fold reduces a tile to."""

hash_strip_rows: HashStripRows = hash_rows


def fold_window(a: I8, b: I8, rank: int) -> U32:
    """Return the (16,) uint32 fold state of one tile and window from its noised rows, (32, columns) int8 each."""
    folds = a.shape[1] // rank
    left = a.reshape(TILE, folds, rank).transpose(1, 0, 2).astype(np.int32)
    right = b.reshape(TILE, folds, rank).transpose(1, 2, 0).astype(np.int32)
    accumulators_u32 = np.cumsum(left @ right, axis=0, dtype=np.int32).view(np.uint32)
    rows = np.arange(TILE, dtype=np.uint64)[:, None]
    wide_u64 = accumulators_u32.astype(np.uint64) << rows
    rotated_u32 = (wide_u64 | wide_u64 >> np.uint64(32)).astype(np.uint32)
    folded_u32 = np.bitwise_xor.reduce(rotated_u32.reshape(folds, TILE * TILE // LANES, LANES), axis=1)
    state_u32 = np.zeros(LANES, np.uint32)
    for fold_u32 in folded_u32:
        state_u32 = (state_u32 << np.uint32(7) | state_u32 >> np.uint32(25)) ^ fold_u32
    return state_u32


def hash_fold(seed: Hash, place: Place, state_u32: U32) -> Hash:
    """Return the ticket digest of a fold state (16,) uint32 found at `place`."""
    words = np.array([place.tile_row, place.tile_column, place.window, *state_u32.tolist()], "<u4")
    return Hash(blake3(words.tobytes(), key=seed).digest())


def compute_ticket_digest(seed: Hash, shape: MatmulShape, place: Place, rows_a: I8, rows_b: I8) -> Hash:
    """Return the digest of one tile and window from its raw operand rows, (32, columns of the window) int8 each."""
    noised_a = _add_window_noise(seed, ROLE_A, shape, (place.tile_row, place.window), rows_a)
    noised_b = _add_window_noise(seed, ROLE_B, shape, (place.tile_column, place.window), rows_b)
    return hash_fold(seed, place, fold_window(noised_a, noised_b, shape.rank))


def mine_matmul(seed: Hash, a: I8, bt: I8, thresholds: Sequence[int]) -> tuple[tuple[FoundTicket, ...], I32]:
    """Return the winning tickets, by tile row, column and window, and the exact product C (M, N) int32.

    a (M, K) and bt (N, K) int8 in [-63, 63]; a digest of window w wins below `thresholds[w]`.
    """
    shape = MatmulShape(a.shape[0], bt.shape[0], a.shape[1])
    noised_a, noised_b = _add_noise(seed, shape, a, bt)
    found = _find_winners(seed, shape, (noised_a, noised_b), thresholds)
    return found, denoise_product(seed, a, bt, _multiply(noised_a, noised_b))


def find_tickets(seed: Hash, a: I8, bt: I8, thresholds: Sequence[int]) -> tuple[FoundTicket, ...]:
    """Return the tickets that `mine_matmul` finds, without the product."""
    shape = MatmulShape(a.shape[0], bt.shape[0], a.shape[1])
    return _find_winners(seed, shape, _add_noise(seed, shape, a, bt), thresholds)


def denoise_product(seed: Hash, a: I8, bt: I8, noised_product: I32) -> I32:
    """Return the product of the operands as they were: C = C' - A x F - E x B', (M, N) int32, exact."""
    shape = MatmulShape(a.shape[0], bt.shape[0], a.shape[1])
    e = compute_operand_noise(seed, ROLE_A, shape.M, shape)
    f = compute_operand_noise(seed, ROLE_B, shape.N, shape)
    return noised_product - _multiply(a, f) - _multiply(e, bt + f)


def list_places(shape: MatmulShape) -> list[Place]:
    """Return every place that holds a ticket, in order of tile row, tile column and window."""
    return [
        Place(row, column, window)
        for row in range(shape.tile_rows)
        for column in range(shape.tile_columns)
        for window in range(shape.windows)
    ]


def _find_winners(
    seed: Hash, shape: MatmulShape, noised: tuple[I8, I8], thresholds: Sequence[int]
) -> tuple[FoundTicket, ...]:
    noised_a, noised_b = noised
    found = []
    for place in list_places(shape):
        columns = slice(place.window * WINDOW, place.window * WINDOW + shape.get_window_columns(place.window))
        tile_a = noised_a[place.tile_row * TILE : (place.tile_row + 1) * TILE, columns]
        tile_b = noised_b[place.tile_column * TILE : (place.tile_column + 1) * TILE, columns]
        digest = hash_fold(seed, place, fold_window(tile_a, tile_b, shape.rank))
        if int.from_bytes(digest, "big") < thresholds[place.window]:
            found.append(FoundTicket(place, digest))
    return tuple(found)


def _add_noise(seed: Hash, shape: MatmulShape, a: I8, bt: I8) -> tuple[I8, I8]:
    e = compute_operand_noise(seed, ROLE_A, shape.M, shape)
    return a + e, bt + compute_operand_noise(seed, ROLE_B, shape.N, shape)


def _add_window_noise(seed: Hash, role: Role, shape: MatmulShape, strip: tuple[int, int], rows: I8) -> I8:
    tile, window = strip
    first, count = window * WINDOW // shape.rank, shape.get_window_columns(window) // shape.rank
    dense = compute_dense_factor(seed, role, tile * TILE, TILE, shape.rank)
    return rows + compute_noise(dense, compute_choice_factor(seed, role, first, count, shape.rank), role)


def _multiply(a: I8, bt: I8) -> I32:
    return a.astype(np.int32) @ bt.astype(np.int32).T
