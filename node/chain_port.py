"""The chain as the network sees it: answers by hash, and submissions turned into the importer's and the pool's terms.

Every byte from a peer is decoded here, within the record's own bound, before anything else looks at it.
"""

from collections.abc import Iterable, Sequence

from chain.codec import decode, encode
from chain.errors import DecodeError, InvalidTransaction, MissingData, StorageError
from chain.header import HEADER_BYTES_MAX, Header
from chain.packed import PackedBlock, PackedTransaction, cut_opening
from chain.primitives import Hash, PublicKey
from chain.state.snapshot import make_chunk
from chain.state.tree import NodeSource
from chain.storage.engine import CorruptDatabase
from chain.ticket import TICKET_OPENING_BYTES_MAX, TicketOpening
from chain.transaction import Sidecar
from consensus.header_chain import ChainEntry, get_locator
from node.chain import SIDECAR_ENCODED_BYTES_MAX, Chain
from node.gate import LASTING_RULES, Answer, Offer, TransactionGate
from node.importer import Importer
from node.mempool import AddResult, Mempool
from node.observability.journal import get_log
from node.outcomes import ImportOutcome, ImportResult
from p2p.view import Outcome, SubmitResult, Tip

log = get_log("chain_port")

_OUTCOMES = {
    ImportResult.EXTENDED: Outcome.ACCEPTED,
    ImportResult.REORGED: Outcome.ACCEPTED,
    ImportResult.SIDE_BRANCH: Outcome.ACCEPTED,
    ImportResult.EVIDENCE: Outcome.EVIDENCE,
    ImportResult.SURPLUS: Outcome.SURPLUS,
    ImportResult.LIGHT: Outcome.LIGHT,
    ImportResult.PROVEN: Outcome.PROVEN,
    ImportResult.ALREADY_KNOWN: Outcome.ALREADY_KNOWN,
    ImportResult.ORPHAN: Outcome.ORPHAN,
    ImportResult.MISSING_DATA: Outcome.MISSING_DATA,
    ImportResult.TOO_DEEP: Outcome.REFUSED,
    ImportResult.REFUSED: Outcome.REFUSED,
    ImportResult.INVALID: Outcome.INVALID,
}

SERVED_BLOB_BYTES_MAX = 64 * 1024 * 1024
"""Blobs beyond are not served in parts: one of them is held in memory meanwhile."""


