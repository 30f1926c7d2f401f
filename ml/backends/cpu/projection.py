"""Bands of an operand times a choice factor: what takes the noise out again, a few sums of columns a row.

A choice factor has one or three elements a column, so its product is made of permuted columns, added up: 128 of them
take a permutation and a sum of pairs (AVX-512 VBMI) where the machine has them. It knows neither seeds nor tiles.
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

from ml.backends.cpu.emit import TypedIntrinsic, call_llvm, get_nothing, get_pointer, get_tuple_type, make_slot
from ml.backends.cpu.kernel import kernel, specialise
from ml.backends.cpu.tile import BLOCK_BYTES, BLOCK_COLUMNS, I8_TYPE, I64_TYPE, POINTER, TILE, U8, shift_pointer
from ml.backends.cpu.units import has_features

PAIR = 2 * BLOCK_COLUMNS
"""Columns that are permuted together: two blocks, and a whole number of groups of any rank."""
SPAN = 8192
"""Columns whose projections fit 15 bits: at most 64 groups of rank 128, three elements of 63 or one of 126 each."""
CAN_PERMUTE = has_features("avx512f", "avx512bw", "avx512vbmi")

_ENTRY = 2 * BLOCK_COLUMNS
"""Bytes of one permutation: 64 columns of a pair, and -1, 0 or 1 for each; two neighbours add up to one sum."""
_ROWS = 4
"""Rows that share the loads of a permutation."""
_BYTES, _SUMS = ir.VectorType(I8_TYPE, BLOCK_COLUMNS), ir.VectorType(ir.IntType(16), TILE)
_SIGNS = ir.Constant(_BYTES, [-128] * BLOCK_COLUMNS)


@kernel
def count_entries(rank: int, steps: int) -> int:
    """Return how many permutations of a pair of blocks make 32 sums."""
    return steps * (2 if rank == TILE else 1)


@kernel
def make_choice(rank: int, steps: int, columns: int) -> U8:
    """Return room for a choice factor, all zero: by 32 sums, pair of blocks and entry."""
    size_bytes = rank // TILE * ((columns + PAIR - 1) // PAIR) * count_entries(rank, steps) * _ENTRY
    return np.zeros(size_bytes, np.uint8)


@specialise("steps")
def put_choice(choice_u8: U8, rank: int, steps: int, place: tuple[int, int, int], sign: np.uint8) -> None:
    """Add `place` = (step, column, dense column) to a choice factor; the sign is 0, or 255 for -1."""
    step, column, target = place
    entries, group = count_entries(rank, steps), column % PAIR // rank
    pairs = choice_u8.size // (rank // TILE * entries * _ENTRY)
    entry = ((target // TILE) * pairs + column // PAIR) * entries + step + steps * (group >> 1)
    at = entry * _ENTRY + 2 * (target % TILE) + (group & 1)
    choice_u8[at], choice_u8[at + BLOCK_COLUMNS] = column % PAIR, sign | 1


@specialise("plan", "first")
def project_band(band_u8: U8, choice_u8: U8, plan: tuple[int, int], first: int, out_u8: U8) -> None:
    """Write a band of A times a choice factor transposed, by spans of columns, as a band of factors.

    `plan` is the rank and the steps of the chain, `first` the column that each span of 2 rank columns begins with.
    """
    rank, steps = plan
    blocks, entries = band_u8.size // BLOCK_BYTES, count_entries(rank, steps)
    sums_bytes = choice_u8.size // (rank // TILE)
    for span in range(out_u8.size // (4 * rank * TILE)):
        block = span * (SPAN // BLOCK_COLUMNS)
        count = min(SPAN // BLOCK_COLUMNS, blocks - block)
        for part in range(rank // TILE):
            column = 2 * rank * span + first + part * TILE
            target = (column & -BLOCK_COLUMNS) * TILE + (column & BLOCK_COLUMNS - 1)
            start = part * sums_bytes + block // 2 * entries * _ENTRY
            for row in range(0, TILE, _ROWS):
                run = block * BLOCK_BYTES + row * BLOCK_COLUMNS, start, target + row * BLOCK_COLUMNS, count, entries
                if CAN_PERMUTE:
                    permute_rows(band_u8, choice_u8, run, out_u8[: out_u8.size // 2], out_u8[out_u8.size // 2 :])
                else:
                    add_rows(band_u8, choice_u8, run, out_u8[: out_u8.size // 2], out_u8[out_u8.size // 2 :])


@kernel
def add_rows(band_u8: U8, choice_u8: U8, run: tuple[int, int, int, int, int], high_u8: U8, low_u8: U8) -> None:
    """Do what `permute_rows` does, byte by byte."""
    at, start, target, blocks, entries = run
    band_i8, choice_i8, sums_i32 = band_u8.view(np.int8), choice_u8.view(np.int8), np.empty(TILE, np.int32)
    for row in range(_ROWS):
        sums_i32[:] = 0
        for entry in range((blocks + 1) // 2 * entries):
            own, source = start + entry * _ENTRY, at + entry // entries * 2 * BLOCK_BYTES + row * BLOCK_COLUMNS
            for place in range(BLOCK_COLUMNS):
                column, sign = choice_u8[own + place], choice_i8[own + BLOCK_COLUMNS + place]
                # A place without a sign names column 0, which every pair has.
                value = band_i8[source + (column >> 6) * BLOCK_BYTES + (column & 63)]
                sums_i32[place >> 1] += np.int32(sign) * np.int32(value)
        for place in range(TILE):
            low = (sums_i32[place] + 64 & 127) - 64
            low_u8[target + row * BLOCK_COLUMNS + place] = np.uint8(low)
            high_u8[target + row * BLOCK_COLUMNS + place] = np.uint8(sums_i32[place] - low >> 7)


def _load(builder: ir.IRBuilder, pointer: ir.Value) -> ir.Value:
    return builder.load(builder.bitcast(pointer, _BYTES.as_pointer()), align=1)


def _emit_pair(builder: ir.IRBuilder, source: ir.Value, second: ir.Value, slots: list[list[ir.Value]]) -> None:
    """Load both blocks of a pair for every row, unsigned; `second` is how far the second block is."""
    for row, pair in enumerate(slots):
        left = shift_pointer(builder, source, row * BLOCK_COLUMNS)
        for slot, address in zip(pair, (left, shift_pointer(builder, left, second)), strict=True):
            builder.store(builder.xor(_load(builder, address), _SIGNS), slot)


def _emit_entry(builder: ir.IRBuilder, entry: ir.Value, pairs: list[list[ir.Value]], sums: Sequence[ir.Value]) -> None:
    """Add one permutation to the sums of every row, and to the last ones what 128 in all columns would add."""
    columns, signs = (_load(builder, shift_pointer(builder, entry, at)) for at in (0, BLOCK_COLUMNS))
    chosen = [
        call_llvm(builder, "x86.avx512.vpermi2var.qi.512", _BYTES, [builder.load(left), columns, builder.load(right)])
        for left, right in pairs
    ]
    for values, slot in zip((*chosen, _SIGNS), sums, strict=True):
        added = call_llvm(builder, "x86.avx512.pmaddubs.w.512", _SUMS, [values, signs])
        builder.store(builder.add(builder.load(slot), added), slot)


def _emit_sums(builder: ir.IRBuilder, bases: Sequence[ir.Value], run: Sequence[ir.Value]) -> list[ir.Value]:
    """Return 32 sums of every row, as `permute_rows` describes its run."""
    (band, choice), (at, start, _, blocks, entries) = bases, run
    nothing, size = ir.Constant(_SUMS, [0] * TILE), ir.Constant(I64_TYPE, _ENTRY)
    pairs = [[make_slot(builder, _SIGNS) for _ in range(2)] for _ in range(_ROWS)]
    sums = [make_slot(builder, nothing) for _ in range(_ROWS + 1)]
    band, choice = shift_pointer(builder, band, at), shift_pointer(builder, choice, start)
    one = ir.Constant(I64_TYPE, 1)
    with cgutils.for_range(builder, builder.lshr(builder.add(blocks, one), one)) as loop:
        block = builder.shl(loop.index, one)
        # Behind an odd number of blocks there is none: no sum names its columns, so the last is read twice.
        is_whole = builder.icmp_signed("<", builder.add(block, one), blocks)
        second = builder.select(is_whole, ir.Constant(I64_TYPE, BLOCK_BYTES), ir.Constant(I64_TYPE, 0))
        source = shift_pointer(builder, band, builder.mul(block, ir.Constant(I64_TYPE, BLOCK_BYTES)))
        _emit_pair(builder, source, second, pairs)
        first = builder.mul(loop.index, entries)
        with cgutils.for_range(builder, entries) as own:
            entry = builder.mul(builder.add(first, own.index), size)
            _emit_entry(builder, shift_pointer(builder, choice, entry), pairs, sums)
    *values, excess = (builder.load(slot) for slot in sums)
    return [builder.sub(value, excess) for value in values]


def _emit_limbs(builder: ir.IRBuilder, value: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Return 32 sums as bytes high and low, low in [-64, 63], value = 128 high + low."""
    half, mask, seven = (ir.Constant(_SUMS, [number] * TILE) for number in (64, 127, 7))
    low = builder.sub(builder.and_(builder.add(value, half), mask), half)
    high = builder.ashr(builder.sub(value, low), seven)
    narrow = ir.VectorType(I8_TYPE, TILE)
    return builder.trunc(high, narrow), builder.trunc(low, narrow)


