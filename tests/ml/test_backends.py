"""The compiled backend equals the reference byte for byte, op by op, at the ends of every range."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.arithmetic import I8, I32, INT32_MAX, UPDATE_MAX, WEIGHT_GRADIENT_MAX, IntArray
from ml.backends import AdamState, Groups, Heads, Quantised, Rounding, get_backend
from ml.backends.cpu import matmul
from ml.backends.cpu.backend import CpuBackend
from ml.backends.cpu.kernel import compute_cache_name, get_sources
from ml.rotary import get_rotation_table
from ml.spec import NORMALISED_WIDTH_MAX

REFERENCE, CPU = get_backend("reference"), get_backend("cpu")
BACKENDS = (REFERENCE, CPU)
U64S = st.integers(0, 2**64 - 1)
PLACES = st.one_of(st.sampled_from([0, 1, 2**31, 2**32 - 3]), st.integers(0, 100_000))
ROUNDINGS = st.one_of(st.none(), st.builds(Rounding, U64S, PLACES, PLACES))
EDGES = (0, 1, -1, 31, 32, 63, 64, -64, 127, 128, 2**24, -(2**24), INT32_MAX, -INT32_MAX, INT32_MAX - 1)


def fill(draw: st.DrawFn, shape: tuple[int, int]) -> I32:
    """Return numbers of one size, with extremes strewn in."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    bits = draw(st.integers(0, 31))
    array = rng.integers(-(2**bits) + 1, 2**bits, shape).astype(np.int32)
    for value in draw(st.lists(st.sampled_from(EDGES), max_size=4)):
        array[rng.integers(shape[0]), rng.integers(shape[1])] = value
    return array


@st.composite
def int32s(draw: st.DrawFn, rows: int | None = None, columns: int | None = None) -> I32:
    return fill(draw, (rows or draw(st.integers(1, 9)), columns or draw(st.integers(1, 90))))


@st.composite
def tall_int32s(draw: st.DrawFn) -> I32:
    """Enough rows and columns for whole blocks of a transposition, and a rest."""
    return fill(
        draw, (draw(st.sampled_from([1, 63, 64, 65, 128, 150])), draw(st.sampled_from([1, 15, 16, 33, 64, 81])))
    )


@st.composite
def pairs(draw: st.DrawFn) -> tuple[I32, I32]:
    first = draw(int32s())
    return first, draw(int32s(first.shape[0], first.shape[1]))


@st.composite
def int8s(draw: st.DrawFn, columns: int, rows: int | None = None) -> I8:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    low, high = draw(st.sampled_from([(-127, 128), (-63, 64), (126, 128), (-127, -125), (-128, 128)]))
    return rng.integers(low, high, (rows or draw(st.integers(1, 70)), columns)).astype(np.int8)


@st.composite
def exponents(draw: st.DrawFn, rows: int) -> I32:
    low = draw(st.integers(0, 25))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return rng.integers(low, draw(st.integers(low, 25)) + 1, (rows, 1)).astype(np.int32)


@st.composite
def attention_rows(draw: st.DrawFn) -> I32:
    context = draw(st.integers(1, 40))
    return fill(draw, (context * draw(st.integers(1, 3)), context))


