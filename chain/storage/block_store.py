"""LevelDB behind the chain: headers, blocks, indexes and state nodes, one synchronous batch for each change of head.

State nodes are named by their content, so an older head needs no undo record: its root is in its header and its nodes
are still here. Every commit leaves a row with its number, so a batch that LevelDB lost without a word (a cut manifest
does that) shows as a gap. A damaged or foreign database is refused, never repaired. It decides no rule of the chain.
Source: LevelDB documentation (write batches, paranoid checks).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, TypeVar

import plyvel

from chain.block import BLOCK_BYTES_MAX, Block, compute_transactions_root
from chain.codec import decode, encode
from chain.errors import DecodeError, StorageError
from chain.hashing import sha256
from chain.header import HEADER_BYTES_MAX, Header, compute_header_hash
from chain.primitives import Hash
from chain.state.tree import load_node
from chain.storage.lock import PathLock
from chain.transaction import compute_transaction_hash

CHECKED_BLOCKS = 288
"""Links that are verified at every start."""

_TIP, _CHAIN = b"tip", b"chain"
_HEADER, _BLOCK, _HEIGHT, _TRANSACTION, _NODE, _GENERATION = b"h", b"b", b"n", b"t", b"s", b"g"
_CHECKSUM_BYTES = 4

T = TypeVar("T")


class CorruptDatabase(StorageError):
    """The database holds what it must not hold, or lacks what it must."""


@dataclass(frozen=True, slots=True)
class Tip:
    """The head that was committed last; `generation` counts commits."""

    hash: Hash
    height: int
    generation: int


@dataclass(frozen=True, slots=True)
class Connected:
    """A block that joins the head's branch with the state nodes it makes."""

    hash: Hash
    block: Block
    new_nodes: dict[Hash, bytes]


class WriteBatch(Protocol):
    """What plyvel's batches offer; the library ships no types."""

    def put(self, key: bytes, value: bytes) -> None:
        """Set a key when the batch is written."""

    def delete(self, key: bytes) -> None:
        """Remove a key when the batch is written."""

    def clear(self) -> None:
        """Forget everything."""

    def write(self) -> None:
        """Write everything."""


