"""Tensor roots: one hash that binds every byte, the shape and the dtype of a 2-D integer tensor, and opens by rows.

A row is cut into pieces of 1 KiB (one BLAKE3 chunk); the pieces of 32 rows in one column window form a strip; the
strips are the leaves of an RFC 6962 tree. An opening costs what one row costs, whatever the matrix. This module is
the authority and the verifier: it needs NumPy and BLAKE3 only, and knows nothing of ops or models.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from chain.codec import Bytes, HashField, Many
from chain.errors import InvalidProof
from chain.hashing import tagged_hash, tagged_key
from chain.merkle import blake3_node, compute_path, compute_root, compute_root_by_path, validate_path_length
from chain.primitives import Hash
from ml.program import Dtype

PIECE_BYTES = 1024
STRIP_ROWS = 32
DIGEST_BYTES = 32
PATH_LENGTH_MAX = 40

HashStripRows = Callable[[bytes, int], bytes]
"""Returns the digest of a strip from its raw rows and the bytes of one piece: `hash_strip_rows` or a compiled twin."""
IntArray = npt.NDArray[np.int8] | npt.NDArray[np.int32] | npt.NDArray[np.int64]

_PIECE_KEY = tagged_key("piece")
_STRIP_KEY = tagged_key("strip")
_CODES = {Dtype.INT8: "<i1", Dtype.INT32: "<i4", Dtype.INT64: "<i8"}
_DTYPES = {np.dtype(np.int8): Dtype.INT8, np.dtype(np.int32): Dtype.INT32, np.dtype(np.int64): Dtype.INT64}


@dataclass(frozen=True, slots=True)
class TensorShape:
    """Rows, columns and element type of a tensor: everything that its tree's counts follow from."""

    rows: int
    columns: int
    dtype: Dtype

    @property
    def row_bytes(self) -> int:
        """Return the bytes of one row."""
        return self.columns * self.dtype.itemsize

    @property
    def windows(self) -> int:
        """Return the pieces of one row."""
        return -(-self.row_bytes // PIECE_BYTES)

    @property
    def strips(self) -> int:
        """Return the leaves of the tree."""
        return -(-self.rows // STRIP_ROWS) * self.windows

    @property
    def window_columns(self) -> int:
        """Return the columns of one full piece."""
        return PIECE_BYTES // self.dtype.itemsize

    def piece_bytes(self, window: int) -> int:
        """Return the bytes of a piece in column window `window`."""
        return min(PIECE_BYTES, self.row_bytes - window * PIECE_BYTES)

    def strip_rows(self, block: int) -> int:
        """Return the rows of the strips in row block `block`."""
        return min(STRIP_ROWS, self.rows - block * STRIP_ROWS)


@dataclass(frozen=True, slots=True)
class PieceOpening:
    """One piece, the digests of the other pieces of its strip in row order, and the strip's path to the root."""

    data: Annotated[bytes, Bytes(1, PIECE_BYTES)]
    siblings: Annotated[bytes, Bytes(0, (STRIP_ROWS - 1) * DIGEST_BYTES)]
    path: Annotated[tuple[HashField, ...], Many(PATH_LENGTH_MAX)]


@dataclass(frozen=True, slots=True)
class TensorTree:
    """A tensor's bytes with every digest of its tree, ready to be opened."""

    shape: TensorShape
    data: bytes
    piece_digests: tuple[bytes, ...]
    strip_digests: tuple[bytes, ...]
    root: Hash


def get_array(data: bytes, dtype: Dtype) -> IntArray:
    """Return the elements (n,) that little-endian `data` holds, read-only."""
    return np.frombuffer(data, _CODES[dtype])


def get_shape(array: IntArray) -> TensorShape:
    """Return the shape of a 2-D array; a tensor that is not 2-D or not of a listed dtype is our own bug."""
    assert array.ndim == 2, f"found shape {array.shape}, expected 2 dimensions"
    assert array.size > 0, f"found shape {array.shape}, expected an element"
    return TensorShape(array.shape[0], array.shape[1], _DTYPES[array.dtype])


def compute_tensor_root(array: IntArray) -> Hash:
    """Return the root of `array`, (rows, columns) int8, int32 or int64."""
    return build_tree(array).root


def build_tree(array: IntArray) -> TensorTree:
    """Return the tree over `array`, (rows, columns) int8, int32 or int64."""
    shape = get_shape(array)
    data = np.ascontiguousarray(array, _CODES[shape.dtype]).tobytes()
    pieces = tuple(
        hash_piece(
            data[row * shape.row_bytes + start : row * shape.row_bytes + min(start + PIECE_BYTES, shape.row_bytes)]
        )
        for row in range(shape.rows)
        for start in range(0, shape.row_bytes, PIECE_BYTES)
    )
    strips = tuple(
        hash_strip(pieces[_piece_index(shape, block, window) : _piece_end(shape, block) : shape.windows])
        for block in range(-(-shape.rows // STRIP_ROWS))
        for window in range(shape.windows)
    )
    root = bind_root(shape, compute_root(strips, blake3_node))
    return TensorTree(shape, data, pieces, strips, root)


def hash_piece(data: bytes) -> bytes:
    """Return the digest of one piece: 1 to 1,024 bytes of one row."""
    return blake3(data, key=_PIECE_KEY).digest()


def hash_strip(piece_digests: Sequence[bytes]) -> bytes:
    """Return the digest of a strip from its piece digests in row order."""
    return blake3(b"".join(piece_digests), key=_STRIP_KEY).digest()


def hash_strip_rows(rows: bytes, piece_bytes: int) -> bytes:
    """Return the digest of a strip from its raw rows, pieces of `piece_bytes` (1 to 1,024) bytes each, at most 32."""
    return hash_strip([hash_piece(rows[start : start + piece_bytes]) for start in range(0, len(rows), piece_bytes)])


def bind_root(shape: TensorShape, tree_root: Hash) -> Hash:
    """Return the tensor root: the tree's root bound to dtype, rows and columns."""
    rows, columns = shape.rows.to_bytes(4, "little"), shape.columns.to_bytes(4, "little")
    return tagged_hash("tensor", bytes([shape.dtype]), rows, columns, tree_root)


def open_piece(tree: TensorTree, row: int, window: int) -> PieceOpening:
    """Return the opening of the piece of `row` in column window `window`."""
    shape, block = tree.shape, row // STRIP_ROWS
    start = row * shape.row_bytes + window * PIECE_BYTES
    strip = list(tree.piece_digests[_piece_index(shape, block, window) : _piece_end(shape, block) : shape.windows])
    del strip[row % STRIP_ROWS]
    path = compute_path(tree.strip_digests, block * shape.windows + window, blake3_node)
    return PieceOpening(tree.data[start : start + shape.piece_bytes(window)], b"".join(strip), path)


def open_strip(tree: TensorTree, block: int, window: int) -> tuple[bytes, tuple[Hash, ...]]:
    """Return the raw rows (row-major) of a strip and its path: what a ticket opens."""
    shape = tree.shape
    starts = [(block * STRIP_ROWS + i) * shape.row_bytes + window * PIECE_BYTES for i in range(shape.strip_rows(block))]
    rows = b"".join(tree.data[start : start + shape.piece_bytes(window)] for start in starts)
    return rows, compute_path(tree.strip_digests, block * shape.windows + window, blake3_node)


def verify_piece(root: Hash, shape: TensorShape, row: int, window: int, opening: PieceOpening) -> bytes:
    """Return the bytes of a piece that belongs to the tensor under `root`; raises InvalidProof."""
    _validate_place(shape, row // STRIP_ROWS, window)
    if not 0 <= row < shape.rows:
        raise InvalidProof("piece-row", f"found row {row}, expected one below {shape.rows}")
    block, slot = row // STRIP_ROWS, row % STRIP_ROWS * DIGEST_BYTES
    _validate_size("piece-size", opening.data, shape.piece_bytes(window))
    _validate_size("piece-siblings", opening.siblings, (shape.strip_rows(block) - 1) * DIGEST_BYTES)
    digests = opening.siblings[:slot] + hash_piece(opening.data) + opening.siblings[slot:]
    _verify_strip_digest(root, shape, block * shape.windows + window, hash_strip([digests]), opening.path)
    return opening.data


def verify_strip(
    root: Hash,
    shape: TensorShape,
    place: tuple[int, int],
    rows: bytes,
    path: Sequence[Hash],
    hash_rows: HashStripRows = hash_strip_rows,
) -> npt.NDArray[np.uint8]:
    """Check the raw rows of the strip at `place` = (row block, column window); raises InvalidProof.

    Returns the bytes as (rows of the strip, bytes of the piece) uint8, to be viewed as the tensor's dtype.
    """
    block, window = place
    _validate_place(shape, block, window)
    size_bytes = shape.piece_bytes(window)
    _validate_size("strip-size", rows, shape.strip_rows(block) * size_bytes)
    index = block * shape.windows + window
    # Hashing the rows is what costs; a path that cannot lead anywhere is refused before.
    validate_path_length(index, shape.strips, path)
    _verify_strip_digest(root, shape, index, hash_rows(rows, size_bytes), path)
    return np.frombuffer(rows, np.uint8).reshape(shape.strip_rows(block), size_bytes)


def _verify_strip_digest(root: Hash, shape: TensorShape, index: int, digest: bytes, path: Sequence[Hash]) -> None:
    found = bind_root(shape, compute_root_by_path(digest, index, shape.strips, path, blake3_node))
    if found != root:
        raise InvalidProof("tensor-root", f"found root {found.hex()}, expected {root.hex()}")


def _validate_place(shape: TensorShape, block: int, window: int) -> None:
    if not (0 <= block * STRIP_ROWS < shape.rows and 0 <= window < shape.windows):
        raise InvalidProof("strip-place", f"found strip ({block}, {window}), expected one inside {shape}")


def _validate_size(rule: str, data: bytes, size_bytes: int) -> None:
    if len(data) != size_bytes:
        raise InvalidProof(rule, f"found {len(data)} bytes, expected {size_bytes}")


def _piece_index(shape: TensorShape, block: int, window: int) -> int:
    return block * STRIP_ROWS * shape.windows + window


def _piece_end(shape: TensorShape, block: int) -> int:
    return (block * STRIP_ROWS + shape.strip_rows(block)) * shape.windows
