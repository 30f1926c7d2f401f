"""A chain that believes everything but what it is told to refuse: real records and hashes, no rules.

It answers as `ChainPort` demands, so that the network can be tested over real sockets without a ledger.
"""

from collections.abc import Sequence

from chain.block import Block, compute_transactions_root
from chain.codec import decode, encode
from chain.hashing import tagged_hash
from chain.header import Foliage, Header, Trunk, compute_header_hash, compute_trunk_hash
from chain.packed import PackedBlock, PackedTransaction, decode_block, decode_transaction
from chain.primitives import ZERO_HASH, Hash, PublicKey, Signature
from chain.ticket import EMPTY_TICKET, TicketOpening
from chain.transaction import (
    CommitContribution,
    Sidecar,
    Transaction,
    TransactionBody,
    Transfer,
    compute_sidecar_hash,
    compute_transaction_hash,
)
from p2p.view import Outcome, SubmitResult, Tip

GENESIS = tagged_hash("test.genesis")
ANYBODY = PublicKey(bytes(31) + b"\x07")
NO_SIGNATURE = Signature(bytes(64))


def make_transfer(nonce: int) -> Transaction:
    """Return a transfer that nobody signed."""
    return Transaction(TransactionBody(ANYBODY, nonce, 1, Transfer(ANYBODY, 5)), NO_SIGNATURE)


def make_commit(sidecar: Sidecar) -> Transaction:
    """Return a commit that names `sidecar`."""
    commit = CommitContribution(ZERO_HASH, 0, 0, 0, ZERO_HASH, ZERO_HASH, ZERO_HASH, compute_sidecar_hash(sidecar))
    return Transaction(TransactionBody(ANYBODY, 0, 1, commit), NO_SIGNATURE)


def make_block(parent: Hash, height: int, transactions: tuple[Transaction, ...] = (), salt: int = 0) -> Block:
    """Return a block of one unit of work above a parent at `height - 1`."""
    trunk = Trunk(EMPTY_TICKET, tagged_hash("test.beacon", salt.to_bytes(4, "little")), height)
    root = compute_transactions_root(transactions)
    foliage = Foliage(1, height, parent, 0, 1, ANYBODY, ZERO_HASH, root, compute_trunk_hash(trunk), ZERO_HASH)
    return Block(Header(trunk, foliage, NO_SIGNATURE), TicketOpening((), ()), transactions)


