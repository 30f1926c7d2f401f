"""A tile's products by AVX-512 VNNI: eight rows of sums in registers, folded where they are.

The unit multiplies unsigned by signed bytes, so 128 is added to B and 128 times the sum of a row of A is taken from its
sums again (`offsets`). The fold is linear over bits, so each eight rows keep a state of their own and the four
states are xored at the end. Source: Intel SDM volume 2 (VPDPBUSD).
"""

from collections.abc import Sequence

from llvmlite import ir
from numba.core import cgutils

from ml.backends.cpu.emit import (
    LANES,
    WORDS,
    call_llvm,
    make_slot,
)
from ml.backends.cpu.tile import (
    B_COLUMN_BYTES,
    BLOCK_COLUMNS,
    HALF_BYTES,
    I64_TYPE,
    OFFSET_COLUMNS,
    ROW_BYTES,
    STATE,
    TILE,
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
from ml.backends.cpu.units import VNNI

ROWS_AT_ONCE = 8

_BYTES = ir.VectorType(ir.IntType(8), 4 * LANES)
_SIGNS = ir.Constant(_BYTES, [-128] * (4 * LANES))


def _emit_dot(builder: ir.IRBuilder, sums: ir.Value, unsigned: ir.Value, signed: ir.Value) -> ir.Value:
    signed = builder.bitcast(signed, _BYTES)
    return call_llvm(builder, "x86.avx512.vpdpbusd.512", WORDS, [sums, unsigned, signed])


def _emit_word(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, slots: list[list[ir.Value]]) -> None:
    """Add the products of four columns of eight rows; `a` and `b` are where these columns stand."""
    halves = [load_words(builder, shift_pointer(builder, b, half * HALF_BYTES)) for half in (0, 1)]
    unsigned = [builder.xor(builder.bitcast(half, _BYTES), _SIGNS) for half in halves]
    for row, pair in enumerate(slots):
        own = broadcast_word(builder, shift_pointer(builder, a, row * BLOCK_COLUMNS))
        for slot, half in zip(pair, unsigned, strict=True):
            builder.store(_emit_dot(builder, builder.load(slot), half, own), slot)


def _emit_offsets(builder: ir.IRBuilder, offsets: ir.Value, slots: list[list[ir.Value]]) -> None:
    """Add a word of `offsets` to each row."""
    for row, pair in enumerate(slots):
        own = broadcast_word(builder, shift_pointer(builder, offsets, 4 * row))
        for slot in pair:
            builder.store(builder.add(builder.load(slot), own), slot)


def _emit_rows(
    builder: ir.IRBuilder, first_row: int, pointers: Sequence[ir.Value], run: Sequence[ir.Value], state: ir.Value
) -> None:
    """Emit eight rows of a tile; their part of the state is xored into the variable `state`."""
    a, b, offsets, scratch = pointers
    first, columns = run[:2]
    fold = get_fold(builder, columns, run[2])
    slots = [[make_slot(builder, ZEROS) for _ in range(2)] for _ in range(ROWS_AT_ONCE)]
    own_state = make_slot(builder, ZEROS)
    rows = shift_pointer(builder, a, first_row * BLOCK_COLUMNS)
    with cgutils.for_range(builder, builder.sdiv(columns, fold)) as group:
        start = builder.add(first, builder.mul(group.index, fold))
        # Loops that stay loops: unrolled, LLVM hoists every broadcast and runs out of registers.
        with cgutils.for_range(builder, builder.sdiv(fold, ir.Constant(I64_TYPE, 4))) as word:
            column = builder.add(start, builder.mul(word.index, ir.Constant(I64_TYPE, 4)))
            _emit_word(
                builder,
                locate_column(builder, rows, column, 1),
                locate_column(builder, b, column, B_COLUMN_BYTES),
                slots,
            )
        with cgutils.for_range(builder, builder.sdiv(fold, ir.Constant(I64_TYPE, OFFSET_COLUMNS))) as unit:
            column = builder.add(start, builder.mul(unit.index, ir.Constant(I64_TYPE, OFFSET_COLUMNS)))
            at = builder.add(builder.mul(column, ir.Constant(I64_TYPE, 4)), ir.Constant(I64_TYPE, 4 * first_row))
            _emit_offsets(builder, shift_pointer(builder, offsets, at), slots)
        sums = [(builder.load(left), builder.load(right)) for left, right in slots]
        emit_state(builder, own_state, [emit_rows_fold(builder, first_row, sums)])
    builder.store(builder.xor(builder.load(state), builder.load(own_state)), state)
    for row, pair in enumerate(slots):
        for half, slot in enumerate(pair):
            place = shift_pointer(builder, scratch, (first_row + row) * ROW_BYTES + half * 4 * LANES)
            store_words(builder, builder.load(slot), place)


def _emit_tile(builder: ir.IRBuilder, pointers: list[ir.Value], run: list[ir.Value]) -> None:
    total = make_slot(builder, ZEROS)
    for first_row in range(0, TILE, ROWS_AT_ONCE):
        _emit_rows(builder, first_row, pointers, run, total)
    store_words(builder, builder.load(total), shift_pointer(builder, pointers[-1], 4 * STATE))


run_tile_vnni = make_tile(VNNI, _emit_tile)
"""`Tile` by AVX-512 VNNI; `offsets` hold -128 times the sum of each 32 columns of A, (columns / 32, 32) a band."""
