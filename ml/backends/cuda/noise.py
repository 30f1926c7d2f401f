"""The lottery's noise on the device: its streams, its permutations, and operands laid out under it for one product.

The twin of `ml.noise`. An operand is read once: its row comes back under its noise, followed by the factors that take
the noise out of the product again, so that denoising is a few more columns of the same product. Noise and projections
are themselves small products on tensor cores, of dense factors and operands with signed permutations written out. The
noise depends on the roots of both operands: it is not to be had before they are committed, nor for a second matmul.
"""

from dataclasses import dataclass

import torch
import triton.language as tl
from torch import Tensor

from ml.backends.cuda.blake3 import KEYED, THREADS, WHOLE, compress, load_digest, store_words
from ml.backends.cuda.device import Block, divide_up, function, kernel, new
from ml.noise import CHAIN, OPERAND_MAX, ROLE_A, ROLE_B, MatmulShape, Role

RUN_COLUMNS = 8192
"""Columns whose projection on a factor is held by two int8 limbs: of 64 groups of rank 128, three elements of 63 or
one of 126 each."""

_RUN = tl.constexpr(RUN_COLUMNS)
_STEP = tl.constexpr(128)
"""Columns that are laid out together: whole permutations of any rank."""
_MAX = tl.constexpr(OPERAND_MAX)
_CHAIN = tl.constexpr(CHAIN)
_TALL = 4096
"""Rows from which on there are enough taller tiles for every multiprocessor."""
_TILE_ELEMENTS = 256
"""Positions of permutations that a program works out."""
_NEGATIVE = tl.constexpr(128)
"""Bit of a pick, beside a place below 128, that says that the sign is negative."""


@dataclass(frozen=True, slots=True)
class Span:
    """Which noise is drawn: from a row of each operand and from a group of columns on."""

    first_a: int = 0
    first_b: int = 0
    first_group: int = 0


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the columns of a laid out operand lie."""

    rank: int
    noised: int
    """Columns under noise: whole folds."""
    padded: int
    """Columns of the operand: the whole folds, or all of them filled up with zeros to one more fold."""
    runs: int
    """Pairs of low-rank factors that follow, first with high limbs and again with low ones."""

    @property
    def width(self) -> int:
        """Return the columns of a row."""
        return self.padded + 4 * self.runs * self.rank


@dataclass(frozen=True, slots=True)
class Factors:
    """The factors of both operands' noise, left operand first."""

    dense: tuple[Tensor, Tensor]
    """Draws of the dense factors, (rows, words of a stream) int16."""
    choice: tuple[Tensor, Tensor]
    """The choice factors' columns, -1, 0 or 1 by dense column, (noised, rank) int8."""
    across: tuple[Tensor, Tensor]
    """The same transposed, (rank, noised) int8: a product reads either along its rows."""


def get_layout(shape: MatmulShape, *, has_product: bool) -> Layout:
    """Return the layout of both operands of a matmul, for its product and its tickets or for its tickets alone."""
    noised = shape.noised_columns
    if not has_product:
        return Layout(shape.rank, noised, noised, 0)
    return Layout(shape.rank, noised, divide_up(shape.K, shape.rank) * shape.rank, divide_up(noised, RUN_COLUMNS))


@kernel(varying=("split", "count", "first_a", "first_b"))
def _fill_streams(
    key: Block,
    streams: Block,
    split: Block,
    count: Block,
    first_a: Block,
    first_b: Block,
    role_a: tl.constexpr,
    role_b: tl.constexpr,
    blocks: tl.constexpr,
    threads: tl.constexpr,
) -> None:
    """Write the keyed streams of two roles, `split` of the first, in blocks of 16 words."""
    place = tl.program_id(0) * threads + tl.arange(0, threads)
    stream = place // blocks
    index = tl.where(stream < split, first_a + stream, first_b + stream - split).to(tl.uint32)
    none = index ^ index
    head = (index << 8) | tl.where(stream < split, role_a, role_b).to(tl.uint32)
    message = (head, index >> 24, none, none, none, none, none, none, none, none, none, none, none, none, none, none)
    counter = (place % blocks).to(tl.uint32)
    first, second = compress(load_digest(key, place * 0), message, counter, 5, KEYED | WHOLE)
    store_words(streams + place.to(tl.int64) * 16, first + second, stream < count)


