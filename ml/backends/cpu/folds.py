"""The inner loops of Freivalds residues: rows of A, of B and of C times two vectors, each read once.

Emitted as LLVM vector code without any machine's own instructions. Vectors come as signed halves of 16 bits beside
int8, whose sums fit 32 bits, and as signed 31-bit entries beside int32. Nothing here is reduced: callers flush in time.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.base import BaseContext
from numba.core.typing.templates import Signature
from numba.extending import intrinsic
from numpy.typing import NDArray

from ml.arithmetic import I8, I32, I64
from ml.backends.cpu.emit import (
    LANES,
    TypedIntrinsic,
    emit_broadcast,
    get_nothing,
    get_pointer,
    get_tuple_type,
    make_slot,
)
from ml.backends.cpu.pairs import emit_pair_product

HALVES = 4
"""Low and high half of an entry of the first vector, then of the second."""
WIDE = 2 * LANES
STRIPE = 4 * LANES
"""Columns of B whose sums stay in registers."""
ROWS_AT_ONCE = 4
LONGS = LANES // 2

I16: TypeAlias = NDArray[np.int16]
Places: TypeAlias = tuple[int, int, int, int, int, int]
"""Where operands start and how far their rows lie apart, in elements."""

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_BYTES, _WIDE_BYTES, _PAIRS = ir.VectorType(_I8, LANES), ir.VectorType(_I8, WIDE), ir.VectorType(_I16, WIDE)
_SUMS, _MASK, _LONGS = ir.VectorType(_I32, LANES), ir.VectorType(_I32, WIDE), ir.VectorType(_I64, LONGS)

_Emit = Callable[[ir.IRBuilder, list[ir.Value], list[ir.Value]], None]
"""Emits a loop from the addresses of operand, factors and sums, and the six places."""


def _make_intrinsic(emit: _Emit) -> Callable[..., None]:
    """Return `emit` as a function of kernels: (operand, places, factors, sums)."""

    def type_loop(
        typing: object, operand: types.Array, places: types.UniTuple, factors: types.Array, sums: types.Array
    ) -> TypedIntrinsic:
        del typing, places
        six = get_tuple_type(6)

        def generate(
            context: BaseContext, builder: ir.IRBuilder, sig: Signature, values: Sequence[ir.Value]
        ) -> ir.Value:
            pointers = [get_pointer(context, builder, sig.args[i], values[i]) for i in (0, 2, 3)]
            emit(builder, pointers, [builder.extract_value(values[1], i) for i in range(6)])
            return get_nothing(context)

        return types.void(operand, six, factors, sums), generate

    return cast(Callable[..., None], intrinsic(type_loop))


def _number(value: int) -> ir.Value:
    return ir.Constant(_I64, value)


def _load(builder: ir.IRBuilder, pointer: ir.Value, index: ir.Value, kind: ir.Type) -> ir.Value:
    return builder.load(builder.bitcast(builder.gep(pointer, [index]), kind.as_pointer()), align=1)


def _list_rows(builder: ir.IRBuilder, pointer: ir.Value, start: ir.Value, stride: ir.Value) -> list[ir.Value]:
    rows = range(ROWS_AT_ONCE)
    return [builder.gep(pointer, [builder.add(start, builder.mul(stride, _number(row)))]) for row in rows]


def _make_slots(builder: ir.IRBuilder, count: int, kind: ir.Type) -> list[ir.Value]:
    return [make_slot(builder, ir.Constant(kind, None)) for _ in range(count)]


def _add_to(builder: ir.IRBuilder, slot: ir.Value, value: ir.Value) -> None:
    builder.store(builder.add(builder.load(slot), value), slot)


def _store(builder: ir.IRBuilder, slots: Sequence[ir.Value], target: ir.Value, kind: ir.Type, lanes: int) -> None:
    for number, slot in enumerate(slots):
        place = builder.gep(target, [_number(number * lanes)])
        builder.store(builder.load(slot), builder.bitcast(place, kind.as_pointer()), align=4)


def _emit_stripe(builder: ir.IRBuilder, pointers: list[ir.Value], places: list[ir.Value]) -> None:
    source, words, target = pointers
    start, stride, first, pairs, at_sums, sums_stride = places
    spots = [
        builder.gep(target, [builder.add(at_sums, builder.add(builder.mul(sums_stride, _number(half)), _number(part)))])
        for half in range(HALVES)
        for part in range(0, STRIPE, LANES)
    ]
    slots = _make_slots(builder, len(spots), _SUMS)
    for spot, slot in zip(spots, slots, strict=True):
        builder.store(_load(builder, spot, _number(0), _SUMS), slot)
    mask = ir.Constant(_MASK, [i // 2 + LANES * (i % 2) for i in range(WIDE)])
    with cgutils.for_range(builder, pairs) as loop:
        top = builder.gep(source, [builder.add(start, builder.mul(loop.index, builder.add(stride, stride)))])
        below = builder.gep(top, [stride])
        at = builder.mul(builder.add(first, loop.index), _number(2 * HALVES))
        broadcasts = [
            emit_broadcast(builder, _load(builder, words, builder.add(at, _number(2 * half)), _I32))
            for half in range(HALVES)
        ]
        factors = [builder.bitcast(word, _PAIRS) for word in broadcasts]
        for part in range(STRIPE // LANES):
            rows = [_load(builder, row, _number(part * LANES), _BYTES) for row in (top, below)]
            pair = builder.sext(builder.shuffle_vector(*rows, mask), _PAIRS)
            for half, factor in enumerate(factors):
                _add_to(builder, slots[half * (STRIPE // LANES) + part], emit_pair_product(builder, pair, factor))
    for spot, slot in zip(spots, slots, strict=True):
        _store(builder, [slot], spot, _SUMS, LANES)


def _emit_rows(builder: ir.IRBuilder, pointers: list[ir.Value], places: list[ir.Value]) -> None:
    source, words, target = pointers
    start, stride, first, length, count, _ = places
    slots = _make_slots(builder, ROWS_AT_ONCE * HALVES, _SUMS)
    rows = _list_rows(builder, source, start, stride)
    halves = _list_rows(builder, words, first, length)
    with cgutils.for_range(builder, count) as loop:
        at = builder.mul(loop.index, _number(WIDE))
        factors = [_load(builder, half, at, _PAIRS) for half in halves]
        for number, row in enumerate(rows):
            x = builder.sext(_load(builder, row, at, _WIDE_BYTES), _PAIRS)
            for half, factor in enumerate(factors):
                _add_to(builder, slots[number * HALVES + half], emit_pair_product(builder, x, factor))
    _store(builder, slots, target, _SUMS, LANES)


def _emit_even_and_odd(builder: ir.IRBuilder, words: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Emit every second of LANES signed words, as int64."""
    shift = ir.Constant(_LONGS, [32] * LONGS)
    longs = builder.bitcast(words, _LONGS)
    return builder.ashr(builder.shl(longs, shift), shift), builder.ashr(longs, shift)


