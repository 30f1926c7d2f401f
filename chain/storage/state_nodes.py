"""The nodes of the state tree as rows, and which of them may go.

Every step that the state takes, forward or back to a fork, is a transition with a number, which leaves a row that names
what went with it. Once no kept tree is older than a transition, what went with it is deleted, unless it was born again
since: what comes while it still lies on disk is named by another row. So the rows are exactly the nodes of the kept
trees. It knows no block. Source: docs/adr/0030-states-are-pruned.md.
"""

from collections.abc import Iterator, Mapping

from chain.primitives import Hash
from chain.state.tree import NodeChanges, verify_node
from chain.storage.engine import Changes, CorruptDatabase
from chain.storage.rows import SealedRows
from chain.storage.stale_filter import StaleFilter

CACHED_NODES = 131_072
"""Nodes in memory, of the youngest and the older half each: some 50 MB, the upper levels and what blocks touch."""

PRUNED_NODES_MIN = 4_096
"""Nodes that a write deletes at most beside twice as many as it makes stale; so it is bounded, and catches up."""

_NODE, _STALE, _REBORN = b"s", b"p", b"r"
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
        self._stale: StaleFilter | None = None
        self._reborn: dict[Hash, int] | None = None

    def get_state_node(self, node_hash: Hash) -> bytes | None:
        """Return a node's bytes, verified, or None; raises CorruptDatabase, StorageError."""
        data = self._young.get(node_hash)
        if data is None:
            data = self._old.get(node_hash) or self._read(node_hash)
            if data is not None:
                self._young[node_hash] = data
                self._age()
        return data

    def make_node_rows(self, nodes: Mapping[Hash, bytes | None]) -> Changes:
        """Return the rows of the nodes that come."""
        return {_NODE + node_hash: data for node_hash, data in nodes.items() if data is not None}

    def make_rows(self, number: int, nodes: NodeChanges, changes: Changes) -> Changes:
        """Return all rows of the transition called `number`; `changes` are those of the same write before it."""
        stale = self._load_stale()
        come = [node_hash for node_hash, data in nodes.items() if data is not None]
        candidates = [_NODE + name for name in stale.find_candidates(come)]
        reborn = [Hash(key[1:]) for key in candidates if self._get(key, changes) is not None]
        gone = [node_hash for node_hash, data in nodes.items() if data is None]
        stale.add(gone)
        if self._reborn is not None:
            self._reborn |= dict.fromkeys(reborn, number)
        rows = self.make_node_rows(nodes)
        rows[_make_key(_STALE, number)] = b"".join(gone)
        if reborn:
            rows[_make_key(_REBORN, number)] = b"".join(reborn)
        return rows

    def make_pruning_rows(self, pruned: int, last: int, changes: Changes) -> tuple[Changes, int]:
        """Return the rows that delete what went with transitions above `pruned` up to `last`, and how far they reach.

        `changes` are the rows that are written beside them, whose births count already.
        """
        stale_bytes = sum(len(row or b"") for key, row in changes.items() if key.startswith(_STALE))
        budget = PRUNED_NODES_MIN + 2 * stale_bytes // _HASH_BYTES
        rows: Changes = {}
        for number in range(pruned + 1, last + 1):
            births = self._load_births(changes)
            key = _make_key(_STALE, number)
            names = self._get(key, changes)
            if names is None or len(names) % _HASH_BYTES:
                raise CorruptDatabase(f"{self._rows.place}: the row of transition {number} is lost or damaged")
            due, later = names[: budget * _HASH_BYTES], names[budget * _HASH_BYTES :]
            budget -= len(due) // _HASH_BYTES
            rows |= {_NODE + name: None for name in _cut_names(due) if births.get(name, 0) < number}
            rows[key] = later or None
            if later:
                return rows, number - 1
            for name in [name for name, birth in births.items() if birth == number]:
                del births[name]
            rows[_make_key(_REBORN, number)] = None
        # A head on a shorter branch reaches less deep than what is gone already.
        return rows, max(pruned, last)

    def remember(self, nodes: NodeChanges, pruned: int, last: int) -> None:
        """Keep nodes at hand that were written just now, with `last` up to which transition and `pruned` behind it."""
        for node_hash, data in nodes.items():
            if data is None:
                # What went is of no use to the next block, and would push out what is.
                self._young.pop(node_hash, None)
            else:
                self._young[node_hash] = data
        self._age()
        self._load_stale().forget(pruned, last)

    def iter_names(self) -> Iterator[Hash]:
        """Yield the name of every node on disk, in order."""
        for key, _ in self._rows.iter_rows(_NODE):
            yield Hash(key[1:])

    def iter_stale_names(self) -> Iterator[Hash]:
        """Yield the names of the nodes that went with transitions not pruned yet, some of them born again since."""
        for _, names in self._rows.iter_rows(_STALE):
            if len(names) % _HASH_BYTES:
                raise CorruptDatabase(f"{self._rows.place}: found {len(names)} bytes of names, expected whole hashes")
            yield from _cut_names(names)

    def _read(self, node_hash: Hash) -> bytes | None:
        data = self._rows.get(_NODE + node_hash)
        if data is not None:
            verify_node(node_hash, data)
        return data

    def _age(self) -> None:
        if len(self._young) >= CACHED_NODES // 2:
            self._old, self._young = self._young, {}

    def _load_stale(self) -> StaleFilter:
        """Return the filter, made from what lies on disk when it is first asked for."""
        if self._stale is None:
            self._stale = StaleFilter()
            for _, names in self._rows.iter_rows(_STALE):
                if self._stale.is_full:
                    break
                self._stale.add(_cut_names(names))
        return self._stale

    def _load_births(self, changes: Changes) -> dict[Hash, int]:
        """Return the last birth of each node that was born again, `changes` included; read when first asked for."""
        if self._reborn is None:
            rows = [*self._rows.iter_rows(_REBORN), *(row for row in changes.items() if row[0].startswith(_REBORN))]
            births = ((name, key) for key, names in rows for name in _cut_names(names or b""))
            self._reborn = {name: int.from_bytes(key[1:], "big") for name, key in births}
        return self._reborn

    def _get(self, key: bytes, changes: Changes) -> bytes | None:
        return changes[key] if key in changes else self._rows.get(key)


def _make_key(prefix: bytes, number: int) -> bytes:
    return prefix + number.to_bytes(_NUMBER_BYTES, "big")


def _cut_names(names: bytes) -> list[Hash]:
    return [Hash(names[place : place + _HASH_BYTES]) for place in range(0, len(names), _HASH_BYTES)]
