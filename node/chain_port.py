"""The chain as the network sees it: answers by hash, and submissions turned into the importer's and the pool's terms.

Every byte from a peer is decoded here, within the record's own bound, before anything else looks at it.
"""

from collections.abc import Iterable

from chain.block import BLOCK_BYTES_MAX, Block
from chain.codec import decode, encode
from chain.errors import DecodeError, InvalidTransaction, MissingData
from chain.header import HEADER_BYTES_MAX, Header
from chain.primitives import Hash
from chain.ticket import TICKET_OPENING_BYTES_MAX, TicketOpening
from chain.transaction import TRANSACTION_BYTES_MAX, Sidecar, Transaction
from consensus.header_chain import get_locator
from node.chain import SIDECAR_ENCODED_BYTES_MAX, Chain
from node.gate import LASTING_RULES, TransactionGate
from node.importer import Importer
from node.mempool import AddResult, Mempool
from node.outcomes import ImportOutcome, ImportResult
from p2p.view import Outcome, SubmitResult, Tip

_OUTCOMES = {
    ImportResult.EXTENDED: Outcome.ACCEPTED,
    ImportResult.REORGED: Outcome.ACCEPTED,
    ImportResult.SIDE_BRANCH: Outcome.ACCEPTED,
    ImportResult.EVIDENCE: Outcome.EVIDENCE,
    ImportResult.SURPLUS: Outcome.SURPLUS,
    ImportResult.ALREADY_KNOWN: Outcome.ALREADY_KNOWN,
    ImportResult.ORPHAN: Outcome.ORPHAN,
    ImportResult.MISSING_DATA: Outcome.MISSING_DATA,
    ImportResult.TOO_DEEP: Outcome.REFUSED,
    ImportResult.REFUSED: Outcome.REFUSED,
    ImportResult.INVALID: Outcome.INVALID,
}


class NodeChainPort:
    """Implements `node.ports.ChainPort` over the node's own parts."""

    def __init__(self, chain: Chain, importer: Importer, mempool: Mempool, gate: TransactionGate) -> None:
        """Answer from these."""
        self._chain = chain
        self._importer = importer
        self._mempool = mempool
        self._gate = gate

    def get_tip(self) -> Tip:
        """Return the head."""
        head = self._chain.head
        return Tip(head.hash, head.height, head.total_work)

    def get_header_work(self) -> int:
        """Return the total work of the heaviest header that may become the head."""
        return self._chain.get_heaviest_header().total_work

    def get_locator(self) -> tuple[Hash, ...]:
        """Return hashes from the heaviest header back to genesis."""
        return get_locator(self._chain.get_heaviest_header())

    def get_headers_after(self, locator: tuple[Hash, ...], count_max: int) -> tuple[bytes, ...]:
        """Return encoded headers of the head's branch behind the locator."""
        return tuple(encode(h) for h in self._chain.headers.get_headers_after(locator, self._chain.head, count_max))

    def get_missing_blocks(self, count_max: int) -> tuple[Hash, ...]:
        """Return the blocks that the heaviest header waits for."""
        return self._chain.get_missing_blocks(count_max)

    def has_block(self, block_hash: Hash) -> bool:
        """Say whether a block's fate is known."""
        return self._chain.has_block(block_hash)

    def has_transaction(self, transaction_hash: Hash) -> bool:
        """Say whether a transaction waits or stands in the head's branch."""
        if self._mempool.get(transaction_hash) is not None:
            return True
        return self._chain.store.get_transaction_block(transaction_hash) is not None

    def has_sidecar(self, sidecar_hash: Hash) -> bool:
        """Say whether block data is held."""
        return self._chain.has_sidecar(sidecar_hash)

    def iter_pool(self) -> Iterable[Hash]:
        """Return the hashes of the pool's transactions."""
        return self._mempool.iter_hashes()

    def get_block_bytes(self, block_hash: Hash) -> bytes | None:
        """Return an encoded block."""
        block = self._chain.store.get_block(block_hash)
        return None if block is None else encode(block)

    def get_opening_bytes(self, block_hash: Hash) -> bytes | None:
        """Return the encoded opening of a block's ticket."""
        block = self._chain.store.get_block(block_hash)
        return None if block is None else encode(block.opening)

    def get_transaction_bytes(self, transaction_hash: Hash) -> bytes | None:
        """Return an encoded transaction of the pool."""
        packed = self._mempool.get(transaction_hash)
        return None if packed is None else packed.data

    def get_sidecar_bytes(self, sidecar_hash: Hash) -> bytes | None:
        """Return encoded block data."""
        return self._chain.blobs.get(sidecar_hash)

    async def submit_headers(self, headers: tuple[bytes, ...], openings: tuple[tuple[int, bytes], ...]) -> SubmitResult:
        """Keep headers, oldest first, once the openings of some of their tickets hold."""
        try:
            decoded = tuple(decode(Header, data, HEADER_BYTES_MAX) for data in headers)
            opened = {place: decode(TicketOpening, data, TICKET_OPENING_BYTES_MAX) for place, data in openings}
        except DecodeError:
            return SubmitResult(Outcome.INVALID, "decode")
        return _to_submit_result(await self._importer.import_headers(decoded, opened))

    async def submit_block(self, block: bytes, sidecars: tuple[bytes, ...]) -> SubmitResult:
        """Import a block and the block data beside it."""
        try:
            decoded = decode(Block, block, BLOCK_BYTES_MAX)
            beside = tuple(decode(Sidecar, data, SIDECAR_ENCODED_BYTES_MAX) for data in sidecars)
        except DecodeError:
            return SubmitResult(Outcome.INVALID, "decode")
        return _to_submit_result(await self._importer.import_block(decoded, beside))

    async def submit_transaction(self, transaction: bytes, sidecar: bytes | None) -> SubmitResult:
        """Offer a transaction to the pool."""
        try:
            decoded = decode(Transaction, transaction, TRANSACTION_BYTES_MAX)
            beside = None if sidecar is None else decode(Sidecar, sidecar, SIDECAR_ENCODED_BYTES_MAX)
            result = await self._gate.admit(decoded, beside)
        except DecodeError:
            return SubmitResult(Outcome.INVALID, "decode")
        except MissingData as error:
            return SubmitResult(Outcome.MISSING_DATA, missing=tuple(Hash(name) for name in error.hashes))
        except InvalidTransaction as error:
            return SubmitResult(Outcome.INVALID if error.rule in LASTING_RULES else Outcome.REFUSED, error.rule)
        return SubmitResult(Outcome.ALREADY_KNOWN if result is AddResult.ALREADY_KNOWN else Outcome.ACCEPTED)


def _to_submit_result(outcome: ImportOutcome) -> SubmitResult:
    return SubmitResult(_OUTCOMES[outcome.result], outcome.rule, outcome.missing)
