"""A tile's products by AVX-512 VNNI: eight rows of sums in registers, folded where they are.

The unit multiplies unsigned by signed bytes, so bands of A lie with 128 added and 128 times the columns of B are taken
from a copy of the sums where a fold reads them (`offsets`): no fold waits for another. The fold is linear over bits, so
each eight rows keep a state of their own and the four states are xored at the end. Source: Intel SDM volume 2
(VPDPBUSD).
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

from ml.backends.cpu.emit import LANES, WORDS, TypedIntrinsic, call_llvm, get_nothing, get_pointer, make_slot
from ml.backends.cpu.tile import (
    B_COLUMN_BYTES,
    BLOCK_BYTES,
    BLOCK_COLUMNS,
    HALF_BYTES,
    I8_TYPE,
    I32_TYPE,
    I64_TYPE,
    OFFSET_COLUMNS,
    POINTER,
    ROW_BYTES,
    STATE,
    TILE,
    U8,
    ZEROS,
    broadcast_word,
    emit_rows_fold,
    emit_state,
    get_fold,
    load_words,
    locate_column,
    make_tile,
    shift_pointer,
    store_words,
)
from ml.backends.cpu.units import VNNI, can_emit

ROWS_AT_ONCE = 8

_BYTES = ir.VectorType(I8_TYPE, 4 * LANES)
_ONES = ir.Constant(_BYTES, [1] * (4 * LANES))
_READ_SOON = [ir.Constant(I32_TYPE, number) for number in (0, 3, 1)]
"""What LLVM's prefetch wants to know: a read, of data, into the first cache."""


_Slots = list[list[ir.Value]]
"""Variables of both halves of each row's sums."""


def _emit_dot(builder: ir.IRBuilder, sums: ir.Value, unsigned: ir.Value, signed: ir.Value) -> ir.Value:
    unsigned, signed = (builder.bitcast(value, _BYTES) for value in (unsigned, signed))
    return call_llvm(builder, "x86.avx512.vpdpbusd.512", WORDS, [sums, unsigned, signed])


def _emit_word(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, slots: _Slots) -> None:
    """Add the products of four columns of eight rows; `a` and `b` are where these columns stand."""
    addresses = [shift_pointer(builder, b, half * HALF_BYTES) for half in (0, 1)]
    halves = [load_words(builder, address) for address in addresses]
    for address in addresses:
        # The same columns of the next block: B does not fit the first cache together with A.
        call_llvm(builder, "prefetch.p0", ir.VoidType(), [shift_pointer(builder, address, BLOCK_BYTES), *_READ_SOON])
    for row, pair in enumerate(slots):
        own = broadcast_word(builder, shift_pointer(builder, a, row * BLOCK_COLUMNS))
        for slot, half in zip(pair, halves, strict=True):
            builder.store(_emit_dot(builder, builder.load(slot), own, half), slot)


def _emit_columns(
    builder: ir.IRBuilder, bands: tuple[ir.Value, ir.Value], columns: tuple[ir.Value, ir.Value], slots: _Slots
) -> None:
    """Add the products of eight rows of A and a band of B over `columns` = (first, count)."""
    first, count = columns
    # A loop that stays a loop: unrolled, LLVM hoists every broadcast and runs out of registers.
    with cgutils.for_range(builder, builder.sdiv(count, ir.Constant(I64_TYPE, 4))) as word:
        column = builder.add(first, builder.mul(word.index, ir.Constant(I64_TYPE, 4)))
        a, b = (locate_column(builder, *place) for place in ((bands[0], column, 1), (bands[1], column, B_COLUMN_BYTES)))
        _emit_word(builder, a, b, slots)


def _load_offsets(builder: ir.IRBuilder, offsets: ir.Value, column: ir.Value) -> list[ir.Value]:
    """Return the offsets of 32 rows of B over the band's columns before `column`; before the first they are zero."""
    is_first = builder.icmp_signed("==", column, ir.Constant(I64_TYPE, 0))
    at = builder.mul(builder.sub(column, ir.Constant(I64_TYPE, OFFSET_COLUMNS)), ir.Constant(I64_TYPE, 4))
    row = shift_pointer(builder, offsets, builder.select(is_first, ir.Constant(I64_TYPE, 0), at))
    halves = [load_words(builder, shift_pointer(builder, row, half * 4 * LANES)) for half in (0, 1)]
    return [builder.select(is_first, ZEROS, half) for half in halves]


def _get_sums(builder: ir.IRBuilder, slots: _Slots, offsets: list[ir.Value]) -> list[tuple[ir.Value, ir.Value]]:
    """Return both halves of each row of sums."""
    sums = [[builder.add(builder.load(slot), own) for slot, own in zip(pair, offsets, strict=True)] for pair in slots]
    return [(left, right) for left, right in sums]