def _type_rows(
    typing: object, band: types.Array, choice: types.Array, run: types.UniTuple, high: types.Array, low: types.Array
) -> TypedIntrinsic:
    del typing
    narrow = ir.VectorType(I8_TYPE, TILE).as_pointer()

    def generate(context: BaseContext, builder: ir.IRBuilder, sig: Signature, values: Sequence[ir.Value]) -> ir.Value:
        if CAN_PERMUTE:
            numbers = [builder.extract_value(values[2], i) for i in range(5)]
            bases = [builder.bitcast(get_pointer(context, builder, sig.args[i], values[i]), POINTER) for i in (0, 1)]
            targets = [get_pointer(context, builder, sig.args[i], values[i]) for i in (3, 4)]
            for row, sums in enumerate(_emit_sums(builder, bases, numbers)):
                place = builder.add(numbers[2], ir.Constant(I64_TYPE, row * BLOCK_COLUMNS))
                for target, limb in zip(targets, _emit_limbs(builder, sums), strict=True):
                    builder.store(limb, builder.bitcast(shift_pointer(builder, target, place), narrow), align=1)
        return get_nothing(context)

    assert run == get_tuple_type(5)
    return types.void(band, choice, run, high, low), generate


permute_rows = cast(Callable[[U8, U8, tuple[int, int, int, int, int], U8, U8], None], intrinsic(_type_rows))
"""Write 32 sums of 4 rows of a band as bytes: `permute_rows(band, choice, (band at, choice at, out at, blocks, entries
of a pair), high, low)`; where the machine lacks the instructions it does nothing and must not be called."""
