"""A state on its way into an empty database: verified nodes chunk by chunk, and at the end what makes it a database.

Until `finish` there is no tip, so a node refuses to start on it; an import that was cut off goes on where it was. Which
headers and chunks are right is decided by who calls.
"""

from collections.abc import Sequence

from chain.errors import StorageError
from chain.header import Header
from chain.primitives import ZERO_HASH, Hash
from chain.storage.block_store import make_base_rows, make_imported_rows
from chain.storage.engine import Changes, CorruptDatabase, Engine
from chain.storage.rows import SealedRows
from chain.storage.state_nodes import StateNodes

_IMPORT, _CHUNK = b"import", b"import/"
_HEADERS_PER_WRITE = 4_096


def get_import_name(engine: Engine) -> Hash | None:
    """Return the name of the import that was cut off in a database, None when there is none; raises StorageError."""
    found = SealedRows(engine).get(_IMPORT)
    if found is not None and len(found) != len(ZERO_HASH):
        raise CorruptDatabase(f"{engine.place}: found an import's name of {len(found)} bytes, expected a hash")
    return None if found is None else Hash(found)


class SnapshotImport:
    """One snapshot's import into one engine, which the caller closes."""

    def __init__(self, engine: Engine, name: Hash) -> None:
        """Start or go on with the import called `name`; raises StorageError when there is anything else."""
        self._rows = SealedRows(engine)
        self._nodes = StateNodes(self._rows)
        found = self._rows.get(_IMPORT)
        if found is None and next(self._rows.iter_rows(b""), None) is not None:
            raise StorageError(f"{engine.place}: found a database, expected none to import into")
        if found not in (None, name):
            raise StorageError(f"{engine.place}: found another import half done; take an empty directory")
        if found is None:
            self._rows.write({_IMPORT: name})

    def has_chunk(self, number: int) -> bool:
        """Say whether a chunk's nodes are on disk."""
        return self._rows.get(_chunk_key(number)) is not None

    def put_chunk(self, number: int, nodes: dict[Hash, bytes]) -> None:
        """Keep the verified nodes of a chunk; raises StorageError."""
        self._rows.write(self._nodes.make_node_rows(nodes) | {_chunk_key(number): b""})

    def get_state_node(self, node_hash: Hash) -> bytes | None:
        """Return a node that is on disk already."""
        return self._nodes.get_state_node(node_hash)

    def finish(self, chain_id: Hash, headers: Sequence[Header]) -> None:
        """Make it a database whose head is the last of `headers`, genesis' first; raises StorageError."""
        for start in range(0, len(headers), _HEADERS_PER_WRITE):
            self._rows.write(make_imported_rows(headers[start : start + _HEADERS_PER_WRITE]))
        done: Changes = {key: None for key, _ in self._rows.iter_rows(_IMPORT)}
        self._rows.write(done | make_base_rows(chain_id, headers[-1]))


def _chunk_key(number: int) -> bytes:
    return _CHUNK + number.to_bytes(4, "big")