class ScriptedChain:
    """Blocks by hash, the longest branch first seen; `refused` blocks and transactions are invalid.

    A refused block's ticket does not hold; a block that was `found_invalid` had a good one, and was executed.
    """

    def __init__(self) -> None:
        self.headers: dict[Hash, Header] = {}
        self.blocks: dict[Hash, bytes] = {}
        self.transactions: dict[Hash, bytes] = {}
        self.sidecars: dict[Hash, bytes] = {}
        self.refused: set[Hash] = set()
        self.found_invalid: set[Hash] = set()
        self.tip = Tip(GENESIS, 0, 0)
        self.best = Tip(GENESIS, 0, 0)
        self.heights_imported: list[int] = []
        self.openings_seen: list[int] = []

    def extend(self, count: int, salt: int = 0) -> None:
        """Mine `count` empty blocks."""
        for _ in range(count):
            self.add(make_block(self.tip.hash, self.tip.height + 1, salt=salt))

    def add(self, block: Block) -> Hash:
        """Import a block without asking."""
        block_hash = self._add_header(block.header)
        self.blocks[block_hash] = encode(block)
        self.heights_imported.append(block.header.height)
        if block.header.trunk.total_work > self.tip.total_work:
            self.tip = Tip(block_hash, block.header.height, block.header.trunk.total_work)
        return block_hash

    def add_transaction(self, transaction: Transaction) -> Hash:
        """Pool a transaction without asking."""
        transaction_hash = compute_transaction_hash(transaction)
        self.transactions[transaction_hash] = encode(transaction)
        return transaction_hash

    def add_sidecar(self, sidecar: Sidecar) -> Hash:
        """Hold a sidecar."""
        sidecar_hash = compute_sidecar_hash(sidecar)
        self.sidecars[sidecar_hash] = encode(sidecar)
        return sidecar_hash

    def get_tip(self) -> Tip:
        return self.tip

    def get_header_work(self) -> int:
        return self.best.total_work

    def get_locator(self) -> tuple[Hash, ...]:
        branch = self._get_branch(self.best.hash)
        return (*branch[::-1][:10], *branch[::-1][10::64][:40], GENESIS)

    def get_headers_after(self, locator: tuple[Hash, ...], count_max: int) -> tuple[bytes, ...]:
        branch = self._get_branch(self.tip.hash)
        start = next((branch.index(known) + 1 for known in locator if known in branch), 0)
        return tuple(encode(self.headers[block_hash]) for block_hash in branch[start : start + count_max])

    def get_missing_blocks(self, count_max: int) -> tuple[Hash, ...]:
        if self.best.total_work <= self.tip.total_work:
            return ()
        return tuple(h for h in self._get_branch(self.best.hash) if h not in self.blocks)[:count_max]

    def has_header(self, header_hash: Hash) -> bool:
        return self._has_header(header_hash)

    def has_block(self, block_hash: Hash) -> bool:
        return block_hash == GENESIS or block_hash in self.blocks or block_hash in self.found_invalid

    def has_transaction(self, transaction_hash: Hash) -> bool:
        return transaction_hash in self.transactions

    def has_sidecar(self, sidecar_hash: Hash) -> bool:
        return sidecar_hash in self.sidecars

    def iter_pool(self) -> tuple[Hash, ...]:
        return tuple(self.transactions)

    def get_block_bytes(self, block_hash: Hash) -> bytes | None:
        return self.blocks.get(block_hash)

    def get_head_block(self) -> PackedBlock | None:
        data = self.blocks.get(self.tip.hash)
        return None if data is None else decode_block(data)

    def get_opening_bytes(self, block_hash: Hash) -> bytes | None:
        block = self.blocks.get(block_hash)
        return None if block is None else encode(decode(Block, block, 2**21).opening)

    def get_state_chunk(self, _root: Hash, _first: Hash) -> bytes | None:
        return None

    def get_blob_part(self, name: Hash, offset: int, length_max: int) -> tuple[int, bytes] | None:
        data = self.sidecars.get(name)
        return None if data is None else (len(data), data[offset : offset + length_max])

    def get_transaction(self, transaction_hash: Hash) -> PackedTransaction | None:
        data = self.transactions.get(transaction_hash)
        return None if data is None else decode_transaction(data)

    def get_sidecar_bytes(self, sidecar_hash: Hash) -> bytes | None:
        return self.sidecars.get(sidecar_hash)

    async def submit_headers(
        self, _source: PublicKey, headers: tuple[bytes, ...], openings: tuple[tuple[int, bytes], ...] = ()
    ) -> SubmitResult:
        self.openings_seen += [position for position, _ in openings]
        records = [decode(Header, data, 1024) for data in headers]
        if not self._has_header(records[0].foliage.parent_hash):
            return SubmitResult(Outcome.ORPHAN)
        fresh = [record for record in records if not self._has_header(compute_header_hash(record))]
        for record in fresh:
            self._add_header(record)
        return SubmitResult(Outcome.ACCEPTED if fresh else Outcome.ALREADY_KNOWN)

    async def submit_block(self, block: PackedBlock, sidecars: tuple[bytes, ...]) -> SubmitResult:
        record = block.block
        assert self.has_block(record.header.foliage.parent_hash)
        if compute_header_hash(record.header) in self.refused:
            return SubmitResult(Outcome.INVALID, "scripted")
        for sidecar in sidecars:
            self.add_sidecar(decode(Sidecar, sidecar, 2**21))
        self.add(record)
        return SubmitResult(Outcome.ACCEPTED)

    async def submit_transactions(self, offers: Sequence[tuple[PackedTransaction, bytes | None]]) -> list[SubmitResult]:
        return [self.submit_transaction(*offer) for offer in offers]

    def submit_transaction(self, packed: PackedTransaction, sidecar: bytes | None) -> SubmitResult:
        record = packed.transaction
        if packed.hash in self.refused:
            return SubmitResult(Outcome.INVALID, "scripted")
        if sidecar is not None:
            self.add_sidecar(decode(Sidecar, sidecar, 2**21))
        self.add_transaction(record)
        return SubmitResult(Outcome.ACCEPTED)

    def _has_header(self, block_hash: Hash) -> bool:
        return block_hash == GENESIS or block_hash in self.headers

    def _add_header(self, header: Header) -> Hash:
        block_hash = compute_header_hash(header)
        self.headers[block_hash] = header
        if header.trunk.total_work > self.best.total_work and block_hash not in self.refused:
            self.best = Tip(block_hash, header.height, header.trunk.total_work)
        return block_hash

    def _get_branch(self, block_hash: Hash) -> list[Hash]:
        branch = []
        while block_hash != GENESIS:
            branch.append(block_hash)
            block_hash = self.headers[block_hash].foliage.parent_hash
        return branch[::-1]