class NodeChainPort:
    """Implements `node.ports.ChainPort` over the node's own parts."""

    def __init__(self, chain: Chain, importer: Importer, mempool: Mempool, gate: TransactionGate) -> None:
        """Answer from these."""
        self._chain = chain
        self._importer = importer
        self._mempool = mempool
        self._gate = gate
        self._served_blob: tuple[Hash, bytes] | None = None

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
        """Return encoded headers of the head's branch behind the locator; none whose work could not be shown."""
        headers = self._chain.headers.get_headers_after(locator, self._chain.head, count_max)
        if not headers or headers[0].foliage.height <= self._chain.base.height:
            return ()
        return tuple(map(encode, headers))

    def get_missing_blocks(self, count_max: int) -> tuple[Hash, ...]:
        """Return the blocks that the heaviest header waits for."""
        return self._chain.get_missing_blocks(count_max)

    def has_header(self, header_hash: Hash) -> bool:
        """Say whether a header is kept."""
        return header_hash in self._chain.headers

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
        return self._chain.store.get_block_bytes(block_hash)

    def get_head_block(self) -> PackedBlock | None:
        """Return the block of the head."""
        return self._chain.get_head_block()

    def get_opening_bytes(self, block_hash: Hash) -> bytes | None:
        """Return the encoded opening of a block's ticket."""
        data = self._chain.store.get_block_bytes(block_hash)
        return None if data is None else cut_opening(data)

    def get_state_chunk(self, root: Hash, first: Hash) -> bytes | None:
        """Return an encoded chunk of the state under the root of a block whose state is kept."""
        entry: ChainEntry | None = self._chain.head
        while entry is not None and self._chain.store.is_state_kept(entry.height):
            if entry.header.foliage.state_root == root:
                return _make_chunk(self._chain.store, root, first)
            entry = entry.parent
        return None

    def get_blob_part(self, name: Hash, offset: int, length_max: int) -> tuple[int, bytes] | None:
        """Return the size of a blob and its bytes from `offset` on."""
        held = self._served_blob
        if held is None or held[0] != name:
            data = self._read_blob(name)
            if data is None or len(data) > SERVED_BLOB_BYTES_MAX:
                return None
            # Its parts are asked for one after another, and each would read and verify the whole file.
            held = self._served_blob = (name, data)
        return len(held[1]), held[1][offset : offset + length_max]

    def get_transaction(self, transaction_hash: Hash) -> PackedTransaction | None:
        """Return a transaction of the pool."""
        return self._mempool.get(transaction_hash)

    def get_sidecar_bytes(self, sidecar_hash: Hash) -> bytes | None:
        """Return encoded block data."""
        return self._read_blob(sidecar_hash)

    def _read_blob(self, name: Hash) -> bytes | None:
        """Return a blob's bytes, None as well when its file is damaged: others have it."""
        try:
            return self._chain.blobs.get(name)
        except StorageError as error:
            log.error("a blob cannot be served", blob=name, error=str(error))
            return None

    async def submit_headers(
        self, source: PublicKey, headers: tuple[bytes, ...], openings: tuple[tuple[int, bytes], ...]
    ) -> SubmitResult:
        """Keep headers, oldest first, once the openings of some of their tickets hold and their branch is heavy."""
        try:
            decoded = tuple(decode(Header, data, HEADER_BYTES_MAX) for data in headers)
            opened = {place: decode(TicketOpening, data, TICKET_OPENING_BYTES_MAX) for place, data in openings}
        except DecodeError:
            return SubmitResult(Outcome.INVALID, "decode")
        return _to_submit_result(await self._importer.import_headers(decoded, opened, source))

    async def submit_block(self, block: PackedBlock, sidecars: tuple[bytes, ...]) -> SubmitResult:
        """Import a block and the block data beside it."""
        try:
            beside = tuple(decode(Sidecar, data, SIDECAR_ENCODED_BYTES_MAX) for data in sidecars)
        except DecodeError:
            return SubmitResult(Outcome.INVALID, "decode")
        return _to_submit_result(await self._importer.import_block(block, beside))

    async def submit_transactions(self, offers: Sequence[tuple[PackedTransaction, bytes | None]]) -> list[SubmitResult]:
        """Offer transactions to the pool, in their order."""
        decoded = [_decode_offer(*offer) for offer in offers]
        answers = iter(await self._gate.admit_many([offer for offer in decoded if offer is not None]))
        return [
            SubmitResult(Outcome.INVALID, "decode") if offer is None else _to_result(next(answers)) for offer in decoded
        ]


def _make_chunk(nodes: NodeSource, root: Hash, first: Hash) -> bytes | None:
    try:
        return encode(make_chunk(nodes, root, first))
    except CorruptDatabase:
        raise
    except StorageError:
        # Pruned while it was read: whoever asked takes a younger state.
        return None


def _to_submit_result(outcome: ImportOutcome) -> SubmitResult:
    return SubmitResult(_OUTCOMES[outcome.result], outcome.rule, outcome.missing)


def _decode_offer(transaction: PackedTransaction, sidecar: bytes | None) -> Offer | None:
    """Return what a peer offers, None when its sidecar cannot be decoded."""
    try:
        beside = None if sidecar is None else decode(Sidecar, sidecar, SIDECAR_ENCODED_BYTES_MAX)
        return Offer(transaction, beside)
    except DecodeError:
        return None


def _to_result(answer: Answer) -> SubmitResult:
    match answer:
        case MissingData():
            return SubmitResult(Outcome.MISSING_DATA, missing=tuple(Hash(name) for name in answer.hashes))
        case InvalidTransaction():
            return SubmitResult(Outcome.INVALID if answer.rule in LASTING_RULES else Outcome.REFUSED, answer.rule)
        case AddResult.ALREADY_KNOWN:
            return SubmitResult(Outcome.ALREADY_KNOWN)
    return SubmitResult(Outcome.ACCEPTED)
