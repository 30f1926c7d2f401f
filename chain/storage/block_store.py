"""Headers, blocks, indexes and state nodes of one network as rows, one atomic write for each change of head.

State nodes are named by their content, so a recent head needs no undo record: its root is in its header and its nodes
are still here; older states are pruned. Every commit leaves a row with its number, so a write that an engine lost
without a word (a cut manifest does that) shows as a gap. A damaged or foreign database is refused, never repaired. It
decides no rule of the chain.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from chain.block import BLOCK_BYTES_MAX, Block, compute_transactions_root
from chain.codec import decode, encode
from chain.errors import DecodeError, StorageError
from chain.header import HEADER_BYTES_MAX, Header, compute_header_hash
from chain.packed import PackedBlock
from chain.primitives import ZERO_HASH, Hash
from chain.state.tree import NodeChanges, load_node
from chain.state.update import compute_difference
from chain.storage.engine import Changes, CorruptDatabase, Engine
from chain.storage.leveldb import LevelDb
from chain.storage.rows import SealedRows
from chain.storage.state_nodes import StateNodes
from chain.transaction import compute_transaction_hash

CHECKED_BLOCKS = 288
"""Links that are verified at every start; as many states below the head's are kept, so a fork may lie that deep."""

_TIP, _CHAIN, _BASE = b"tip", b"chain", b"base"
_HEADER, _BLOCK, _HEIGHT, _TRANSACTION, _GENERATION = b"h", b"b", b"n", b"t", b"g"

_NUMBER_BYTES = 8
_HEIGHT_BYTES = len(ZERO_HASH) + _NUMBER_BYTES
_TIP_BYTES = len(ZERO_HASH) + 4 * _NUMBER_BYTES

BASE_TRANSITION = 1
"""The transition that an imported state counts as; those below it, whose heights have 0, are as good as pruned."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Tip:
    """The head that was committed last; `generation` counts commits, `transitions` changes of the state tree.

    What went with the transitions up to `pruned` is deleted.
    """

    hash: Hash
    height: int
    generation: int
    transitions: int
    pruned: int


@dataclass(frozen=True, slots=True)
class Connected:
    """A block that joins the head's branch, with the state nodes that come and go with it."""

    hash: Hash
    packed: PackedBlock
    nodes: NodeChanges


class PrunedState(StorageError):
    """A state is asked for that lies deeper than those that are kept."""


