"""Blocks for a store to keep: valid headers, real state trees, transfers as content; no ticket behind them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chain.block import Block, compute_transactions_root
from chain.hashing import tagged_hash
from chain.packed import pack_block
from chain.primitives import PublicKey, Signature
from chain.state.tree import EMPTY_ROOT, MemoryNodes, NodeChanges
from chain.state.update import update_tree
from chain.storage.block_store import BlockStore, Connected, open_block_store
from chain.storage.engine import Changes
from chain.ticket import TicketOpening
from chain.transaction import Transaction, TransactionBody, Transfer
from consensus.header_chain import ChainEntry, HeaderChain, make_genesis_header
from tests.support.headers import KEYS, make_child, make_context

CONTEXT = make_context()
GENESIS_UPDATE = update_tree(MemoryNodes(), EMPTY_ROOT, {b"genesis": b"state"})


@dataclass
class MemoryEngine:
    """Rows in memory that outlive the store over them."""

    place: str = "memory"
    rows: dict[bytes, bytes] = field(default_factory=dict)

    def get(self, key: bytes) -> bytes | None:
        return self.rows.get(key)

    def iter_rows(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        yield from sorted((key, value) for key, value in self.rows.items() if key.startswith(prefix))

    def write(self, changes: Changes) -> None:
        self.rows.update({key: value for key, value in changes.items() if value is not None})
        for key in [key for key, value in changes.items() if value is None]:
            self.rows.pop(key, None)

    def close(self) -> None:
        """Keep the rows for the next store."""


@dataclass(frozen=True, slots=True)
class StoredBlock:
    """A block in its place with the nodes that come and go with it."""

    entry: ChainEntry
    block: Block
    nodes: NodeChanges

    @property
    def connected(self) -> Connected:
        """What a commit takes."""
        return Connected(self.entry.hash, pack_block(self.block), self.nodes)


class BlockMaker:
    """Makes chains of blocks of which every byte follows from height and salt."""

    def __init__(self, value_bytes: int = 40) -> None:
        self.genesis_header = make_genesis_header(CONTEXT.genesis, GENESIS_UPDATE.root)
        self.headers = HeaderChain(self.genesis_header)
        self._nodes = MemoryNodes(GENESIS_UPDATE.nodes)
        self._value_bytes = value_bytes

    def make(
        self, parent: ChainEntry, salt: int = 0, changes: Mapping[bytes, bytes | None] | None = None
    ) -> StoredBlock:
        """Return a block on `parent` that makes `changes`, or sets two keys, and moves an atom."""
        height = parent.height + 1
        if changes is None:
            value = tagged_hash("value", bytes([salt]), height.to_bytes(4, "big")) * (self._value_bytes // 32 + 1)
            changes = {b"key %d" % (height % 7): value, b"new %d %d" % (height, salt): value}
        update = update_tree(self._nodes, parent.header.foliage.state_root, changes)
        self._nodes.add(update.nodes)
        content = (make_transfer(height, salt),)
        header = make_child(
            CONTEXT, parent, salt, state_root=update.root, transactions_root=compute_transactions_root(content)
        )
        return StoredBlock(self.headers.insert(header), Block(header, TicketOpening((), ()), content), update.nodes)

    def make_branch(self, parent: ChainEntry, count: int, salt: int = 0) -> list[StoredBlock]:
        """Return `count` blocks in a row."""
        blocks: list[StoredBlock] = []
        for _ in range(count):
            blocks.append(self.make(blocks[-1].entry if blocks else parent, salt))
        return blocks


def make_transfer(nonce: int, salt: int = 0) -> Transaction:
    """Return a transfer that differs by nonce and salt; its signature is of no account to a store."""
    body = TransactionBody(KEYS[0].public_key, nonce, salt, Transfer(PublicKey(KEYS[1].public_key), 1))
    return Transaction(body, Signature(bytes(64)))


def open_started(path: Path) -> BlockStore:
    """Open the store at `path`, started from the genesis of these blocks when empty, and validated."""
    store = open_block_store(path)
    try:
        if store.is_empty():
            maker = BlockMaker()
            store.initialise(CONTEXT.chain_id, maker.genesis_header, GENESIS_UPDATE.nodes)
        store.validate(CONTEXT.chain_id)
    except BaseException:
        store.close()
        raise
    return store
