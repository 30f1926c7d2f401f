"""Sixteen BLAKE3 compressions side by side, emitted as LLVM vector code that every machine maps to its own registers.

Intrinsics for kernels: compress, load and store with a transposition, and for whole inputs the blocks of a chunk in one
loop whose state stays in registers, a last block and the digests. They know bytes only, and read words as the
little-endian machine does. Source: BLAKE3 specification, sections 2.1 and 2.2.
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

from ml.backends.cpu.emit import (
    LANES,
    WORDS,
    TypedIntrinsic,
    call_llvm,
    emit_broadcast,
    emit_rotation,
    emit_transposition,
    get_nothing,
    get_pointer,
)

assert sys.byteorder == "little", "the kernels read words in place"

_PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
_COLUMNS_AND_DIAGONALS = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)  # fmt: skip
IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
BLOCK_BYTES = 64
START, END, ROOT = 1, 2, 8

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_BYTES = ir.IntType(8).as_pointer()

_Words = list[ir.Value]


def _emit_mix(builder: ir.IRBuilder, v: _Words, place: tuple[int, ...], words: tuple[ir.Value, ir.Value]) -> None:
    a, b, c, d = place
    for word, first, second in zip(words, (16, 8), (12, 7), strict=True):
        v[a] = builder.add(builder.add(v[a], v[b]), word)
        v[d] = emit_rotation(builder, builder.xor(v[d], v[a]), first)
        v[c] = builder.add(v[c], v[d])
        v[b] = emit_rotation(builder, builder.xor(v[b], v[c]), second)


def _emit_rounds(builder: ir.IRBuilder, state: _Words, message: _Words) -> _Words:
    v, m = list(state), list(message)
    for _ in range(7):
        for index, place in enumerate(_COLUMNS_AND_DIAGONALS):
            _emit_mix(builder, v, place, (m[2 * index], m[2 * index + 1]))
        m = [m[source] for source in _PERMUTATION]
    return v


def _emit_compression(builder: ir.IRBuilder, state: _Words, message: _Words) -> _Words:
    v = _emit_rounds(builder, state, message)
    return [builder.xor(v[i], v[i + 8]) for i in range(8)] + [builder.xor(v[i + 8], state[i]) for i in range(8)]


def _emit_chaining(builder: ir.IRBuilder, chaining: _Words, message: _Words, numbers: _Words) -> _Words:
    """Return the chaining values after a block with int64 (size, flags): half of what `compress` would make."""
    constants = [ir.Constant(WORDS, [word] * LANES) for word in (*IV[:4], 0, 0)]
    rest = [emit_broadcast(builder, builder.trunc(number, _I32)) for number in numbers]
    v = _emit_rounds(builder, [*chaining, *constants, *rest], message)
    return [builder.xor(v[i], v[i + 8]) for i in range(8)]


def _emit_addresses(builder: ir.IRBuilder, data: ir.Value, places: ir.Value, first: int) -> list[ir.Value]:
    """Return the addresses in `data` that LANES int64 say, from `places[first]` on."""
    slots = [builder.gep(places, [ir.Constant(_I64, first + lane)]) for lane in range(LANES)]
    return [builder.gep(data, [builder.load(slot)]) for slot in slots]


def _emit_message(builder: ir.IRBuilder, addresses: list[ir.Value], offset: ir.Value) -> _Words:
    """Return the 16 message words of the block at `offset` bytes behind each of LANES addresses."""
    starts = [builder.bitcast(builder.gep(address, [offset]), WORDS.as_pointer()) for address in addresses]
    return emit_transposition(builder, [builder.load(start, align=1) for start in starts])


def _emit_masks(builder: ir.IRBuilder, size: ir.Value) -> _Words:
    """Return masks, by message word, of a block's first `size` bytes: a window on bytes of ones and then of zeros."""
    kind = ir.ArrayType(ir.IntType(8), 2 * BLOCK_BYTES)
    table = cast(Callable[..., ir.Value], cgutils.global_constant)(
        builder, "blake3.masks", ir.Constant(kind, bytearray([0xFF] * BLOCK_BYTES + [0] * BLOCK_BYTES))
    )
    first = builder.sub(ir.Constant(_I64, BLOCK_BYTES), size)
    places = [builder.add(first, ir.Constant(_I64, 4 * word)) for word in range(16)]
    bytes_ = builder.bitcast(table, _BYTES)
    words = [builder.bitcast(builder.gep(bytes_, [place]), _I32.as_pointer()) for place in places]
    return [emit_broadcast(builder, builder.load(word, align=1)) for word in words]


def _emit_prefetch(builder: ir.IRBuilder, address: ir.Value) -> None:
    read_to_keep_data = [ir.Constant(_I32, option) for option in (0, 3, 1)]
    call_llvm(builder, "prefetch.p0i8", ir.VoidType(), [address, *read_to_keep_data])


def _get_places(builder: ir.IRBuilder, pointer: ir.Value) -> list[ir.Value]:
    """Return the addresses of 16 rows of 16 words."""
    pointer = builder.bitcast(pointer, _I32.as_pointer())
    rows = [builder.gep(pointer, [ir.Constant(_I64, row * LANES)]) for row in range(16)]
    return [builder.bitcast(row, WORDS.as_pointer()) for row in rows]


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
        addresses = _emit_addresses(builder, source, places, 0)
        _store(builder, _get_places(builder, target), _emit_message(builder, addresses, values[2]))
        return get_nothing(context)

    return types.void(data, starts, types.int64, message), generate


