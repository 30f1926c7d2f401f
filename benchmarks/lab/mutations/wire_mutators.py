"""Mutators that know msgpack: other types and headers, huge lengths, integers at bounds, items dropped and moved.

An object is unpacked, one node of it is chosen, and the bytes put in that node's place are written freely, as the
project's own codec never would. They know no record: whatever is an array of something can be altered.
"""

import struct
from collections.abc import Callable
from random import Random

import msgpack

from benchmarks.lab.mutations.target import Mutator

Tree = int | bytes | str | list["Tree"]
MakeRaw = Callable[[Random, Tree, Tree], bytes]
"""Returns what to write in the place of a node, given that node and one of another object."""

BOUNDARIES = (
    *(0, 1, -1, -128, 127, 128, 255, 256, 65_535, 65_536, 2**31 - 1, 2**31, 2**32 - 1, 2**32),
    *(-(2**31), -(2**63), 2**63 - 1, 2**63, 2**64 - 1),
)
NESTING_MAX = 16
"""Of the binary logarithm of how many arrays stand in each other, or side by side."""
DESCENT = 0.9
"""The chance to go one level deeper where there is one."""

_PLACEHOLDER = b"the node that is replaced"
_PACKED_PLACEHOLDER: bytes = msgpack.packb(_PLACEHOLDER, use_bin_type=True)


def pack(tree: Tree) -> bytes:
    """Return the msgpack bytes of a tree in their shortest form."""
    packed: bytes = msgpack.packb(tree, use_bin_type=True)
    return packed


def unpack(data: bytes) -> Tree:
    """Return the tree of a valid object."""
    tree: Tree = msgpack.unpackb(data, raw=False)
    return tree


def alter_node(make_raw: MakeRaw, *, is_list: bool = False) -> Mutator:
    """Return the mutator that replaces one node, an array if `is_list`, by what `make_raw` writes."""

    def mutate(rng: Random, data: bytes, other: bytes) -> bytes:
        holder: list[Tree] = [unpack(data)]
        other_holder: list[Tree] = [unpack(other)]
        parent, index = _choose(rng, holder, is_list=is_list)
        other_parent, other_index = _choose(rng, other_holder, is_list=is_list)
        raw = make_raw(rng, parent[index], other_parent[other_index])
        parent[index] = _PLACEHOLDER
        return pack(holder[0]).replace(_PACKED_PLACEHOLDER, raw, 1)

    return mutate


def _choose(rng: Random, holder: list[Tree], *, is_list: bool) -> tuple[list[Tree], int]:
    """Return the array that holds a node, and the node's index in it."""
    parent, index = holder, 0
    while isinstance(node := parent[index], list) and node and rng.random() < DESCENT:
        following = rng.randrange(len(node))
        if is_list and not isinstance(node[following], list):
            break
        parent, index = node, following
    return parent, index


def move_to_bound(rng: Random, node: Tree, _other: Tree) -> bytes:
    """Write an integer at a bound of some width, or bytes of a string's size that read as one."""
    if isinstance(node, bytes) and node:
        value = rng.choice((0, 1, 2 ** (8 * len(node)) - 1, 2 ** (8 * len(node) - 1), int.from_bytes(node, "big") ^ 1))
        return pack(value.to_bytes(len(node), "big"))
    near = (node + 1, node - 1) if isinstance(node, int) and 0 < node < 2**63 else ()
    return pack(rng.choice((*BOUNDARIES, *near)))


def change_type(rng: Random, node: Tree, other: Tree) -> bytes:
    """Write the node as something of another type: nothing, a map, a float, an extension, text, an array around it."""
    packed = pack(node)
    writers: tuple[Callable[[], bytes], ...] = (
        lambda: b"\xc0",
        lambda: rng.choice((b"\xc2", b"\xc3", b"\xc1")),
        lambda: b"\x80",
        lambda: b"\x81" + packed + pack(other),
        lambda: struct.pack(">Bd", 0xCB, rng.choice((0.0, 1.0, float("nan"), float("inf"), -1e300))),
        lambda: struct.pack(">Bf", 0xCA, 1.0),
        lambda: b"\xd4\x00" + bytes([rng.randrange(256)]),
        lambda: b"\xc7\x04\xff" + rng.randbytes(4),
        lambda: pack([node]),
        lambda: pack([]),
        lambda: pack(packed),
        lambda: pack(rng.randbytes(8)),
        lambda: pack(rng.randrange(2**64)),
        lambda: pack(rng.choice(("", "text", packed[:200].hex()))),
        lambda: _write_header(0xDB, min(len(packed), 2**16)) + packed,
    )
    return rng.choice(writers)()


