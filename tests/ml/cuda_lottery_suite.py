"""The lottery and tensor roots on a GPU equal their references byte for byte, from BLAKE3's words to winning tickets.

`tests/ml/test_cuda_lottery.py` runs this file in a process of its own, because Triton decides at import whether it
interprets. On a machine with a GPU it also runs by itself, at real sizes too: `pytest tests/ml/cuda_lottery_suite.py`.
"""

import numpy as np
import pytest
import torch
import triton.language as tl
from blake3 import blake3

import ml.noise
from chain.primitives import Hash
from ml.arithmetic import IntArray
from ml.backends import reference_ticket
from ml.backends.cpu.projection import SPAN
from ml.backends.cuda import lottery, lottery_product, noise, tensor_hash
from ml.backends.cuda.blake3 import KEYED, count_windows, hash_rows, plan_rows, upload_key
from ml.backends.cuda.device import IS_INTERPRETED, get_device, upload
from ml.backends.cuda.resident import make_resident
from ml.backends.cuda.tensor_hash import compute_tensor_roots
from ml.lottery import get_lottery
from ml.noise import I8, OPERAND_MAX, ROLE_A, ROLE_B, TILE, MatmulShape, Place, compute_choice_factor
from ml.tensor_tree import compute_tensor_root

SEED = Hash(bytes(range(32)))
ALL = 1 << 256
on_a_gpu = pytest.mark.skipif(IS_INTERPRETED, reason="takes a GPU: the interpreter needs hours")


def make_operands(shape: MatmulShape, bound: int = OPERAND_MAX) -> tuple[I8, I8]:
    rng = np.random.default_rng([shape.M, shape.N, shape.K])
    a = rng.integers(-bound, bound, (shape.M, shape.K), np.int8, endpoint=True)
    return a, rng.integers(-bound, bound, (shape.N, shape.K), np.int8, endpoint=True)


def assert_twins_agree(shape: MatmulShape, a: I8, bt: I8, twin: str = "reference") -> None:
    thresholds = [1 << 255, ALL, 0, *[1 << 254] * shape.windows][: shape.windows]
    expected, product = get_lottery(twin).mine_matmul(SEED, a, bt, thresholds)
    found, on_device = lottery.mine_matmul(SEED, a, bt, thresholds)
    assert found == expected
    assert on_device.dtype == product.dtype
    assert on_device.tobytes() == product.tobytes()


@pytest.mark.parametrize(
    ("rows", "row_bytes", "is_keyed"), [(3, 1, True), (40, 76, False), (2, 65, True), (2, 1090, True), (5, 132, False)]
)
def test_chunks_of_rows(rows: int, row_bytes: int, is_keyed: bool) -> None:
    data = np.random.default_rng(row_bytes).integers(0, 256, (rows, row_bytes)).astype(np.uint8)
    key, mode = (upload_key(SEED), KEYED) if is_keyed else (upload_key(None), tl.constexpr(0))
    digests = torch.zeros((count_windows(row_bytes) * rows, 8), dtype=torch.int32, device=get_device())
    on_device = upload(data)
    hash_rows(upload(np.array([on_device.data_ptr()])), plan_rows([(rows, row_bytes)], [0]), key, digests, mode)
    chunks = [data[row, start : start + 1024].tobytes() for start in range(0, row_bytes, 1024) for row in range(rows)]
    expected = [(blake3(chunk, key=SEED) if is_keyed else blake3(chunk)).digest() for chunk in chunks]
    assert digests.cpu().numpy().tobytes() == b"".join(expected)


def make_tensors(shapes: dict[str, list[tuple[int, int]]]) -> list[IntArray]:
    rng = np.random.default_rng(1)
    return [rng.integers(-128, 128, shape).astype(dtype) for dtype in sorted(shapes) for shape in shapes[dtype]]


