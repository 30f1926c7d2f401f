"""Many keys followed down the state tree in one walk: what stands under them, and the way that a change goes back up.

What `chain.state.tree.get_value` finds one by one is found here for a whole block at once, and nodes which keys share
are read once. Bytes, integers and flat lists all the way: this is every block's hot path. It knows no record.
"""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field

from chain.primitives import Hash
from chain.state.tree import EMPTY_ROOT, LEAF, PATH_BITS, NodeSource, compute_path, get_key_end, load_node_bytes

LEFT, RIGHT, BOTH, END = range(4)
"""Where a walk goes on below an inner node; it ends at a leaf, or where nothing stands."""

_HALVES = tuple(1 << (PATH_BITS - 1 - depth) for depth in range(PATH_BITS))
"""What lies, at each depth, between the lowest path of a subtree and the lowest of its right child."""


@dataclass(frozen=True, slots=True)
class Walk:
    """The nodes of one tree on the way to some keys, which stand in the order of their `paths`.

    A step is a node's name, its stored bytes and where the walk goes on, in three lists of equal length. Each stands
    before those below it, left before right. Steps that are ends share the keys out in order: for each, `ends` has
    which key is its first, and `depths` how many inner nodes lie above it.
    """

    root: Hash
    nodes: NodeSource
    paths: list[Hash]
    keys: list[bytes]
    values: dict[bytes, bytes | None]
    names: list[Hash] = field(default_factory=list)
    datas: list[bytes] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)


def walk_down(nodes: NodeSource, root: Hash, keys: Iterable[bytes]) -> Walk:
    """Return the walk to `keys` under `root`, with the value of each, None where there is none; raises StorageError."""
    by_path = {compute_path(key): key for key in keys}
    paths = sorted(by_path)
    walk = Walk(root, nodes, paths, [by_path[path] for path in paths], dict.fromkeys(by_path.values()))
    ordered = [int.from_bytes(path, "big") for path in paths]
    # Three lists, as tens of thousands of tuples would set off the collection of garbage.
    take_name, take_data, take_turn = walk.names.append, walk.datas.append, walk.turns.append
    pending = [(root, 0, 0, 0, len(paths))] if paths else []
    while pending:
        name, depth, lowest, low, high = pending.pop()
        while True:
            data = b"" if name == EMPTY_ROOT else nodes.get_state_node(name) or load_node_bytes(nodes, name)
            take_name(name)
            take_data(data)
            if not data or data[0] == LEAF:
                break
            middle = lowest + _HALVES[depth]
            cut = bisect_left(ordered, middle, low, high)
            depth += 1
            if cut == high:
                take_turn(LEFT)
                name = Hash(data[1:33])
            elif cut == low:
                take_turn(RIGHT)
                name, lowest = Hash(data[33:]), middle
            else:
                take_turn(BOTH)
                pending.append((Hash(data[33:]), depth, middle, cut, high))
                name, high = Hash(data[1:33]), cut
        take_turn(END)
        walk.ends.append(low)
        walk.depths.append(depth)
        # Nothing is no leaf, though it could be taken for that of the empty key.
        if data and (key := data[3 : get_key_end(data)]) in walk.values:
            walk.values[key] = data[3 + len(key) :]
    return walk
