"""The inner loop of the lottery: products of 32 x 32 tiles in 16-bit pairs, and the fold of a tile to 16 words.

Emitted as LLVM vector code without any machine's own instructions: where a machine multiplies and adds pairs in one
step, LLVM finds it. It knows neither noise nor digests. All sums are exact modulo 2**32.
"""

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.base import BaseContext
from numba.core.typing.templates import Signature
from numba.extending import intrinsic
from numpy.typing import NDArray

from ml.backends.cpu.pairs import emit_pair_product
from ml.backends.cpu.vector import LANES, TypedIntrinsic, get_nothing, get_pointer

TILE = 32
ROWS_AT_ONCE = 8
"""Rows whose accumulators stay in registers: 16 vectors, with room for both operands in 32 registers."""

_I16, _I32, _I64 = (ir.IntType(bits) for bits in (16, 32, 64))
_PAIRS = ir.VectorType(_I16, 2 * LANES)
_WIDE = ir.VectorType(_I32, 2 * LANES)
_SUMS = ir.VectorType(_I32, LANES)


def _get_vector(builder: ir.IRBuilder, pointer: ir.Value, index: ir.Value, kind: ir.Type) -> ir.Value:
    return builder.bitcast(builder.gep(pointer, [index]), kind.as_pointer())


def _emit_broadcast(builder: ir.IRBuilder, word: ir.Value) -> ir.Value:
    single = builder.insert_element(ir.Constant(_SUMS, ir.Undefined), word, ir.Constant(_I32, 0))
    return builder.shuffle_vector(single, single, ir.Constant(_SUMS, [0] * LANES))


def _emit_slot(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    make = cast(Callable[[ir.IRBuilder, ir.Value], ir.Value], cgutils.alloca_once_value)
    return make(builder, value)


def _emit_rows(
    builder: ir.IRBuilder, first: int, left: ir.Value, right: ir.Value, pairs: ir.Value, sums: ir.Value
) -> None:
    """Add the products of ROWS_AT_ONCE rows, from row `first` of the tile, to their sums."""
    places = [
        [_get_vector(builder, sums, ir.Constant(_I64, (first + row) * TILE + half * LANES), _SUMS) for half in range(2)]
        for row in range(ROWS_AT_ONCE)
    ]
    slots = [[_emit_slot(builder, builder.load(p, align=4)) for p in row] for row in places]
    with cgutils.for_range(builder, pairs) as loop:
        at = builder.mul(loop.index, ir.Constant(_I64, 2 * TILE))
        columns = [
            builder.load(_get_vector(builder, right, builder.add(at, ir.Constant(_I64, half * TILE)), _PAIRS), align=2)
            for half in range(2)
        ]
        for row in range(ROWS_AT_ONCE):
            index = builder.add(at, ir.Constant(_I64, 2 * (first + row)))
            word = builder.load(_get_vector(builder, left, index, _I32), align=2)
            pair = builder.bitcast(_emit_broadcast(builder, word), _PAIRS)
            for half in range(2):
                product = emit_pair_product(builder, pair, columns[half])
                builder.store(builder.add(builder.load(slots[row][half]), product), slots[row][half])
    for row_places, row_slots in zip(places, slots, strict=True):
        for place, slot in zip(row_places, row_slots, strict=True):
            builder.store(builder.load(slot), place, align=4)


def _type_add_product(
    typing: object, a: types.Array, b: types.Array, places: types.UniTuple, sums: types.Array
) -> TypedIntrinsic:
    del typing
    three = cast(Callable[[types.Type, int], types.Type], types.UniTuple)(types.int64, 3)
    assert places == three

    def generate(context: BaseContext, builder: ir.IRBuilder, sig: Signature, values: Sequence[ir.Value]) -> ir.Value:
        left, right, target = (get_pointer(context, builder, sig.args[i], values[i]) for i in (0, 1, 3))
        a_start, b_start, pairs = (builder.extract_value(values[2], i) for i in range(3))
        left, right = builder.gep(left, [a_start]), builder.gep(right, [b_start])
        for first in range(0, TILE, ROWS_AT_ONCE):
            _emit_rows(builder, first, left, right, pairs, target)
        return get_nothing(context)

    return types.void(a, b, three, sums), generate


def _type_fold(typing: object, sums: types.Array, state: types.Array) -> TypedIntrinsic:
    del typing

    def generate(context: BaseContext, builder: ir.IRBuilder, sig: Signature, values: Sequence[ir.Value]) -> ir.Value:
        source, target = (get_pointer(context, builder, sig.args[i], values[i]) for i in (0, 1))
        place = _get_vector(builder, target, ir.Constant(_I64, 0), _SUMS)

        def rotate_left(value: ir.Value, bits: int) -> ir.Value:
            left, right = (ir.Constant(_SUMS, [n] * LANES) for n in (bits, 32 - bits))
            return value if bits == 0 else builder.or_(builder.shl(value, left), builder.lshr(value, right))

        folded = rotate_left(builder.load(place, align=4), 7)
        for row in range(TILE):
            for half in range(2):
                at = ir.Constant(_I64, row * TILE + half * LANES)
                word = builder.load(_get_vector(builder, source, at, _SUMS), align=4)
                folded = builder.xor(folded, rotate_left(word, row))
        builder.store(folded, place, align=4)
        return get_nothing(context)

    return types.void(sums, state), generate


add_product = cast(
    Callable[[NDArray[np.int16], NDArray[np.int16], tuple[int, int, int], NDArray[np.int32]], None],
    intrinsic(_type_add_product),
)
"""Add a x b transposed to one tile's (32, 32) int32 sums: `add_product(a, b, (a start, b start, pairs), sums)`.

Both operands hold, for each pair of columns, the pairs of the tile's 32 rows one after another.
"""

fold_tile = cast(Callable[[NDArray[np.int32], NDArray[np.uint32]], None], intrinsic(_type_fold))
"""Fold (32, 32) int32 sums into the (16,) uint32 state: rotate it by 7 and xor row i, rotated by i, into it."""
