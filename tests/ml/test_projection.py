"""Bands times a choice factor: permuted or byte by byte, they must be the product that NumPy takes."""

import numpy as np
import pytest

from ml.backends.cpu import projection
from ml.backends.cpu.projection import PAIR, SPAN, count_entries, make_choice, project_band, put_choice
from ml.backends.cpu.tile import BLOCK_COLUMNS, TILE, U8
from ml.noise import I32


def make_factor(rank: int, steps: int, columns: int) -> tuple[U8, I32]:
    """Return a choice factor as kernels keep it, and (rank, columns) as it is; the last rank columns have none."""
    rng, choice_u8 = np.random.default_rng(rank + columns), make_choice(rank, steps, columns)
    factor_i32 = np.zeros((rank, columns), np.int32)
    for group in range(columns // rank - 1):
        order, signs = rng.permutation(rank), rng.integers(0, 2, rank)
        for step in range(steps):
            for k in range(rank):
                column = group * rank + (k - step) % rank
                put_choice(choice_u8, rank, steps, (step, column, int(order[k])), np.uint8(255 * signs[k]))
                factor_i32[order[k], column] = 1 - 2 * signs[k]
    return choice_u8, factor_i32


def get_rows(band_u8: U8) -> I32:
    """Return the rows of a band of A, (32, columns) int32."""
    return band_u8.view(np.int8).reshape(-1, TILE, BLOCK_COLUMNS).transpose(1, 0, 2).reshape(TILE, -1).astype(np.int32)


def get_sums(factors_u8: U8, rank: int, first: int) -> I32:
    """Return what the bytes of a band of factors hold in one span, (32, rank) int32."""
    high_i32, low_i32 = (get_rows(half_u8)[:, first : first + rank] for half_u8 in np.split(factors_u8, 2))
    return 128 * high_i32 + low_i32


@pytest.mark.parametrize("is_permuted", [projection.CAN_PERMUTE, False])
@pytest.mark.parametrize(
    ("rank", "steps", "columns"), [(32, 1, 64), (32, 3, 192), (64, 3, 320), (128, 1, 384), (128, 3, 512)]
)
def test_projections_are_products(rank: int, steps: int, columns: int, is_permuted: bool) -> None:
    choice_u8, factor_i32 = make_factor(rank, steps, columns)
    band_i8 = np.random.default_rng(1).integers(-126, 126, TILE * columns, np.int8, endpoint=True)
    band_u8, factors_u8 = band_i8.view(np.uint8), np.zeros(4 * rank * TILE, np.uint8)
    if is_permuted:
        project_band(band_u8, choice_u8, (rank, steps), rank, factors_u8)
    else:
        add_bytes(band_u8, choice_u8, (rank, steps), factors_u8)
    assert np.array_equal(get_sums(factors_u8, rank, rank), get_rows(band_u8) @ factor_i32.T)


def add_bytes(band_u8: U8, choice_u8: U8, plan: tuple[int, int], factors_u8: U8) -> None:
    """Project one span as a machine does that cannot permute bytes."""
    (rank, steps), blocks = plan, band_u8.size // (TILE * BLOCK_COLUMNS)
    high_u8, low_u8 = np.split(factors_u8, 2)
    for part in range(rank // TILE):
        column = rank + part * TILE
        target = column // BLOCK_COLUMNS * BLOCK_COLUMNS * TILE + column % BLOCK_COLUMNS
        start = part * (choice_u8.size // (rank // TILE))
        for row in range(0, TILE, 4):
            run = row * BLOCK_COLUMNS, start, target + row * BLOCK_COLUMNS, blocks, count_entries(rank, steps)
            projection.add_rows(band_u8, choice_u8, run, high_u8, low_u8)


def test_a_span_is_whole_pairs() -> None:
    assert SPAN % PAIR == 0
