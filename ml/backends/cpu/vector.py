"""Sixteen BLAKE3 compressions side by side, emitted as LLVM vector code that every machine maps to its own registers.

Three intrinsics for kernels: compress, load with a transposition, store with a transposition. They know bytes only,
and read words as the little-endian machine does. Source: BLAKE3 specification, section 2.2.
"""

import sys
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

assert sys.byteorder == "little", "the kernels read words in place"

LANES = 16

_PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
_COLUMNS_AND_DIAGONALS = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)  # fmt: skip
_VECTOR = ir.VectorType(ir.IntType(32), LANES)
_I64 = ir.IntType(64)

_Words = list[ir.Value]
_Generator = Callable[[BaseContext, ir.IRBuilder, Signature, Sequence[ir.Value]], ir.Value]
TypedIntrinsic = tuple[Signature, _Generator]


def _emit_rotation(builder: ir.IRBuilder, value: ir.Value, bits: int) -> ir.Value:
    right, left = (ir.Constant(_VECTOR, [n] * LANES) for n in (bits, 32 - bits))
    return builder.or_(builder.lshr(value, right), builder.shl(value, left))


def _emit_mix(builder: ir.IRBuilder, v: _Words, place: tuple[int, ...], words: tuple[ir.Value, ir.Value]) -> None:
    a, b, c, d = place
    for word, first, second in zip(words, (16, 8), (12, 7), strict=True):
        v[a] = builder.add(builder.add(v[a], v[b]), word)
        v[d] = _emit_rotation(builder, builder.xor(v[d], v[a]), first)
        v[c] = builder.add(v[c], v[d])
        v[b] = _emit_rotation(builder, builder.xor(v[b], v[c]), second)


def _emit_compression(builder: ir.IRBuilder, state: _Words, message: _Words) -> _Words:
    v, m = list(state), list(message)
    for _ in range(7):
        for index, place in enumerate(_COLUMNS_AND_DIAGONALS):
            _emit_mix(builder, v, place, (m[2 * index], m[2 * index + 1]))
        m = [m[source] for source in _PERMUTATION]
    return [builder.xor(v[i], v[i + 8]) for i in range(8)] + [builder.xor(v[i + 8], state[i]) for i in range(8)]


def emit_transposition(builder: ir.IRBuilder, rows: _Words) -> _Words:
    """Transpose 16 x 16 words by swapping blocks of 1, 2, 4 and 8."""
    rows = list(rows)
    for size in (1, 2, 4, 8):
        low = [i if not i & size else LANES + i - size for i in range(LANES)]
        high = [i + size if not i & size else LANES + i for i in range(LANES)]
        masks = [ir.Constant(_VECTOR, mask) for mask in (low, high)]
        for i in range(LANES):
            if not i & size:
                pair = rows[i], rows[i + size]
                rows[i], rows[i + size] = (builder.shuffle_vector(*pair, mask) for mask in masks)
    return rows


def get_pointer(context: BaseContext, builder: ir.IRBuilder, kind: types.Type, value: ir.Value) -> ir.Value:
    """Return the address of an array's first element."""
    make = cast(Callable[[types.Type], Callable[..., ir.Value]], cgutils.create_struct_proxy)
    return make(kind)(context, builder, value=value).data


def get_nothing(context: BaseContext) -> ir.Value:
    """Return what an intrinsic without a result returns."""
    make: Callable[[], ir.Value] = context.get_dummy_value
    return make()


def _get_places(builder: ir.IRBuilder, pointer: ir.Value) -> list[ir.Value]:
    """Return the addresses of 16 rows of 16 words."""
    rows = [builder.gep(pointer, [ir.Constant(_I64, row * LANES)]) for row in range(16)]
    return [builder.bitcast(row, _VECTOR.as_pointer()) for row in rows]


def _store(builder: ir.IRBuilder, places: list[ir.Value], words: _Words) -> None:
    for place, word in zip(places, words, strict=True):
        builder.store(word, place, align=4)


def _type_compress(typing: object, state: types.Array, message: types.Array) -> TypedIntrinsic:
    del typing

    def generate(context: BaseContext, builder: ir.IRBuilder, sig: Signature, values: Sequence[ir.Value]) -> ir.Value:
        pointers = [get_pointer(context, builder, kind, v) for kind, v in zip(sig.args, values, strict=True)]
        places = [_get_places(builder, pointer) for pointer in pointers]
        words = [[builder.load(place, align=4) for place in row] for row in places]
        _store(builder, places[0], _emit_compression(builder, words[0], words[1]))
        return get_nothing(context)

    return types.void(state, message), generate


def _type_load_blocks(
    typing: object, data: types.Array, starts: types.Array, offset: types.Integer, message: types.Array
) -> TypedIntrinsic:
    del typing, offset

    def generate(context: BaseContext, builder: ir.IRBuilder, sig: Signature, values: Sequence[ir.Value]) -> ir.Value:
        source, places, target = (get_pointer(context, builder, sig.args[i], values[i]) for i in (0, 1, 3))
        rows = []
        for lane in range(LANES):
            start = builder.add(builder.load(builder.gep(places, [ir.Constant(_I64, lane)])), values[2])
            address = builder.bitcast(builder.gep(source, [start]), _VECTOR.as_pointer())
            rows.append(builder.load(address, align=1))
        _store(builder, _get_places(builder, target), emit_transposition(builder, rows))
        return get_nothing(context)

    return types.void(data, starts, types.int64, message), generate


def _type_store_lanes(typing: object, state: types.Array, lanes: types.Array) -> TypedIntrinsic:
    del typing

    def generate(context: BaseContext, builder: ir.IRBuilder, sig: Signature, values: Sequence[ir.Value]) -> ir.Value:
        source, target = (_get_places(builder, get_pointer(context, builder, sig.args[i], values[i])) for i in (0, 1))
        words = [builder.load(place, align=4) for place in source]
        _store(builder, target, emit_transposition(builder, words))
        return get_nothing(context)

    return types.void(state, lanes), generate


_U32Array = NDArray[np.uint32]

compress = cast(Callable[[_U32Array, _U32Array], None], intrinsic(_type_compress))
"""Compress LANES blocks: state and message are (16 words, LANES) uint32; the output words replace `state`."""

load_blocks = cast(
    Callable[[NDArray[np.uint8], NDArray[np.int64], int, _U32Array], None],
    intrinsic(_type_load_blocks),
)
"""Read 64 bytes of flat uint8 data at each of LANES starts plus an offset into a message (16 words, LANES)."""

store_lanes = cast(Callable[[_U32Array, _U32Array], None], intrinsic(_type_store_lanes))
"""Write a state (16 words, LANES) as LANES rows of 16 words."""
