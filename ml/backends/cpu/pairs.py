"""The inner loops of small exact products: 8 rows by 32 columns of sums, two numbers of 16 bits at a time.

Emitted as LLVM vector code without any machine's own instructions, like the lottery's tile; here the rows need no
packing and sums start at zero. All sums are exact modulo 2**32.
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

from ml.backends.cpu.emit import (
    LANES,
    TypedIntrinsic,
    emit_broadcast,
    emit_transposition,
    get_nothing,
    get_pointer,
    get_tuple_type,
    make_slot,
)

ROWS_AT_ONCE = 8
"""Rows whose accumulators stay in registers: 16 vectors, with room for the operands in 32 registers."""
COLUMNS_AT_ONCE = 2 * LANES

_I16, _I32, _I64 = (ir.IntType(bits) for bits in (16, 32, 64))
_PAIRS = ir.VectorType(_I16, 2 * LANES)
_WIDE = ir.VectorType(_I32, 2 * LANES)
_SUMS = ir.VectorType(_I32, LANES)


def emit_pair_product(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    """Emit the sums of each two neighbours' products: (2 x LANES) int16 -> (LANES) int32."""
    product = builder.mul(builder.sext(a, _WIDE), builder.sext(b, _WIDE))
    even, odd = (ir.Constant(_SUMS, list(range(start, 2 * LANES, 2))) for start in (0, 1))
    return builder.add(builder.shuffle_vector(product, product, even), builder.shuffle_vector(product, product, odd))


def _load(builder: ir.IRBuilder, pointer: ir.Value, index: ir.Value, kind: ir.Type) -> ir.Value:
    return builder.load(builder.bitcast(builder.gep(pointer, [index]), kind.as_pointer()), align=2)


def _type_fill_sums(
    typing: object, a: types.Array, b: types.Array, places: types.UniTuple, sums: types.Array
) -> TypedIntrinsic:
    del typing, places
    seven = get_tuple_type(7)

    def generate(context: BaseContext, builder: ir.IRBuilder, sig: Signature, values: Sequence[ir.Value]) -> ir.Value:
        left, right, target = (get_pointer(context, builder, sig.args[i], values[i]) for i in (0, 1, 3))
        numbers = [builder.extract_value(values[2], i) for i in range(7)]
        a_start, a_stride, b_start, b_stride, pairs, start, stride = numbers
        rows = [
            builder.gep(left, [builder.add(a_start, builder.mul(a_stride, ir.Constant(_I64, row)))])
            for row in range(ROWS_AT_ONCE)
        ]
        zero = ir.Constant(_SUMS, [0] * LANES)
        slots = [[make_slot(builder, zero) for _ in range(2)] for _ in rows]
        with cgutils.for_range(builder, pairs) as loop:
            at = builder.add(b_start, builder.mul(loop.index, b_stride))
            columns = [_load(builder, right, builder.add(at, ir.Constant(_I64, h * 2 * LANES)), _PAIRS) for h in (0, 1)]
            step = builder.mul(loop.index, ir.Constant(_I64, 2))
            for row, pair in zip(rows, slots, strict=True):
                word = builder.bitcast(emit_broadcast(builder, _load(builder, row, step, _I32)), _PAIRS)
                for slot, column in zip(pair, columns, strict=True):
                    builder.store(builder.add(builder.load(slot), emit_pair_product(builder, word, column)), slot)
        for number, pair in enumerate(slots):
            first = builder.add(start, builder.mul(stride, ir.Constant(_I64, number)))
            for half, slot in enumerate(pair):
                place = builder.gep(target, [builder.add(first, ir.Constant(_I64, half * LANES))])
                builder.store(builder.load(slot), builder.bitcast(place, _SUMS.as_pointer()), align=4)
        return get_nothing(context)

    return types.void(a, b, seven, sums), generate


def _type_pack_block(typing: object, b: types.Array, places: types.UniTuple, packed: types.Array) -> TypedIntrinsic:
    del typing, places
    four = get_tuple_type(4)
    bytes_of_row = ir.VectorType(ir.IntType(8), 2 * LANES)

    def generate(context: BaseContext, builder: ir.IRBuilder, sig: Signature, values: Sequence[ir.Value]) -> ir.Value:
        source, target = (get_pointer(context, builder, sig.args[i], values[i]) for i in (0, 2))
        start, stride, out_start, out_stride = (builder.extract_value(values[1], i) for i in range(4))
        words = []
        for row in range(LANES):
            place = builder.add(start, builder.mul(stride, ir.Constant(_I64, row)))
            narrow = builder.load(builder.bitcast(builder.gep(source, [place]), bytes_of_row.as_pointer()), align=1)
            words.append(builder.bitcast(builder.sext(narrow, _PAIRS), _SUMS))
        for pair, word in enumerate(emit_transposition(builder, words)):
            place = builder.add(out_start, builder.mul(out_stride, ir.Constant(_I64, pair)))
            builder.store(word, builder.bitcast(builder.gep(target, [place]), _SUMS.as_pointer()), align=2)
        return get_nothing(context)

    return types.void(b, four, packed), generate


_I16Array = NDArray[np.int16]

fill_sums = cast(
    Callable[[_I16Array, _I16Array, tuple[int, int, int, int, int, int, int], NDArray[np.int32]], None],
    intrinsic(_type_fill_sums),
)
"""Write a block of (8, 32) int32 sums: `fill_sums(a, b, (a start, a stride, b start, b stride, pairs, sums start, sums
stride), sums)`; a holds rows of int16, b for each pair of the depth the pairs of all columns one after another. Starts
and strides count elements."""

pack_block = cast(Callable[[NDArray[np.int8], tuple[int, int, int, int], _I16Array], None], intrinsic(_type_pack_block))
"""Lay 16 rows by 32 columns of int8 out as pairs for `fill_sums`: `pack_block(b, (start, stride, packed start, packed
stride), packed)`."""