def _type_absorb_blocks(  # noqa: PLR0913, PLR0917 - Numba gives a typing context and the kernel's own arguments
    typing: object,
    state: types.Array,
    data: types.Array,
    places: types.Array,
    blocks: types.Integer,
    mode: types.Integer,
    ending: types.Integer,
) -> TypedIntrinsic:
    del typing, blocks, mode, ending

    def generate(context: BaseContext, builder: ir.IRBuilder, sig: Signature, values: Sequence[ir.Value]) -> ir.Value:
        state, data, places = (get_pointer(context, builder, sig.args[i], values[i]) for i in range(3))
        chaining = _get_places(builder, state)[:8]
        addresses = [_emit_addresses(builder, data, places, first) for first in (0, LANES)]
        words = [builder.load(place, align=4) for place in chaining]
        words = _emit_block_loop(builder, addresses, words, (values[3], values[4], values[5]))
        _store(builder, chaining, words)
        return get_nothing(context)

    return types.void(state, data, places, types.int64, types.int64, types.int64), generate


def _emit_block_loop(
    builder: ir.IRBuilder, addresses: list[list[ir.Value]], words: _Words, numbers: tuple[ir.Value, ...]
) -> _Words:
    """Return the chaining values after all blocks; meanwhile the same blocks of the inputs that come next are read."""
    blocks, mode, ending = numbers
    zero, one = ir.Constant(_I64, 0), ir.Constant(_I64, 1)
    before, body, after = builder.block, builder.append_basic_block("block"), builder.append_basic_block("done")
    builder.branch(body)
    builder.position_at_end(body)
    block, chaining = builder.phi(_I64), [builder.phi(WORDS) for _ in words]
    offset, following = builder.mul(block, ir.Constant(_I64, BLOCK_BYTES)), builder.add(block, one)
    for address in addresses[1]:
        _emit_prefetch(builder, builder.gep(address, [offset]))
    message = _emit_message(builder, addresses[0], offset)
    first = builder.select(builder.icmp_signed("==", block, zero), ir.Constant(_I64, START), zero)
    last = builder.select(builder.icmp_signed("==", following, blocks), ending, zero)
    flags = builder.or_(mode, builder.or_(first, last))
    mixed = _emit_chaining(builder, chaining, message, [ir.Constant(_I64, BLOCK_BYTES), flags])
    for phi, start, end in zip([block, *chaining], [zero, *words], [following, *mixed], strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(end, body)
    builder.cbranch(builder.icmp_signed("<", following, blocks), body, after)
    builder.position_at_end(after)
    return mixed


def _type_absorb_last(  # noqa: PLR0913, PLR0917 - Numba gives a typing context and the kernel's own arguments
    typing: object,
    state: types.Array,
    data: types.Array,
    starts: types.Array,
    offset: types.Integer,
    size: types.Integer,
    flags: types.Integer,
) -> TypedIntrinsic:
    del typing, offset, size, flags

    def generate(context: BaseContext, builder: ir.IRBuilder, sig: Signature, values: Sequence[ir.Value]) -> ir.Value:
        state, data, starts = (get_pointer(context, builder, sig.args[i], values[i]) for i in range(3))
        chaining, masks = _get_places(builder, state)[:8], _emit_masks(builder, values[4])
        message = _emit_message(builder, _emit_addresses(builder, data, starts, 0), values[3])
        message = [builder.and_(word, mask) for word, mask in zip(message, masks, strict=True)]
        words = [builder.load(place, align=4) for place in chaining]
        _store(builder, chaining, _emit_chaining(builder, words, message, [values[4], values[5]]))
        return get_nothing(context)

    return types.void(state, data, starts, types.int64, types.int64, types.int64), generate


def _type_store_digests(typing: object, state: types.Array, digests: types.Array) -> TypedIntrinsic:
    del typing

    def generate(context: BaseContext, builder: ir.IRBuilder, sig: Signature, values: Sequence[ir.Value]) -> ir.Value:
        source, target = (get_pointer(context, builder, sig.args[i], values[i]) for i in (0, 1))
        rows = [builder.load(place, align=4) for place in _get_places(builder, source)[:8]]
        halves, pairs = emit_transposition(builder, rows), _get_places(builder, target)[:8]
        for lane in range(0, 8, 2):
            for half in (0, 8):
                order = [half + word for word in range(8)] + [LANES + half + word for word in range(8)]
                pair = builder.shuffle_vector(*halves[lane : lane + 2], ir.Constant(WORDS, order))
                builder.store(pair, pairs[(lane + half) // 2], align=1)
        return get_nothing(context)

    return types.void(state, digests), generate


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

absorb_blocks = cast(
    Callable[[_U32Array, NDArray[np.uint8], NDArray[np.int64], int, int, int], None],
    intrinsic(_type_absorb_blocks),
)
"""Chain 1 to 16 whole blocks of a chunk: the first 8 words of `state` are the chaining values, before and after.

The int64 places are where in flat uint8 data LANES inputs start, then LANES inputs that come next. All blocks have the
flags `mode`, the first also START, the last also `ending`.
"""

absorb_last = cast(
    Callable[[_U32Array, NDArray[np.uint8], NDArray[np.int64], int, int, int], None],
    intrinsic(_type_absorb_last),
)
"""Chain a block of `size` <= 64 bytes at each of LANES starts plus an offset, with its flags; 64 bytes are read."""

store_digests = cast(Callable[[_U32Array, NDArray[np.uint8]], None], intrinsic(_type_store_digests))
"""Write the first 8 words of a state as LANES digests of 32 bytes."""

store_lanes = cast(Callable[[_U32Array, _U32Array], None], intrinsic(_type_store_lanes))
"""Write a state (16 words, LANES) as LANES rows of 16 words."""
