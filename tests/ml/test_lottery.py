"""The compiled lottery must agree with the reference byte for byte, and both must resist what would cheapen it."""

import inspect
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.primitives import Hash
from ml.backends import reference_ticket
from ml.backends.cpu import ticket as cpu_ticket
from ml.backends.cpu.projection import SPAN
from ml.backends.cpu.units import UNIT_NAMES, get_units
from ml.backends.reference_ticket import fold_window, list_places
from ml.lottery import get_lottery
from ml.noise import (
    CHAIN,
    I8,
    OPERAND_MAX,
    ROLE_A,
    ROLE_B,
    TILE,
    WINDOW,
    MatmulShape,
    Role,
    compute_choice_factor,
    compute_dense_factor,
    compute_noise,
    compute_operand_noise,
)

SEED = Hash(bytes(range(32)))


def make_operands(shape: MatmulShape, key: int) -> tuple[I8, I8]:
    rng = np.random.default_rng(key)
    a = rng.integers(-OPERAND_MAX, OPERAND_MAX, (shape.M, shape.K), np.int8, endpoint=True)
    return a, rng.integers(-OPERAND_MAX, OPERAND_MAX, (shape.N, shape.K), np.int8, endpoint=True)


def multiply(a: I8, bt: I8) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    return a.astype(np.int32) @ bt.astype(np.int32).T


def assert_twins_agree(shape: MatmulShape, seed: Hash, a: I8, bt: I8) -> None:
    every = [1 << 256] * shape.windows
    expected, product_i32 = reference_ticket.mine_matmul(seed, a, bt, every)
    assert np.array_equal(product_i32, multiply(a, bt))
    assert reference_ticket.find_tickets(seed, a, bt, every) == expected
    for unit in get_units():
        found_i32 = np.full((shape.M, shape.N), -1, np.int32)
        digests_u8 = cpu_ticket.run_matmul(unit, seed, a, bt, found_i32)
        assert digests_u8.tobytes() == b"".join(ticket.digest for ticket in expected), UNIT_NAMES[unit]
        assert found_i32.tobytes() == product_i32.tobytes(), UNIT_NAMES[unit]
        without_i32 = np.empty((0, 0), np.int32)
        assert cpu_ticket.run_matmul(unit, seed, a, bt, without_i32).tobytes() == digests_u8.tobytes()


@given(st.integers(1, 100), st.integers(1, 100), st.integers(1, 200), st.binary(min_size=32, max_size=32))
@settings(max_examples=30, deadline=None)
def test_twins_agree_on_any_shape(M: int, N: int, K: int, seed: bytes) -> None:
    shape = MatmulShape(M, N, K)
    assert_twins_agree(shape, Hash(seed), *make_operands(shape, M * N + K))


@pytest.mark.parametrize("K", [2047, 2048, 2049, 2100, 4095, 4096, 4250])
def test_twins_agree_across_windows_and_ranks(K: int) -> None:
    shape = MatmulShape(40, 65, K)
    assert_twins_agree(shape, SEED, *make_operands(shape, K))


@pytest.mark.parametrize("value", [-OPERAND_MAX, OPERAND_MAX, 0])
def test_twins_agree_at_the_bounds(value: int) -> None:
    shape = MatmulShape(32, 32, 20_000)
    a = np.full((32, 20_000), value, np.int8)
    assert_twins_agree(shape, SEED, a, a)


@pytest.mark.parametrize("name", ["reference", "cpu"])
@pytest.mark.parametrize("K", [32, 100, 2112, 4300])
def test_one_tile_alone_gives_the_same_digest(name: str, K: int) -> None:
    shape, lottery = MatmulShape(64, 96, K), get_lottery(name)
    a, bt = make_operands(shape, 5)
    found, _ = lottery.mine_matmul(SEED, a, bt, [1 << 256] * shape.windows)
    assert [ticket.place for ticket in found] == list_places(shape)
    for ticket in found:
        place, start = ticket.place, ticket.place.window * WINDOW
        columns = slice(start, start + shape.get_window_columns(place.window))
        rows_a = a[place.tile_row * TILE : (place.tile_row + 1) * TILE, columns]
        rows_b = bt[place.tile_column * TILE : (place.tile_column + 1) * TILE, columns]
        assert lottery.compute_ticket_digest(SEED, shape, place, rows_a, rows_b) == ticket.digest


