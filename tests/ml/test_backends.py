"""The compiled backend equals the reference byte for byte, op by op, at the ends of every range."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.arithmetic import I8, I32, INT32_MAX, IntArray
from ml.backends import get_backend
from ml.backends.cpu import matmul
from ml.backends.cpu.kernel import compute_cache_name, get_sources

REFERENCE, CPU = get_backend("reference"), get_backend("cpu")
KEYS = st.one_of(st.none(), st.integers(0, 2**64 - 1))
EDGES = (0, 1, -1, 31, 32, 63, 64, -64, 127, 128, 2**24, INT32_MAX, -INT32_MAX, INT32_MAX - 1)


@st.composite
def int32s(draw: st.DrawFn, rows: int | None = None, columns: int | None = None) -> I32:
    height = rows or draw(st.integers(1, 9))
    width = columns or draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    bits = draw(st.integers(0, 31))
    array = rng.integers(-(2**bits) + 1, 2**bits, (height, width)).astype(np.int32)
    for value in draw(st.lists(st.sampled_from(EDGES), max_size=4)):
        array[rng.integers(height), rng.integers(width)] = value
    return array


@st.composite
def int8s(draw: st.DrawFn, columns: int, bound: int = 127) -> I8:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return rng.integers(-bound, bound + 1, (draw(st.integers(1, 40)), columns)).astype(np.int8)


def assert_same(found: Sequence[IntArray], expected: Sequence[IntArray]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert one.tobytes() == other.tobytes()


@given(int32s(), KEYS)
def test_quantise(x: I32, key: int | None) -> None:
    assert_same(CPU.quantise_rows(x, key), REFERENCE.quantise_rows(x, key))
    assert_same(CPU.quantise_transposed(x, key), REFERENCE.quantise_transposed(x, key))


@given(int32s(), KEYS)
def test_quantised_rows_are_tight_and_near(x: I32, key: int | None) -> None:
    mantissas, exponents = REFERENCE.quantise_rows(x, key)
    tallest = np.abs(mantissas).max(axis=1)
    assert (np.abs(mantissas) <= 63).all()
    assert ((exponents[:, 0] == 0) | (tallest >= 32)).all()
    error = np.abs(x.astype(np.int64) - (mantissas.astype(np.int64) << exponents.astype(np.int64)))
    assert (error <= np.int64(1) << exponents.astype(np.int64)).all()


def test_stochastic_rounding_keeps_the_mean() -> None:
    x = np.full((1, 20_000), 1000, np.int32)
    x[0, 0] = 63 << 9
    mantissas, exponents = REFERENCE.quantise_rows(x, 5)
    total = int(mantissas[0, 1:].astype(np.int64).sum()) << int(exponents[0, 0])
    assert abs(total - 1000 * 19_999) < 19_999 * 10


@given(st.data())
def test_quantise_delta(data: st.DataObject) -> None:
    after = data.draw(int32s())
    before = data.draw(int32s(rows=after.shape[0], columns=after.shape[1]))
    assert_same(CPU.quantise_delta(after, before), REFERENCE.quantise_delta(after, before))


def test_the_widest_delta_fits() -> None:
    after, before = np.full((1, 2), INT32_MAX, np.int32), np.full((1, 2), -INT32_MAX, np.int32)
    for backend in (REFERENCE, CPU):
        mantissas, exponents = backend.quantise_delta(after, before)
        assert (mantissas.tolist(), exponents.tolist()) == ([[127, 127]], [[25]])


@given(st.data(), st.integers(1, 300))
def test_multiply(data: st.DataObject, depth: int) -> None:
    a, b = data.draw(int8s(depth)), data.draw(int8s(depth))
    assert_same([CPU.multiply(a, b)], [REFERENCE.multiply(a, b)])


def test_multiply_at_the_deepest_sum() -> None:
    a = np.full((2, 131_071), 127, np.int8)
    expected = 131_071 * 127 * 127
    for backend in (REFERENCE, CPU):
        assert backend.multiply(a, -a).tolist() == [[-expected] * 2] * 2


def test_large_products_agree_whichever_path_they_take() -> None:
    rng = np.random.default_rng(3)
    a, b = (rng.integers(-127, 128, (rows, 512)).astype(np.int8) for rows in (256, 160))
    assert a.shape[0] * b.shape[0] * 512 >= matmul.LARGE_MACS
    assert_same([CPU.multiply(a, b)], [REFERENCE.multiply(a, b)])


def test_an_inexact_library_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrap(a: I8, b: I8) -> I32:
        exact: npt.NDArray[np.int32] = REFERENCE.multiply(a, b)
        return np.clip(exact, -(2**15), 2**15 - 1)

    monkeypatch.setattr(matmul, "_multiply_library", wrap)
    matmul.is_library_exact.cache_clear()
    try:
        assert not matmul.is_library_exact()
        a = np.full((256, 512), 127, np.int8)
        assert_same([CPU.multiply(a, a)], [REFERENCE.multiply(a, a)])
    finally:
        matmul.is_library_exact.cache_clear()


@given(st.data(), st.sampled_from([20, 24]))
def test_rescale(data: st.DataObject, shift: int) -> None:
    product = data.draw(int32s())
    exponents = st.integers(0, 25)
    rows, columns = product.shape
    a = np.array(data.draw(st.lists(exponents, min_size=rows, max_size=rows)), np.int32)[:, None]
    b = np.array(data.draw(st.lists(exponents, min_size=columns, max_size=columns)), np.int32)[:, None]
    assert_same([CPU.rescale(product, a, b, shift)], [REFERENCE.rescale(product, a, b, shift)])


def test_rescale_saturates_and_never_reaches_int32_min() -> None:
    product = np.array([[INT32_MAX, -INT32_MAX, 0]], np.int32)
    a, b = np.full((1, 1), 25, np.int32), np.full((3, 1), 25, np.int32)
    for backend in (REFERENCE, CPU):
        assert backend.rescale(product, a, b, 20).tolist() == [[INT32_MAX, -INT32_MAX, 0]]


@given(st.data())
def test_relu(data: st.DataObject) -> None:
    z = data.draw(int32s())
    gradient = data.draw(int32s(rows=z.shape[0], columns=z.shape[1]))
    assert_same([CPU.relu(z)], [REFERENCE.relu(z)])
    assert_same([CPU.relu_backward(gradient, z)], [REFERENCE.relu_backward(gradient, z)])
    assert (REFERENCE.relu_backward(gradient, z)[z <= 0] == 0).all()


@given(int32s(), st.integers(0, 2**32))
def test_loss(z: I32, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, z.shape[1], (z.shape[0], 1)).astype(np.int32)
    gradient, loss = REFERENCE.compute_loss_gradient(z, labels)
    assert_same(CPU.compute_loss_gradient(z, labels), (gradient, loss))
    assert (loss >= 0).all()
    assert (np.abs(gradient.astype(np.int64).sum(axis=1)) <= z.shape[1]).all()


def test_the_loss_of_equal_logits_is_the_log_of_the_classes() -> None:
    gradient, loss = REFERENCE.compute_loss_gradient(np.zeros((1, 8), np.int32), np.zeros((1, 1), np.int32))
    assert loss.tolist() == [[3 << 16]]
    assert gradient.tolist() == [[(1 << 17) - (1 << 20)] + [1 << 17] * 7]


@settings(max_examples=50)
@given(st.data(), st.integers(0, 1023), st.integers(0, 2**29 - 1), st.integers(0, 2**29 - 1))
def test_adam(data: st.DataObject, steps: int, rate: int, decay: int) -> None:
    w = data.draw(int32s())
    states = [(w, np.zeros_like(w, np.int64), np.zeros_like(w, np.int64))] * 2
    for step in range(3):
        gradient = data.draw(int32s(rows=w.shape[0], columns=w.shape[1]))
        states = [
            backend.update_adam(state, gradient, max(step, steps), rate, decay)
            for backend, state in zip((REFERENCE, CPU), states, strict=True)
        ]
        assert_same(states[1], states[0])
        assert (states[0][2] >= 0).all()


def test_adam_at_the_bound_of_its_moments() -> None:
    w, g = np.full((1, 2), INT32_MAX, np.int32), np.array([[INT32_MAX, -INT32_MAX]], np.int32)
    top = np.int64(INT32_MAX)
    state = (w, np.array([[top << 8, -(top << 8)]]), np.array([[top * top, top * top]]))
    results = [backend.update_adam(state, g, 1023, 2**29 - 1, 2**29 - 1) for backend in (REFERENCE, CPU)]
    assert_same(results[1], results[0])
    assert results[0][2].tolist() == [[int(top * top)] * 2]


def test_adam_moves_no_weight_further_than_its_cap() -> None:
    w, g = np.zeros((1, 2), np.int32), np.zeros((1, 2), np.int32)
    state = (w, np.array([[1 << 30, -(1 << 30)]]), np.zeros((1, 2), np.int64))
    for backend in (REFERENCE, CPU):
        moved, _, _ = backend.update_adam(state, g, 0, 1 << 28, 0)
        # 10 times the rate of 2**-4, in F24.
        assert moved.tolist() == [[-10 << 20, 10 << 20]]


@given(int32s(), st.integers(0, 2**64 - 1), st.integers(1, 50))
def test_batches(x: I32, key: int, batch: int) -> None:
    labels = np.arange(len(x), dtype=np.int32)[:, None]
    drawn, names = REFERENCE.draw_batch(x, labels, key, batch)
    assert_same(CPU.draw_batch(x, labels, key, batch), (drawn, names))
    assert_same([x[names[:, 0]]], [drawn])


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="found backend 'gpu'"):
        get_backend("gpu")


def test_a_change_in_any_source_renames_the_cache_of_kernels(tmp_path: Path) -> None:
    sources = get_sources()
    assert {"scalar.py", "elementwise.py", "arithmetic.py", "prf.py"} <= {file.name for file in sources}
    copies = [tmp_path / f"{number}.py" for number in range(len(sources))]
    for copy, source in zip(copies, sources, strict=True):
        copy.write_bytes(source.read_bytes())
    names = {compute_cache_name(copies)}
    for copy in copies:
        copy.write_bytes(copy.read_bytes() + b"#")
        names.add(compute_cache_name(copies))
    assert len(names) == len(copies) + 1
