"""The compiled tensor root and strip digest equal the authority's on every shape."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.errors import InvalidProof
from ml.lottery import get_lottery
from ml.tensor_tree import PIECE_BYTES, STRIP_ROWS, build_tree, compute_tensor_root, open_strip, verify_strip

pytest.importorskip("numba")

SHAPES = [(1, 1), (31, 1), (32, 1024), (33, 3), (64, 128), (70, 2500), (5, 1025), (97, 3000)]


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64"])
def test_roots_equal_on_chosen_shapes(dtype: str) -> None:
    from ml.backends.cpu.tensor_hash import compute_tensor_roots

    rng = np.random.default_rng(1)
    arrays = [rng.integers(-128, 128, shape).astype(dtype) for shape in SHAPES]
    assert compute_tensor_roots(arrays) == tuple(compute_tensor_root(array) for array in arrays)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 140), st.integers(1, 2100))
def test_roots_equal_on_drawn_shapes(rows: int, columns: int) -> None:
    from ml.backends.cpu.tensor_hash import compute_tensor_roots

    array = np.random.default_rng(rows).integers(-128, 128, (rows, columns)).astype(np.int8)
    assert compute_tensor_roots([array, array.T]) == (compute_tensor_root(array), compute_tensor_root(array.T))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 200), st.integers(1, 600), st.sampled_from(["i1", "<i4", "<i8"])), max_size=7))
def test_tensors_hashed_together_keep_their_roots(drawn: list[tuple[int, int, str]]) -> None:
    from ml.backends.cpu.tensor_hash import compute_tensor_roots

    rng = np.random.default_rng(len(drawn))
    arrays = [rng.integers(-128, 128, (rows, columns)).astype(dtype) for rows, columns, dtype in drawn]
    assert compute_tensor_roots(arrays) == tuple(compute_tensor_root(array) for array in arrays)


@pytest.mark.parametrize("pieces", [1, 40, 100])
def test_roots_do_not_depend_on_how_rows_are_cut(pieces: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from ml.backends.cpu import tensor_hash

    monkeypatch.setattr(tensor_hash, "PIECES_AT_ONCE", pieces)
    rng = np.random.default_rng(pieces)
    arrays = [rng.integers(-128, 128, shape).astype(np.int32) for shape in SHAPES]
    assert tensor_hash.compute_tensor_roots(arrays) == tuple(compute_tensor_root(array) for array in arrays)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 1300), st.sampled_from(["i1", "<i4"]), st.data())
def test_compiled_strips_lead_to_the_authoritys_root(rows: int, columns: int, code: str, data: st.DataObject) -> None:
    from ml.backends.cpu.tensor_hash import hash_strip_rows

    array = np.random.default_rng(rows * columns).integers(-128, 128, (rows, columns)).astype(code)
    tree = build_tree(array)
    place = data.draw(st.integers(0, (rows - 1) // STRIP_ROWS)), data.draw(st.integers(0, tree.shape.windows - 1))
    shown, path = open_strip(tree, *place)
    seen_u8 = verify_strip(tree.root, tree.shape, place, shown, path, hash_strip_rows)
    assert seen_u8.tobytes() == shown
    flipped = bytearray(shown)
    flipped[data.draw(st.integers(0, len(shown) - 1))] ^= 1
    with pytest.raises(InvalidProof, match="tensor-root"):
        verify_strip(tree.root, tree.shape, place, bytes(flipped), path, hash_strip_rows)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, STRIP_ROWS), st.integers(1, PIECE_BYTES), st.integers(0, 2**32 - 1))
def test_a_strip_of_any_size_has_one_digest(rows: int, piece_bytes: int, seed: int) -> None:
    shown = np.random.default_rng(seed).bytes(rows * piece_bytes)
    digests = {get_lottery(name).hash_strip_rows(shown, piece_bytes) for name in ("reference", "cpu")}
    assert len(digests) == 1