def lengthen_header(rng: Random, node: Tree, _other: Tree) -> bytes:
    """Write the same value with a longer header than it needs."""
    if isinstance(node, int):
        wide = struct.pack(">Bq", 0xD3, node) if node < 2**63 else struct.pack(">BQ", 0xCF, node)
        return rng.choice((wide, struct.pack(">BI", 0xCE, node % 2**32), struct.pack(">BH", 0xCD, node % 2**16)))
    if isinstance(node, list):
        items = b"".join(map(pack, node))
        return rng.choice((_write_header(0xDD, len(node)), struct.pack(">BH", 0xDC, len(node) % 2**16))) + items
    text = node.encode() if isinstance(node, str) else node
    short = struct.pack(">BH", 0xC5, len(text) % 2**16)
    return rng.choice((_write_header(0xC6, len(text)), short)) + text


def declare_huge_length(rng: Random, node: Tree, _other: Tree) -> bytes:
    """Write a header that promises far more than follows."""
    length = rng.choice((2**16, 2**20, 2**24, 2**31 - 1, 2**31, 2**32 - 1))
    header = _write_header(rng.choice((0xDD, 0xDF, 0xC6, 0xDB, 0xC9)), length)
    return header + rng.choice((b"", pack(node), b"\xc0" * 64, rng.randbytes(64)))


def nest(rng: Random, _node: Tree, _other: Tree) -> bytes:
    """Write arrays in arrays, maps in maps, or as many empty arrays as fit a message, side by side."""
    count = 1 << rng.randrange(NESTING_MAX + 1)
    return rng.choice(
        (b"\x91" * count + b"\xc0", b"\x81" * count, _write_header(0xDD, count) + b"\x90" * count, b"\x9f" * count)
    )


def drop_item(rng: Random, node: Tree, _other: Tree) -> bytes:
    """Leave an item of an array out."""
    items = _get_items(node)
    del items[rng.randrange(len(items))]
    return pack(items)


def double_item(rng: Random, node: Tree, _other: Tree) -> bytes:
    """Put an item of an array there twice, or as often as a short message can carry."""
    items = _get_items(node)
    place = rng.randrange(len(items))
    times = rng.choice((1, 1, 2, 64))
    return pack(items[:place] + [items[place]] * times + items[place:])


def move_items(rng: Random, node: Tree, _other: Tree) -> bytes:
    """Swap two items of an array, turn it round, or shuffle it."""
    items = _get_items(node)
    first, second = rng.randrange(len(items)), rng.randrange(len(items))
    swapped = list(items)
    swapped[first], swapped[second] = items[second], items[first]
    return pack(rng.choice((swapped, items[::-1], rng.sample(items, len(items)))))


def take_node(_rng: Random, _node: Tree, other: Tree) -> bytes:
    """Put any node of another object there."""
    return pack(other)


def take_same_field(rng: Random, data: bytes, other: bytes) -> bytes:
    """Take one field from another valid object, at the same place of its record."""
    tree, source = unpack(data), unpack(other)
    holder: list[Tree] = [tree]
    parent, sources, index = holder, [source], 0
    while True:
        node, given = parent[index], sources[index]
        is_shared = isinstance(node, list) and isinstance(given, list) and node and given
        if not is_shared or rng.random() > DESCENT:
            parent[index] = given
            return pack(holder[0])
        assert isinstance(node, list)
        assert isinstance(given, list)
        parent, sources, index = node, given, rng.randrange(min(len(node), len(given)))


def resize_bytes(rng: Random, node: Tree, _other: Tree) -> bytes:
    """Write a byte string longer or shorter than it was."""
    text = node if isinstance(node, bytes) else pack(node)
    size_bytes = rng.choice((0, 1, len(text) - 1, len(text) + 1, 2 * len(text), 31, 33, 1025, 65_537))
    return pack((text + bytes(max(0, size_bytes - len(text))))[: max(0, size_bytes)])


def _get_items(node: Tree) -> list[Tree]:
    """Return the items of an array, or what stands there as the one item of an array."""
    return list(node) if isinstance(node, list) and node else [node]


def _write_header(kind: int, length: int) -> bytes:
    return struct.pack(">BI", kind, length)


WIRE_MUTATORS: dict[str, Mutator] = {
    "integer at a bound": alter_node(move_to_bound),
    "other type": alter_node(change_type),
    "longer header": alter_node(lengthen_header),
    "huge length": alter_node(declare_huge_length),
    "nesting": alter_node(nest),
    "item dropped": alter_node(drop_item, is_list=True),
    "item doubled": alter_node(double_item, is_list=True),
    "items moved": alter_node(move_items, is_list=True),
    "any node of another": alter_node(take_node),
    "field of another": take_same_field,
    "bytes resized": alter_node(resize_bytes),
}
