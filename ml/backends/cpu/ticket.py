"""The lottery's matmul compiled: noise, tiles, folds, digests and the exact product, on whichever unit the machine has.

The twin of `ml.backends.reference_ticket`, byte for byte. It gives the kernels of `mining` their room and picks the
winners. It knows neither chain nor target.
"""

from collections.abc import Sequence

import numpy as np

from chain.primitives import Hash
from ml.backends.cpu.blake3 import get_key_words
from ml.backends.cpu.mining import Machine, digest_kernel, mine_kernel
from ml.backends.cpu.tensor_hash import hash_strip_rows as hash_rows
from ml.backends.cpu.tile import BLOCK_COLUMNS, U8
from ml.backends.cpu.units import get_units, make_tile_config
from ml.noise import I8, I32, FoundTicket, MatmulShape, Place
from ml.tensor_tree import HashStripRows

hash_strip_rows: HashStripRows = hash_rows

_NO_PRODUCT = np.empty((0, 0), np.int32)


def mine_matmul(seed: Hash, a: I8, bt: I8, thresholds: Sequence[int]) -> tuple[tuple[FoundTicket, ...], I32]:
    """Return the winning tickets, by tile row, column and window, and the exact product C (M, N) int32.

    a (M, K) and bt (N, K) int8 in [-63, 63]; a digest of window w wins below `thresholds[w]`.
    """
    product_i32 = np.empty((len(a), len(bt)), np.int32)
    return _find_winners(run_matmul(get_units()[0], seed, a, bt, product_i32), thresholds), product_i32


def find_tickets(seed: Hash, a: I8, bt: I8, thresholds: Sequence[int]) -> tuple[FoundTicket, ...]:
    """Return the tickets that `mine_matmul` finds, without the product."""
    return _find_winners(run_matmul(get_units()[0], seed, a, bt, _NO_PRODUCT), thresholds)


def compute_ticket_digest(seed: Hash, shape: MatmulShape, place: Place, rows_a: I8, rows_b: I8) -> Hash:
    """Return the digest of one tile and window from its raw operand rows, (32, columns of the window) int8 each."""
    digest_u8, columns = np.empty((1, 1, 32), np.uint8), rows_a.shape[1]
    plan, where = (shape.rank, columns, _round(columns)), (place.tile_row, place.tile_column, place.window)
    rows = np.ascontiguousarray(rows_a), np.ascontiguousarray(rows_b)
    digest_kernel(_make_machine(get_units()[0], shape.rank), get_key_words(seed), plan, where, rows, digest_u8)
    return Hash(digest_u8.tobytes())


def run_matmul(unit: int, seed: Hash, a: I8, bt: I8, product_i32: I32) -> U8:
    """Return all digests (tile rows, tile columns, windows, 32) and fill the product (M, N), if it has any room.

    `unit` is one of `units.get_units()`.
    """
    shape = MatmulShape(len(a), len(bt), a.shape[1])
    digests_u8 = np.empty((shape.tile_rows, shape.tile_columns, shape.windows, 32), np.uint8)
    plan, operands = (
        (shape.rank, shape.noised_columns, _round(shape.K)),
        (np.ascontiguousarray(a), np.ascontiguousarray(bt)),
    )
    mine_kernel(_make_machine(unit, shape.rank), get_key_words(seed), plan, operands, digests_u8, product_i32)
    return digests_u8


def _make_machine(unit: int, rank: int) -> Machine:
    return unit, make_tile_config(min(rank, BLOCK_COLUMNS))


def _round(columns: int) -> int:
    return -(-columns // BLOCK_COLUMNS) * BLOCK_COLUMNS


def _find_winners(digests_u8: U8, thresholds: Sequence[int]) -> tuple[FoundTicket, ...]:
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
