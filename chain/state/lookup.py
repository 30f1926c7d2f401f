"""Many keys looked up in one walk down the state tree, so that nodes which they share are read once.

What `chain.state.tree.get_value` finds one by one is found here for a whole block at once. It knows no record.
"""

from collections.abc import Iterable

from chain.primitives import Hash
from chain.state.tree import EMPTY_ROOT, LEAF, NodeSource, compute_path, decode_leaf, find_cut, load_node_bytes


class SeenNodes:
    """Nodes that were read before, over those of a source: a change walks down where reading went."""

    def __init__(self, source: NodeSource) -> None:
        """Start with nothing seen of `source`."""
        self._source = source
        self._seen: dict[Hash, bytes] = {}

    def get_state_node(self, node_hash: Hash) -> bytes | None:
        """Return a node's bytes, or None."""
        return self._seen.get(node_hash) or self._source.get_state_node(node_hash)

    def load(self, node_hash: Hash) -> bytes:
        """Return a node's bytes, seen from now on; raises StorageError when it is missing."""
        data = self._seen[node_hash] = load_node_bytes(self._source, node_hash)
        return data


def find_values(nodes: SeenNodes, root: Hash, keys: Iterable[bytes]) -> dict[bytes, bytes | None]:
    """Return the value of each of `keys` under `root`, None where there is none; raises StorageError.

    All nodes on the way are `seen` afterwards.
    """
    wanted = sorted([(int.from_bytes(compute_path(key), "big"), key) for key in set(keys)])
    values: dict[bytes, bytes | None] = dict.fromkeys([key for _, key in wanted])
    pending = [(root, 0, 0, len(wanted))] if wanted else []
    while pending:
        node_hash, depth, low, high = pending.pop()
        while node_hash != EMPTY_ROOT:
            data = nodes.load(node_hash)
            if data[0] == LEAF:
                leaf = decode_leaf(data)
                if leaf.key in values:
                    values[leaf.key] = leaf.value
                break
            cut = find_cut(wanted, depth, low, high)
            depth += 1
            if low < cut < high:
                pending.append((Hash(data[33:]), depth, cut, high))
                high = cut
            node_hash = Hash(data[33:] if cut == low else data[1:33])
    return values
