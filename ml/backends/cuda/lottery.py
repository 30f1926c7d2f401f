"""The lottery's matmul on a GPU: only winning tickets and the product leave the device.

The twin of `ml.backends.reference_ticket`, byte for byte. Operands that a resident backend keeps on the device are
mined there, and their product stays there. It knows neither chain nor target.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
from torch import Tensor

from chain.primitives import Hash
from ml.backends.cuda.blake3 import upload_key
from ml.backends.cuda.device import new, upload
from ml.backends.cuda.lottery_product import LIMIT_WORDS, Tickets, hash_states, multiply
from ml.backends.cuda.noise import Layout, Span, draw_factors, get_layout, lay_out
from ml.backends.cuda.resident import DeviceArray, get_tensor
from ml.noise import I8, I32, TILE, WINDOW, FoundTicket, MatmulShape, Place
from ml.tensor_tree import DIGEST_BYTES, HashStripRows
from ml.tensor_tree import hash_strip_rows as hash_rows

hash_strip_rows: HashStripRows = hash_rows
"""A single strip is not worth a launch."""

_ORIGIN = Place(0, 0, 0)


def mine(
    seed: Hash, a: Tensor, bt: Tensor, thresholds: Sequence[int], *, has_product: bool
) -> tuple[tuple[FoundTicket, ...], Tensor | None]:
    """Return the winning tickets in order of place, and the exact product (M, N) int32 if it is asked for.

    a (M, K) and bt (N, K) int8 in [-63, 63], and the product, are on the device.
    """
    shape, key = MatmulShape(a.shape[0], bt.shape[0], a.shape[1]), upload_key(seed)
    product = new(a, (shape.M, shape.N)) if has_product else None
    states = _multiply(key, get_layout(shape, has_product=has_product), (a, bt), Span(), product)
    tickets = hash_states(key, states, _upload_limits(thresholds), (shape.tile_columns, shape.windows), _ORIGIN)
    return _collect(tickets, shape), product


def mine_matmul(seed: Hash, a: I8, bt: I8, thresholds: Sequence[int]) -> tuple[tuple[FoundTicket, ...], I32]:
    """Return the winning tickets, by tile row, column and window, and the exact product C (M, N) int32.

    a (M, K) and bt (N, K) int8 in [-63, 63]; a digest of window w wins below `thresholds[w]`. The product is where `a`
    is.
    """
    found, product = mine(seed, get_tensor(a), get_tensor(bt), thresholds, has_product=True)
    assert product is not None
    is_resident = isinstance(cast(object, a), DeviceArray)
    return found, cast(I32, DeviceArray(product) if is_resident else product.cpu().numpy())


def find_tickets(seed: Hash, a: I8, bt: I8, thresholds: Sequence[int]) -> tuple[FoundTicket, ...]:
    """Return the tickets that `mine_matmul` finds, without the product."""
    return mine(seed, get_tensor(a), get_tensor(bt), thresholds, has_product=False)[0]


def compute_ticket_digest(seed: Hash, shape: MatmulShape, place: Place, rows_a: I8, rows_b: I8) -> Hash:
    """Return the digest of one tile and window from its raw operand rows, (32, columns of the window) int8 each."""
    columns, key = rows_a.shape[1], upload_key(seed)
    layout = Layout(shape.rank, columns, columns, 0)
    span = Span(place.tile_row * TILE, place.tile_column * TILE, place.window * WINDOW // shape.rank)
    states = _multiply(key, layout, (upload(rows_a), upload(rows_b)), span, None)
    tickets = hash_states(key, states, _upload_limits([0]), (1, 1), place)
    return Hash(tickets.digests.cpu().numpy().tobytes())


def _multiply(
    key: Tensor, layout: Layout, operands: tuple[Tensor, Tensor], span: Span, product: Tensor | None
) -> Tensor:
    a, bt = operands
    factors = draw_factors(key, (len(a), len(bt)), layout, span)
    left, right = lay_out(a, factors, layout, is_left=True), lay_out(bt, factors, layout, is_left=False)
    return multiply(left, right, layout, product)


def _upload_limits(thresholds: Sequence[int]) -> Tensor:
    limits = b"".join(threshold.to_bytes(4 * LIMIT_WORDS, "little") for threshold in thresholds)
    return upload(np.frombuffer(limits, "<i4"))


def _collect(tickets: Tickets, shape: MatmulShape) -> tuple[FoundTicket, ...]:
    """Return the winning tickets; the others stay on the device."""
    winners = tickets.wins.view(-1).nonzero().view(-1)
    digests = tickets.digests[winners].cpu().numpy().tobytes()
    found = []
    for index, ticket in enumerate(winners.tolist()):
        tile, window = divmod(ticket, shape.windows)
        row, column = divmod(tile, shape.tile_columns)
        place = Place(row, column, window)
        found.append(FoundTicket(place, Hash(digests[DIGEST_BYTES * index : DIGEST_BYTES * (index + 1)])))
    return tuple(found)
