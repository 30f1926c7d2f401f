"""What a node holds of the chain: headers in memory, blocks and state in the store, block data in files, its head.

It answers questions and makes one change at a time when the importer says so; it decides no rule. It is also the
ledger's source of block data.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from chain.block import Block, get_sidecar_hashes
from chain.codec import decode, encode
from chain.errors import MissingData, StorageError
from chain.genesis import Parameters
from chain.header import Header
from chain.ledger.bonds import Forfeit, get_forfeit
from chain.ledger.context import LedgerContext, make_context
from chain.ledger.genesis_state import make_genesis_state
from chain.packed import PackedBlock, decode_block
from chain.primitives import Hash
from chain.state.view import StateView
from chain.storage.blob_store import BlobStore
from chain.storage.block_store import CHECKED_BLOCKS, BlockStore, Connected
from chain.transaction import (
    SIDECAR_BYTES_MAX,
    Sidecar,
    Transaction,
    compute_sidecar_hash,
    compute_transaction_hash,
)
from consensus.equivocation import Contents
from consensus.fork_choice import InvalidMarks, Path, find_heaviest
from consensus.header_chain import ChainEntry, HeaderChain, find_fork, is_ancestor, make_genesis_header
from consensus.header_rules import HeaderContext
from consensus.side_branches import choose_lightest, count_on, list_beside

SIDECAR_ENCODED_BYTES_MAX = 2 * SIDECAR_BYTES_MAX + 64

REORG_BLOCKS = CHECKED_BLOCKS
"""A fork that lies deeper is not followed, as states are kept no deeper; what is shallower is kept as it comes."""

SIDE_HEADERS_MAX = 8_192
"""Headers beside the chains that count, some 2 KB each."""

SIDE_BYTES_MAX = 512 * 1024 * 1024
"""Blocks kept beside them, and the block data that came with these: room for a branch that was left, as deep as one is
left, of the largest blocks."""


@dataclass(frozen=True, slots=True)
class _SideBlock:
    """What a block beside the head's branch takes on disk, and the block data that are there for its sake."""

    size_bytes: int
    data: tuple[Hash, ...]


