"""Freivalds: right products have zero residues, wrong ones none that anybody could arrange without knowing the vectors.

The oracle of the kernels is `ml.backends.reference_freivalds`; the GPU's run in Numba's simulator where there is none,
in a process of their own. Threats 23 (vector, modulus, wraparound) and 24 (evaluations supplied by the prover).
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.errors import InvalidProof
from chain.hashing import tagged_hash
from ml.arithmetic import I32, I64
from ml.backends import reference_freivalds as reference
from ml.backends.cpu import freivalds as cpu
from ml.backends.cpu.tensor_hash import compute_tensor_roots
from ml.backends.cuda.checks import is_available
from ml.backends.reference_freivalds import MODULUS, OUT_OF_RANGE, Product
from ml.freivalds import Verifier, compute_seed, draw_vectors, validate_product, verify_step
from ml.program import OpKind
from ml.tensor_tree import compute_tensor_root
from ml.trace import Trace
from ml.transcript import compute_transcript_size, make_transcript
from tests.support.lattice import find_invisible
from tests.support.models import TINY_SPECS, make_case
from tests.support.traced import CPU, Segment, commit_to, find_product, make_forged_segment, make_segment

ROOT = Path(__file__).resolve().parent.parent.parent
NAMES = tuple(TINY_SPECS)
COIN = tagged_hash("test", b"coin")
VERIFIER = Verifier(CPU, cpu.compute_residues, compute_tensor_roots)
SHAPES = [(1, 5, 7, 9), (3, 4, 33, 65), (2, 70, 130, 200), (2, 3, 2, 1), (1, 64, 64, 5000), (1, 9, 1500, 70)]
"""Groups, M, N, K: around every width at which a kernel changes its way."""


def hash_plainly(arrays: object) -> tuple[object, ...]:
    return tuple(map(compute_tensor_root, arrays))  # type: ignore[call-overload]


def make_product(shape: tuple[int, int, int, int], seed: int = 1, highest: int = 63) -> Product:
    groups, rows, columns, depth = shape
    rng = np.random.default_rng([*shape, seed])
    a, b = (rng.integers(-highest, highest + 1, (groups * n, depth)).astype(np.int8) for n in (rows, columns))
    parts = zip(np.split(a, groups), np.split(b, groups), strict=True)
    return Product(
        a, b, np.concatenate([left.astype(np.int32) @ right.T.astype(np.int32) for left, right in parts]), groups
    )


def make_vectors(length: int, seed: bytes = b"vectors") -> I64:
    return draw_vectors(tagged_hash("test", seed), length)


def change(product: Product, c: I32) -> Product:
    return Product(product.a, product.b, c, product.groups)


@pytest.mark.parametrize("shape", SHAPES)
def test_right_products_have_zero_residues_and_a_wrong_element_shows_in_its_row_alone(
    shape: tuple[int, int, int, int],
) -> None:
    product, vectors = make_product(shape), make_vectors(shape[2])
    assert not reference.compute_residues(product, vectors).any()
    assert not cpu.compute_residues(product, vectors).any()
    rng = np.random.default_rng(2)
    for difference in (1, -1, 1 << 10):
        c = product.c.copy()
        row, column = int(rng.integers(c.shape[0])), int(rng.integers(c.shape[1]))
        c[row, column] += difference if abs(int(c[row, column]) + difference) <= product.bound else -difference
        found = cpu.compute_residues(change(product, c), vectors)
        assert np.array_equal(found, reference.compute_residues(change(product, c), vectors))
        assert np.flatnonzero(found.any(axis=1)).tolist() == [row]


@settings(max_examples=60)
@given(st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 80), st.integers(1, 80)), st.integers(0, 99))
def test_kernels_give_the_reference_s_residues_for_any_claim(shape: tuple[int, int, int, int], seed: int) -> None:
    product = make_product(shape, seed)
    rng = np.random.default_rng(seed)
    c = rng.integers(-product.bound, product.bound, product.c.shape, endpoint=True).astype(np.int32)
    if seed % 2:
        c[rng.integers(c.shape[0]), rng.integers(c.shape[1])] = rng.choice([-(2**31), 2**31 - 1, product.bound + 1])
    vectors = rng.integers(0, MODULUS, (2, shape[2])) if seed % 3 else np.full((2, shape[2]), MODULUS >> seed % 2)
    vectors = np.minimum(vectors, MODULUS - 1)
    found = cpu.compute_residues(change(product, c), vectors)
    assert np.array_equal(found, reference.compute_residues(change(product, c), vectors))


@pytest.mark.parametrize(("columns", "depth"), [(300, 131_071), (4_200, 70), (1_030, 8_200)])
def test_the_largest_operands_and_entries_overflow_nothing(columns: int, depth: int) -> None:
    for sign in (1, -1):
        a, b = np.full((5, depth), 63, np.int8), np.full((columns, depth), 63 * sign, np.int8)
        product = Product(a, b, np.full((5, columns), sign * depth * 63 * 63, np.int32))
        for entry in (MODULUS >> 1, (MODULUS >> 1) + 1, MODULUS - 1, 32_767):
            vectors = np.full((2, columns), entry)
            assert not cpu.compute_residues(product, vectors).any()
            c = product.c - np.int32(sign)
            assert np.array_equal(
                cpu.compute_residues(change(product, c), vectors), np.full((5, 2), -sign * columns * entry % MODULUS)
            )


SIMULATED = """
import numpy as np
from ml.backends import reference_freivalds as reference
from ml.backends.cuda import freivalds as cuda
from tests.ml.test_freivalds import change, make_product, make_vectors
for number, shape in enumerate([(1, 3, 5, 4), (2, 3, 4, 5), (3, 1, 2, 1), (1, 5, 3, 33)]):
    product, vectors = make_product(shape), make_vectors(shape[2])
    assert not cuda.compute_residues(product, vectors).any()
    for value in (1, -product.bound, product.bound + 1, -(2**31), 2**31 - 1):
        c = product.c.copy()
        c[number % len(c), -1] = value
        wrong = change(product, c)
        assert np.array_equal(cuda.compute_residues(wrong, vectors), reference.compute_residues(wrong, vectors))
