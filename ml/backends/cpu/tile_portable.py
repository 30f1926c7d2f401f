"""A tile's products by plain vectors: bytes widened to 16 bits and multiplied in pairs.

Emitted without any machine's own instructions: where a machine multiplies and adds pairs of 16 bits in one step (AVX2
does), LLVM finds it. As in `tile_vnni`, rows that are computed together keep a state of their own.
"""

from collections.abc import Sequence

from llvmlite import ir
from numba.core import cgutils

from ml.backends.cpu.emit import LANES, WORDS, make_slot
from ml.backends.cpu.pairs import emit_pair_product
from ml.backends.cpu.tile import (
    B_COLUMN_BYTES,
    BLOCK_COLUMNS,
    HALF_BYTES,
    I8_TYPE,
    I32_TYPE,
    I64_TYPE,
    ROW_BYTES,
    STATE,
    TILE,
    ZEROS,
    emit_rows_fold,
    emit_state,
    get_fold,
    locate_column,
    make_tile,
    shift_pointer,
    store_words,
)
from ml.backends.cpu.units import PORTABLE

ROWS_AT_ONCE = 2
"""Rows of 16 sums in pairs: eight registers of 256 bits."""

_I16 = ir.IntType(16)
_PAIRS = ir.VectorType(_I16, 2 * LANES)
_EVEN, _ODD = (ir.Constant(WORDS, list(range(start, 2 * LANES, 2))) for start in (0, 1))


def _load_pairs(builder: ir.IRBuilder, pointer: ir.Value) -> ir.Value:
    """Return the four columns of eight rows of B, widened."""
    narrow = ir.VectorType(I8_TYPE, 2 * LANES).as_pointer()
    return builder.sext(builder.load(builder.bitcast(pointer, narrow), align=1), _PAIRS)


def _broadcast_pairs(builder: ir.IRBuilder, pointer: ir.Value) -> ir.Value:
    """Return four columns of one row of A, widened and repeated for eight rows of B."""
    narrow = builder.load(builder.bitcast(pointer, ir.VectorType(I8_TYPE, 4).as_pointer()), align=1)
    word = builder.bitcast(builder.sext(narrow, ir.VectorType(_I16, 4)), I64_TYPE)
    wide = ir.VectorType(I64_TYPE, LANES // 2)
    single = builder.insert_element(ir.Constant(wide, ir.Undefined), word, ir.Constant(I32_TYPE, 0))
    mask = ir.Constant(ir.VectorType(I32_TYPE, LANES // 2), [0] * (LANES // 2))
    return builder.bitcast(builder.shuffle_vector(single, single, mask), _PAIRS)


def _emit_word(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, slots: list[list[ir.Value]]) -> None:
    """Add the products of four columns, of ROWS_AT_ONCE rows of A and 16 of B."""
    columns = [_load_pairs(builder, shift_pointer(builder, b, eight * 2 * LANES)) for eight in (0, 1)]
    for row, pair in enumerate(slots):
        own = _broadcast_pairs(builder, shift_pointer(builder, a, row * BLOCK_COLUMNS))
        for slot, column in zip(pair, columns, strict=True):
            builder.store(builder.add(builder.load(slot), emit_pair_product(builder, own, column)), slot)


def _get_sums(builder: ir.IRBuilder, pair: list[ir.Value]) -> ir.Value:
    """Return the 16 sums of a row, whose halves of pairs lie side by side."""
    left, right = (builder.load(slot) for slot in pair)
    return builder.add(builder.shuffle_vector(left, right, _EVEN), builder.shuffle_vector(left, right, _ODD))


def _emit_rows(
    builder: ir.IRBuilder, place: tuple[int, int], pointers: Sequence[ir.Value], run: Sequence[ir.Value]
) -> ir.Value:
    """Emit the rows at `place` = (first row of A, half of B); return the variable with their part of the state."""
    (first_row, half), (a, b, scratch), (first, columns, fold, _) = place, pointers, run
    fold = get_fold(builder, columns, fold)
    slots = [[make_slot(builder, ZEROS) for _ in range(2)] for _ in range(ROWS_AT_ONCE)]
    state = make_slot(builder, ZEROS)
    rows, others = shift_pointer(builder, a, first_row * BLOCK_COLUMNS), shift_pointer(builder, b, half * HALF_BYTES)
    with cgutils.for_range(builder, builder.sdiv(columns, fold)) as group:
        start = builder.add(first, builder.mul(group.index, fold))
        with cgutils.for_range(builder, builder.sdiv(fold, ir.Constant(I64_TYPE, 4))) as word:
            column = builder.add(start, builder.mul(word.index, ir.Constant(I64_TYPE, 4)))
            places = locate_column(builder, rows, column, 1), locate_column(builder, others, column, B_COLUMN_BYTES)
            _emit_word(builder, *places, slots)
        sums = [(_get_sums(builder, pair), ZEROS) for pair in slots]
        emit_state(builder, state, [emit_rows_fold(builder, first_row, sums)])
    for row, pair in enumerate(slots):
        target = shift_pointer(builder, scratch, (first_row + row) * ROW_BYTES + half * 4 * LANES)
        store_words(builder, _get_sums(builder, pair), target)
    return state


def _emit_tile(builder: ir.IRBuilder, pointers: list[ir.Value], run: list[ir.Value]) -> None:
    a, b, _, scratch = pointers
    total = make_slot(builder, ZEROS)
    # A loop over the rows would be less code, but a rotation by a row's number is fastest where it is a constant.
    for first_row in range(0, TILE, ROWS_AT_ONCE):
        for half in range(2):
            part = _emit_rows(builder, (first_row, half), (a, b, scratch), run)
            builder.store(builder.xor(builder.load(total), builder.load(part)), total)
    store_words(builder, builder.load(total), shift_pointer(builder, scratch, 4 * STATE))


run_tile_portable = make_tile(PORTABLE, _emit_tile)
"""`Tile` by vectors that every machine has."""
