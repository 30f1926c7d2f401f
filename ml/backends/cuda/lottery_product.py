"""The lottery's product on tensor cores: folds inside the loop over columns, tickets hashed, and the noise taken out.

A program keeps one fold state a row and lane of its tiles: a fold is then one rotation and one XOR of three for two
accumulators, without a word between threads. That is allowed because the fold is linear over GF(2): rotations by the
row, and the XOR over rows, wait for the window's end. Twin of the folds of `ml.backends.reference_ticket`.
"""

from dataclasses import dataclass

import torch
import triton.language as tl
from torch import Tensor

from ml.backends.cuda.blake3 import (
    DIGEST_WORDS,
    END,
    KEYED,
    ROOT,
    START,
    THREADS,
    compress,
    load_digest,
    load_words,
    store_words,
)
from ml.backends.cuda.device import Block, divide_up, function, kernel, new, round_up_power
from ml.backends.cuda.noise import Layout
from ml.backends.reference_ticket import LANES
from ml.noise import TILE, WINDOW, Place

LIMIT_WORDS = 9
"""Of a threshold, up to 2**256, lowest first."""

_TILE, _LANES, _WINDOW = tl.constexpr(TILE), tl.constexpr(LANES), tl.constexpr(WINDOW)
_LIMIT_WORDS = tl.constexpr(LIMIT_WORDS)
_SIDE_MAX = 128
_BAND = tl.constexpr(8)
"""Rows of tiles that are computed column by column together, so that operands stay in the second-level cache."""


@dataclass(frozen=True, slots=True)
class Tile:
    """How the product is cut: rows and columns of a program's tiles, and how it runs."""

    rows: int
    columns: int
    warps: int
    stages: int


@dataclass(frozen=True, slots=True)
class Tickets:
    """Tickets in order of place."""

    digests: Tensor
    """(tickets, 8) int32."""
    wins: Tensor
    """(tickets, 1) int8, one where the digest is below its limit."""


def choose_tile(m: int, n: int) -> Tile:
    """Return the tile for a product of these sizes; it never changes a byte of the result."""
    rows, columns = (min(max(round_up_power(side), TILE), _SIDE_MAX) for side in (m, n))
    return Tile(rows, columns, 8 if rows * columns == _SIDE_MAX**2 else 4, 4)


@function
def _add_product(left: Block, right: Block, sums: Block) -> Block:
    return tl.dot(tl.load(left), tl.load(right), sums, out_dtype=tl.int32)