class Chain:
    """One node's chain: the tree of headers, the branch its head is on, and everything stored."""

    def __init__(self, store: BlockStore, blobs: BlobStore, header_context: HeaderContext) -> None:
        """Open what `store` holds, or start it from genesis; raises StorageError."""
        self.store = store
        self.blobs = blobs
        self.header_context = header_context
        self.ledger_context: LedgerContext = make_context(header_context.genesis)
        self.marks = InvalidMarks()
        state_root, nodes = make_genesis_state(header_context.genesis)
        genesis_header = make_genesis_header(header_context.genesis, state_root)
        if store.is_empty():
            store.initialise(header_context.chain_id, genesis_header, nodes)
        store.validate(header_context.chain_id)
        self.headers = HeaderChain(genesis_header)
        self.contents = Contents()
        for header in store.iter_headers():
            self.contents.add(self.headers.insert(header))
        self.head = self._find_entry(store.get_tip().hash)
        self._head_block: PackedBlock | None = None
        self.base = self.head.get_ancestor(store.get_base_height())
        self._heaviest = find_heaviest(self.headers, self.marks)
        self._side_blocks: dict[Hash, _SideBlock] = {}
        self._note_left(list_beside(self.headers, (self.head,)))
        self._loose_data: dict[Hash, int] = {}

    @property
    def parameters(self) -> Parameters:
        """The rules' numbers."""
        return self.header_context.genesis.parameters

    def view(self, entry: ChainEntry | None = None) -> StateView:
        """Return the state after a block of the head's branch; after the head when none is named."""
        return StateView((entry or self.head).header.foliage.state_root, self.store)

    def get_forfeit(self, header: Header) -> Forfeit:
        """Return what a report of `header` would find at stake in the next block."""
        return get_forfeit(self.parameters, self.view(), header, self.head.height + 1)

    def has_body(self, block_hash: Hash) -> bool:
        """Say whether the block itself is stored; genesis counts, and the block whose state was imported.

        A peer names a thousand blocks in one message, so none is read for it.
        """
        entry = self.headers.get(block_hash)
        if entry is None:
            return False
        if block_hash in self._side_blocks or entry in (self.headers.genesis, self.base):
            return True
        if entry.height > self.base.height:
            return is_ancestor(entry, self.head)
        # Below an imported state there are blocks only for the sake of a branch that leaves the head's there.
        return self.store.has_block(block_hash)

    def has_block(self, block_hash: Hash) -> bool:
        """Say whether the block's fate is known: stored on any branch, or invalid."""
        return self.marks.is_poisoned(block_hash) or self.has_body(block_hash)

    def get_existing_block(self, block_hash: Hash) -> Block:
        """Return a block that must be stored; raises StorageError when it is not."""
        block = self.store.get_block(block_hash)
        if block is None:
            raise StorageError(f"the block {block_hash.hex()} is gone from the database")
        return block

    def get_transaction(self, transaction_hash: Hash) -> tuple[Transaction, Block] | None:
        """Return a transaction of the head's branch and its block."""
        block_hash = self.store.get_transaction_block(transaction_hash)
        if block_hash is None:
            return None
        block = self.get_existing_block(block_hash)
        return next((t, block) for t in block.transactions if compute_transaction_hash(t) == transaction_hash)

    def has_sidecar(self, sidecar_hash: Hash) -> bool:
        """Say whether the block data is held."""
        return self.blobs.has(sidecar_hash)

    def get_sidecar(self, sidecar_hash: Hash) -> Sidecar:
        """Return block data by its hash; raises MissingData."""
        data = self.blobs.get(sidecar_hash)
        if data is None:
            raise MissingData((sidecar_hash,))
        return decode(Sidecar, data, SIDECAR_ENCODED_BYTES_MAX)

    def store_sidecars(self, wanted: Sequence[Hash], offered: Sequence[Sidecar]) -> tuple[Hash, ...]:
        """Keep those of the offered sidecars that are wanted; return the wanted ones that are still missing.

        They stay for good with a block of the head's branch or `keep_data`, else as long as a block beside it.
        """
        by_hash = {compute_sidecar_hash(sidecar): sidecar for sidecar in offered}
        for name in wanted:
            if name in by_hash and not self.blobs.has(name):
                data = encode(by_hash[name])
                self.blobs.put(name, data)
                self._loose_data[name] = len(data)
        return tuple(name for name in wanted if not self.blobs.has(name))

    def keep_data(self, names: Sequence[Hash]) -> None:
        """Keep block data whatever becomes of the blocks beside the head."""
        for name in names:
            self._loose_data.pop(name, None)

    def drop_data(self, names: Sequence[Hash]) -> None:
        """Let block data go that came for blocks which are not kept, but for what something kept names."""
        for name in sorted(set(names).difference(*(block.data for block in self._side_blocks.values()))):
            if self._loose_data.pop(name, None) is not None:
                self.blobs.delete(name)

    def store_side_block(self, entry: ChainEntry, block: Block) -> None:
        """Keep a block that is not (yet) on the head's branch."""
        self.store.put_block(entry.hash, block)
        self._note_side_block(entry, tuple(name for name in get_sidecar_hashes(block) if name in self._loose_data))

    def is_recent(self, total_work: int) -> bool:
        """Say whether a branch of so much work is heavier than the heaviest one was `REORG_BLOCKS` blocks ago."""
        heaviest = self._heaviest
        return total_work > heaviest.get_ancestor(max(0, heaviest.height - REORG_BLOCKS)).total_work

    def trim(self, *kept: ChainEntry) -> None:
        """Let the lightest branches go that are too many, but for those of head, heaviest header and `kept`."""
        ways = (self.head, self._heaviest, *kept)
        # A quarter goes at once, so that not every further one costs a look at all of them.
        if len(self.headers) - count_on(ways) > SIDE_HEADERS_MAX:
            self._forget(choose_lightest(self.headers, ways, SIDE_HEADERS_MAX * 3 // 4, lambda _entry: 1))
        if sum(block.size_bytes for block in self._side_blocks.values()) > SIDE_BYTES_MAX:
            self._forget(choose_lightest(self.headers, ways, SIDE_BYTES_MAX * 3 // 4, self._measure_side_block))

    def _measure_side_block(self, entry: ChainEntry) -> int:
        block = self._side_blocks.get(entry.hash)
        return 0 if block is None else block.size_bytes

    def _note_left(self, entries: Sequence[ChainEntry]) -> None:
        """Count stored blocks as beside the head's branch; what they name was kept before and stays."""
        for entry in entries:
            self._note_side_block(entry, ())

    def _note_side_block(self, entry: ChainEntry, data: tuple[Hash, ...]) -> None:
        block_bytes = len(self.store.get_block_bytes(entry.hash) or b"")
        self._side_blocks[entry.hash] = _SideBlock(block_bytes + sum(self._loose_data[name] for name in data), data)

    def _forget(self, entries: Sequence[ChainEntry]) -> None:
        stored = [entry.hash for entry in entries if entry.hash in self._side_blocks]
        if stored:
            self.store.remove_side_blocks(stored)
        self.drop_data([name for block_hash in stored for name in self._side_blocks.pop(block_hash).data])
        for entry in entries:
            self.headers.remove(entry)
            self.contents.remove(entry)

    def insert_header(self, header: Header) -> ChainEntry:
        """Take a header whose rules hold into the tree."""
        entry = self.headers.insert(header)
        self.contents.add(entry)
        if entry.total_work > self._heaviest.total_work:
            self._heaviest = entry
        return entry

    def commit(self, path: Path, disconnected: Sequence[Block], connected: Sequence[Connected]) -> None:
        """Move the head along `path`, whose blocks these are, on disk first."""
        self.store.commit(disconnected, connected)
        for entry, joined in zip(path.connect, connected, strict=True):
            self._side_blocks.pop(entry.hash, None)
            self.keep_data(get_sidecar_hashes(joined.packed.block))
        self._note_left(path.disconnect)
        self.head = path.connect[-1]
        self._head_block = connected[-1].packed

    def get_head_block(self) -> PackedBlock | None:
        """Return the block of the head, from memory when it came since the start; genesis has none."""
        if self._head_block is None:
            data = self.store.get_block_bytes(self.head.hash)
            self._head_block = None if data is None else decode_block(data)
        return self._head_block

    def is_within_reach(self, path: Path) -> bool:
        """Say whether the state that `path` goes on from is still kept."""
        return self.store.is_state_kept(path.connect[0].height - 1)

    def mark_invalid(self, entry: ChainEntry) -> None:
        """Remember that a block is invalid, and with it all that is built on it."""
        self.marks.mark(self.headers, entry)
        self._heaviest = find_heaviest(self.headers, self.marks)

    def get_heaviest_header(self) -> ChainEntry:
        """Return the heaviest header not known to be invalid, whether its block is here or not."""
        return self._heaviest

    def get_missing_blocks(self, count_max: int) -> tuple[Hash, ...]:
        """Return blocks, oldest first, that the heaviest header needs before it can be the head."""
        heaviest, fork = self._heaviest, find_fork(self.head, self._heaviest)
        # Each stored block stands on stored ones. Below a state that was imported there are none but genesis.
        start = fork.height if self.has_body(fork.hash) else 0
        heights = range(start + 1, heaviest.height + 1)
        held = start + bisect_left(heights, True, key=lambda at: not self.has_body(heaviest.get_ancestor(at).hash))
        missing: list[Hash] = []
        entry = heaviest.get_ancestor(min(heaviest.height, held + count_max))
        while entry.height > held:
            missing.append(entry.hash)
            assert entry.parent is not None
            entry = entry.parent
        return tuple(reversed(missing))

    def _find_entry(self, block_hash: Hash) -> ChainEntry:
        entry = self.headers.get(block_hash)
        if entry is None:
            raise StorageError(f"the tip {block_hash.hex()} has no chain of headers in the database")
        return entry
