"""The inner loop of small exact products: 8 rows by 32 columns of sums, two numbers of 16 bits at a time.

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

from ml.backends.cpu.vector import LANES, TypedIntrinsic, get_nothing, get_pointer

ROWS_AT_ONCE = 8
"""Rows whose accumulators stay in registers: 16 vectors, with room for the operands in 32 registers."""
COLUMNS_AT_ONCE = 2 * LANES

_I16, _I32, _I64 = (ir.IntType(bits) for bits in (16, 32, 64))
_PAIRS = ir.VectorType(_I16, 2 * LANES)
_WIDE = ir.VectorType(_I32, 2 * LANES)
_SUMS = ir.VectorType(_I32, LANES)


def _emit_broadcast(builder: ir.IRBuilder, word: ir.Value) -> ir.Value:
    single = builder.insert_element(ir.Constant(_SUMS, ir.Undefined), word, ir.Constant(_I32, 0))
    return builder.bitcast(builder.shuffle_vector(single, single, ir.Constant(_SUMS, [0] * LANES)), _PAIRS)


def _emit_pair_product(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    product = builder.mul(builder.sext(a, _WIDE), builder.sext(b, _WIDE))
    even, odd = (ir.Constant(_SUMS, list(range(start, 2 * LANES, 2))) for start in (0, 1))
    return builder.add(builder.shuffle_vector(product, product, even), builder.shuffle_vector(product, product, odd))


def _load(builder: ir.IRBuilder, pointer: ir.Value, index: ir.Value, kind: ir.Type) -> ir.Value:
    return builder.load(builder.bitcast(builder.gep(pointer, [index]), kind.as_pointer()), align=2)


def _type_fill_sums(
    typing: object, a: types.Array, b: types.Array, places: types.UniTuple, sums: types.Array
) -> TypedIntrinsic:
    del typing, places
    five = cast(Callable[[types.Type, int], types.Type], types.UniTuple)(types.int64, 5)
    make_slot = cast(Callable[[ir.IRBuilder, ir.Value], ir.Value], cgutils.alloca_once_value)

    def generate(context: BaseContext, builder: ir.IRBuilder, sig: Signature, values: Sequence[ir.Value]) -> ir.Value:
        left, right, target = (get_pointer(context, builder, sig.args[i], values[i]) for i in (0, 1, 3))
        a_start, a_stride, b_start, b_stride, pairs = (builder.extract_value(values[2], i) for i in range(5))
        rows = [
            builder.gep(left, [builder.add(a_start, builder.mul(a_stride, ir.Constant(_I64, row)))])
            for row in range(ROWS_AT_ONCE)
        ]
        zero = ir.Constant(_SUMS, [0] * LANES)
        slots = [[make_slot(builder, zero) for _ in range(2)] for _ in rows]
        for slot in (slot for pair in slots for slot in pair):
            builder.store(zero, slot)
        with cgutils.for_range(builder, pairs) as loop:
            at = builder.add(b_start, builder.mul(loop.index, b_stride))
            columns = [_load(builder, right, builder.add(at, ir.Constant(_I64, h * 2 * LANES)), _PAIRS) for h in (0, 1)]
            step = builder.mul(loop.index, ir.Constant(_I64, 2))
            for row, pair in zip(rows, slots, strict=True):
                word = _emit_broadcast(builder, _load(builder, row, step, _I32))
                for slot, column in zip(pair, columns, strict=True):
                    builder.store(builder.add(builder.load(slot), _emit_pair_product(builder, word, column)), slot)
        for number, slot in enumerate(slot for pair in slots for slot in pair):
            place = builder.bitcast(builder.gep(target, [ir.Constant(_I64, number * LANES)]), _SUMS.as_pointer())
            builder.store(builder.load(slot), place, align=4)
        return get_nothing(context)

    return types.void(a, b, five, sums), generate


fill_sums = cast(
    Callable[[NDArray[np.int16], NDArray[np.int16], tuple[int, int, int, int, int], NDArray[np.int32]], None],
    intrinsic(_type_fill_sums),
)
"""Write the (8, 32) int32 sums of a block: `fill_sums(a, b, (a start, a stride, b start, b stride, pairs), sums)`.

a holds rows of int16; b holds, for each pair of the depth, the pairs of all columns one after another. Starts and
strides count int16.
"""