@function
def _fold(state: Block, sums: Block, tile_m: tl.constexpr, tile_n: tl.constexpr) -> Block:
    """Return the fold states of (rows, tiles, lanes) after the accumulators `sums`, each row by itself."""
    words = tl.reshape(sums.to(tl.uint32, bitcast=True), (tile_m, tile_n // _TILE, _TILE // _LANES, _LANES))
    return ((state << 7) | (state >> 25)) ^ tl.xor_sum(words, axis=2)


@function
def _join_rows(state: Block, tile_m: tl.constexpr, tile_n: tl.constexpr) -> Block:
    """Return the fold states of (tile rows, tile columns, lanes) int32 from those of their rows."""
    turn = (tl.arange(0, tile_m) % _TILE).to(tl.uint32)[:, None, None]
    turned = (state << turn) | (state >> ((32 - turn) & 31))
    rows = tl.reshape(turned, (tile_m // _TILE, _TILE, tile_n // _TILE, _LANES))
    return tl.xor_sum(rows, axis=1).to(tl.int32, bitcast=True)


@function
def _locate(m: Block, n: Block, tile_m: tl.constexpr, tile_n: tl.constexpr) -> tuple[Block, Block]:
    """Return the first row and column that a program computes."""
    tiles_m, tiles_n = tl.cdiv(m, tile_m), tl.cdiv(n, tile_n)
    band = tl.program_id(0) // (_BAND * tiles_n)
    height = tl.minimum(tiles_m - band * _BAND, _BAND)
    inside = tl.program_id(0) % (_BAND * tiles_n)
    return (band * _BAND + inside % height) * tile_m, inside // height * tile_n


@kernel(varying=("m", "n", "runs"))
def _mine(
    left: Block,
    right: Block,
    product: Block,
    states: Block,
    m: Block,
    n: Block,
    noised: Block,
    padded: Block,
    width: Block,
    runs: Block,
    rank: tl.constexpr,
    has_product: tl.constexpr,
    is_one_window: tl.constexpr,
    tile_m: tl.constexpr,
    tile_n: tl.constexpr,
) -> None:
    first_row, first_column = _locate(m, n, tile_m, tile_n)
    row, column = first_row + tl.arange(0, tile_m), first_column + tl.arange(0, tile_n)
    depth = tl.arange(0, rank)
    # Rows outside are others again: nothing of them is stored.
    left_at = left + (row % m).to(tl.int64)[:, None] * width + depth[None, :]
    right_at = right + (column % n).to(tl.int64)[None, :] * width + depth[:, None]
    total = tl.zeros((tile_m, tile_n), tl.int32)
    windows = 1 if is_one_window else tl.cdiv(noised, _WINDOW)
    for window in range(windows):
        sums = tl.zeros((tile_m, tile_n), tl.int32)
        state = tl.zeros((tile_m, tile_n // _TILE, _LANES), tl.uint32)
        for start in range(window * _WINDOW, tl.minimum((window + 1) * _WINDOW, noised), rank):
            sums = _add_product(left_at + start, right_at + start, sums)
            state = _fold(state, sums, tile_m, tile_n)
        state = _join_rows(state, tile_m, tile_n)
        i = (first_row // _TILE + tl.arange(0, tile_m // _TILE))[:, None, None]
        j = (first_column // _TILE + tl.arange(0, tile_n // _TILE))[None, :, None]
        at = ((i * (n // _TILE) + j) * windows + window) * _LANES + tl.arange(0, _LANES)[None, None, :]
        tl.store(states + at, state, mask=(i < m // _TILE) & (j < n // _TILE))
        total += sums
    if has_product:
        for start in range(noised, padded, rank):
            total = _add_product(left_at + start, right_at + start, total)
        high = tl.zeros((tile_m, tile_n), tl.int32)
        half = padded + 2 * runs * rank
        for start in range(padded, half, rank):
            high = _add_product(left_at + start, right_at + start, high)
        # Beyond int32 this would wrap, not saturate; with the low limbs it is C again.
        total += high << 7
        for start in range(half, half + 2 * runs * rank, rank):
            total = _add_product(left_at + start, right_at + start, total)
        at = product + row.to(tl.int64)[:, None] * n + column[None, :]
        tl.store(at, total, mask=(row < m)[:, None] & (column < n)[None, :])


@kernel(varying=("tile_columns", "windows", "count", "first_row", "first_column", "first_window"))
def _draw_tickets(
    key: Block,
    states: Block,
    limits: Block,
    digests: Block,
    wins: Block,
    tile_columns: Block,
    windows: Block,
    count: Block,
    first_row: Block,
    first_column: Block,
    first_window: Block,
    threads: tl.constexpr,
) -> None:
    """Hash each fold state with its place, and compare the digest, a number with its first byte highest."""
    ticket = tl.program_id(0) * threads + tl.arange(0, threads)
    mask = ticket < count
    window = ticket % windows
    row = ticket // (windows * tile_columns)
    column = ticket // windows % tile_columns
    source = states + ticket * _LANES
    size = tl.where(mask, 64, 0)
    s, t = load_words(source, size, True), load_words(source + 8, size - 32, True)
    place = (
        (row + first_row).to(tl.uint32),
        (column + first_column).to(tl.uint32),
        (window + first_window).to(tl.uint32),
    )
    message = place + s + (t[0], t[1], t[2], t[3], t[4])
    chain, _ = compress(load_digest(key, ticket * 0), message, 0, 64, KEYED | START)
    none = row.to(tl.uint32) ^ row.to(tl.uint32)
    message = (t[5], t[6], t[7], none, none, none, none, none, none, none, none, none, none, none, none, none)
    digest, _ = compress(chain, message, 0, 12, KEYED | END | ROOT)
    store_words(digests + ticket * 8, digest, mask)
    limit = limits + window * _LIMIT_WORDS
    is_less = row < 0  # nowhere
    for word in tl.static_range(8):
        x = digest[7 - word]
        x = (x >> 24) | ((x >> 8) & 0xFF00) | ((x << 8) & 0xFF0000) | (x << 24)
        highest = tl.load(limit + word).to(tl.uint32)
        is_less = (x < highest) | ((x == highest) & is_less)
    is_less = is_less | (tl.load(limit + 8) > 0)
    tl.store(wins + ticket, is_less.to(tl.int8), mask=mask)


def multiply(left: Tensor, right: Tensor, layout: Layout, product: Tensor | None) -> Tensor:
    """Return the fold states of laid out operands, (tile rows * tile columns * windows, 16) int32 in order of place.

    The exact product without noise is written to `product`, (M, N) int32, if it is given.
    """
    m, n, windows = len(left), len(right), divide_up(layout.noised, WINDOW)
    states, tile = new(left, (m // TILE * (n // TILE) * windows, LANES)), choose_tile(m, n)
    grid = (divide_up(m, tile.rows) * divide_up(n, tile.columns),)
    _mine[grid](
        left, right, states if product is None else product, states, m, n,
        layout.noised, layout.padded, layout.width, layout.runs,
        layout.rank, product is not None, windows == 1, tile.rows, tile.columns,
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return states


def hash_states(key: Tensor, states: Tensor, limits: Tensor, sizes: tuple[int, int], first: Place) -> Tickets:
    """Return the digest of each fold state and whether it is below the limit of its window.

    key (8,) int32; states as `multiply` returns them, for `sizes` tile columns and windows, of which the first is at
    `first`; limits (windows * 9,) int32.
    """
    count = len(states)
    digests, wins = new(states, (count, DIGEST_WORDS)), new(states, (count, 1), torch.int8)
    if count:
        firsts = first.tile_row, first.tile_column, first.window
        _draw_tickets[(divide_up(count, THREADS),)](
            key, states, limits, digests, wins, *sizes, count, *firsts, THREADS, num_warps=THREADS // 32
        )
    return Tickets(digests, wins)