@kernel(varying=("groups",))
def _shuffle(
    streams: Block, picks: Block, groups: Block, words: Block, rank: tl.constexpr, tile_groups: tl.constexpr
) -> None:
    """Write the permutations of some groups, all positions at once: the dense column that each takes, and its sign.

    The value that ends at position p stood at position `draw(p)` before the swap of p; each earlier swap of a j > p,
    from p + 1 on, has brought it there from j if it drew the same position.
    """
    group = (tl.program_id(0) * tile_groups + tl.arange(0, tile_groups)).to(tl.int64)[:, None]
    draws = streams + tl.minimum(group, groups - 1) * words
    position = tl.arange(0, rank)[None, :]
    value = ((tl.load(draws + position).to(tl.int32) & 0xFFFF) * (position + 1)) >> 16
    for j in range(1, rank):
        other = ((tl.load(draws + j).to(tl.int32) & 0xFFFF) * (j + 1)) >> 16
        value = tl.where((position < j) & (value == other), j, value)
    signs = tl.load(draws + rank + position // 16).to(tl.int32) >> (position % 16)
    negative = tl.where(signs & 1 != 0, _NEGATIVE, 0)
    tl.store(picks + group * rank + position, (value | negative).to(tl.uint8), mask=group < groups)


@kernel()
def _write_out(
    picks: Block, choice: Block, across: Block, noised: Block, rank: tl.constexpr, steps: tl.constexpr
) -> None:
    """Write some columns of a choice factor, each of so many columns of its group's permutation, both ways."""
    column, dense = tl.program_id(0) * _STEP + tl.arange(0, _STEP)[:, None], tl.arange(0, rank)[None, :]
    taken = tl.zeros((_STEP, rank), tl.int32)
    for step in tl.static_range(steps):
        at = column // rank * rank + (column + _CHAIN[step]) % rank
        pick = tl.load(picks + at, mask=column < noised, other=0).to(tl.int32)
        taken += tl.where(pick % _NEGATIVE == dense, tl.where(pick >= _NEGATIVE, -1, 1), 0)
    tl.store(choice + column * rank + dense, taken.to(tl.int8), mask=column < noised)
    column, dense = tl.program_id(0) * _STEP + tl.arange(0, _STEP)[None, :], tl.arange(0, rank)[:, None]
    tl.store(across + dense * noised + column, tl.trans(taken).to(tl.int8), mask=column < noised)


@function
def _read_dense(draws: Block, mask: Block, steps: tl.constexpr) -> Block:
    drawn = tl.load(draws, mask=mask, other=0).to(tl.int32) & 0xFFFF
    return tl.where(mask, (drawn * (2 * (_MAX // steps) + 1) >> 16) - _MAX // steps, 0).to(tl.int8)


@kernel(varying=("rows", "runs"))
def _lay_out(
    operand: Block,
    dense: Block,
    choice: Block,
    across: Block,
    laid: Block,
    rows: Block,
    columns: Block,
    noised: Block,
    padded: Block,
    width: Block,
    runs: Block,
    words: Block,
    rank: tl.constexpr,
    steps: tl.constexpr,
    is_left: tl.constexpr,
    has_factors: tl.constexpr,
    tile_rows: tl.constexpr,
) -> None:
    """Lay out some rows; `across` is the other operand's choice factor."""
    row = (tl.program_id(0) * tile_rows + tl.arange(0, tile_rows)).to(tl.int64)[:, None]
    inside, offset, depth = row < rows, tl.arange(0, _STEP), tl.arange(0, rank)
    source, target = operand + row * columns, laid + row * width
    factor = _read_dense(dense + row * words + depth[None, :], inside, steps)
    for run in range(tl.cdiv(padded, _RUN)):
        sums = tl.zeros((tile_rows, rank), tl.int32)
        for start in range(run * _RUN, tl.minimum((run + 1) * _RUN, padded), _STEP):
            column = start + offset
            value = tl.load(source + column[None, :], mask=inside & (column < columns)[None, :], other=0)
            chosen_at = choice + column[None, :] * rank + depth[:, None]
            chosen = tl.load(chosen_at, mask=(column < noised)[None, :], other=0)
            noisy = (value.to(tl.int32) + tl.dot(factor, chosen, out_dtype=tl.int32)).to(tl.int8)
            tl.store(target + column[None, :], noisy, mask=inside & (column < padded)[None, :])
            if has_factors:
                crossed_at = across + depth[None, :] * noised + column[:, None]
                crossed = tl.load(crossed_at, mask=(column < noised)[:, None], other=0)
                sums = tl.dot(value if is_left else noisy, crossed, sums, out_dtype=tl.int32)
        if has_factors:
            high = target + padded + 2 * run * rank + depth[None, :]
            within = inside & (run < runs)
            _store_factors(high, sums if is_left else -sums, factor, within, True, rank, is_left)
            _store_factors(high + 2 * runs * rank, sums if is_left else -sums, factor, within, False, rank, is_left)


@function
def _store_factors(
    target: Block, sums: Block, factor: Block, mask: Block, is_high: tl.constexpr, rank: tl.constexpr,
    is_left: tl.constexpr,
) -> None:  # fmt: skip
    """Store one limb of a projection and the dense factor, on the right the other way round and negated."""
    limb = sums >> 7 if is_high else sums & 127
    tl.store(target + (0 if is_left else rank), limb.to(tl.int8), mask=mask)
    tl.store(target + (rank if is_left else 0), (factor if is_left else -factor).to(tl.int8), mask=mask)


def _draw(key: Tensor, roles: tuple[int, int], counts: tuple[int, int], firsts: tuple[int, int], blocks: int) -> Tensor:
    """Return the streams of two roles, (sum of counts, 32 * blocks) int16."""
    count = sum(counts)
    streams = new(key, (count, 16 * blocks))
    grid = (divide_up(count * blocks, THREADS),)
    _fill_streams[grid](key, streams, counts[0], count, *firsts, *roles, blocks, THREADS, num_warps=THREADS // 32)
    return streams.view(torch.int16)


def draw_factors(key: Tensor, rows: tuple[int, int], layout: Layout, span: Span) -> Factors:
    """Return the factors for `rows` of both operands under the seed in `key` (8,) int32."""
    rank, groups = layout.rank, layout.noised // layout.rank
    dense = _draw(key, (ROLE_A.dense, ROLE_B.dense), rows, (span.first_a, span.first_b), rank // 32)
    blocks = divide_up(2 * rank + rank // 8, 64)
    choice = _draw(key, (ROLE_A.choice, ROLE_B.choice), (groups, groups), (span.first_group,) * 2, blocks)
    picks = new(key, (2, layout.noised), torch.uint8)
    if groups:
        tile = _TILE_ELEMENTS // rank
        _shuffle[(divide_up(2 * groups, tile),)](choice, picks, 2 * groups, choice.shape[1], rank, tile)
    left, right = (_expand(picks[side], layout, role) for side, role in enumerate((ROLE_A, ROLE_B)))
    return Factors((dense[: rows[0]], dense[rows[0] :]), (left[0], right[0]), (left[1], right[1]))


def _expand(picks: Tensor, layout: Layout, role: Role) -> tuple[Tensor, Tensor]:
    """Return a choice factor by columns and transposed."""
    choice, across = (
        new(picks, shape, torch.int8) for shape in ((layout.noised, layout.rank), (layout.rank, layout.noised))
    )
    if layout.noised:
        grid = (divide_up(layout.noised, _STEP.value),)
        _write_out[grid](picks, choice, across, layout.noised, layout.rank, len(role.steps))
    return choice, across


def choose_tile(rows: int) -> tuple[int, int]:
    """Return the rows that a program lays out of an operand of so many, and its warps; no byte depends on them."""
    return (64, 8) if rows >= _TALL else (32, 4)


def lay_out(operand: Tensor, factors: Factors, layout: Layout, *, is_left: bool) -> Tensor:
    """Return an operand (rows, columns) int8 in [-63, 63] laid out: (rows, width) int8.

    After its columns come, `runs` times, the high limbs of its projection on the other operand's choice factor and its
    own dense factor, and then the same with the low limbs; on the right in reverse and negated. The product of these
    columns, the first half 128 times, takes the noise out.
    """
    side = 0 if is_left else 1
    rows, columns = operand.shape
    laid, dense = new(operand, (rows, layout.width), torch.int8), factors.dense[side]
    role, (tile_rows, warps) = (ROLE_A, ROLE_B)[side], choose_tile(rows)
    _lay_out[(divide_up(rows, tile_rows),)](
        operand.contiguous(), dense, factors.choice[side], factors.across[1 - side], laid, rows, columns,
        layout.noised, layout.padded, layout.width, layout.runs, dense.shape[1],
        layout.rank, len(role.steps), is_left, layout.runs > 0, tile_rows, num_warps=warps,
    )  # fmt: skip
    return laid
