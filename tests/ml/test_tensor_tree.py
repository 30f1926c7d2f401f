"""Tensor roots bind every byte and the shape, and open by rows and by strips."""

from dataclasses import replace

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.errors import InvalidProof
from chain.hashing import tagged_hash, tagged_key
from chain.primitives import Hash
from ml.tensor_tree import (
    IntArray,
    TensorTree,
    build_tree,
    compute_tensor_root,
    get_array,
    open_piece,
    open_strip,
    verify_piece,
    verify_strip,
)

SHAPES = [(1, 1), (33, 3), (32, 1024), (70, 2500), (129, 64), (5, 1025)]


def make_array(rows: int, columns: int, dtype: str = "int8", seed: int = 0) -> IntArray:
    array: IntArray = np.random.default_rng(seed).integers(-63, 64, (rows, columns)).astype(dtype)
    return array


def open_all(tree: TensorTree) -> list[tuple[int, int]]:
    return [(row, window) for row in range(tree.shape.rows) for window in range(tree.shape.windows)]


def test_root_of_one_row_is_written_out_by_hand() -> None:
    array = make_array(2, 8, "int32")
    digests = [blake3(row.tobytes(), key=tagged_key("piece")).digest() for row in array]
    strip = blake3(b"".join(digests), key=tagged_key("strip")).digest()
    tree_root = blake3(b"\x00" + strip).digest()
    expected = tagged_hash("tensor", b"\x02", b"\x02\x00\x00\x00", b"\x08\x00\x00\x00", tree_root)
    assert compute_tensor_root(array) == expected


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_piece_and_strip_opens(shape: tuple[int, int], dtype: str) -> None:
    array = make_array(*shape, dtype)
    tree = build_tree(array)
    for row, window in open_all(tree):
        columns = slice(window * tree.shape.window_columns, (window + 1) * tree.shape.window_columns)
        data = verify_piece(tree.root, tree.shape, row, window, open_piece(tree, row, window))
        assert np.array_equal(get_array(data, tree.shape.dtype), array[row, columns])
        rows, path = open_strip(tree, row // 32, window)
        strip = verify_strip(tree.root, tree.shape, (row // 32, window), rows, path)
        assert strip[row % 32].tobytes() == data


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 2100), st.data())
def test_one_changed_element_changes_the_root(rows: int, columns: int, data: st.DataObject) -> None:
    array = make_array(rows, columns)
    row, column = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    root = compute_tensor_root(array)
    array[row, column] ^= 1
    assert compute_tensor_root(array) != root


def test_shape_and_dtype_are_bound() -> None:
    array = make_array(4, 16)
    roots = {compute_tensor_root(view) for view in (array, array.reshape(8, 8), array.view("<i4"), array.view("<i8"))}
    assert len(roots) == 4


@pytest.mark.parametrize("shape", SHAPES[1:])
def test_a_changed_piece_opening_is_refused(shape: tuple[int, int]) -> None:
    tree = build_tree(make_array(*shape))
    row = shape[0] // 2
    good = open_piece(tree, row, 0)
    forged = [
        replace(good, data=bytes([good.data[0] ^ 1]) + good.data[1:]),
        replace(good, data=good.data + b"\x00"),
        replace(good, siblings=good.siblings[32:]),
        replace(good, siblings=b"\xff" * len(good.siblings)),
        replace(good, path=good.path[:-1]),
        replace(good, path=(*good.path, Hash(bytes(32)))),
    ]
    for opening in forged:
        if opening != good:
            with pytest.raises(InvalidProof):
                verify_piece(tree.root, tree.shape, row, 0, opening)


def test_a_piece_opens_only_at_its_own_place() -> None:
    tree = build_tree(make_array(70, 2500))
    good = open_piece(tree, 40, 1)
    for row, window in [(41, 1), (8, 1), (40, 0), (40, 2), (70, 1), (-1, 1), (40, 3), (40, -1)]:
        with pytest.raises(InvalidProof):
            verify_piece(tree.root, tree.shape, row, window, good)


def test_another_shape_is_refused() -> None:
    tree = build_tree(make_array(40, 8))
    good = open_piece(tree, 1, 0)
    for shape in (replace(tree.shape, rows=41), replace(tree.shape, rows=33)):
        with pytest.raises(InvalidProof):
            verify_piece(tree.root, shape, 1, 0, good)


def test_a_changed_strip_is_refused() -> None:
    tree = build_tree(make_array(70, 2500))
    rows, path = open_strip(tree, 2, 1)
    changed = bytes([rows[0] ^ 1]) + rows[1:]
    for data, proof, place in [
        (changed, path, (2, 1)),
        (rows[:-1], path, (2, 1)),
        (rows, path[1:], (2, 1)),
        (rows, path, (1, 1)),
        (rows, path, (2, 0)),
        (rows, path, (3, 1)),
    ]:
        with pytest.raises(InvalidProof):
            verify_strip(tree.root, tree.shape, place, data, proof)
