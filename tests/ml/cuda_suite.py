"""The CUDA backend equals the reference byte for byte: op by op at the ends of every range, and over whole steps.

`tests/ml/test_cuda_backend.py` runs this file in a process of its own, because Triton decides at import whether it
interprets. On a machine with a GPU it also runs by itself: `pytest tests/ml/cuda_suite.py`. The lottery and tensor
roots have `tests/ml/cuda_lottery_suite.py`.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from ml.arithmetic import I8, I32, INT32_MAX, IntArray
from ml.backends import Groups, Heads, Quantised, Rounding, get_backend
from ml.backends.cuda import elementwise, matmul, norm, quantise, softmax
from ml.backends.cuda.backend import CudaBackend
from ml.backends.cuda.device import IS_INTERPRETED
from ml.backends.cuda.resident import fetch, make_resident
from ml.checkpoint import compute_initial_checkpoint
from ml.models import build_program
from ml.rotary import get_rotation_table
from ml.segment import Runner, compute_initial_state, run_step, run_steps
from ml.spec import DELTA_BITS, Decoder, Mlp, Positions, Spec
from ml.training import run_training_step
from tests.support.models import TINY_MLP, TINY_SPECS, make_case

REFERENCE, CUDA = get_backend("reference"), CudaBackend()
EDGES = (0, 1, -1, 31, 32, 63, 64, -64, 127, 128, 2**24, INT32_MAX, -INT32_MAX, INT32_MAX - 1)
KEYS = (None, 0, 16, 2**31, 2**63 + 5, 2**64 - 1)
SHAPES = ((1, 1), (3, 7), (5, 33), (17, 129))


def make_i32(shape: tuple[int, int], bits: int, seed: int = 0) -> I32:
    """Return numbers of at most `bits` bits, with the ends of the range among them when it is the whole range."""
    rng = np.random.default_rng([*shape, bits, seed])
    array = rng.integers(-(2**bits) + 1, 2**bits, shape).astype(np.int32)
    if bits == 31:
        places = rng.integers(array.size, size=min(len(EDGES), array.size))
        array.flat[places] = EDGES[: len(places)]
    return array


def make_i8(shape: tuple[int, int], bound: int = 127, seed: int = 0) -> I8:
    return np.random.default_rng([*shape, seed]).integers(-bound, bound + 1, shape).astype(np.int8)


def make_exponents(rows: int, highest: int = 25, seed: int = 0) -> I32:
    return np.random.default_rng([rows, seed]).integers(0, highest + 1, (rows, 1)).astype(np.int32)


def assert_same(found: Sequence[IntArray], expected: Sequence[IntArray]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("shape", SHAPES)
def test_quantise(shape: tuple[int, int], key: int | None) -> None:
    rounding = None if key is None else Rounding(key)
    for bits in (0, 5, 6, 20, 31):
        x = make_i32(shape, bits)
        assert_same(CUDA.quantise_rows(x, rounding), REFERENCE.quantise_rows(x, rounding))
    assert_same(CUDA.quantise_transposed(x, rounding), REFERENCE.quantise_transposed(x, rounding))


def test_quantise_goes_over_several_tiles() -> None:
    x = make_i32((3, 2100), 31)
    for backend_input in (x, np.ascontiguousarray(x.T)):
        for rounding in (None, Rounding(99)):
            assert_same(CUDA.quantise_rows(backend_input, rounding), REFERENCE.quantise_rows(backend_input, rounding))
    tall = make_i32((600, 70), 31)
    tall[300:] >>= 9
    assert_same(CUDA.quantise_transposed(tall, Rounding(3)), REFERENCE.quantise_transposed(tall, Rounding(3)))


@pytest.mark.parametrize("groups", [1, 2, 5])
def test_quantise_transposed_by_groups_with_offsets_and_given_exponents(groups: int) -> None:
    x, rounding = make_i32((10, 13), 24), Rounding(2**63 + 1, 1000, 77)
    assert_same(CUDA.quantise_rows(x, rounding), REFERENCE.quantise_rows(x, rounding))
    expected = REFERENCE.quantise_transposed(x, rounding, groups)
    assert_same(CUDA.quantise_transposed(x, rounding, groups), expected)
    given = np.minimum(expected[1] + 2, 25)
    for chosen in (None, rounding):
        found = CUDA.quantise_transposed(x, chosen, groups, given)
        assert_same(found, REFERENCE.quantise_transposed(x, chosen, groups, given))
    assert_same([CUDA.compute_column_exponents(x)], [REFERENCE.compute_column_exponents(x)])


@pytest.mark.parametrize("delta_bits", DELTA_BITS)
@pytest.mark.parametrize("shape", SHAPES)
def test_quantise_delta(shape: tuple[int, int], delta_bits: int) -> None:
    for bits in (7, 31):
        pair = make_i32(shape, bits, 1), make_i32(shape, bits, 2)
        assert_same(CUDA.quantise_delta(*pair, delta_bits), REFERENCE.quantise_delta(*pair, delta_bits))
    widest = np.full(shape, INT32_MAX, np.int32), np.full(shape, -INT32_MAX, np.int32)
    assert_same(CUDA.quantise_delta(*widest, delta_bits), REFERENCE.quantise_delta(*widest, delta_bits))


@pytest.mark.parametrize(
    ("m", "n", "k"), [(1, 1, 1), (3, 5, 7), (16, 16, 32), (17, 33, 65), (130, 7, 300), (9, 131, 40)]
)
def test_multiply_and_rescale(m: int, n: int, k: int) -> None:
    a, b = make_i8((m, k), seed=1), make_i8((n, k), seed=2)
    product = REFERENCE.multiply(a, b)
    assert_same([CUDA.multiply(a, b)], [product])
    exponents = make_exponents(m, seed=1), make_exponents(n, seed=2)
    for shift in (16, 24, 34):
        expected = REFERENCE.rescale(product, *exponents, shift)
        assert_same([CUDA.rescale(product, *exponents, shift)], [expected])
        groups = Groups(1, shift, is_causal=False)
        assert_same([CUDA.multiply_groups((a, exponents[0]), (b, exponents[1]), groups)], [expected])


def test_multiply_at_the_deepest_sum() -> None:
    a = np.full((2, 131_071), 127, np.int8)
    assert CUDA.multiply(a, -a).tolist() == [[-131_071 * 127 * 127] * 2] * 2
    with pytest.raises(AssertionError, match="found a depth of 131072"):
        CUDA.multiply(np.zeros((1, 131_072), np.int8), np.zeros((1, 131_072), np.int8))


def test_rescale_saturates_and_never_reaches_int32_min() -> None:
    product = np.array([[INT32_MAX, -INT32_MAX, 0, 1, -1]], np.int32)
    for exponents in (0, 7, 8, 25):
        a, b = np.full((1, 1), exponents, np.int32), np.full((5, 1), exponents, np.int32)
        for shift in (16, 50):
            assert_same([CUDA.rescale(product, a, b, shift)], [REFERENCE.rescale(product, a, b, shift)])


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize(("groups", "m", "n", "k"), [(1, 7, 7, 5), (3, 7, 7, 12), (2, 5, 9, 4), (2, 70, 70, 33)])
def test_multiply_groups(groups: int, m: int, n: int, k: int, is_causal: bool) -> None:
    a: Quantised = make_i8((groups * m, k), 63, 1), make_exponents(groups * m, 20, 1)
    b: Quantised = make_i8((groups * n, k), 63, 2), make_exponents(groups * n, 20, 2)
    attributes = Groups(groups, 20, is_causal)
    assert_same([CUDA.multiply_groups(a, b, attributes)], [REFERENCE.multiply_groups(a, b, attributes)])


def test_causal_products_leave_whole_tiles_out() -> None:
    a: Quantised = make_i8((140, 8), 63, 1), make_exponents(140, 9, 1)
    attributes = Groups(1, 16, is_causal=True)
    assert_same([CUDA.multiply_groups(a, a, attributes)], [REFERENCE.multiply_groups(a, a, attributes)])


@pytest.mark.parametrize("shape", [*SHAPES, (3, 700)])
def test_elementwise(shape: tuple[int, int]) -> None:
    for bits in (17, 31):
        x, y = make_i32(shape, bits, 1), make_i32(shape, bits, 2)
        assert_same([CUDA.relu(x), CUDA.relu_squared(x)], [REFERENCE.relu(x), REFERENCE.relu_squared(x)])
        assert_same([CUDA.add(x, y)], [REFERENCE.add(x, y)])
        assert_same([CUDA.relu_backward(x, y)], [REFERENCE.relu_backward(x, y)])
        assert_same([CUDA.relu_squared_backward(x, y)], [REFERENCE.relu_squared_backward(x, y)])


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (70, 33), (2, 1500)])
def test_normalise(shape: tuple[int, int]) -> None:
    inputs = [make_i32(shape, bits, 1) for bits in (0, 3, 17, 25, 31)]
    inputs += [np.full(shape, value, np.int32) for value in (1, INT32_MAX)]
    for x in inputs:
        assert_same([CUDA.normalise(x)], [REFERENCE.normalise(x)])
    for x in (*inputs[::2], inputs[-1]):
        gradient = make_i32(shape, 31, 2)
        assert_same([CUDA.normalise_backward(gradient, x)], [REFERENCE.normalise_backward(gradient, x)])


@pytest.mark.parametrize("width", [5, 70])
def test_embedding_and_its_gradients(width: int) -> None:
    rows, vocabulary, context = 12, 9, 4
    tokens = np.random.default_rng(1).integers(0, vocabulary, (rows, 1)).astype(np.int32)
    tokens[:4] = [[0], [vocabulary - 1], [3], [3]]
    tables = make_i32((vocabulary, width), 31, 1), make_i32((context, width), 31, 2)
    assert_same([CUDA.embed(tokens, tables)], [REFERENCE.embed(tokens, tables)])
    assert_same([CUDA.embed(tokens, tables[:1])], [REFERENCE.embed(tokens, tables[:1])])
    transposed = make_i32((width, rows), 31, 3)
    transposed[:, 2:4] = INT32_MAX
    for shift in (0, 8, 12):
        found = CUDA.compute_embedding_gradient(transposed, tokens, vocabulary, shift)
        assert_same([found], [REFERENCE.compute_embedding_gradient(transposed, tokens, vocabulary, shift)])
        found = CUDA.compute_position_gradient(transposed, context, shift)
        assert_same([found], [REFERENCE.compute_position_gradient(transposed, context, shift)])


def test_heads_and_transposes() -> None:
    heads, x = Heads(5, 3, 4), make_i32((10, 36), 31)
    parts = [REFERENCE.split_heads(x, part, heads) for part in range(3)]
    assert_same([CUDA.split_heads(x, part, heads) for part in range(3)], parts)
    assert_same([CUDA.merge_heads(tuple(parts), heads)], [x])
    assert_same([CUDA.merge_heads((parts[1],), heads)], [REFERENCE.merge_heads((parts[1],), heads)])
    assert_same([CUDA.transpose(x)], [REFERENCE.transpose(x)])


@pytest.mark.parametrize(("context", "width"), [(1, 2), (5, 6), (7, 8)])
def test_rotation(context: int, width: int) -> None:
    table = get_rotation_table(context, width)
    x = make_i32((3 * context, width), 31)
    for is_inverse in (False, True):
        assert_same([CUDA.rotate(x, table, is_inverse)], [REFERENCE.rotate(x, table, is_inverse)])


@pytest.mark.parametrize(("groups", "context"), [(1, 1), (3, 7), (2, 40)])
def test_causal_softmax(groups: int, context: int) -> None:
    for bits, head_width in ((1, 1), (18, 6), (31, 64)):
        scores = make_i32((groups * context, context), bits, 1)
        p = REFERENCE.causal_softmax(scores, head_width)
        assert_same([CUDA.causal_softmax(scores, head_width)], [p])
        gradient = make_i32(p.shape, 31 if bits == 31 else 24, 2)
        found = CUDA.causal_softmax_backward(p, gradient, head_width)
        assert_same([found], [REFERENCE.causal_softmax_backward(p, gradient, head_width)])


def test_rows_go_over_several_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (elementwise, matmul, norm, quantise, softmax):
        monkeypatch.setattr(module, "get_tile", lambda _rows, _columns: (4, 8))
    x, gradient = make_i32((26, 13), 20, 1), make_i32((26, 13), 24, 2)
    labels = np.arange(26, dtype=np.int32)[:, None] % 13
    p = REFERENCE.causal_softmax(x, 4)
    assert_same([CUDA.causal_softmax(x, 4)], [p])
    assert_same([CUDA.causal_softmax_backward(p, x, 4)], [REFERENCE.causal_softmax_backward(p, x, 4)])
    assert_same(CUDA.compute_loss_gradient(x, labels), REFERENCE.compute_loss_gradient(x, labels))
    assert_same([CUDA.normalise_backward(gradient, x)], [REFERENCE.normalise_backward(gradient, x)])
    assert_same(CUDA.quantise_rows(x, Rounding(5)), REFERENCE.quantise_rows(x, Rounding(5)))
    assert_same([CUDA.embed(labels, (x, gradient))], [REFERENCE.embed(labels, (x, gradient))])
    table = get_rotation_table(13, 22)
    turned = make_i32((26, 22), 31)
    assert_same([CUDA.rotate(turned, table, True)], [REFERENCE.rotate(turned, table, True)])
    transposed = make_i32((13, 26), 31)
    found = CUDA.compute_embedding_gradient(transposed, labels, 13, 8)
    assert_same([found], [REFERENCE.compute_embedding_gradient(transposed, labels, 13, 8)])
    a, b = make_exponents(26), make_exponents(13)
    assert_same([CUDA.rescale(x, a, b, 20)], [REFERENCE.rescale(x, a, b, 20)])


@pytest.mark.parametrize("shape", [(1, 2), (7, 10), (3, 1100)])
def test_loss(shape: tuple[int, int]) -> None:
    labels = np.random.default_rng(1).integers(0, shape[1], (shape[0], 1)).astype(np.int32)
    for bits in (0, 18, 31):
        z = make_i32(shape, bits)
        assert_same(CUDA.compute_loss_gradient(z, labels), REFERENCE.compute_loss_gradient(z, labels))


@pytest.mark.parametrize("rates", [(0, 0), (1 << 24, 1 << 20), (2**29 - 1, 2**32)])
def test_adam(rates: tuple[int, int]) -> None:
    w = make_i32((5, 211), 31)
    state = found = w, np.zeros_like(w), np.zeros_like(w, np.int64)
    for step in (0, 1, 1000):
        gradient = make_i32(w.shape, 31 if step else 12, step)
        state, found = (
            backend.update_adam(before, gradient, step, *rates)
            for backend, before in ((REFERENCE, state), (CUDA, found))
        )
        assert_same(found, state)
    top = np.int64(2**27 - 1)
    state = w, np.full_like(w, INT32_MAX), np.full_like(w, top * top, np.int64)
    expected = REFERENCE.update_adam(state, w, 1023, *rates)
    assert_same(CUDA.update_adam(state, w, 1023, *rates), expected)


def test_batches_and_windows() -> None:
    x, labels = make_i32((11, 5), 31), np.arange(11, dtype=np.int32)[:, None]
    assert_same(CUDA.draw_batch(x, labels, 2**64 - 1, 30), REFERENCE.draw_batch(x, labels, 2**64 - 1, 30))
    stream = np.arange(100, dtype=np.uint8)
    stream.setflags(write=False)
    for key in (1, 2**63):
        assert_same(CUDA.draw_windows(stream, key, 6, 9), REFERENCE.draw_windows(stream, key, 6, 9))


def make_runner(spec: Spec, name: str) -> Runner:
    case, program = make_case(name), build_program(spec)
    checkpoint = compute_initial_checkpoint(program)
    return Runner(program, REFERENCE, case.dataset, case.runner.segment_seed, checkpoint)


STEPS = 3 if IS_INTERPRETED else 10
"""One to leave the first state behind, one to go on from a state that the device made, one to see that it lasts."""
_SMALL = replace(TINY_SPECS["decoder"], segment_steps=STEPS, batch=2)
WHOLE_STEPS: dict[str, tuple[str, Spec]] = {
    "mlp": ("mlp", replace(TINY_MLP, model=Mlp((64, 12, 9, 10)), segment_steps=STEPS)),
    "learned, head of its own": (
        "decoder",
        replace(_SMALL, batch=1, model=Decoder(128, 5, 6, 1, 2, 9, int(Positions.LEARNED), 0)),
    ),
    "rotary, tied": ("decoder", replace(_SMALL, model=Decoder(128, 5, 6, 1, 1, 7, int(Positions.ROTARY), 1))),
}


@pytest.mark.parametrize("name", WHOLE_STEPS)
def test_resident_steps_are_the_reference_s(name: str) -> None:
    dataset, spec = WHOLE_STEPS[name]
    runner = make_runner(spec, dataset)
    resident = replace(runner, backend=CudaBackend(is_resident=True))
    state = compute_initial_state(runner.program, runner.checkpoint)
    found = make_resident(state)
    for step in range(spec.segment_steps):
        expected, result = run_training_step(runner, step, state), run_training_step(resident, step, found)
        state, found = expected.state, result.state
        assert (result.loss_f16, result.rows) == (expected.loss_f16, expected.rows)
        assert_same(fetch(found), state)


def test_a_whole_segment_with_its_deltas_is_the_reference_s() -> None:
    runner = make_runner(replace(TINY_MLP, model=Mlp((64, 5, 10)), batch=4), "mlp")
    expected = run_steps(runner)
    found = run_steps(replace(runner, backend=CUDA))
    assert_same(found.state, expected.state)
    for one, other in zip(found.deltas, expected.deltas, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("name", ["decoder-tied", "decoder-rotary-tied"])
def test_a_step_of_single_ops_is_the_reference_s(name: str) -> None:
    runner = make_case(name).runner
    state = compute_initial_state(runner.program, runner.checkpoint)
    expected = run_step(runner, 0, state)
    found = run_step(replace(runner, backend=CUDA), 0, state)
    for tensor in expected:
        assert_same([found[tensor]], [expected[tensor]])