print("equal")
"""


def test_the_gpu_s_residues_are_the_reference_s() -> None:
    environment = dict(os.environ) | ({} if is_available() else {"NUMBA_ENABLE_CUDASIM": "1"})
    command = [sys.executable, "-c", SIMULATED]
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.stdout.strip() == "equal", result.stderr


def test_vectors_are_the_coin_s_and_the_transcript_s() -> None:
    segment = make_segment("mlp")
    transcript = bytes(range(256))
    seeds = {
        compute_seed(segment.trace, step, served, coin)
        for step in (0, 1)
        for served in (transcript, transcript[:-1] + b"\x00")
        for coin in (COIN, bytes(32))
    }
    assert len(seeds) == 8
    vectors = draw_vectors(min(seeds), 50_000)
    assert vectors.shape == (2, 50_000)
    assert vectors.dtype == np.int64
    assert 0 <= int(vectors.min()) < 1 << 17
    assert MODULUS - (1 << 17) < int(vectors.max()) < MODULUS
    assert np.array_equal(vectors[:, :64], draw_vectors(min(seeds), 50_000)[:, :64])


@pytest.mark.parametrize("name", NAMES)
def test_every_step_of_an_honest_segment_verifies(name: str) -> None:
    segment = make_segment(name)
    for step, tensors in enumerate(segment.steps):
        transcript = make_transcript(segment.context.program, CPU, step, tensors)
        verify_step(VERIFIER, segment.context, segment.trace, step, transcript, COIN)
        plain = Verifier(make_case(name).runner.backend, reference.compute_residues, hash_plainly)  # type: ignore[arg-type]
        verify_step(plain, segment.context, segment.trace, step, transcript, bytes(32))


def expect_refusal(segment: Segment, trace: Trace, transcript: bytes, rule: str) -> None:
    step = segment.context.program.steps - 1
    with pytest.raises(InvalidProof, match=rule):
        verify_step(VERIFIER, segment.context, trace, step, transcript, COIN)


@pytest.mark.parametrize("name", NAMES)
def test_one_wrong_element_of_any_committed_tensor_is_caught(name: str) -> None:
    segment = make_segment(name)
    program, step = segment.context.program, segment.context.program.steps - 1
    transcript = make_transcript(program, CPU, step, segment.steps[step])
    for output in program.get_step_outputs(step):
        tensors = dict(segment.steps[step])
        tensors[output] = tensors[output].copy()
        tensors[output][-1, 0] ^= 1
        expect_refusal(segment, commit_to(segment, step, tensors, output), transcript, "^tensor-root")


@pytest.mark.parametrize("name", NAMES)
def test_one_wrong_element_of_any_served_tensor_is_caught(name: str) -> None:
    segment = make_segment(name)
    program, step = segment.context.program, segment.context.program.steps - 1
    transcript = make_transcript(program, CPU, step, segment.steps[step])
    for matmul in program.matmuls:
        forged = bytearray(transcript)
        forged[find_product(program, step, matmul.op)] ^= 1
        expect_refusal(segment, segment.trace, bytes(forged), "^product")
    for start in range(0, find_product(program, step, program.matmuls[0].op), 997):
        forged = bytearray(transcript)
        forged[start] ^= 1
        expect_refusal(segment, segment.trace, bytes(forged), "^(tensor-root|transcript-state)")


def serve_forged(segment: Segment, op: int, difference: I32) -> bytes:
    """Return the transcript of a forged last step, with the product that its maker claims."""
    program, step = segment.context.program, segment.context.program.steps - 1
    transcript = bytearray(make_transcript(program, CPU, step, segment.steps[step]))
    start, stop = find_product(program, step, op), find_product(program, step, op) + 4 * difference.size
    honest = np.frombuffer(transcript[start:stop], "<i4").reshape(difference.shape)
    transcript[start:stop] = (honest + difference).astype("<i4").tobytes()
    return bytes(transcript)


@pytest.mark.parametrize("name", NAMES)
def test_a_segment_that_goes_on_from_a_wrong_product_is_caught(name: str) -> None:
    """All its other ops are right, and all its roots are those of what it computed: the product alone gives it away."""
    program = make_case(name).program
    for matmul in program.lottery_matmuls[:: max(1, len(program.lottery_matmuls) // 4)]:
        difference = np.zeros((matmul.M, matmul.N), np.int32)
        difference[matmul.M // 2, matmul.N - 1] = 1
        segment = make_forged_segment(name, matmul.op, difference)
        expect_refusal(segment, segment.trace, serve_forged(segment, matmul.op, difference), "^product: ")


def test_a_known_vector_is_cheated_and_a_drawn_one_is_not() -> None:
    """Threat 23. Eight elements of one row are off by less than 2**9 each, and no known vector sees it."""
    matmul = make_case("mlp").program.matmuls[0]
    known = make_vectors(matmul.N, b"foreseen")
    invisible = find_invisible(known[:, :8].tolist(), MODULUS)
    assert 0 < max(map(abs, invisible)) < 1 << 9
    difference = np.zeros((matmul.M, matmul.N), np.int32)
    difference[3, :8] = invisible
    segment = make_forged_segment("mlp", matmul.op, difference)
    tensors = segment.steps[-1]
    a, b = (np.asarray(tensors[operand], np.int8) for operand in (matmul.a, matmul.b))
    forged = Product(a, b, CPU.multiply(a, b) + difference)
    assert np.abs(forged.c).max() <= forged.bound
    for compute in (reference.compute_residues, cpu.compute_residues):
        assert not compute(forged, known).any()
    expect_refusal(segment, segment.trace, serve_forged(segment, matmul.op, difference), "^product: ")
    # One known vector of the two is no help: the other one sees it.
    for number in range(200):
        vectors = np.stack([known[0], make_vectors(matmul.N, number.to_bytes(2, "little"))[0]])
        assert cpu.compute_residues(forged, vectors)[3].astype(bool).tolist() == [False, True]


def test_a_check_modulo_a_power_of_two_is_cheated_and_this_one_is_not() -> None:
    """Threat 23. Off by 2**31 in one element: modulo 2**32 half of all vectors do not see it, whatever their length."""
    product = make_product((1, 4, 16, 32))
    c = product.c.copy()
    c[1, 5] ^= np.int32(-(2**31))
    forged, missed = change(product, c), 0
    for number in range(400):
        vectors = make_vectors(16, number.to_bytes(2, "little"))
        wrapped = [c.astype(np.uint32) @ v.astype(np.uint32) for v in vectors]
        right = [product.c.astype(np.uint32) @ v.astype(np.uint32) for v in vectors]
        missed += all(np.array_equal(x, y) for x, y in zip(wrapped, right, strict=True))
        assert cpu.compute_residues(forged, vectors)[1].tolist() == [OUT_OF_RANGE] * 2
    assert 60 < missed < 140, "two vectors miss one forgery in four modulo 2**32"


def test_a_product_off_by_the_modulus_is_out_of_range() -> None:
    """Threat 23. Every vector modulo p is blind to it: only the range of a product's elements tells."""
    product = make_product((1, 4, 16, 32))
    c = product.c.astype(np.int64)
    row, column = np.argwhere(c <= 0)[0]
    c[row, column] += MODULUS
    forged = change(product, c.astype(np.int32))
    vectors = make_vectors(16)
    wide = (forged.c.astype(np.int64) * vectors[0] % MODULUS).sum(axis=1) % MODULUS
    assert np.array_equal(wide, (product.c.astype(np.int64) * vectors[0] % MODULUS).sum(axis=1) % MODULUS)
    residues = cpu.compute_residues(forged, vectors)
    assert residues[row].tolist() == [OUT_OF_RANGE] * 2
    with pytest.raises(InvalidProof, match=rf"^product-range: z: found \d+ in row {row}, expected at most 127008"):
        validate_product(forged, residues, "z")