def test_the_fold_is_the_page_written_out() -> None:
    a, bt = make_operands(MatmulShape(32, 32, 96), 7)
    state, sums = [0] * 16, [[0] * 32 for _ in range(32)]
    for start in (0, 32, 64):
        folded = [0] * 16
        for i in range(32):
            for j in range(32):
                sums[i][j] += sum(int(a[i, k]) * int(bt[j, k]) for k in range(start, start + 32))
                word = sums[i][j] % 2**32
                folded[j % 16] ^= (word << i | word >> (32 - i)) % 2**32
        state = [((s << 7 | s >> 25) % 2**32) ^ x for s, x in zip(state, folded, strict=True)]
    assert fold_window(a, bt, 32).tolist() == state


@pytest.mark.parametrize(("K", "rank"), [(1, 32), (2047, 32), (2048, 64), (4095, 64), (4096, 128), (9000, 128)])
def test_rank_follows_from_dimensions(K: int, rank: int) -> None:
    assert MatmulShape(32, 32, K).rank == rank


def test_threat_45_every_fold_mixes_fresh_noise_of_full_rank() -> None:
    """Between two folds lie no more columns than the rank: a cached A x B saves less than noising it again costs."""
    for K in (32, 2048, 4096):
        shape = MatmulShape(32, 32, K)
        assert shape.noised_columns // shape.groups == shape.rank