def test_roots_of_all_tensors_of_a_step() -> None:
    tensors = make_tensors({"int8": [(1, 1), (9, 3)], "int32": [(33, 260)], "int64": [(2, 5)]})
    expected = tuple(compute_tensor_root(tensor) for tensor in tensors)
    assert compute_tensor_roots(tensors) == expected
    assert compute_tensor_roots(make_resident(tuple(tensors[-1:]))) == expected[-1:]
    assert compute_tensor_roots([]) == ()


def test_levels_that_have_a_launch_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_hash, "_TOP_NODES", 0)
    tensor_hash._plan.cache_clear()
    tensors = make_tensors({"int8": [(65, 4), (33, 4)]})
    assert compute_tensor_roots(tensors) == tuple(compute_tensor_root(tensor) for tensor in tensors)
    tensor_hash._plan.cache_clear()


def test_the_root_of_a_view_that_begins_between_two_words() -> None:
    data = np.arange(1, 14, dtype=np.int8)
    view = upload(data)[1:].view(3, 4)
    assert view.data_ptr() % 4
    found = tensor_hash.compute_roots([view]).cpu().numpy().tobytes()
    assert found == compute_tensor_root(data[1:].reshape(3, 4))


@on_a_gpu
def test_roots_of_large_tensors() -> None:
    tensors = make_tensors({"int8": [(4096, 4096), (4099, 1027)], "int32": [(2048, 4096)], "int64": [(1000, 777)]})
    assert compute_tensor_roots(tensors) == tuple(compute_tensor_root(tensor) for tensor in tensors)


@pytest.mark.parametrize("rank", [32, 64, 128])
def test_permutations(rank: int) -> None:
    layout, groups = noise.Layout(rank, 3 * rank, 3 * rank, 1), range(3)
    span = noise.Span(first_group=5)
    factors = noise.draw_factors(upload_key(SEED), (1, 1), layout, span)
    for side, role in enumerate((ROLE_A, ROLE_B)):
        drawn = compute_choice_factor(SEED, role, span.first_group, len(groups), rank)
        signed = np.zeros((3 * rank, rank), np.int8)
        signed[np.arange(3 * rank), drawn.targets] = drawn.signs
        by_group = signed.reshape(3, rank, rank)
        expected = np.sum([np.roll(by_group, -step, axis=1) for step in role.steps], axis=0).reshape(3 * rank, rank)
        assert (factors.choice[side].cpu().numpy() == expected).all()
        assert (factors.across[side].cpu().numpy() == expected.T).all()


@pytest.mark.parametrize(("M", "N", "K"), [(32, 32, 32), (33, 64, 70), (65, 33, 96), (64, 31, 33), (1, 1, 1)])
def test_mined_products(M: int, N: int, K: int) -> None:
    shape = MatmulShape(M, N, K)
    a, bt = make_operands(shape)
    assert_twins_agree(shape, a, bt)
    thresholds = [1 << 255] * shape.windows
    assert lottery.find_tickets(SEED, a, bt, thresholds) == reference_ticket.find_tickets(SEED, a, bt, thresholds)


@pytest.mark.parametrize(("rank", "K"), [(64, 200), (128, 260)])
@pytest.mark.skipif(not IS_INTERPRETED, reason="a GPU compares the real shapes of these ranks")
def test_higher_ranks_in_small(rank: int, K: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MatmulShape, "rank", property(lambda _shape: rank))
    shape = MatmulShape(40, 33, K)
    assert_twins_agree(shape, *make_operands(shape))


@pytest.mark.skipif(not IS_INTERPRETED, reason="a GPU compares the real windows and runs")
def test_windows_and_runs_in_small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (ml.noise, reference_ticket, lottery, lottery_product):
        monkeypatch.setattr(module, "WINDOW", 64)
    monkeypatch.setattr(lottery_product, "_WINDOW", tl.constexpr(64))
    monkeypatch.setattr(noise, "RUN_COLUMNS", 128)
    monkeypatch.setattr(noise, "_RUN", tl.constexpr(128))
    for rows, columns, windows, runs in ((64, 170, 3, 2), (32, 128 + 5, 2, 1)):
        shape = MatmulShape(rows, 32, columns)
        assert (shape.windows, noise.get_layout(shape, has_product=True).runs) == (windows, runs)
        a, bt = make_operands(shape)
        assert_twins_agree(shape, a, bt)
        thresholds = [ALL] * windows
        expected = reference_ticket.find_tickets(SEED, a, bt, thresholds)
        assert lottery.find_tickets(SEED, a, bt, thresholds) == expected
    assert_one_tile_alone(MatmulShape(64, 32, 170), Place(1, 0, 2), 64)


