"""Tiles of the lottery's matmul: how operands are laid out for them, and the fold of a tile's sums to 16 words.

A band is 32 rows of an operand, in blocks of 64 columns. A block of A is 32 rows of 64 bytes. A block of B is two
halves; a half is 16 rows transposed by words of four columns: 16 words of 16 rows. So both operands are read in order,
and every unit (`tile_amx`, `tile_vnni`, `tile_portable`) reads the same bytes. It knows neither noise nor digests.
"""

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.base import BaseContext
from numba.core.typing.templates import Signature
from numba.extending import intrinsic
from numpy.typing import NDArray

from ml.backends.cpu.emit import (
    LANES,
    WORDS,
    TypedIntrinsic,
    emit_broadcast,
    emit_rotation,
    get_nothing,
    get_pointer,
    get_tuple_type,
)
from ml.backends.cpu.units import can_emit

TILE = 32
BLOCK_COLUMNS = 64
BLOCK_BYTES = TILE * BLOCK_COLUMNS
HALF_BYTES = BLOCK_BYTES // 2
B_COLUMN_BYTES = HALF_BYTES // BLOCK_COLUMNS
"""Bytes of a column in half a block of B."""
ROW_BYTES = 4 * TILE
"""Bytes of a row of int32 sums."""

I8_TYPE, I32_TYPE, I64_TYPE = (ir.IntType(bits) for bits in (8, 32, 64))
POINTER = I8_TYPE.as_pointer()
U8 = NDArray[np.uint8]
ZEROS = ir.Constant(WORDS, [0] * LANES)

Run = tuple[int, int, int, int, int, int]
"""First byte of a band of A, of a band of B, first column, columns, columns between folds, columns a step."""
Tile = Callable[[NDArray[np.uint8], NDArray[np.uint8], Run, NDArray[np.int32], NDArray[np.int32]], None]
"""(a, b, run, offsets, scratch): leave the tile's sums over a run of K in the first (32, 32) int32 of `scratch` and
the state of its folds in the 16 words from STATE on. `offsets`, one int32 for each 32 bytes of the bands of B, are
read by `tile_vnni` alone, and for it alone 128 is added to the bytes of A. Columns of a run are whole folds, or 0
columns lie between folds and there are none; a fold is whole steps, a step is 32 or 64 columns."""
OFFSET_COLUMNS = 32
"""Columns between two offsets of a row of B: the least that lie between two folds."""
STATE = 3 * TILE * TILE
SCRATCH = STATE + LANES
"""Elements of a scratch, which begins at a multiple of 64 bytes."""


def shift_pointer(builder: ir.IRBuilder, pointer: ir.Value, offset: ir.Value | int) -> ir.Value:
    """Return the address `offset` bytes further."""
    return builder.gep(pointer, [ir.Constant(I64_TYPE, offset) if isinstance(offset, int) else offset])


def locate_column(builder: ir.IRBuilder, band: ir.Value, column: ir.Value, scale: int) -> ir.Value:
    """Return where a column stands in a band: a column inside a block is 1 byte of A and B_COLUMN_BYTES of B."""
    block = builder.and_(column, ir.Constant(I64_TYPE, -BLOCK_COLUMNS))
    rest = builder.and_(column, ir.Constant(I64_TYPE, BLOCK_COLUMNS - 1))
    start = builder.mul(block, ir.Constant(I64_TYPE, TILE))
    return shift_pointer(builder, band, builder.add(start, builder.mul(rest, ir.Constant(I64_TYPE, scale))))


def broadcast_word(builder: ir.IRBuilder, pointer: ir.Value) -> ir.Value:
    """Return the word at an address in every lane."""
    return emit_broadcast(builder, builder.load(builder.bitcast(pointer, I32_TYPE.as_pointer()), align=4))


def load_words(builder: ir.IRBuilder, pointer: ir.Value, align: int = 4) -> ir.Value:
    """Return the vector of LANES words at an address."""
    return builder.load(builder.bitcast(pointer, WORDS.as_pointer()), align=align)


def store_words(builder: ir.IRBuilder, value: ir.Value, pointer: ir.Value) -> None:
    """Write a vector of LANES words to an address."""
    builder.store(value, builder.bitcast(pointer, WORDS.as_pointer()), align=4)


def rotate_left(builder: ir.IRBuilder, value: ir.Value, bits: int) -> ir.Value:
    """Return every word rotated left by `bits`, 0 to 31."""
    return emit_rotation(builder, value, 32 - bits) if bits else value


def emit_rows_fold(builder: ir.IRBuilder, first: int, rows: Sequence[tuple[ir.Value, ir.Value]]) -> ir.Value:
    """Return the part of a fold that some rows of sums make: rotl(left ^ right, row), xored; `first` is their first.

    From the last row to the first, one rotation a row (Horner's rule): a rotation by i is i rotations by one.
    """
    folded: ir.Value = None
    for left, right in reversed(rows):
        both = builder.xor(left, right)
        folded = both if folded is None else builder.xor(rotate_left(builder, folded, 1), both)
    return rotate_left(builder, folded, first)


def get_fold(builder: ir.IRBuilder, columns: ir.Value, fold: ir.Value) -> ir.Value:
    """Return the columns between folds, or all where none lie between folds."""
    return builder.select(builder.icmp_signed("==", fold, ir.Constant(I64_TYPE, 0)), columns, fold)


def load_sums(builder: ir.IRBuilder, sums: ir.Value, row: int) -> tuple[ir.Value, ir.Value]:
    """Return both halves of one row of a scratch's sums."""
    left, right = (load_words(builder, shift_pointer(builder, sums, row * ROW_BYTES + at), 64) for at in (0, 64))
    return left, right


def emit_state(builder: ir.IRBuilder, state: ir.Value, folded: Sequence[ir.Value]) -> None:
    """Rotate the state in the variable `state` by 7 and xor the parts of a fold into it."""
    value = rotate_left(builder, builder.load(state), 7)
    for part in folded:
        value = builder.xor(value, part)
    builder.store(value, state)


Emit = Callable[[ir.IRBuilder, list[ir.Value], list[ir.Value]], None]
"""Emits a run from the addresses of a band of A, a band of B, the offsets of the second and a scratch, and from the
run's numbers: first column, columns, columns between folds, columns a step."""


def make_tile(unit: int, emit: Emit) -> Tile:
    """Return `emit` as a `Tile` of kernels; on machines without the unit it does nothing and must not be called."""

    def type_tile(
        typing: object, a: types.Array, b: types.Array, run: types.UniTuple, offsets: types.Array, scratch: types.Array
    ) -> TypedIntrinsic:
        del typing

        def generate(
            context: BaseContext, builder: ir.IRBuilder, sig: Signature, values: Sequence[ir.Value]
        ) -> ir.Value:
            if can_emit(unit):
                bases = [
                    builder.bitcast(get_pointer(context, builder, sig.args[i], values[i]), POINTER)
                    for i in (0, 1, 3, 4)
                ]
                a_start, b_start, *numbers = (builder.extract_value(values[2], i) for i in range(6))
                offsets_start = builder.sdiv(b_start, ir.Constant(I64_TYPE, OFFSET_COLUMNS // 4))
                starts = a_start, b_start, offsets_start, ir.Constant(I64_TYPE, 0)
                pointers = [shift_pointer(builder, base, start) for base, start in zip(bases, starts, strict=True)]
                emit(builder, pointers, numbers)
            return get_nothing(context)

        assert run == get_tuple_type(6)
        return types.void(a, b, run, offsets, scratch), generate

    return cast(Tile, intrinsic(type_tile))