class BlockStore:
    """One network's headers, blocks and state nodes on disk."""

    def __init__(self, engine: Engine, kept_states: int | None = CHECKED_BLOCKS) -> None:
        """Keep everything as rows of `engine`, which is closed with the store.

        States deeper than `kept_states` blocks below the head are pruned, none where that is None.
        """
        self._rows = SealedRows(engine)
        self._nodes = StateNodes(self._rows)
        self._kept_states = kept_states
        self._place = engine.place

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the database."""
        self._rows.close()

    @property
    def is_writable(self) -> bool:
        """Whether no write has failed; nothing is written behind one that has."""
        return self._rows.is_writable

    def get_tip(self) -> Tip:
        """Return the committed head; raises StorageError."""
        data = self._read(_TIP, _TIP_BYTES)
        if data is None:
            raise CorruptDatabase(f"{self._place}: found no tip")
        return Tip(Hash(data[:32]), *(int.from_bytes(data[place : place + 8], "big") for place in range(32, 64, 8)))

    def get_base_height(self) -> int:
        """Return the height behind which blocks are kept: 0, that of an imported state, or of the last forgotten."""
        data = self._read(_BASE, _NUMBER_BYTES)
        return 0 if data is None else int.from_bytes(data, "big")

    def get_header(self, block_hash: Hash) -> Header | None:
        """Return a header of any branch; raises StorageError."""
        data = self._rows.get(_HEADER + block_hash)
        return None if data is None else self._decode(Header, data, HEADER_BYTES_MAX)

    def get_block(self, block_hash: Hash) -> Block | None:
        """Return a block of any branch; genesis has none. Raises StorageError."""
        data = self._rows.get(_BLOCK + block_hash)
        return None if data is None else self._decode(Block, data, BLOCK_BYTES_MAX)

    def get_block_bytes(self, block_hash: Hash) -> bytes | None:
        """Return the encoding of a block of any branch, as it was stored; genesis has none. Raises StorageError."""
        return self._rows.get(_BLOCK + block_hash)

    def has_block(self, block_hash: Hash) -> bool:
        """Say whether the block is stored."""
        return self._rows.get(_BLOCK + block_hash) is not None

    def get_hash_at_height(self, height: int) -> Hash | None:
        """Return the hash of the head's branch at `height`; raises StorageError."""
        data = self._read(_height_key(height), _HEIGHT_BYTES)
        return None if data is None else Hash(data[:32])

    def is_state_kept(self, height: int) -> bool:
        """Say whether the state after the block at `height` of the head's branch can be read; raises StorageError."""
        row = self._read(_height_key(height), _HEIGHT_BYTES)
        return row is not None and _get_transition(row) >= self.get_tip().pruned

    def get_transaction_block(self, transaction_hash: Hash) -> Hash | None:
        """Return the hash of the block on the head's branch that holds a transaction; raises StorageError."""
        data = self._read(_TRANSACTION + transaction_hash, len(ZERO_HASH))
        return None if data is None else Hash(data)

    def get_state_node(self, node_hash: Hash) -> bytes | None:
        """Return the bytes of a state node; raises StorageError."""
        return self._nodes.get_state_node(node_hash)

    def iter_headers(self) -> Iterator[Header]:
        """Yield every stored header above genesis, each behind its parent; raises StorageError."""
        rows = self._rows.iter_rows(_HEADER)
        headers = sorted((self._decode(Header, row, HEADER_BYTES_MAX) for _, row in rows), key=lambda h: h.height)
        known = {compute_header_hash(header) for header in headers[:1]}
        for header in headers[1:]:
            if header.foliage.parent_hash not in known:
                raise CorruptDatabase(f"{self._place}: the parent of a header at height {header.height} is missing")
            known.add(compute_header_hash(header))
            yield header

    def get_nodes(self) -> StateNodes:
        """Return the state nodes as they lie on disk, for audits."""
        return self._nodes

    def count_indexed_transactions(self) -> int:
        """Return how many transactions the index holds; reads all of it."""
        return sum(len(key) == 1 + len(ZERO_HASH) for key, _ in self._rows.iter_rows(_TRANSACTION))

    def put_block(self, block_hash: Hash, block: Block) -> None:
        """Keep a block of a side branch; raises StorageError."""
        self._rows.write(_make_block_rows(block_hash, block.header, encode(block)))

    def remove_side_blocks(self, block_hashes: Sequence[Hash]) -> None:
        """Forget blocks beside the head's branch on which no block that stays is built; raises StorageError."""
        self._rows.write({kind + block_hash: None for block_hash in block_hashes for kind in (_BLOCK, _HEADER)})

    def forget_blocks(self, height: int) -> tuple[Block, ...]:
        """Forget the blocks of the head's branch up to `height`, oldest first, and return them; headers stay.

        Raises StorageError.
        """
        blocks, changes = list[Block](), Changes()
        for forgotten in range(self.get_base_height() + 1, height + 1):
            block_hash = self.get_hash_at_height(forgotten)
            block = None if block_hash is None else self.get_block(block_hash)
            if block_hash is None or block is None:
                raise CorruptDatabase(f"{self._place}: the block at height {forgotten} is missing")
            changes[_BLOCK + block_hash] = None
            changes |= {_TRANSACTION + compute_transaction_hash(each): None for each in block.transactions}
            blocks.append(block)
        if blocks:
            self._rows.write(changes | {_BASE: height.to_bytes(_NUMBER_BYTES, "big")})
        return tuple(blocks)

    def commit(self, disconnected: Sequence[Block], connected: Sequence[Connected]) -> Tip:
        """Move the head: off the `disconnected` blocks (tip first), onto the `connected` ones, in one synced write.

        Raises PrunedState when the fork lies deeper than the states that are kept, StorageError.
        """
        before, last = self.get_tip(), connected[-1].packed.block.header
        number, changes = before.transitions, Changes()
        if disconnected:
            number += 1
            self._add_way_back(number, disconnected, connected[0].packed.block, changes)
        for entry in connected:
            number += 1
            self._add_block(number, entry, changes)
        pruning, pruned = self._nodes.make_pruning_rows(
            before.pruned, self._get_prunable(last.height, changes), changes
        )
        tip = Tip(connected[-1].hash, last.height, before.generation + 1, number, pruned)
        changes |= pruning | _make_tip_rows(tip)
        self._rows.write(changes)
        for entry in connected:
            self._nodes.remember(entry.nodes, pruned, number)
        return tip

    def _add_block(self, number: int, entry: Connected, changes: Changes) -> None:
        header = entry.packed.block.header
        changes |= _make_block_rows(entry.hash, header, entry.packed.encode())
        changes[_height_key(header.height)] = entry.hash + number.to_bytes(8, "big")
        changes |= {_TRANSACTION + packed.hash: entry.hash for packed in entry.packed.transactions}
        changes |= self._nodes.make_rows(number, entry.nodes, changes)

    def _add_way_back(self, number: int, disconnected: Sequence[Block], first: Block, changes: Changes) -> None:
        """Add the rows that take the head back to the parent of `first`, its state included."""
        if not self.is_state_kept(first.header.height - 1):
            raise PrunedState(f"{self._place}: the state at height {first.header.height - 1} is pruned")
        for block in disconnected:
            changes[_height_key(block.header.height)] = None
            changes |= {_TRANSACTION + compute_transaction_hash(t): None for t in block.transactions}
        fork = self.get_header(first.header.foliage.parent_hash)
        assert fork is not None
        left_root, fork_root = disconnected[0].header.foliage.state_root, fork.foliage.state_root
        changes |= self._nodes.make_rows(number, compute_difference(self, left_root, fork_root).nodes, changes)

    def _get_prunable(self, height: int, changes: Changes) -> int:
        """Return the last transition that no state within reach of a head at `height` is older than."""
        if self._kept_states is None or height < self._kept_states:
            return 0
        key = _height_key(height - self._kept_states)
        row = changes[key] if key in changes else self._read(key, _HEIGHT_BYTES)
        if row is None:
            raise CorruptDatabase(f"{self._place}: the index of height {height - self._kept_states} is lost")
        return _get_transition(row)

    def initialise(self, chain_id: Hash, genesis_header: Header, nodes: NodeChanges) -> None:
        """Write the genesis state into an empty database; raises StorageError."""
        genesis_hash = compute_header_hash(genesis_header)
        changes: Changes = {_CHAIN: chain_id, _HEADER + genesis_hash: encode(genesis_header)}
        changes[_height_key(0)] = genesis_hash + bytes(8)
        changes |= self._nodes.make_node_rows(nodes)
        self._rows.write(changes | _make_tip_rows(Tip(genesis_hash, 0, 0, 0, 0)))

    def is_empty(self) -> bool:
        """Say whether nothing was ever written; raises StorageError."""
        return next(self._rows.iter_rows(b""), None) is None

    def validate(self, chain_id: Hash) -> None:
        """Check the network, that no commit is lost, and the last blocks with their states; raises CorruptDatabase."""
        found = self._rows.get(_CHAIN)
        if found != chain_id:
            shown = "none" if found is None else found.hex()
            raise CorruptDatabase(f"{self._place}: found network {shown}, expected {chain_id.hex()}")
        tip = self.get_tip()
        self._validate_generations(tip)
        block_hash = tip.hash
        for height in range(tip.height, max(-1, tip.height - CHECKED_BLOCKS), -1):
            header = self.get_header(block_hash)
            if header is None or compute_header_hash(header) != block_hash or header.height != height:
                raise CorruptDatabase(f"{self._place}: the header at height {height} is missing or damaged")
            if self.get_hash_at_height(height) != block_hash:
                raise CorruptDatabase(f"{self._place}: the index of height {height} does not name its block")
            self._validate_content(block_hash, header)
            block_hash = header.foliage.parent_hash

    def _validate_generations(self, tip: Tip) -> None:
        count, last_hash = 0, b""
        for key, block_hash in self._rows.iter_rows(_GENERATION):
            if key != _generation_key(count):
                raise CorruptDatabase(f"{self._place}: commit {count} is lost")
            count, last_hash = count + 1, block_hash
        if count != tip.generation + 1 or last_hash != tip.hash:
            raise CorruptDatabase(f"{self._place}: found {count} commits, expected {tip.generation + 1} up to the tip")

    def _validate_content(self, block_hash: Hash, header: Header) -> None:
        try:
            # After a change to a shorter branch the oldest of these states may be gone already.
            if self.is_state_kept(header.height):
                load_node(self, header.foliage.state_root)
        except StorageError as error:
            raise CorruptDatabase(f"{self._place}: the state of height {header.height}: {error}") from None
        if header.height <= self.get_base_height():
            return
        block = self.get_block(block_hash)
        if block is None:
            raise CorruptDatabase(f"{self._place}: the block at height {header.height} is missing")
        content = compute_transactions_root(block.transactions)
        if block.header != header or content != header.foliage.transactions_root:
            raise CorruptDatabase(f"{self._place}: the block at height {header.height} is not its header's")

    def _read(self, key: bytes, size_bytes: int) -> bytes | None:
        """Return a row that has one size, or None; raises CorruptDatabase when it has another."""
        row = self._rows.get(key)
        if row is not None and len(row) != size_bytes:
            found = f"found {len(row)} bytes under {key[:12].hex()}"
            raise CorruptDatabase(f"{self._place}: {found}, expected {size_bytes}")
        return row

    def _decode(self, record: type[T], data: bytes, size_bytes_max: int) -> T:
        try:
            return decode(record, data, size_bytes_max)
        except DecodeError as error:
            raise CorruptDatabase(f"{self._place}: {error}") from None


