"""Rows of the database as the block store reads them, and nodes of the state tree.

Each row is sealed to its key as the store itself would, so what a decoder makes of wrong content shows; that a seal
holds is one decoder more. The rows lie in memory.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from random import Random

from benchmarks.lab.fuzz.decoder import Decoder, Unfaithful, hold_canonical
from benchmarks.lab.fuzz.drawing import Scale, draw_record
from benchmarks.lab.fuzz.record_decoders import RECORD_MUTATORS
from benchmarks.lab.mutations.byte_mutators import BYTE_MUTATORS
from chain.block import Block
from chain.codec import decode, encode
from chain.errors import DecodeError, InvalidProof, StorageError
from chain.hashing import sha256
from chain.header import Header
from chain.primitives import Hash
from chain.state.snapshot import CHUNK_BYTES_MAX, StateChunk, make_chunk, verify_chunk
from chain.state.tree import EMPTY_ROOT, Leaf, MemoryNodes, compute_leaf_hash, decode_leaf, encode_leaf, load_node
from chain.state.update import update_tree
from chain.storage.block_store import BlockStore
from chain.storage.engine import Changes
from chain.storage.rows import SealedRows
from chain.storage.snapshot_import import get_import_name
from chain.storage.state_nodes import StateNodes

_NAME = Hash(bytes(range(32)))
_NUMBER = bytes(7) + b"\x09"


@dataclass(slots=True)
class Rows:
    """An engine of one table in memory."""

    rows: dict[bytes, bytes] = field(default_factory=dict)
    place: str = "memory"

    def get(self, key: bytes) -> bytes | None:
        """Return the value under `key`, or None."""
        return self.rows.get(key)

    def iter_rows(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield rows in order."""
        yield from sorted((key, value) for key, value in self.rows.items() if key.startswith(prefix))

    def write(self, changes: Changes) -> None:
        """Set rows, or remove them."""
        for key, value in changes.items():
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value

    def close(self) -> None:
        """Let go of nothing."""


def make_row_decoders() -> tuple[Decoder, ...]:
    """Return the decoders of rows."""
    tip = _NAME + _NUMBER * 4
    reads: tuple[tuple[str, bytes, Callable[[BlockStore], bytes | None], tuple[bytes, ...]], ...] = (
        ("tip", b"tip", _read_tip, (tip, bytes(64))),
        ("base", b"base", lambda store: store.get_base_height().to_bytes(8, "big"), (_NUMBER, bytes(8))),
        ("header", b"h" + _NAME, lambda store: _encode(store.get_header(_NAME)), _draw(Header)),
        ("block", b"b" + _NAME, lambda store: _encode(store.get_block(_NAME)), _draw(Block)),
        ("transaction", b"t" + _NAME, _read_index, (_NAME, bytes(32))),
    )
    rows = (
        Decoder(f"chain.storage.row.{name}", _hold_row(key, read), partial(tuple[bytes, ...], samples), RECORD_MUTATORS,
                (StorageError,))
        for name, key, read, samples in reads
    )  # fmt: skip
    return (
        *rows,
        Decoder("chain.storage.row.height", _read_height, lambda: (_NAME + _NUMBER, bytes(40)), BYTE_MUTATORS,
                (StorageError,)),
        Decoder("chain.storage.row.stale", _read_stale, lambda: (b"", _NAME, _NAME * 3), BYTE_MUTATORS,
                (StorageError,)),
        Decoder("chain.storage.row.import", _read_import, lambda: (_NAME, bytes(32)), BYTE_MUTATORS, (StorageError,)),
        Decoder("chain.storage.row.node", hold_canonical(_read_node, lambda row: row), _list_nodes, BYTE_MUTATORS,
                (StorageError,)),
        Decoder("chain.state.snapshot.verify_chunk", _verify_chunk, _list_chunks, RECORD_MUTATORS,
                (DecodeError, InvalidProof)),
        Decoder("chain.storage.rows.sealed", _read_sealed, lambda: (_seal(b"tip", tip), _seal(b"tip", b"")),
                BYTE_MUTATORS, (StorageError,)),
    )  # fmt: skip


def _hold_row(key: bytes, read: Callable[[BlockStore], bytes | None]) -> Callable[[bytes], None]:
    """Return the judge of a row's content: what the store reads must be all that stands there."""

    def judge(data: bytes) -> None:
        found = read(BlockStore(_make_rows({key: data})))
        if found != data:
            raise Unfaithful(f"found {data[:80].hex()} accepted, expected {(found or b'nothing')[:80].hex()}")

    return judge


