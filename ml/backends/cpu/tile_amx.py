"""A tile's products by the AMX unit: four 16 x 16 sums in tile registers, folded from memory while it multiplies on.

Sums leave the registers just before the next step adds to them, and the vectors fold what was stored one fold earlier:
so neither waits for the other. Source: Intel SDM volume 2 (TDPBSSD, TILELOADD, TILESTORED, LDTILECFG).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.base import BaseContext
from numba.core.typing.templates import Signature
from numba.extending import intrinsic
from numpy.typing import NDArray

from ml.backends.cpu.emit import TypedIntrinsic, call_llvm, get_nothing, get_pointer, make_slot
from ml.backends.cpu.tile import (
    B_COLUMN_BYTES,
    BLOCK_COLUMNS,
    HALF_BYTES,
    I8_TYPE,
    I64_TYPE,
    POINTER,
    ROW_BYTES,
    STATE,
    TILE,
    ZEROS,
    emit_rows_fold,
    emit_state,
    load_sums,
    locate_column,
    make_tile,
    shift_pointer,
    store_words,
)
from ml.backends.cpu.units import AMX, can_emit

_HALF = TILE // 2
_A, _B = (4, 5), (6, 7)
"""Tile registers of 16 rows of A and of B; 2 x above + left holds their sums."""
_CHAIN = 8
"""Rows of one chain of Horner's rule: four chains hide each other's latency."""


def _call(builder: ir.IRBuilder, name: str, *values: ir.Value | int) -> None:
    """Emit one instruction; a plain number is a tile register."""
    arguments = [ir.Constant(I8_TYPE, value) if isinstance(value, int) else value for value in values]
    call_llvm(builder, f"x86.{name}", ir.VoidType(), arguments)


def _stride(size_bytes: int) -> ir.Value:
    return ir.Constant(I64_TYPE, size_bytes)


def _store(builder: ir.IRBuilder, register: int, sums: ir.Value) -> None:
    """Write one register of sums to its quarter of (32, 32) int32."""
    at = (register >> 1) * _HALF * ROW_BYTES + (register & 1) * (ROW_BYTES // 2)
    _call(builder, "tilestored64", register, shift_pointer(builder, sums, at), _stride(ROW_BYTES))


def _emit_step(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, sums: ir.Value | None) -> None:
    """Add the products of one step; each register is stored to `sums`, if given, just before it changes."""
    operands = {0: ((_A[0], a), (_B[0], b)), 1: ((_B[1], shift_pointer(builder, b, HALF_BYTES)),)}
    operands[2] = ((_A[1], shift_pointer(builder, a, HALF_BYTES)),)
    for register in range(4):
        for operand, address in operands.get(register, ()):
            _call(builder, "tileloadd64", operand, address, _stride(BLOCK_COLUMNS))
        if sums is not None:
            _store(builder, register, sums)
        _call(builder, "tdpbssd", register, _A[register >> 1], _B[register & 1])


def _emit_fold(builder: ir.IRBuilder, sums: ir.Value, state: ir.Value) -> None:
    parts = []
    for first in range(0, TILE, _CHAIN):
        rows = [load_sums(builder, sums, row) for row in range(first, first + _CHAIN)]
        parts.append(emit_rows_fold(builder, first, rows))
    emit_state(builder, state, parts)


@dataclass(frozen=True, slots=True)
class _Operands:
    """Both operands' bands, while code is emitted."""

    builder: ir.IRBuilder
    a: ir.Value
    b: ir.Value

    def emit_steps(self, first: ir.Value, columns: ir.Value, step: ir.Value) -> None:
        """Add the products of whole steps from column `first` on."""
        with cgutils.for_range(self.builder, self.builder.sdiv(columns, step)) as loop:
            self.emit_step(self.builder.add(first, self.builder.mul(loop.index, step)), None)

    def emit_step(self, column: ir.Value, sums: ir.Value | None) -> None:
        """Add the products of one step; registers are stored to `sums`, if given, before they change."""
        a = locate_column(self.builder, self.a, column, 1)
        _emit_step(self.builder, a, locate_column(self.builder, self.b, column, B_COLUMN_BYTES), sums)


def _emit_folds(operands: _Operands, run: Sequence[ir.Value], scratch: ir.Value) -> None:
    """Emit a run with folds; the state and what the folds read lie in `scratch`."""
    builder, (first, columns, fold, step) = operands.builder, run
    buffers = [shift_pointer(builder, scratch, size * TILE * ROW_BYTES) for size in (1, 2)]
    state = make_slot(builder, ZEROS)
    now, before = (make_slot(builder, buffer) for buffer in buffers)
    for register in range(4):
        _store(builder, register, buffers[1])
    with cgutils.for_range(builder, builder.sdiv(columns, fold)) as group:
        start = builder.add(first, builder.mul(group.index, fold))
        stored, last = builder.load(now), builder.load(before)
        operands.emit_step(start, stored)
        _emit_fold(builder, last, state)
        builder.store(last, now)
        builder.store(stored, before)
        operands.emit_steps(builder.add(start, step), builder.sub(fold, step), step)
    _emit_fold(builder, builder.load(before), state)
    for register in range(4):
        _store(builder, register, scratch)
    _emit_fold(builder, scratch, state)
    store_words(builder, builder.load(state), shift_pointer(builder, scratch, 4 * STATE))


def _emit_tile(builder: ir.IRBuilder, pointers: list[ir.Value], run: list[ir.Value]) -> None:
    a, b, _, scratch = pointers
    operands = _Operands(builder, a, b)
    for register in range(4):
        _call(builder, "tilezero", register)
    has_folds = builder.icmp_signed("!=", run[2], ir.Constant(I64_TYPE, 0))
    with builder.if_else(has_folds) as (then, otherwise):
        with then:
            _emit_folds(operands, run, scratch)
        with otherwise:
            operands.emit_steps(run[0], run[1], run[3])
            for register in range(4):
                _store(builder, register, scratch)


def _type_configure(typing: object, config: types.Array) -> TypedIntrinsic:
    del typing

    def generate(context: BaseContext, builder: ir.IRBuilder, sig: Signature, values: Sequence[ir.Value]) -> ir.Value:
        if can_emit(AMX):
            _call(builder, "ldtilecfg", builder.bitcast(get_pointer(context, builder, sig.args[0], values[0]), POINTER))
        return get_nothing(context)

    return types.void(config), generate


def _type_release(typing: object) -> TypedIntrinsic:
    del typing

    def generate(context: BaseContext, builder: ir.IRBuilder, _sig: Signature, _values: Sequence[ir.Value]) -> ir.Value:
        if can_emit(AMX):
            _call(builder, "tilerelease")
        return get_nothing(context)

    return types.void(), generate


run_tile_amx = make_tile(AMX, _emit_tile)
"""`Tile` by AMX; the thread's tiles must be configured for the run's step."""

configure_tiles = cast(Callable[[NDArray[np.uint8]], None], intrinsic(_type_configure))
"""Load a configuration that `units.make_tile_config` made into this thread."""

release_tiles = cast(Callable[[], None], intrinsic(_type_release))
"""Give this thread's tiles back, so that the system need not save them."""
