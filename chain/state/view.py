"""A view of the state at one root: typed reads, and writes that stay in memory until they are committed.

A view never changes what it was made from. `fork` gives a view for one attempt, which `adopt` keeps and forgetting
drops. Records are decoded when they are first read and encoded when all is committed. It knows no rule of the ledger;
a `StateKey` carries the type that stands under it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from chain.codec import decode, encode
from chain.primitives import Hash
from chain.state.proof import StateProof, prove_key
from chain.state.tree import Leaf, NodeChanges, NodeSource, get_value, iter_leaves
from chain.state.update import update_tree, update_walked
from chain.state.walk import Walk, walk_down

VALUE_BYTES_MAX = 1024 * 1024

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StateKey(Generic[T]):
    """The bytes of a key and the record type of its value."""

    name: bytes
    record: type[T]


@dataclass(frozen=True, slots=True)
class StateKind(Generic[T]):
    """What the keys of all records of one type start with, and that type."""

    prefix: bytes
    record: type[T]


class StateView:
    """The state under one root with changes on top."""

    def __init__(self, root: Hash, nodes: NodeSource, base: "StateView | None" = None) -> None:
        """Look at `root` through `nodes`; a `base` is another view whose changes lie underneath."""
        self.root = root
        self._nodes = nodes
        self._base = base
        self._changes: dict[bytes, object | None] = {}
        # Forks look at the same root, so what one has read is true for all.
        self._read: dict[bytes, object | None] = {} if base is None else base._read
        self._walk: Walk | None = None

    def get(self, key: StateKey[T]) -> T | None:
        """Return the record under `key`, or None; raises StorageError."""
        view: StateView | None = self
        while view is not None:
            if key.name in view._changes:
                return cast("T | None", view._changes[key.name])
            view = view._base
        if key.name not in self._read:
            self._read[key.name] = _decode(key.record, get_value(self._nodes, self.root, key.name))
        return cast("T | None", self._read[key.name])

    def read_ahead(self, keys: Iterable[StateKey[T]]) -> None:
        """Read what stands under many keys at once, for `get` to find it at hand; raises StorageError."""
        wanted = {key.name: key for key in keys if key.name not in self._read}
        self._walk = walk_down(self._nodes, self.root, wanted)
        self._read |= {name: _decode(wanted[name].record, data) for name, data in self._walk.values.items()}

    def get_existing(self, key: StateKey[T]) -> T:
        """Return the record under a key that the ledger's own rules guarantee."""
        record = self.get(key)
        assert record is not None, f"{key.record.__name__} {key.name!r} is gone"
        return record

    def put(self, key: StateKey[T], record: T) -> None:
        """Set the record under `key`."""
        assert type(record) is key.record
        self._changes[key.name] = record

    def delete(self, key: StateKey[T]) -> None:
        """Remove what stands under `key`."""
        self._changes[key.name] = None

    def fork(self) -> "StateView":
        """Return a view of the same state whose changes stay its own."""
        return StateView(self.root, self._nodes, self)

    def adopt(self, fork: "StateView") -> None:
        """Take over the changes of a fork of this view."""
        assert fork._base is self
        self._changes.update(fork._changes)

    def commit(self) -> tuple[Hash, NodeChanges]:
        """Return the root after all changes and the nodes that come and go with it; this view stays as it is."""
        changes = self._collect_changes()
        values = {name: None if record is None else encode(record) for name, record in changes.items()}
        walk = self._walk
        update = update_walked(walk, values) if walk else update_tree(self._nodes, self.root, values)
        return update.root, update.nodes

    def prove(self, key: StateKey[T]) -> StateProof:
        """Return the proof of what `key` holds under `root`, without uncommitted changes; raises StorageError."""
        return prove_key(self._nodes, self.root, key.name)

    def iter_leaves(self, first: Hash) -> Iterator[Leaf]:
        """Yield every committed leaf from the path `first` on; raises StorageError."""
        return iter_leaves(self._nodes, self.root, first)

    def iter_records(self, prefix: bytes, record: type[T]) -> Iterator[tuple[bytes, T]]:
        """Yield (rest of the key, record) of every committed key that starts with `prefix`, in order of paths.

        Reads the whole tree: for audits and tools, never for a block.
        """
        for leaf in iter_leaves(self._nodes, self.root):
            if leaf.key.startswith(prefix):
                yield leaf.key[len(prefix) :], decode(record, leaf.value, VALUE_BYTES_MAX)

    def _collect_changes(self) -> dict[bytes, object | None]:
        below = self._base._collect_changes() if self._base is not None else {}
        return below | self._changes


def _decode(record: type[T], data: bytes | None) -> T | None:
    return None if data is None else decode(record, data, VALUE_BYTES_MAX)
