"""Many keys looked up in one walk down the state tree, so that nodes which they share are read once.

What `chain.state.tree.get_value` finds one by one is found here for a whole block at once. It knows no record.
"""

from collections.abc import Iterable

from chain.primitives import Hash
from chain.state.tree import EMPTY_ROOT, LEAF, NodeSource, compute_path, decode_leaf, get_bit, load_node_bytes


class SeenNodes:
    """Nodes that were read before, over those of a source: a change walks down where reading went."""

    def __init__(self, source: NodeSource) -> None:
        """Start with nothing seen of `source`."""
        self._source = source
        self.seen: dict[Hash, bytes] = {}

    def get_state_node(self, node_hash: Hash) -> bytes | None:
        """Return a node's bytes, or None."""
        return self.seen.get(node_hash) or self._source.get_state_node(node_hash)


_Wanted = list[tuple[Hash, bytes]]
"""Paths and keys, in the order of paths."""


def find_values(nodes: SeenNodes, root: Hash, keys: Iterable[bytes]) -> dict[bytes, bytes | None]:
    """Return the value of each of `keys` under `root`, None where there is none; raises StorageError.

    All nodes on the way are `seen` afterwards.
    """
    wanted = sorted((compute_path(key), key) for key in set(keys))
    values: dict[bytes, bytes | None] = dict.fromkeys([key for _, key in wanted])
    pending: list[tuple[bytes, int, _Wanted]] = [(root, 0, wanted)] if wanted else []
    while pending:
        node_hash, depth, below = pending.pop()
        if node_hash == EMPTY_ROOT:
            continue
        data = nodes.seen[Hash(node_hash)] = load_node_bytes(nodes, Hash(node_hash))
        if data[0] == LEAF:
            leaf = decode_leaf(data)
            if leaf.key in values:
                values[leaf.key] = leaf.value
            continue
        cut = _find_cut(below, depth)
        if cut < len(below):
            pending.append((data[33:], depth + 1, below[cut:]))
        if cut:
            pending.append((data[1:33], depth + 1, below[:cut]))
    return values


def _find_cut(wanted: _Wanted, depth: int) -> int:
    """Return how many of the ordered `wanted` go left below `depth`."""
    low, high = 0, len(wanted)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if get_bit(wanted[middle][0], depth) else (middle + 1, high)
    return low