def _emit_rows(
    builder: ir.IRBuilder, first_row: int, pointers: Sequence[ir.Value], run: Sequence[ir.Value], state: ir.Value
) -> None:
    """Emit eight rows of a tile; their part of the state is xored into the variable `state`."""
    a, b, offsets, scratch = pointers
    first, columns = run[:2]
    fold = get_fold(builder, columns, run[2])
    before = [builder.sub(ZEROS, own) for own in _load_offsets(builder, offsets, first)]
    slots = [[make_slot(builder, own) for own in before] for _ in range(ROWS_AT_ONCE)]
    own_state = make_slot(builder, ZEROS)
    rows = shift_pointer(builder, a, first_row * BLOCK_COLUMNS)
    with cgutils.for_range(builder, builder.sdiv(columns, fold)) as group:
        start = builder.add(first, builder.mul(group.index, fold))
        _emit_columns(builder, (rows, b), (start, fold), slots)
        sums = _get_sums(builder, slots, _load_offsets(builder, offsets, builder.add(start, fold)))
        emit_state(builder, own_state, [emit_rows_fold(builder, first_row, sums)])
    builder.store(builder.xor(builder.load(state), builder.load(own_state)), state)
    sums = _get_sums(builder, slots, _load_offsets(builder, offsets, builder.add(first, columns)))
    for row, pair in enumerate(sums):
        for half, value in enumerate(pair):
            place = shift_pointer(builder, scratch, (first_row + row) * ROW_BYTES + half * 4 * LANES)
            store_words(builder, value, place)


def _emit_tile(builder: ir.IRBuilder, pointers: list[ir.Value], run: list[ir.Value]) -> None:
    total = make_slot(builder, ZEROS)
    for first_row in range(0, TILE, ROWS_AT_ONCE):
        _emit_rows(builder, first_row, pointers, run, total)
    store_words(builder, builder.load(total), shift_pointer(builder, pointers[-1], 4 * STATE))


def _emit_clean_rows(builder: ir.IRBuilder, first_row: int, pointers: Sequence[ir.Value], columns: ir.Value) -> None:
    """Take the products of factors from eight rows of a scratch: 128 times those of the high bytes, then the low."""
    a, b, offsets, scratch = pointers
    slots = [[make_slot(builder, ZEROS) for _ in range(2)] for _ in range(ROWS_AT_ONCE)]
    rows = shift_pointer(builder, a, first_row * BLOCK_COLUMNS)
    _emit_columns(builder, (rows, b), (ir.Constant(I64_TYPE, 0), columns), slots)
    for halves in slots:
        for slot in halves:
            builder.store(builder.shl(builder.load(slot), ir.Constant(WORDS, [7] * LANES)), slot)
    _emit_columns(builder, (rows, b), (columns, columns), slots)
    high, both = (_load_offsets(builder, offsets, end) for end in (columns, builder.add(columns, columns)))
    less = [
        builder.add(two, builder.mul(one, ir.Constant(WORDS, [127] * LANES)))
        for one, two in zip(high, both, strict=True)
    ]
    for row, pair in enumerate(_get_sums(builder, slots, less)):
        for half, value in enumerate(pair):
            place = shift_pointer(builder, scratch, (first_row + row) * ROW_BYTES + half * 4 * LANES)
            store_words(builder, builder.sub(load_words(builder, place), value), place)


def _emit_clean(builder: ir.IRBuilder, pointers: list[ir.Value], run: list[ir.Value]) -> None:
    for first_row in range(0, TILE, ROWS_AT_ONCE):
        _emit_clean_rows(builder, first_row, pointers, run[1])


def _type_offsets(typing: object, bands: types.Array, at: types.Integer, offsets: types.Array) -> TypedIntrinsic:
    del typing, at

    def generate(context: BaseContext, builder: ir.IRBuilder, sig: Signature, values: Sequence[ir.Value]) -> ir.Value:
        if can_emit(VNNI):
            source, target = (
                builder.bitcast(get_pointer(context, builder, sig.args[i], values[i]), POINTER) for i in (0, 2)
            )
            source, total = shift_pointer(builder, source, values[1]), ZEROS
            for word in range(OFFSET_COLUMNS // 4):
                columns = load_words(builder, shift_pointer(builder, source, word * 4 * LANES))
                total = _emit_dot(builder, total, _ONES, columns)
            store_words(builder, total, target)
        return get_nothing(context)

    return types.void(bands, types.int64, offsets), generate


run_tile_vnni = make_tile(VNNI, _emit_tile)
"""`Tile` by AVX-512 VNNI. `offsets` hold -128 times the sums of B's rows from the band's first column on, to the end of
each 32 columns: (columns / 32, 32) a band."""

clean_tile_vnni = make_tile(VNNI, _emit_clean)
"""Take from a scratch's sums the products of bands of factors, `columns` of high bytes and as many of low ones."""

add_columns = cast(Callable[[U8, int, NDArray[np.int32]], None], intrinsic(_type_offsets))
"""Write the sums of 32 columns of 16 rows of B, from byte `at` of half a block on: `add_columns(bands, at, sums)`."""