def _emit_products(builder: ir.IRBuilder, pointers: list[ir.Value], places: list[ir.Value]) -> None:
    source, words, target = pointers
    start, stride, first, length, count, bound = places
    slots, highest = _make_slots(builder, 2 * ROWS_AT_ONCE, _LONGS), _make_slots(builder, 1, _SUMS)[0]
    offset = emit_broadcast(builder, builder.trunc(bound, _I32))
    rows = _list_rows(builder, source, start, stride)
    with cgutils.for_range(builder, count) as loop:
        at = builder.mul(loop.index, _number(LANES))
        ends = builder.add(first, at), builder.add(builder.add(first, length), at)
        entries = [_emit_even_and_odd(builder, _load(builder, words, end, _SUMS)) for end in ends]
        top = builder.load(highest)
        for number, row in enumerate(rows):
            elements = _load(builder, row, at, _SUMS)
            # In range if and only if element + bound, without a sign, is at most twice the bound.
            shifted = builder.add(elements, offset)
            top = builder.select(builder.icmp_unsigned(">", shifted, top), shifted, top)
            even, odd = _emit_even_and_odd(builder, elements)
            for vector, (left, right) in enumerate(entries):
                product = builder.add(builder.mul(even, left), builder.mul(odd, right))
                _add_to(builder, slots[2 * number + vector], product)
        builder.store(top, highest)
    _store(builder, slots, target, _LONGS, LONGS)
    _store(builder, [highest], builder.gep(target, [_number(2 * ROWS_AT_ONCE * LONGS)]), _SUMS, LANES)


add_stripe = cast(Callable[[I8, Places, I16, I32], None], _make_intrinsic(_emit_stripe))
"""Add STRIPE columns of pairs of rows of flat b times the halves of the rows' entries to flat sums (HALVES, stride):
`add_stripe(b, (start, stride, first pair, pairs, sums start, sums stride), halves, sums)`; halves holds (pair, half,
row of the pair) int16."""

sum_rows = cast(Callable[[I8, Places, I16, I32], None], _make_intrinsic(_emit_rows))
"""Write sums (ROWS_AT_ONCE, HALVES, LANES) of rows of flat a times halves (HALVES, length) int16, WIDE columns at a
time: `sum_rows(a, (start, stride, first column, length, count, 0), halves, sums)`."""

fold_rows = cast(Callable[[I32, Places, I32, I64], None], _make_intrinsic(_emit_products))
"""Write sums (ROWS_AT_ONCE, 2, LONGS) int64 of rows of flat c times vectors (2, length) int32, LANES columns at a time,
and behind them LANES uint32: the highest of element + bound. `fold_rows(c, (start, stride, first column, length, count,
bound), vectors, sums)`."""
