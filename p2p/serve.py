"""Answers to what peers ask for: headers behind a locator, content by hash, transactions of a block by position.

It reads the chain and nothing else; when to answer, and how much, is decided elsewhere.
"""

from collections import deque
from itertools import pairwise

from chain.packed import PackedBlock
from chain.primitives import Hash
from p2p.actions import Push, Question
from p2p.compact import make_compact_block
from p2p.messages import (
    CHUNK_BYTES_MAX,
    HEADERS_MAX,
    TRANSACTIONS_MAX,
    BlobPart,
    BlockMessage,
    CompactMessage,
    GetBlobPart,
    GetHeaders,
    GetStateChunk,
    GetTransactions,
    Headers,
    Inventory,
    Item,
    ItemKind,
    Message,
    NotFound,
    OpeningMessage,
    SidecarMessage,
    StateChunkMessage,
    TransactionMessage,
    Transactions,
)
from p2p.view import ChainView

TOGETHER_BYTES_MAX = 64 * 1024
"""Transactions go in one message until they weigh this much; with one more of any size they still fit in a frame."""

RECENT_MAX = 4
"""Blocks of which compact forms are kept, and of which single transactions are served."""


def takes_long(question: Question) -> bool:
    """Say whether an answer reads so much that it should be made in another thread."""
    return isinstance(question, GetStateChunk | GetBlobPart)


class Server:
    """Answers all peers of one node."""

    def __init__(self, chain: ChainView, salt: int) -> None:
        """Answer from `chain`; `salt` is 64 random bits for the short ids of compact blocks."""
        self._chain = chain
        self._salt = salt
        self._recent: dict[Hash, tuple[PackedBlock, CompactMessage]] = {}

    def answer_next(self, questions: deque[Question]) -> Message:
        """Take the first question and return its answer; transactions that are asked for in a row go together."""
        datas, size_bytes = list[bytes](), 0
        while questions and len(datas) < TRANSACTIONS_MAX and size_bytes < TOGETHER_BYTES_MAX:
            data = self._get_pooled(questions[0])
            if data is None:
                break
            questions.popleft()
            datas.append(data)
            size_bytes += len(data)
        return TransactionMessage(tuple(datas)) if datas else self.answer(questions.popleft())

    def answer(self, question: Question) -> Message:
        """Return the answer to one question."""
        if isinstance(question, GetHeaders):
            return Headers(self._chain.get_headers_after(question.locator, HEADERS_MAX))
        if isinstance(question, GetTransactions):
            return self._get_transactions(question) or NotFound((Item(ItemKind.COMPACT, question.block),))
        if isinstance(question, Push):
            # A block that is the head no longer would go whole to somebody who has not asked for it.
            return self._get_compact(question.block) or Inventory((Item(ItemKind.BLOCK, question.block),))
        if isinstance(question, GetStateChunk):
            return self._get_chunk(question) or NotFound((Item(ItemKind.STATE, question.root),))
        if isinstance(question, GetBlobPart):
            return self._get_part(question) or NotFound((Item(ItemKind.BLOB, question.name),))
        return self._get_content(question) or NotFound((question,))

    def _get_chunk(self, question: GetStateChunk) -> StateChunkMessage | None:
        chunk = self._chain.get_state_chunk(question.root, question.first)
        return None if chunk is None else StateChunkMessage(question.root, question.first, chunk)

    def _get_part(self, question: GetBlobPart) -> BlobPart | None:
        part = self._chain.get_blob_part(question.name, question.offset, CHUNK_BYTES_MAX)
        return None if part is None else BlobPart(question.name, question.offset, *part)

    def _get_pooled(self, question: Question) -> bytes | None:
        """Return the transaction that is asked for; None when something else is, or it is not there."""
        if not isinstance(question, Item) or question.kind != ItemKind.TRANSACTION:
            return None
        transaction = self._chain.get_transaction(question.hash)
        return None if transaction is None else transaction.data

    def _get_content(self, item: Item) -> Message | None:
        if item.kind == ItemKind.COMPACT:
            compact = self._get_compact(item.hash)
            if compact is not None:
                return compact
        if item.kind in (ItemKind.BLOCK, ItemKind.COMPACT):
            block = self._chain.get_block_bytes(item.hash)
            return BlockMessage(block) if block is not None else None
        if item.kind == ItemKind.OPENING:
            opening = self._chain.get_opening_bytes(item.hash)
            return OpeningMessage(item.hash, opening) if opening is not None else None
        if item.kind == ItemKind.TRANSACTION:
            transaction = self._get_pooled(item)
            return TransactionMessage((transaction,)) if transaction is not None else None
        if item.kind == ItemKind.SIDECAR:
            sidecar = self._chain.get_sidecar_bytes(item.hash)
            return SidecarMessage(sidecar) if sidecar is not None else None
        return None

    def _get_compact(self, block_hash: Hash) -> CompactMessage | None:
        # Making one costs more than sending the block: it is done of the newest, which many peers want at once.
        if block_hash not in self._recent:
            block = self._chain.get_head_block() if block_hash == self._chain.get_tip().hash else None
            if block is None:
                return None
            self._recent[block_hash] = (block, CompactMessage(make_compact_block(block, self._salt)))
            if len(self._recent) > RECENT_MAX:
                del self._recent[next(iter(self._recent))]
        return self._recent[block_hash][1]

    def _get_transactions(self, question: GetTransactions) -> Transactions | None:
        recent = self._recent.get(question.block)
        positions = question.positions
        if recent is None or any(position >= len(recent[0].transactions) for position in positions):
            return None
        if any(after <= before for before, after in pairwise(positions)):
            return None
        return Transactions(question.block, tuple(recent[0].transactions[position].data for position in positions))