def make_imported_rows(headers: Sequence[Header]) -> Changes:
    """Return the rows of headers whose blocks are not there, on the head's branch."""
    hashes = [compute_header_hash(header) for header in headers]
    rows: Changes = {_HEADER + name: encode(header) for name, header in zip(hashes, headers, strict=True)}
    return rows | {_height_key(h.height): name + bytes(8) for name, h in zip(hashes, headers, strict=True)}


def make_base_rows(chain_id: Hash, base: Header) -> Changes:
    """Return the rows that make a database of imported headers up to `base` and the nodes of the state after it."""
    base_hash, number = compute_header_hash(base), BASE_TRANSITION
    rows: Changes = {_CHAIN: chain_id, _BASE: base.height.to_bytes(8, "big")}
    rows[_height_key(base.height)] = base_hash + number.to_bytes(8, "big")
    return rows | _make_tip_rows(Tip(base_hash, base.height, 0, number, number))


def _make_block_rows(block_hash: Hash, header: Header, data: bytes) -> Changes:
    return {_HEADER + block_hash: encode(header), _BLOCK + block_hash: data}


def _make_tip_rows(tip: Tip) -> Changes:
    numbers = (tip.height, tip.generation, tip.transitions, tip.pruned)
    row = tip.hash + b"".join(number.to_bytes(8, "big") for number in numbers)
    return {_generation_key(tip.generation): tip.hash, _TIP: row}


def _get_transition(height_row: bytes) -> int:
    """Return the number of the transition that led to the state at a height."""
    return int.from_bytes(height_row[32:], "big")


def _height_key(height: int) -> bytes:
    return _HEIGHT + height.to_bytes(8, "big")


def _generation_key(generation: int) -> bytes:
    return _GENERATION + generation.to_bytes(8, "big")


def open_block_store(path: Path) -> BlockStore:
    """Open or create the LevelDB at `path`; raises StorageError when it is held, damaged or out of reach."""
    return BlockStore(LevelDb(path))