def test_threat_46_the_fold_is_not_linear() -> None:
    """Doubling the operands of one side would double every word of a fold that is linear modulo 2**32."""
    a, bt = make_operands(MatmulShape(32, 32, 32), 3)
    once, twice = fold_window(a // 2, bt, 32), fold_window(a // 2 * 2, bt, 32)
    assert not np.any(once * np.uint32(2) == twice)


def test_threat_47_zero_operands_give_the_same_draws_for_the_same_work() -> None:
    """Zero operands change no tile count and no digest's distribution: the noise alone fills every bit."""
    shape = MatmulShape(512, 512, 64)
    zeros = np.zeros((512, 64), np.int8)
    found = cpu_ticket.find_tickets(SEED, zeros, zeros, [1 << 255])
    e, f = (compute_operand_noise(SEED, role, 512, shape) for role in (ROLE_A, ROLE_B))
    noised = multiply(e, f)
    total = shape.tile_rows * shape.tile_columns
    assert abs(2 * len(found) - total) < 5 * total**0.5
    assert np.count_nonzero(noised) > noised.size * 99 // 100
    assert np.linalg.matrix_rank(multiply(e[:, :32], f[:, :32]).astype(np.int64)) == shape.rank
    assert np.count_nonzero(e) > e.size * 97 // 100


def test_threat_48_equal_tiles_give_different_digests() -> None:
    shape = MatmulShape(128, 128, 64)
    a = np.tile(make_operands(MatmulShape(32, 32, 64), 1)[0], (4, 1))
    found, _ = cpu_ticket.mine_matmul(SEED, a, a, [1 << 256])
    assert len({ticket.digest for ticket in found}) == shape.tile_rows * shape.tile_columns


def test_threat_49_no_dimension_is_a_parameter() -> None:
    """Neither rank, tile, window nor layout can be handed to what mines or verifies."""
    for function in (cpu_ticket.mine_matmul, reference_ticket.mine_matmul):
        assert list(inspect.signature(function).parameters) == ["seed", "a", "bt", "thresholds"]


@pytest.mark.parametrize(("M", "N", "K", "tickets"), [(63, 64, 64, 2), (31, 64, 64, 0), (64, 64, 31, 0)])
def test_threat_55_tails_earn_nothing(M: int, N: int, K: int, tickets: int) -> None:
    shape = MatmulShape(M, N, K)
    found, _ = cpu_ticket.mine_matmul(SEED, *make_operands(shape, 1), [1 << 256] * shape.windows)
    assert len(found) == len(list_places(shape)) == tickets


def test_threat_55_columns_past_the_last_fold_carry_no_noise_and_no_work() -> None:
    shape = MatmulShape(32, 32, 95)
    assert shape.get_ticket_macs(0) == 32 * 32 * 64
    a, bt = make_operands(shape, 2)
    changed = a.copy()
    changed[:, 64:] = 0
    before, after = (cpu_ticket.mine_matmul(SEED, left, bt, [1 << 256])[0] for left in (a, changed))
    assert before == after


@pytest.mark.parametrize("rank", [32, 64, 128])
def test_threat_63_every_permutation_is_one_and_every_fold_of_the_noise_has_full_rank(rank: int) -> None:
    choice = compute_choice_factor(SEED, ROLE_B, 3, 50, rank)
    for targets in choice.targets.reshape(50, rank):
        assert sorted(targets.tolist()) == list(range(rank))
    assert set(choice.signs.tolist()) == {-1, 1}
    assert len({targets.tobytes() for targets in choice.targets.reshape(50, rank)}) == 50
    for role in (ROLE_A, ROLE_B):
        factor = compute_noise(np.eye(rank, dtype=np.int8), choice, role).reshape(rank, 50, rank)
        assert (np.abs(factor).sum(axis=0) == len(role.steps)).all()
        assert (np.linalg.matrix_rank(factor.transpose(1, 0, 2).astype(np.float64)) == rank).all()


def test_threat_47_no_signs_make_a_chain_singular() -> None:
    """Modulo 2 signs vanish: a power of the chain is the identity, and every determinant is odd."""
    for rank in (32, 64, 128):
        power = np.sum([np.roll(np.eye(rank, dtype=np.int64), step, axis=0) for step in CHAIN], axis=0) % 2
        for _ in range(rank.bit_length() - 1):
            power = power @ power % 2
        assert np.array_equal(power, np.eye(rank))


def test_noise_is_the_page_written_out() -> None:
    shape = MatmulShape(3, 3, 70)
    for role, bound, steps in ((ROLE_A, 63, (0,)), (ROLE_B, 21, (0, 1, 3))):
        noise = compute_operand_noise(SEED, role, 3, shape)
        dense, choice = compute_dense_factor(SEED, role, 0, 3, 32), compute_choice_factor(SEED, role, 0, 2, 32)
        assert abs(dense).max() <= bound
        for i, k in product(range(3), range(64)):
            group = k // 32 * 32
            places = [group + (k + step) % 32 for step in steps]
            assert noise[i, k] == sum(int(choice.signs[at]) * int(dense[i, choice.targets[at]]) for at in places)
        assert not noise[:, 64:].any()


@pytest.mark.parametrize(("role", "bound"), [(ROLE_A, 63), (ROLE_B, 21)])
def test_dense_factors_are_uniform_in_their_range_and_kept_apart(role: Role, bound: int) -> None:
    dense, values = compute_dense_factor(SEED, role, 0, 1000, 128), 2 * bound + 1
    counts = np.bincount(dense.ravel() + bound, minlength=values)
    assert counts.size == values
    assert (abs(counts - dense.size // values) < 6 * (dense.size // values) ** 0.5).all()
    other = replace(role, dense=role.choice)
    assert not np.array_equal(dense[:5], compute_dense_factor(SEED, other, 0, 5, 128))
    assert np.array_equal(dense[7:9], compute_dense_factor(SEED, role, 7, 2, 128))


def test_two_limbs_hold_the_largest_projection() -> None:
    """What one dense column gathers from a span, of A through the chain and of B under noise, has 15 bits."""
    for K in (2047, 4095, 20_000):
        groups = min(K, SPAN) // MatmulShape(32, 32, K).rank
        # The high limb lies within 127, and the low one adds 63 at most.
        assert groups * max(len(ROLE_B.steps) * OPERAND_MAX, 2 * OPERAND_MAX) <= 127 * 128 + 63


def test_an_unknown_lottery_is_refused() -> None:
    with pytest.raises(ValueError, match="found lottery"):
        get_lottery("gpu")