def test_two_limbs_hold_what_they_hold_on_the_cpu() -> None:
    assert noise.RUN_COLUMNS == SPAN


@on_a_gpu
def test_two_windows() -> None:
    shape = MatmulShape(32, 32, 2112)
    thresholds = [ALL, ALL]
    a, bt = make_operands(shape)
    assert lottery.mine_matmul(SEED, a, bt, thresholds)[0] == reference_ticket.find_tickets(SEED, a, bt, thresholds)


def assert_one_tile_alone(shape: MatmulShape, place: Place, window_columns: int) -> None:
    a, bt = make_operands(shape)
    start = place.window * window_columns
    columns = slice(start, start + shape.get_window_columns(place.window))
    rows_a = a[place.tile_row * TILE : (place.tile_row + 1) * TILE, columns]
    rows_b = bt[place.tile_column * TILE : (place.tile_column + 1) * TILE, columns]
    found = lottery.compute_ticket_digest(SEED, shape, place, rows_a, rows_b)
    assert found == reference_ticket.compute_ticket_digest(SEED, shape, place, rows_a, rows_b)


def test_one_tile_alone() -> None:
    assert_one_tile_alone(MatmulShape(64, 96, 96), Place(1, 2, 0), ml.noise.WINDOW)


@pytest.mark.parametrize("change", [-1, 0, 1])
def test_a_digest_wins_strictly_below_its_threshold(change: int) -> None:
    shape = MatmulShape(32, 32, 32)
    a, bt = make_operands(shape)
    (ticket,) = reference_ticket.find_tickets(SEED, a, bt, [ALL])
    number = int.from_bytes(ticket.digest, "big")
    for size in (0, 31 * 8):
        # The lowest byte decides, and then the highest.
        found = lottery.find_tickets(SEED, a, bt, [number + (change << size)])
        assert found == ((ticket,) if change > 0 else ())


def test_operands_at_the_bounds() -> None:
    a = np.full((32, 96), OPERAND_MAX, np.int8)
    assert_twins_agree(MatmulShape(32, 32, 96), a, a)
    assert_twins_agree(MatmulShape(32, 32, 96), a, -a)


@on_a_gpu
@pytest.mark.parametrize("K", [1024, 2047, 2048, 2100, 4095, 4096, 4250, 16_384, 20_000, 131_071])
def test_real_depths(K: int) -> None:
    shape = MatmulShape(160, 300, K)
    assert_twins_agree(shape, *make_operands(shape), "cpu")
    a = np.full((64, K), OPERAND_MAX, np.int8)
    assert_twins_agree(MatmulShape(64, 64, K), a, a, "cpu")


@on_a_gpu
@pytest.mark.parametrize(
    ("M", "N", "K"), [(1024, 1024, 1024), (2048, 2048, 2048), (4096, 1000, 4096), (777, 4096, 5000)]
)
def test_real_sizes(M: int, N: int, K: int) -> None:
    shape = MatmulShape(M, N, K)
    assert_twins_agree(shape, *make_operands(shape), "cpu")


@on_a_gpu
def test_every_tile_gives_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = MatmulShape(200, 330, 2200)
    operands = make_operands(shape)
    for rows, columns, warps in ((32, 32, 4), (64, 128, 4), (128, 64, 8), (128, 128, 8)):
        tile = lottery_product.Tile(rows, columns, warps, 3)
        monkeypatch.setattr(lottery_product, "choose_tile", lambda _m, _n, chosen=tile: chosen)
        assert_twins_agree(shape, *operands, "cpu")