def assert_same(found: Sequence[IntArray], expected: Sequence[IntArray]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert one.tobytes() == other.tobytes()


@given(int32s(), ROUNDINGS)
def test_quantise_rows(x: I32, rounding: Rounding | None) -> None:
    assert_same(CPU.quantise_rows(x, rounding), REFERENCE.quantise_rows(x, rounding))


@given(tall_int32s(), ROUNDINGS, st.integers(1, 3))
def test_quantise_transposed(x: I32, rounding: Rounding | None, groups: int) -> None:
    x = np.concatenate([x, x[::-1] // 3, x // 1000])[: groups * len(x)]
    found = CPU.quantise_transposed(x, rounding, groups)
    assert_same(found, REFERENCE.quantise_transposed(x, rounding, groups))
    assert_same([CPU.compute_column_exponents(x)], [REFERENCE.compute_column_exponents(x)])


@given(tall_int32s(), ROUNDINGS, st.integers(0, 25))
def test_a_part_of_a_taller_tensor_is_quantised_like_the_whole(x: I32, rounding: Rounding | None, more: int) -> None:
    given_i32 = np.minimum(REFERENCE.compute_column_exponents(x) + more, 25).astype(np.int32)
    expected = REFERENCE.quantise_transposed(x, rounding, exponents=given_i32)
    assert_same(CPU.quantise_transposed(x, rounding, exponents=given_i32), expected)
    cut = len(x) // 2
    if rounding is not None and cut:
        below = Rounding(rounding.key, rounding.row, rounding.column + cut)
        part, _ = CPU.quantise_transposed(x[cut:], below, exponents=given_i32)
        assert_same([np.ascontiguousarray(expected[0][:, cut:])], [part])


@given(int32s(), ROUNDINGS)
def test_quantised_rows_are_tight_and_near(x: I32, rounding: Rounding | None) -> None:
    mantissas, own = REFERENCE.quantise_rows(x, rounding)
    tallest = np.abs(mantissas).max(axis=1)
    assert (np.abs(mantissas) <= 63).all()
    assert ((own[:, 0] == 0) | (tallest >= 32)).all()
    error = np.abs(x.astype(np.int64) - (mantissas.astype(np.int64) << own.astype(np.int64)))
    assert (error <= np.int64(1) << own.astype(np.int64)).all()


def test_stochastic_rounding_keeps_the_mean() -> None:
    x = np.full((1, 20_000), 1000, np.int32)
    x[0, 0] = 63 << 9
    mantissas, own = REFERENCE.quantise_rows(x, Rounding(5))
    total = int(mantissas[0, 1:].astype(np.int64).sum()) << int(own[0, 0])
    assert abs(total - 1000 * 19_999) < 19_999 * 10


@given(st.data(), st.integers(1, 300))
def test_multiply(data: st.DataObject, depth: int) -> None:
    a, b = data.draw(int8s(depth)), data.draw(int8s(depth))
    assert_same([CPU.multiply(a, b)], [REFERENCE.multiply(a, b)])


def test_multiply_at_the_deepest_sum() -> None:
    a = np.full((2, 131_071), 127, np.int8)
    for backend in BACKENDS:
        assert backend.multiply(a, -a).tolist() == [[-131_071 * 127 * 127] * 2] * 2


@pytest.mark.parametrize("shape", [(256, 160, 512), (1, 9000, 1000), (9000, 1, 1000), (17, 1023, 513), (2048, 33, 257)])
def test_large_products_agree_whichever_path_they_take(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(3)
    rows, columns, depth = shape
    a, b = (rng.integers(-128, 128, (n, depth)).astype(np.int8) for n in (rows, columns))
    assert rows * columns * depth >= matmul.LARGE_MACS
    assert_same([CPU.multiply(a, b)], [REFERENCE.multiply(a, b)])


def test_an_inexact_library_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrap(a: I8, b: I8, result: I32, start: int, stop: int) -> None:
        exact: npt.NDArray[np.int32] = REFERENCE.multiply(a[start:stop], b)
        result[start:stop] = np.clip(exact, -(2**15), 2**15 - 1)

    monkeypatch.setattr(matmul, "multiply_library_range", wrap)
    matmul.is_library_exact.cache_clear()
    try:
        assert not matmul.is_library_exact()
        a = np.full((256, 512), 127, np.int8)
        assert_same([CPU.multiply(a, a)], [REFERENCE.multiply(a, a)])
    finally:
        matmul.is_library_exact.cache_clear()


@given(st.data(), st.sampled_from([16, 20, 24, 32]))
def test_rescale(data: st.DataObject, shift: int) -> None:
    product = data.draw(int32s())
    a, b = data.draw(exponents(product.shape[0])), data.draw(exponents(product.shape[1]))
    assert_same([CPU.rescale(product, a, b, shift)], [REFERENCE.rescale(product, a, b, shift)])


def test_rescale_at_every_shift_and_edge() -> None:
    values = [sign * (2**bits + more) for bits in range(31) for more in (-1, 0, 1) for sign in (1, -1)]
    product = np.array([*values, INT32_MAX, -INT32_MAX, 0], np.int32).clip(-INT32_MAX)[None, :].repeat(51, axis=0)
    a = np.arange(51, dtype=np.int32)[:, None] // 2
    b = np.zeros((product.shape[1], 1), np.int32)
    for more in (0, 1, 25):
        for shift in (16, 24, 32, 40):
            expected = REFERENCE.rescale(product, a, b + more, shift)
            assert_same([CPU.rescale(product, a, b + more, shift)], [expected])
            assert expected.min() >= -INT32_MAX


def test_rescale_saturates_and_never_reaches_int32_min() -> None:
    product = np.array([[INT32_MAX, -INT32_MAX, 0, -1]], np.int32)
    a, b = np.full((1, 1), 25, np.int32), np.full((4, 1), 25, np.int32)
    for backend in BACKENDS:
        assert backend.rescale(product, a, b, 20).tolist() == [[INT32_MAX, -INT32_MAX, 0, -(1 << 30)]]
        assert backend.rescale(product, a, b, 19).tolist() == [[INT32_MAX, -INT32_MAX, 0, -INT32_MAX]]


@pytest.mark.parametrize("shape", [(3, 5, 7), (300, 1000, 40), (1030, 600, 64), (2050, 384, 33)])
def test_a_product_rescaled_in_cache_is_the_product_rescaled(shape: tuple[int, int, int]) -> None:
    rows, columns, depth = shape
    rng = np.random.default_rng(rows)
    a, b = (rng.integers(-127, 128, (n, depth)).astype(np.int8) for n in (rows, columns))
    left, right = (rng.integers(0, 26, (n, 1)).astype(np.int32) for n in (rows, columns))
    expected = REFERENCE.rescale(REFERENCE.multiply(a, b), left, right, 24)
    assert_same([CpuBackend().multiply_rescaled((a, left), (b, right), 24)], [expected])


@given(st.data(), st.integers(1, 70), st.integers(1, 3), st.booleans())
def test_multiply_groups(data: st.DataObject, depth: int, groups: int, is_causal: bool) -> None:
    rows, columns = data.draw(st.integers(1, 50)), data.draw(st.integers(1, 50))
    a: Quantised = data.draw(int8s(depth, groups * rows)), data.draw(exponents(groups * rows))
    b: Quantised = data.draw(int8s(depth, groups * columns)), data.draw(exponents(groups * columns))
    attributes = Groups(groups, data.draw(st.sampled_from([16, 20, 24])), is_causal)
    assert_same([CPU.multiply_groups(a, b, attributes)], [REFERENCE.multiply_groups(a, b, attributes)])


@given(pairs())
def test_elementwise(both: tuple[I32, I32]) -> None:
    first, second = both
    assert_same([CPU.relu(first)], [REFERENCE.relu(first)])
    assert_same([CPU.relu_backward(first, second)], [REFERENCE.relu_backward(first, second)])
    assert_same([CPU.relu_squared(first)], [REFERENCE.relu_squared(first)])
    assert_same([CPU.relu_squared_backward(first, second)], [REFERENCE.relu_squared_backward(first, second)])
    assert_same([CPU.add(first, second)], [REFERENCE.add(first, second)])
    assert_same([CPU.transpose(first)], [REFERENCE.transpose(first)])
    assert (REFERENCE.relu_backward(first, second)[second <= 0] == 0).all()


def test_elementwise_saturates() -> None:
    top = np.full((1, 2), INT32_MAX, np.int32)
    for backend in BACKENDS:
        assert backend.relu_squared(top).tolist() == [[INT32_MAX] * 2]
        assert backend.relu_squared_backward(-top, top).tolist() == [[-INT32_MAX] * 2]
        assert backend.add(-top, -top).tolist() == [[-INT32_MAX] * 2]


@given(pairs())
def test_normalise(both: tuple[I32, I32]) -> None:
    gradient, x = both
    assert_same([CPU.normalise(x)], [REFERENCE.normalise(x)])
    assert_same([CPU.normalise_backward(gradient, x)], [REFERENCE.normalise_backward(gradient, x)])


@pytest.mark.parametrize("value", [0, 1, -1, 2**24 - 1, 2**24, INT32_MAX, -INT32_MAX])
@pytest.mark.parametrize("width", [1, 2, NORMALISED_WIDTH_MAX])
def test_normalise_at_its_bounds(value: int, width: int) -> None:
    x, gradient = np.full((2, width), value, np.int32), np.full((2, width), INT32_MAX, np.int32)
    x[1, 1:] = 0
    assert_same([CPU.normalise(x)], [REFERENCE.normalise(x)])
    for dy in (gradient, -gradient):
        assert_same([CPU.normalise_backward(dy, x)], [REFERENCE.normalise_backward(dy, x)])


@given(st.data(), st.integers(1, 12), st.integers(1, 30), st.booleans())
def test_embeddings(data: st.DataObject, vocabulary: int, context: int, has_positions: bool) -> None:
    table = data.draw(int32s(vocabulary))
    width, rows = table.shape[1], context * data.draw(st.integers(1, 3))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    tokens = rng.integers(0, vocabulary, (rows, 1)).astype(np.int32)
    positions = data.draw(int32s(context, width))
    tables = (table, positions) if has_positions else (table,)
    assert_same([CPU.embed(tokens, tables)], [REFERENCE.embed(tokens, tables)])
    transposed, shift = data.draw(int32s(width, rows)), data.draw(st.integers(0, 20))
    arguments = transposed, tokens, vocabulary, shift
    assert_same([CPU.compute_embedding_gradient(*arguments)], [REFERENCE.compute_embedding_gradient(*arguments)])
    of_positions = [backend.compute_position_gradient(transposed, context, shift) for backend in BACKENDS]
    assert_same(of_positions[:1], of_positions[1:])


@given(st.data(), st.integers(1, 20), st.integers(1, 4), st.integers(1, 9), st.integers(1, 3))
def test_heads(data: st.DataObject, context: int, heads: int, width: int, sequences: int) -> None:
    attributes = Heads(context, heads, width)
    x = data.draw(int32s(sequences * context, 3 * heads * width))
    parts = [REFERENCE.split_heads(x, part, attributes) for part in range(3)]
    assert_same([CPU.split_heads(x, part, attributes) for part in range(3)], parts)
    for merged in (CPU.merge_heads((parts[0], parts[1], parts[2]), attributes), x):
        assert_same([REFERENCE.merge_heads((parts[0], parts[1], parts[2]), attributes)], [merged])
    assert_same([CPU.merge_heads((parts[0],), attributes)], [REFERENCE.merge_heads((parts[0],), attributes)])


@given(st.data(), st.sampled_from([(1, 2), (5, 4), (7, 34)]), st.booleans())
def test_rotate(data: st.DataObject, shape: tuple[int, int], is_inverse: bool) -> None:
    context, width = shape
    x, table = data.draw(int32s(3 * context, width)), get_rotation_table(context, width)
    assert_same([CPU.rotate(x, table, is_inverse)], [REFERENCE.rotate(x, table, is_inverse)])


@given(st.data(), attention_rows(), st.integers(1, 300))
def test_attention(data: st.DataObject, scores: I32, head_width: int) -> None:
    p = REFERENCE.causal_softmax(scores, head_width)
    assert_same([CPU.causal_softmax(scores, head_width)], [p])
    assert (p.astype(np.int64).sum(axis=1) <= 1 << 24).all()
    dp = data.draw(int32s(scores.shape[0], scores.shape[1]))
    expected = REFERENCE.causal_softmax_backward(p, dp, head_width)
    assert_same([CPU.causal_softmax_backward(p, dp, head_width)], [expected])


@given(int32s(), st.integers(0, 2**32))
def test_loss(z: I32, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, z.shape[1], (z.shape[0], 1)).astype(np.int32)
    gradient, loss = REFERENCE.compute_loss_gradient(z, labels)
    assert_same(CPU.compute_loss_gradient(z, labels), (gradient, loss))
    assert (loss >= 0).all()
    assert (np.abs(gradient.astype(np.int64).sum(axis=1)) <= z.shape[1]).all()


def test_the_loss_of_equal_logits_is_the_log_of_the_classes() -> None:
    for backend in BACKENDS:
        gradient, loss = backend.compute_loss_gradient(np.zeros((1, 8), np.int32), np.zeros((1, 1), np.int32))
        assert loss.tolist() == [[3 << 16]]
        assert gradient.tolist() == [[(1 << 21) - (1 << 24)] + [1 << 21] * 7]


RATES, DECAYS = st.integers(0, 2**29 - 1), st.one_of(st.sampled_from([0, 1, 2**32 - 1, 2**32]), st.integers(0, 2**32))


@settings(max_examples=60)
@given(st.data(), st.integers(0, 5000), RATES, DECAYS)
def test_adam(data: st.DataObject, steps: int, rate: int, decay: int) -> None:
    w = data.draw(int32s())
    start: AdamState = w, np.zeros_like(w), np.zeros_like(w, np.int64)
    states = [start, start]
    for step in range(3):
        gradient = data.draw(int32s(w.shape[0], w.shape[1]))
        states = [
            backend.update_adam(state, gradient, max(step, steps), rate, decay)
            for backend, state in zip(BACKENDS, states, strict=True)
        ]
        assert_same(states[1], states[0])
        assert (states[0][2] >= 0).all()


@pytest.mark.parametrize("rate", [0, 2**29 - 1])
@pytest.mark.parametrize("decay", [0, 2**32])
def test_adam_at_the_bound_of_its_moments(rate: int, decay: int) -> None:
    top, steepest = INT32_MAX, WEIGHT_GRADIENT_MAX
    g = np.array([[top, -top, 0, top, -top, 1]], np.int32)
    w = np.array([[top, -top, top, -top, 0, 1]], np.int32)
    m = np.array([[top, -top, 0, -(steepest << 4), 1, -1]], np.int32)
    v = np.array([[0, 1, 2**54, steepest**2, 255, 2**53 - 1]], np.int64)
    found, expected = (backend.update_adam((w, m, v), g, 1023, rate, decay) for backend in (CPU, REFERENCE))
    assert_same(found, expected)
    assert expected[2][0, 3] == steepest**2


@given(st.integers(0, 2**32))
def test_adam_over_second_moments_of_every_size(seed: int) -> None:
    rng = np.random.default_rng(seed)
    v = np.concatenate([rng.integers(1 << bits >> 1, 1 << bits, 20) for bits in range(55)])[None, :]
    m = rng.integers(-INT32_MAX, INT32_MAX, v.shape).astype(np.int32) >> rng.integers(0, 31, v.shape).astype(np.int32)
    zero = np.zeros_like(m)
    found, expected = (backend.update_adam((zero, m, v), zero, 9, 2**29 - 1, 0) for backend in (CPU, REFERENCE))
    assert_same(found, expected)


def test_adam_moves_no_weight_further_than_its_cap() -> None:
    w, g = np.zeros((1, 2), np.int32), np.zeros((1, 2), np.int32)
    state = (w, np.array([[1 << 30, -(1 << 30)]], np.int32), np.zeros((1, 2), np.int64))
    for backend in BACKENDS:
        moved, _, _ = backend.update_adam(state, g, 0, 1 << 28, 0)
        assert 0 < moved[0, 1] == -moved[0, 0] <= UPDATE_MAX << 4


@given(int32s(), U64S, st.integers(1, 50))
def test_batches(x: I32, key: int, batch: int) -> None:
    labels = np.arange(len(x), dtype=np.int32)[:, None]
    drawn, names = REFERENCE.draw_batch(x, labels, key, batch)
    assert_same(CPU.draw_batch(x, labels, key, batch), (drawn, names))
    assert_same([x[names[:, 0]]], [drawn])


@given(U64S, st.integers(1, 20), st.integers(1, 40), st.integers(1, 100))
def test_windows(key: int, batch: int, context: int, more: int) -> None:
    stream = (np.arange(context + more) % 251).astype(np.uint8)
    tokens, targets = REFERENCE.draw_windows(stream, key, batch, context)
    assert_same(CPU.draw_windows(stream, key, batch, context), (tokens, targets))
    assert ((tokens + 1) % 251 == targets).all()


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="found backend 'gpu'"):
        get_backend("gpu")


def test_a_change_in_any_source_renames_the_cache_of_kernels(tmp_path: Path) -> None:
    sources = get_sources()
    expected = {"scalar.py", "elementwise.py", "arithmetic.py", "prf.py", "rotary.py", "reference.py"}
    assert expected <= {file.name for file in sources}
    copies = [tmp_path / f"{number}.py" for number in range(len(sources))]
    for copy, source in zip(copies, sources, strict=True):
        copy.write_bytes(source.read_bytes())
    names = {compute_cache_name(copies)}
    for copy in copies:
        copy.write_bytes(copy.read_bytes() + b"#")
        names.add(compute_cache_name(copies))
    assert len(names) == len(copies) + 1
