"""Moving an operand into bands: vectors of 64 bytes copied, put under noise, and turned for the second operand.

Here are the innermost steps, emitted as LLVM vector code; `operands` makes whole bands of them. Noise is a permutation
of a row's dense factor: where the machine permutes bytes (AVX-512 VBMI) 64 columns take one instruction.
"""

from collections.abc import Callable, Sequence
from typing import cast

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.base import BaseContext
from numba.core.typing.templates import Signature
from numba.extending import intrinsic

from ml.backends.cpu.emit import TypedIntrinsic, call_llvm, get_nothing, get_pointer, get_tuple_type
from ml.backends.cpu.tile import (
    BLOCK_COLUMNS,
    I8_TYPE,
    I64_TYPE,
    POINTER,
    U8,
    shift_pointer,
)
from ml.backends.cpu.units import has_features

_BYTES = ir.VectorType(I8_TYPE, BLOCK_COLUMNS)


def _load(builder: ir.IRBuilder, pointer: ir.Value) -> ir.Value:
    return builder.load(builder.bitcast(pointer, _BYTES.as_pointer()), align=1)


def _store(builder: ir.IRBuilder, value: ir.Value, pointer: ir.Value) -> None:
    builder.store(value, builder.bitcast(pointer, _BYTES.as_pointer()), align=1)


def _permute(builder: ir.IRBuilder, table: ir.Value, targets: ir.Value) -> ir.Value:
    """Return the entries of a table of 128 bytes that 64 bytes name."""
    halves = [_load(builder, shift_pointer(builder, table, half)) for half in (0, BLOCK_COLUMNS)]
    return call_llvm(builder, "x86.avx512.vpermi2var.qi.512", _BYTES, [halves[0], targets, halves[1]])


def _emit_scalar_noise(
    builder: ir.IRBuilder, pointers: Sequence[ir.Value], targets: ir.Value, signs: ir.Value, target: ir.Value
) -> None:
    source, table = pointers
    with cgutils.for_range(builder, ir.Constant(I64_TYPE, BLOCK_COLUMNS)) as loop:
        place, sign, value = (
            builder.load(shift_pointer(builder, base, loop.index)) for base in (targets, signs, source)
        )
        noise = builder.load(shift_pointer(builder, table, builder.zext(place, I64_TYPE)))
        noised = builder.add(value, builder.sub(builder.xor(noise, sign), sign))
        builder.store(noised, shift_pointer(builder, target, loop.index))


def _type_noise(
    typing: object, source: types.Array, table: types.Array, plan: types.Array, places: types.UniTuple, out: types.Array
) -> TypedIntrinsic:
    del typing

    def generate(context: BaseContext, builder: ir.IRBuilder, sig: Signature, values: Sequence[ir.Value]) -> ir.Value:
        bases = [builder.bitcast(get_pointer(context, builder, sig.args[i], values[i]), POINTER) for i in (0, 1, 4)]
        plan_base = builder.bitcast(get_pointer(context, builder, sig.args[2], values[2]), POINTER)
        numbers = [builder.extract_value(values[3], i) for i in range(5)]
        source, table, target = (
            shift_pointer(builder, base, start) for base, start in zip(bases, numbers[:3], strict=True)
        )
        targets, signs = (shift_pointer(builder, plan_base, start) for start in numbers[3:])
        if has_features("avx512f", "avx512bw", "avx512vbmi"):
            noise, sign = _permute(builder, table, _load(builder, targets)), _load(builder, signs)
            noise = builder.sub(builder.xor(noise, sign), sign)
            _store(builder, builder.add(_load(builder, source), noise), target)
        else:
            _emit_scalar_noise(builder, (source, table), targets, signs, target)
        return get_nothing(context)

    assert places == get_tuple_type(5)
    return types.void(source, table, plan, places, out), generate


def _type_copy_of(size_bytes: int) -> Callable[..., TypedIntrinsic]:
    kind = ir.VectorType(I8_TYPE, size_bytes).as_pointer()

    def type_copy(typing: object, source: types.Array, places: types.UniTuple, out: types.Array) -> TypedIntrinsic:
        del typing

        def generate(
            context: BaseContext, builder: ir.IRBuilder, sig: Signature, values: Sequence[ir.Value]
        ) -> ir.Value:
            start, target = (
                builder.bitcast(
                    shift_pointer(
                        builder,
                        builder.bitcast(get_pointer(context, builder, sig.args[i], values[i]), POINTER),
                        builder.extract_value(values[1], place),
                    ),
                    kind,
                )
                for place, i in enumerate((0, 2))
            )
            builder.store(builder.load(start, align=1), target, align=1)
            return get_nothing(context)

        assert places == get_tuple_type(2)
        return types.void(source, places, out), generate

    return type_copy


add_noise = cast(Callable[[U8, U8, U8, tuple[int, int, int, int, int], U8], None], intrinsic(_type_noise))
"""Add noise to 64 columns of a row: `add_noise(source, table, plan, (source at, table at, out at, targets at, signs
at), out)`. A column's noise is the byte that its target names in the row's table of 128, negated where its sign is
255."""

copy_block = cast(Callable[[U8, tuple[int, int], U8], None], intrinsic(_type_copy_of(BLOCK_COLUMNS)))
"""Copy 64 bytes: `copy_block(source, (source at, out at), out)`."""

copy_half = cast(Callable[[U8, tuple[int, int], U8], None], intrinsic(_type_copy_of(BLOCK_COLUMNS // 2)))
"""Copy 32 bytes, as `copy_block` does 64."""