def _make_rows(rows: Changes) -> Rows:
    engine = Rows()
    SealedRows(engine).write(rows)
    return engine


def _read_tip(store: BlockStore) -> bytes:
    tip = store.get_tip()
    numbers = (tip.height, tip.generation, tip.transitions, tip.pruned)
    return tip.hash + b"".join(number.to_bytes(8, "big") for number in numbers)


def _read_index(store: BlockStore) -> bytes | None:
    found = store.get_transaction_block(_NAME)
    return found[:32].ljust(32, b"\x00") if found is not None else None


def _read_height(data: bytes) -> None:
    """Read what stands at a height: a block's name and the number of a transition, and nothing else."""
    height = int.from_bytes(_NUMBER, "big")
    store = BlockStore(_make_rows({b"n" + _NUMBER: data, b"tip": _NAME + _NUMBER * 4}))
    found = store.get_hash_at_height(height)
    store.is_state_kept(height)
    if found != data[:32] or len(data) != 40:
        raise Unfaithful(f"found {len(data)} bytes accepted, expected 40")


def _encode(record: Header | Block | None) -> bytes | None:
    return None if record is None else encode(record)


def _draw(record: type) -> tuple[bytes, ...]:
    rng = Random(f"rows:{record.__name__}")
    return tuple(encode(draw_record(record, rng, scale)) for scale in (Scale(40, 2), Scale(300, 8)))


def _read_stale(data: bytes) -> None:
    """Prune what a transition left behind; raises StorageError."""
    rows = SealedRows(_make_rows({b"p" + _NUMBER: data}))
    number = int.from_bytes(_NUMBER, "big")
    names = list(StateNodes(rows).iter_stale_names())
    StateNodes(rows).make_pruning_rows(number - 1, number, {})
    if any(len(name) != len(_NAME) for name in names):
        raise Unfaithful("found the name of a node that is none accepted")


def _read_import(data: bytes) -> None:
    found = get_import_name(_make_rows({b"import": data}))
    if found is None or len(found) != len(_NAME):
        raise Unfaithful(f"found {data[:40].hex()} accepted as the name of an import, expected 32 bytes")


def _read_node(row: bytes) -> bytes:
    """Return the row of the node that is read where a node lies under the name that its content has."""
    leaf = decode_leaf(row)
    names = {sha256(row), compute_leaf_hash(sha256(leaf.key), sha256(leaf.value))}
    store = BlockStore(_make_rows({b"s" + name: row for name in names}))
    for name in sorted(names):
        try:
            node = load_node(store, name)
        except StorageError:
            continue
        return encode_leaf(node.key, node.value) if isinstance(node, Leaf) else b"\x01" + node.left + node.right
    raise StorageError("found no node")


def _list_nodes() -> tuple[bytes, ...]:
    leaf = encode_leaf(b"a/key", b"value")
    return leaf, encode_leaf(b"", b""), b"\x01" + _NAME * 2


@cache
def _grow_tree() -> tuple[Hash, MemoryNodes]:
    """Return the root and the nodes of a small state."""
    update = update_tree(MemoryNodes(), EMPTY_ROOT, {bytes([key]) * 9: bytes([key]) * key for key in range(1, 20)})
    return update.root, MemoryNodes(update.nodes)


def _verify_chunk(data: bytes) -> None:
    """Verify a chunk of that state; raises DecodeError, InvalidProof, and Unfaithful where it shows another's nodes."""
    root, nodes = _grow_tree()
    shown = verify_chunk(root, decode(StateChunk, data, CHUNK_BYTES_MAX))
    if any(nodes.get_state_node(name) != node for name, node in shown.items()):
        raise Unfaithful("found nodes accepted that are not the state's")


def _list_chunks() -> tuple[bytes, ...]:
    root, nodes = _grow_tree()
    return tuple(encode(make_chunk(nodes, root, Hash(bytes([place]) * 32))) for place in (0, 0x40, 0x80, 0xFF))


def _seal(key: bytes, value: bytes) -> bytes:
    return _make_rows({key: value}).rows[key]


def _read_sealed(sealed: bytes) -> None:
    """Read a row whose seal is as it was found; raises StorageError, and Unfaithful where a wrong one is taken."""
    value = SealedRows(Rows({b"tip": sealed})).get(b"tip")
    if value is None or _seal(b"tip", value) != sealed:
        raise Unfaithful("found a value accepted whose seal is another's")