class BlockStore:
    """One network's headers, blocks and state nodes on disk."""

    def __init__(self, database: plyvel.DB, path: Path, lock: PathLock) -> None:
        """Use `open_block_store`."""
        self._database = database
        self._lock = lock
        self._path = path
        self._is_torn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the database."""
        self._database.close()
        self._lock.release()

    def get_tip(self) -> Tip:
        """Return the committed head; raises StorageError."""
        data = self._get(_TIP)
        if data is None or len(data) != 48:
            raise CorruptDatabase(f"{self._path}: found no tip")
        return Tip(Hash(data[:32]), int.from_bytes(data[32:40], "big"), int.from_bytes(data[40:], "big"))

    def get_header(self, block_hash: Hash) -> Header | None:
        """Return a header of any branch; raises StorageError."""
        data = self._get(_HEADER + block_hash)
        return None if data is None else self._decode(Header, data, HEADER_BYTES_MAX)

    def get_block(self, block_hash: Hash) -> Block | None:
        """Return a block of any branch; genesis has none. Raises StorageError."""
        data = self._get(_BLOCK + block_hash)
        return None if data is None else self._decode(Block, data, BLOCK_BYTES_MAX)

    def has_block(self, block_hash: Hash) -> bool:
        """Say whether the block is stored."""
        return self._get(_BLOCK + block_hash) is not None

    def get_hash_at_height(self, height: int) -> Hash | None:
        """Return the hash of the head's branch at `height`."""
        data = self._get(_HEIGHT + height.to_bytes(8, "big"))
        return None if data is None else Hash(data)

    def get_transaction_block(self, transaction_hash: Hash) -> Hash | None:
        """Return the hash of the block on the head's branch that holds a transaction."""
        data = self._get(_TRANSACTION + transaction_hash)
        return None if data is None else Hash(data)

    def get_state_node(self, node_hash: Hash) -> bytes | None:
        """Return the bytes of a state node; raises StorageError."""
        return self._get(_NODE + node_hash)

    def iter_headers(self) -> Iterator[Header]:
        """Yield every stored header above genesis, each behind its parent; raises StorageError."""
        rows = self._iter_rows(_HEADER)
        headers = sorted((self._decode(Header, row, HEADER_BYTES_MAX) for _, row in rows), key=lambda h: h.height)
        known = {compute_header_hash(header) for header in headers[:1]}
        for header in headers[1:]:
            if header.foliage.parent_hash not in known:
                raise CorruptDatabase(f"{self._path}: the parent of a header at height {header.height} is missing")
            known.add(compute_header_hash(header))
            yield header

    def put_block(self, block_hash: Hash, block: Block) -> None:
        """Keep a block of a side branch; raises StorageError."""
        with self._batch() as batch:
            self._put_block(batch, block_hash, block)

    def commit(self, disconnected: Sequence[Block], connected: Sequence[Connected]) -> Tip:
        """Move the head: off the `disconnected` blocks (tip first), onto the `connected` ones, in one synced batch."""
        previous, last = self.get_tip(), connected[-1]
        tip = Tip(last.hash, last.block.header.height, previous.generation + 1)
        with self._batch() as batch:
            for block in disconnected:
                batch.delete(_HEIGHT + block.header.height.to_bytes(8, "big"))
                for transaction in block.transactions:
                    batch.delete(_TRANSACTION + compute_transaction_hash(transaction))
            for entry in connected:
                self._put_block(batch, entry.hash, entry.block)
                self._put(batch, _HEIGHT + entry.block.header.height.to_bytes(8, "big"), entry.hash)
                for transaction in entry.block.transactions:
                    self._put(batch, _TRANSACTION + compute_transaction_hash(transaction), entry.hash)
                self._put_nodes(batch, entry.new_nodes)
            self._put_tip(batch, tip)
        return tip

    def initialise(self, chain_id: Hash, genesis_header: Header, nodes: dict[Hash, bytes]) -> None:
        """Write the genesis state into an empty database; raises StorageError."""
        genesis_hash = compute_header_hash(genesis_header)
        with self._batch() as batch:
            self._put(batch, _CHAIN, chain_id)
            self._put(batch, _HEADER + genesis_hash, encode(genesis_header))
            self._put(batch, _HEIGHT + bytes(8), genesis_hash)
            self._put_nodes(batch, nodes)
            self._put_tip(batch, Tip(genesis_hash, 0, 0))

    def is_empty(self) -> bool:
        """Say whether nothing was ever written; raises StorageError."""
        return next(self._iter_rows(b""), None) is None

    def validate(self, chain_id: Hash) -> None:
        """Check the network, that no commit is lost, and the last blocks with their states; raises CorruptDatabase."""
        found = self._get(_CHAIN)
        if found != chain_id:
            shown = "none" if found is None else found.hex()
            raise CorruptDatabase(f"{self._path}: found network {shown}, expected {chain_id.hex()}")
        tip = self.get_tip()
        self._validate_generations(tip)
        block_hash = tip.hash
        for height in range(tip.height, max(-1, tip.height - CHECKED_BLOCKS), -1):
            header = self.get_header(block_hash)
            if header is None or compute_header_hash(header) != block_hash or header.height != height:
                raise CorruptDatabase(f"{self._path}: the header at height {height} is missing or damaged")
            if self.get_hash_at_height(height) != block_hash:
                raise CorruptDatabase(f"{self._path}: the index of height {height} does not name its block")
            self._validate_content(block_hash, header)
            block_hash = header.foliage.parent_hash

    def _validate_generations(self, tip: Tip) -> None:
        count, last_hash = 0, b""
        for key, block_hash in self._iter_rows(_GENERATION):
            if key != _generation_key(count):
                raise CorruptDatabase(f"{self._path}: commit {count} is lost")
            count, last_hash = count + 1, block_hash
        if count != tip.generation + 1 or last_hash != tip.hash:
            raise CorruptDatabase(f"{self._path}: found {count} commits, expected {tip.generation + 1} up to the tip")

    def _validate_content(self, block_hash: Hash, header: Header) -> None:
        try:
            load_node(self, header.foliage.state_root)
        except StorageError as error:
            raise CorruptDatabase(f"{self._path}: the state of height {header.height}: {error}") from None
        if header.height == 0:
            return
        block = self.get_block(block_hash)
        if block is None:
            raise CorruptDatabase(f"{self._path}: the block at height {header.height} is missing")
        content = compute_transactions_root(block.transactions)
        if block.header != header or content != header.foliage.transactions_root:
            raise CorruptDatabase(f"{self._path}: the block at height {header.height} is not its header's")

    @contextmanager
    def _batch(self) -> Iterator[WriteBatch]:
        """Give a batch of which all reaches the disk at the end, or nothing and StorageError."""
        if self._is_torn:
            raise StorageError(f"{self._path}: an earlier write failed; nothing is written until a restart")
        batch = self._database.write_batch(sync=True)
        yield batch
        try:
            batch.write()
        except (plyvel.Error, OSError) as error:
            # LevelDB would append behind the torn record, and the log would be damaged in its middle.
            self._is_torn = True
            raise StorageError(f"{self._path}: cannot be written: {_describe(error)}") from None

    def _iter_rows(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        try:
            with self._database.iterator(prefix=prefix, verify_checksums=True) as rows:
                for key, value in rows:
                    yield key, self._unseal(key, value)
        except (plyvel.Error, OSError) as error:
            raise CorruptDatabase(f"{self._path}: cannot be read: {_describe(error)}") from None

    def _get(self, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._database.get(key, verify_checksums=True)
        except (plyvel.Error, OSError) as error:
            raise CorruptDatabase(f"{self._path}: cannot be read: {_describe(error)}") from None
        return None if value is None else self._unseal(key, value)

    def _put(self, batch: WriteBatch, key: bytes, value: bytes) -> None:
        # LevelDB's own checksums can be lost with a rewritten table; this one is bound to key and value.
        batch.put(key, sha256(key, value)[:_CHECKSUM_BYTES] + value)

    def _unseal(self, key: bytes, value: bytes) -> bytes:
        if value[:_CHECKSUM_BYTES] != sha256(key, value[_CHECKSUM_BYTES:])[:_CHECKSUM_BYTES]:
            raise CorruptDatabase(f"{self._path}: the value under {key[:12].hex()}... is damaged")
        return value[_CHECKSUM_BYTES:]

    def _decode(self, record: type[T], data: bytes, size_bytes_max: int) -> T:
        try:
            return decode(record, data, size_bytes_max)
        except DecodeError as error:
            raise CorruptDatabase(f"{self._path}: {error}") from None

    def _put_block(self, batch: WriteBatch, block_hash: Hash, block: Block) -> None:
        self._put(batch, _HEADER + block_hash, encode(block.header))
        self._put(batch, _BLOCK + block_hash, encode(block))

    def _put_nodes(self, batch: WriteBatch, nodes: dict[Hash, bytes]) -> None:
        for node_hash, data in nodes.items():
            self._put(batch, _NODE + node_hash, data)

    def _put_tip(self, batch: WriteBatch, tip: Tip) -> None:
        self._put(batch, _generation_key(tip.generation), tip.hash)
        self._put(batch, _TIP, tip.hash + tip.height.to_bytes(8, "big") + tip.generation.to_bytes(8, "big"))


def _generation_key(generation: int) -> bytes:
    return _GENERATION + generation.to_bytes(8, "big")


def _describe(error: Exception) -> str:
    detail = error.args[0] if error.args else error
    return detail.decode("utf-8", "replace") if isinstance(detail, bytes) else str(detail)


def open_block_store(path: Path) -> BlockStore:
    """Open or create the database at `path`; raises StorageError when it is held, damaged or out of reach."""
    lock = PathLock(path)
    try:
        return BlockStore(_open_database(path), path, lock)
    except BaseException:
        lock.release()
        raise


def _open_database(path: Path) -> plyvel.DB:
    try:
        # LevelDB takes a folder without CURRENT for a new one, and would start over on top of the old files.
        if path.is_dir() and not (path / "CURRENT").exists() and any(path.glob("MANIFEST-*")):
            raise CorruptDatabase(f"{path}: the file CURRENT is missing")
        return plyvel.DB(str(path), create_if_missing=True, paranoid_checks=True, bloom_filter_bits=10)
    except plyvel.CorruptionError as error:
        raise CorruptDatabase(f"{path}: {_describe(error)}") from None
    except (plyvel.Error, OSError) as error:
        raise StorageError(f"{path}: {_describe(error)}") from None
