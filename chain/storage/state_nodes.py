"""The nodes of the state tree as rows, and which of them may go.

Every step that the state takes, forward or back to a fork, is a transition with a number. A node's row carries the
number of its last birth, and a transition leaves a row that names what went with it. Once no kept tree is older than a
transition, what went with it is deleted, unless it was born again since. So the rows are exactly the nodes of the kept
trees. It knows no block. Source: docs/adr/0030-states-are-pruned.md.
"""

from collections.abc import Iterator, Mapping

from chain.primitives import Hash
from chain.state.tree import NodeChanges, verify_node
from chain.storage.engine import Changes, CorruptDatabase
from chain.storage.rows import SealedRows

CACHED_NODES = 131_072
"""Nodes in memory, of the youngest and the older half each: some 50 MB, the upper levels and what blocks touch."""

PRUNED_NODES_MIN = 4_096
"""Nodes that a write deletes at most beside twice as many as it makes stale; so it is bounded, and catches up."""

_NODE, _STALE = b"s", b"p"
_NUMBER_BYTES = 8
_HASH_BYTES = 32


class StateNodes:
    """Nodes on disk behind a cache."""

    def __init__(self, rows: SealedRows) -> None:
        """Read and write rows of `rows`."""
        self._rows = rows
        # Two dictionaries and no lock: readers in other threads see one or the other, and both hold only the truth.
        self._young: dict[Hash, bytes] = {}
        self._old: dict[Hash, bytes] = {}

    def get(self, node_hash: Hash) -> bytes | None:
        """Return a node's bytes, verified, or None; raises CorruptDatabase, StorageError."""
        data = self._young.get(node_hash)
        if data is None:
            data = self._old.get(node_hash) or self._read(node_hash)
            if data is not None:
                self._remember(node_hash, data)
        return data

    def make_birth_rows(self, number: int, nodes: Mapping[Hash, bytes | None]) -> Changes:
        """Return the rows of the nodes that come with the transition called `number`."""
        born = number.to_bytes(_NUMBER_BYTES, "big")
        return {_NODE + node_hash: born + data for node_hash, data in nodes.items() if data is not None}

    def make_rows(self, number: int, nodes: NodeChanges) -> Changes:
        """Return all rows of the transition called `number`."""
        stale = b"".join(node_hash for node_hash, data in nodes.items() if data is None)
        return self.make_birth_rows(number, nodes) | {_STALE + number.to_bytes(_NUMBER_BYTES, "big"): stale}

    def make_pruning_rows(self, pruned: int, last: int, changes: Changes) -> tuple[Changes, int]:
        """Return the rows that delete what went with transitions above `pruned` up to `last`, and how far they reach.

        `changes` are the rows that are written beside them, whose births count already.
        """
        stale_bytes = sum(len(row or b"") for key, row in changes.items() if key.startswith(_STALE))
        budget = PRUNED_NODES_MIN + 2 * stale_bytes // _HASH_BYTES
        rows: Changes = {}
        for number in range(pruned + 1, last + 1):
            key = _STALE + number.to_bytes(_NUMBER_BYTES, "big")
            names = self._get(key, changes)
            if names is None or len(names) % _HASH_BYTES:
                raise CorruptDatabase(f"{self._rows.place}: the row of transition {number} is lost or damaged")
            due, later = names[: budget * _HASH_BYTES], names[budget * _HASH_BYTES :]
            budget -= len(due) // _HASH_BYTES
            for place in range(0, len(due), _HASH_BYTES):
                row = _NODE + due[place : place + _HASH_BYTES]
                birth = self._get(row, changes)
                if birth is not None and int.from_bytes(birth[:_NUMBER_BYTES], "big") < number:
                    rows[row] = None
            rows[key] = later or None
            if later:
                return rows, number - 1
        # A head on a shorter branch reaches less deep than what is gone already.
        return rows, max(pruned, last)

    def remember(self, nodes: NodeChanges) -> None:
        """Keep nodes at hand that were written just now."""
        for node_hash, data in nodes.items():
            if data is not None:
                self._remember(node_hash, data)

    def iter_names(self) -> Iterator[Hash]:
        """Yield the name of every node on disk, in order."""
        for key, _ in self._rows.iter_rows(_NODE):
            yield Hash(key[1:])

    def iter_stale_names(self) -> Iterator[Hash]:
        """Yield the names of the nodes that went with transitions not pruned yet, some of them born again since."""
        for _, names in self._rows.iter_rows(_STALE):
            if len(names) % _HASH_BYTES:
                raise CorruptDatabase(f"{self._rows.place}: found {len(names)} bytes of names, expected whole hashes")
            for place in range(0, len(names), _HASH_BYTES):
                yield Hash(names[place : place + _HASH_BYTES])

    def _read(self, node_hash: Hash) -> bytes | None:
        row = self._rows.get(_NODE + node_hash)
        if row is None:
            return None
        verify_node(node_hash, row[_NUMBER_BYTES:])
        return row[_NUMBER_BYTES:]

    def _remember(self, node_hash: Hash, data: bytes) -> None:
        self._young[node_hash] = data
        if len(self._young) >= CACHED_NODES // 2:
            self._old, self._young = self._young, {}

    def _get(self, key: bytes, changes: Changes) -> bytes | None:
        return changes[key] if key in changes else self._rows.get(key)
