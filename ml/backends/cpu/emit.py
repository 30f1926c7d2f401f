"""What every intrinsic of the kernels emits: vectors of sixteen words, variables, addresses, and LLVM's own functions.

It knows no arithmetic of training, hashing or mining.
"""

from collections.abc import Callable, Sequence
from typing import cast

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.base import BaseContext
from numba.core.typing.templates import Signature

LANES = 16

_I32 = ir.IntType(32)
WORDS = ir.VectorType(_I32, LANES)

TypedIntrinsic = tuple[Signature, Callable[[BaseContext, ir.IRBuilder, Signature, Sequence[ir.Value]], ir.Value]]


def get_pointer(context: BaseContext, builder: ir.IRBuilder, kind: types.Type, value: ir.Value) -> ir.Value:
    """Return the address of an array's first element."""
    make = cast(Callable[[types.Type], Callable[..., ir.Value]], cgutils.create_struct_proxy)
    return make(kind)(context, builder, value=value).data


def get_nothing(context: BaseContext) -> ir.Value:
    """Return what an intrinsic without a result returns."""
    make: Callable[[], ir.Value] = context.get_dummy_value
    return make()


def get_tuple_type(length: int) -> types.Type:
    """Return the type of a tuple of int64."""
    return cast(Callable[[types.Type, int], types.Type], types.UniTuple)(types.int64, length)


def make_slot(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """Return a variable of the function that holds `value` from here on."""
    slot = cast(Callable[[ir.IRBuilder, ir.Value], ir.Value], cgutils.alloca_once_value)(builder, value)
    builder.store(value, slot)
    return slot


def call_llvm(builder: ir.IRBuilder, name: str, result: ir.Type, values: Sequence[ir.Value]) -> ir.Value:
    """Emit a call of one of LLVM's own functions."""
    find = cast(Callable[[ir.Module, ir.FunctionType, str], ir.Function], cgutils.get_or_insert_function)
    kind = ir.FunctionType(result, [value.type for value in values])
    return builder.call(find(builder.module, kind, f"llvm.{name}"), values)


def emit_broadcast(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """Return a word in every lane."""
    nothing = ir.Constant(WORDS, ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(WORDS, [0] * LANES))


def emit_rotation(builder: ir.IRBuilder, value: ir.Value, bits: int) -> ir.Value:
    """Return every word rotated right by 1 to 31 `bits`."""
    right, left = (ir.Constant(WORDS, [n] * LANES) for n in (bits, 32 - bits))
    return builder.or_(builder.lshr(value, right), builder.shl(value, left))


def emit_transposition(builder: ir.IRBuilder, rows: list[ir.Value]) -> list[ir.Value]:
    """Transpose 16 x 16 words by swapping blocks of 1, 2, 4 and 8; of 8 rows, the left and the right half each."""
    rows = list(rows)
    for size in (1, 2, 4, 8)[: len(rows).bit_length() - 1]:
        low = [i if not i & size else LANES + i - size for i in range(LANES)]
        high = [i + size if not i & size else LANES + i for i in range(LANES)]
        masks = [ir.Constant(WORDS, mask) for mask in (low, high)]
        for i in range(len(rows)):
            if not i & size:
                pair = rows[i], rows[i + size]
                rows[i], rows[i + size] = (builder.shuffle_vector(*pair, mask) for mask in masks)
    return rows
