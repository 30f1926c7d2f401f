"""The lottery's noise on the device: its streams, its permutations, and operands laid out under it for one product.

The twin of `ml.noise`. An operand is read once: its row comes back under its noise, followed by the factors that take
the noise out of the product again, so that denoising is a few more columns of the same product. The noise depends on
the roots of both operands: it can neither be added before they are committed nor serve a second matmul.
"""

from dataclasses import dataclass

import torch
import triton.language as tl
from torch import Tensor

from ml.backends.cuda.blake3 import KEYED, THREADS, WHOLE, compress, load_digest, store_words
from ml.backends.cuda.device import Block, divide_up, function, kernel, new
from ml.noise import CHAIN, OPERAND_MAX, ROLE_A, ROLE_B, MatmulShape

RUN_COLUMNS = 8192
"""Columns whose projection on a factor is held by two int8 limbs: of 64 groups of rank 128, three elements of 63 or
one of 126 each."""

_RUN = tl.constexpr(RUN_COLUMNS)
_STEP = tl.constexpr(128)
"""Columns that are laid out together: whole permutations of any rank."""
_MAX = tl.constexpr(OPERAND_MAX)
_CHAIN = tl.constexpr(CHAIN)
_STEPS_A, _STEPS_B = tl.constexpr(len(ROLE_A.steps)), tl.constexpr(len(ROLE_B.steps))
_TILE_ROWS = 8
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
    targets: tuple[Tensor, Tensor]
    """The dense column that each column of the signed permutations takes, (noised,) uint8."""
    places: tuple[Tensor, Tensor]
    """The column in its group of the signed permutations that takes each dense column, (noised,) uint8."""


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
    streams: Block,
    targets: Block,
    places: Block,
    groups: Block,
    words: Block,
    rank: tl.constexpr,
    tile_groups: tl.constexpr,
) -> None:
    """Write the permutations of some groups, all positions at once.

    The value that ends at position p stood at position `draw(p)` before the swap of p; each earlier swap of a j > p,
    from p + 1 on, has brought it there from j if it drew the same position.
    """
    group = (tl.program_id(0) * tile_groups + tl.arange(0, tile_groups)).to(tl.int64)[:, None]
    mask = group < groups
    draws = streams + tl.minimum(group, groups - 1) * words
    position = tl.arange(0, rank)[None, :]
    value = ((tl.load(draws + position).to(tl.int32) & 0xFFFF) * (position + 1)) >> 16
    for j in range(1, rank):
        other = ((tl.load(draws + j).to(tl.int32) & 0xFFFF) * (j + 1)) >> 16
        value = tl.where((position < j) & (value == other), j, value)
    signs = tl.load(draws + rank + position // 16).to(tl.int32) >> (position % 16)
    negative = tl.where(signs & 1 != 0, _NEGATIVE, 0)
    tl.store(targets + group * rank + position, (value | negative).to(tl.uint8), mask=mask)
    tl.store(places + group * rank + value, (position | negative).to(tl.uint8), mask=mask)


@function
def _read_dense(dense: Block, at: Block, mask: Block, steps: tl.constexpr) -> Block:
    draws = tl.load(dense + at, mask=mask, other=0).to(tl.int32) & 0xFFFF
    return tl.where(mask, (draws * (2 * (_MAX // steps) + 1) >> 16) - _MAX // steps, 0)


@function
def _apply_sign(value: Block, pick: Block) -> Block:
    return tl.where(pick >= _NEGATIVE, -value, value)


@function
def _add_noise(
    value: Block, draws: Block, targets: Block, column: Block, mask: Block, rank: tl.constexpr, steps: tl.constexpr
) -> Block:
    """Return the elements `value` of `column` under the noise: of so many columns of its group's permutation."""
    for step in tl.static_range(steps):
        at = column // rank * rank + (column + _CHAIN[step]) % rank
        pick = tl.load(targets + at, mask=mask, other=0).to(tl.int32)
        value += _apply_sign(_read_dense(draws, pick % _NEGATIVE, mask, steps), pick)
    return value


@function
def _project(
    source: Block, draws: Block, targets: Block, places: Block, column: Block, mask: Block,
    rank: tl.constexpr, is_left: tl.constexpr,
) -> Block:  # fmt: skip
    """Return what `column` adds to the projection on a choice factor: columns of its group, noised on the right."""
    place = tl.load(places + column, mask=mask, other=0).to(tl.int32)
    total = tl.zeros_like(place)
    for step in tl.static_range(_STEPS_B if is_left else _STEPS_A):
        picked = column // rank * rank + (place + rank - _CHAIN[step]) % rank
        value = tl.load(source + picked, mask=mask, other=0).to(tl.int32)
        total += value if is_left else _add_noise(value, draws, targets, picked, mask, rank, _STEPS_B)
    return _apply_sign(total, place)


@kernel(varying=("rows", "runs"))
def _lay_out(
    operand: Block,
    dense: Block,
    targets: Block,
    places: Block,
    laid: Block,
    rows: Block,
    columns: Block,
    noised: Block,
    padded: Block,
    width: Block,
    runs: Block,
    words: Block,
    rank: tl.constexpr,
    is_left: tl.constexpr,
    has_factors: tl.constexpr,
    tile_rows: tl.constexpr,
) -> None:
    """Lay out some rows; `places` are those of the other operand's choice factor."""
    row = (tl.program_id(0) * tile_rows + tl.arange(0, tile_rows)).to(tl.int64)[:, None]
    inside, offset = row < rows, tl.arange(0, _STEP)[None, :]
    steps: tl.constexpr = _STEPS_A if is_left else _STEPS_B
    source, target, draws = operand + row * columns, laid + row * width, dense + row * words
    for run in range(tl.cdiv(padded, _RUN)):
        projected = tl.zeros((tile_rows, _STEP), tl.int32)
        for start in range(run * _RUN, tl.minimum((run + 1) * _RUN, padded), _STEP):
            column = start + offset
            mask = inside & (column < noised)
            value = tl.load(source + column, mask=inside & (column < columns), other=0).to(tl.int32)
            value = _add_noise(value, draws, targets, column, mask, rank, steps)
            tl.store(target + column, value.to(tl.int8), mask=inside & (column < padded))
            if has_factors:
                projected += _project(source, draws, targets, places, column, mask, rank, is_left)
        if has_factors:
            sums = tl.sum(tl.reshape(projected, (tile_rows, _STEP // rank, rank)), axis=1)
            high = target + padded + 2 * run * rank + tl.arange(0, rank)[None, :]
            within = inside & (run < runs)
            factor = _read_dense(draws, tl.arange(0, rank)[None, :], inside, steps)
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
    targets, places = (new(key, (2, layout.noised), torch.uint8) for _ in range(2))
    if groups:
        tile = _TILE_ELEMENTS // rank
        _shuffle[(divide_up(2 * groups, tile),)](choice, targets, places, 2 * groups, choice.shape[1], rank, tile)
    return Factors((dense[: rows[0]], dense[rows[0] :]), (targets[0], targets[1]), (places[0], places[1]))


def lay_out(operand: Tensor, factors: Factors, layout: Layout, *, is_left: bool) -> Tensor:
    """Return an operand (rows, columns) int8 in [-63, 63] laid out: (rows, width) int8.

    After its columns come, `runs` times, the high limbs of its projection on the other operand's choice factor and its
    own dense factor, and then the same with the low limbs; on the right in reverse and negated. The product of these
    columns, the first half 128 times, takes the noise out.
    """
    side = 0 if is_left else 1
    rows, columns = operand.shape
    laid, dense = new(operand, (rows, layout.width), torch.int8), factors.dense[side]
    _lay_out[(divide_up(rows, _TILE_ROWS),)](
        operand.contiguous(), dense, factors.targets[side], factors.places[1 - side], laid, rows, columns,
        layout.noised, layout.padded, layout.width, layout.runs, dense.shape[1],
        layout.rank, is_left, layout.runs > 0, _TILE_ROWS,
    )  # fmt: skip
    return laid
