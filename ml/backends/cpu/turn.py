"""The inner block of transposed quantisation: 64 rows by 16 columns, rounded and turned without leaving registers.

Emitted as LLVM vector code that every machine maps to its own registers: a vector holds one row's 16 columns, four rows
are packed to a vector of words, and 16 of those are transposed. The arithmetic is that of `round_mantissa` and
`compute_rounding_word`; it knows no exponent's origin.
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

from ml.arithmetic import MANTISSA_MAX
from ml.backends.cpu.emit import (
    LANES,
    TypedIntrinsic,
    emit_transposition,
    get_nothing,
    get_pointer,
    get_tuple_type,
    make_slot,
)
from ml.prf import COLUMN_GAMMA, COLUMN_MIX_1, COLUMN_MIX_2

BLOCK_ROWS = 64
FOLD_VECTORS = 2
_BYTES = 4
_I8, _I32, _I64 = (ir.IntType(bits) for bits in (8, 32, 64))
_VECTOR = ir.VectorType(_I32, LANES)


def _make(value: int) -> ir.Constant:
    return ir.Constant(_VECTOR, [value] * LANES)


def _emit_word(builder: ir.IRBuilder, start: ir.Value, high: ir.Value) -> ir.Value:
    """Return the rounding words of a row of the block; `start` is the low halves plus the row's share of the column."""
    x = builder.mul(builder.xor(start, builder.lshr(start, _make(16))), _make(COLUMN_MIX_1))
    x = builder.xor(builder.xor(x, builder.lshr(x, _make(15))), high)
    x = builder.mul(x, _make(COLUMN_MIX_2))
    return builder.xor(x, builder.lshr(x, _make(16)))


def _emit_mantissas(
    builder: ir.IRBuilder, x: ir.Value, addend: ir.Value, exponent: ir.Value, mask: ir.Value
) -> ir.Value:
    rest = builder.ashr(builder.add(builder.and_(x, mask), addend), exponent)
    value = builder.add(builder.ashr(x, exponent), rest)
    for bound, beyond in ((MANTISSA_MAX, ">"), (-MANTISSA_MAX, "<")):
        value = builder.select(builder.icmp_signed(beyond, value, _make(bound)), _make(bound), value)
    return value


def _make_turn(is_stochastic: bool) -> Callable[..., TypedIntrinsic]:
    def type_turn(
        typing: object, x: types.Array, places: types.UniTuple, stripe: types.Array, mantissas: types.Array
    ) -> TypedIntrinsic:
        del typing, places
        six = get_tuple_type(6)

        def generate(
            context: BaseContext, builder: ir.IRBuilder, sig: Signature, values: Sequence[ir.Value]
        ) -> ir.Value:
            source, columns, target = (get_pointer(context, builder, sig.args[i], values[i]) for i in (0, 2, 3))
            x_start, x_stride, stripe_start, stripe_stride, out_start, out_stride = (
                builder.extract_value(values[1], i) for i in range(6)
            )

            def load(pointer: ir.Value, start: ir.Value, stride: ir.Value, number: int) -> ir.Value:
                place = builder.gep(pointer, [builder.add(start, builder.mul(stride, ir.Constant(_I64, number)))])
                return builder.load(builder.bitcast(place, _VECTOR.as_pointer()), align=4)

            exponent, mask, half, low, high = (load(columns, stripe_start, stripe_stride, part) for part in range(5))
            words = []
            for first in range(0, BLOCK_ROWS, _BYTES):
                packed = None
                for part in range(_BYTES):
                    row, addend = load(source, x_start, x_stride, first + part), half
                    if is_stochastic:
                        step = _make((first + part) * COLUMN_GAMMA & 0xFFFFFFFF)
                        addend = builder.and_(_emit_word(builder, builder.add(low, step), high), mask)
                    byte = builder.and_(_emit_mantissas(builder, row, addend, exponent, mask), _make(255))
                    byte = builder.shl(byte, _make(8 * part))
                    packed = byte if packed is None else builder.or_(packed, byte)
                words.append(packed)
            for column, word in enumerate(emit_transposition(builder, words)):
                place = builder.add(out_start, builder.mul(out_stride, ir.Constant(_I64, column)))
                builder.store(word, builder.bitcast(builder.gep(target, [place]), _VECTOR.as_pointer()), align=1)
            return get_nothing(context)

        return types.void(x, six, stripe, mantissas), generate

    return type_turn


def _type_fold(typing: object, x: types.Array, places: types.UniTuple, tallest: types.Array) -> TypedIntrinsic:
    del typing, places
    three = get_tuple_type(3)

    def generate(context: BaseContext, builder: ir.IRBuilder, sig: Signature, values: Sequence[ir.Value]) -> ir.Value:
        source, target = (get_pointer(context, builder, sig.args[i], values[i]) for i in (0, 2))
        start, stride, rows = (builder.extract_value(values[1], i) for i in range(3))
        slots = [make_slot(builder, _make(0)) for _ in range(FOLD_VECTORS)]
        with cgutils.for_range(builder, rows) as loop:
            row = builder.gep(source, [builder.add(start, builder.mul(stride, loop.index))])
            for number, slot in enumerate(slots):
                place = builder.gep(row, [ir.Constant(_I64, number * LANES)])
                x = builder.load(builder.bitcast(place, _VECTOR.as_pointer()), align=4)
                negative = builder.icmp_signed("<", x, _make(0))
                magnitude = builder.select(negative, builder.sub(_make(0), x), x)
                builder.store(builder.or_(builder.load(slot), magnitude), slot)
        for number, slot in enumerate(slots):
            place = builder.gep(target, [ir.Constant(_I64, number * LANES)])
            builder.store(builder.load(slot), builder.bitcast(place, _VECTOR.as_pointer()), align=4)
        return get_nothing(context)

    return types.void(x, three, tallest), generate


_Turn = Callable[[NDArray[np.int32], tuple[int, int, int, int, int, int], NDArray[np.uint32], NDArray[np.int8]], None]

fold_magnitudes = cast(
    Callable[[NDArray[np.int32], tuple[int, int, int], NDArray[np.uint32]], None], intrinsic(_type_fold)
)
"""Or the magnitudes of each of 32 columns together: `fold_magnitudes(x, (start, stride, rows), tallest)`."""

turn_nearest = cast(_Turn, intrinsic(_make_turn(False)))
"""Quantise a block to nearest: `turn(x, (x start, x stride, stripe start, stripe stride, out start, out stride),
stripe, mantissas)`; stripe holds exponents, masks, halves, low and high words of the columns."""

turn_stochastic = cast(_Turn, intrinsic(_make_turn(True)))
"""The same, rounded by the words, whose low halves are advanced to the block's first row."""