def test_the_range_leaves_no_two_values_that_are_equal_modulo_p() -> None:
    assert 2 * make_product((1, 1, 1, 1)).bound * (2**17 - 1) < MODULUS
    for value in (13, 251, 8_191, 46_340):
        assert MODULUS % value, "a prime has no small factor, so no difference in range is a zero divisor"


def test_residues_are_missed_as_often_as_a_vector_has_values() -> None:
    """The bound p**-1 a vector, seen where it can be measured: modulo 251 one forgery in 251 passes one vector."""
    rng = np.random.default_rng(5)
    difference, trials = np.zeros(16, np.int64), 200_000
    difference[[1, 4, 9]] = (7, -3, 100)
    missed = int((rng.integers(0, 251, (trials, 16)) @ difference % 251 == 0).sum())
    assert abs(missed - trials // 251) < 5 * 28


def test_a_prover_s_evaluations_have_no_place_in_a_transcript() -> None:
    """Threat 24. The verifier takes state and products, to the byte, and computes every evaluation itself."""
    segment = make_segment("mlp")
    program, step = segment.context.program, segment.context.program.steps - 1
    transcript = make_transcript(program, CPU, step, segment.steps[step])
    assert len(transcript) == compute_transcript_size(program, step)
    rows = sum(matmul.M for matmul in program.matmuls)
    for broken in (transcript + bytes(16 * rows), transcript[:-1], b"", transcript + b"\x00"):
        expect_refusal(segment, segment.trace, broken, "^transcript-size")


def test_a_coin_of_another_size_is_refused() -> None:
    segment = make_segment("mlp")
    transcript = make_transcript(segment.context.program, CPU, 0, segment.steps[0])
    for coin in (b"", bytes(31), bytes(33)):
        with pytest.raises(InvalidProof, match=r"^coin-size: found \d+ bytes, expected 32"):
            verify_step(VERIFIER, segment.context, segment.trace, 0, transcript, coin)


def test_every_kind_of_product_is_among_the_small_models() -> None:
    ops = [op for name in NAMES for op in make_case(name).program.ops if op.kind is OpKind.LINEAR]
    assert {(op.groups > 1, op.is_causal) for op in ops} == {(False, False), (True, False), (True, True)}
