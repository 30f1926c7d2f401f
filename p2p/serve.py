"""Answers to what peers ask for: headers behind a locator, and content by hash.

It reads the chain and nothing else; when to answer, and how much, is decided elsewhere.
"""

from p2p.messages import (
    HEADERS_MAX,
    BlockMessage,
    GetHeaders,
    Headers,
    Item,
    ItemKind,
    Message,
    NotFound,
    SidecarMessage,
    TransactionMessage,
)
from p2p.view import ChainView


def answer(chain: ChainView, question: GetHeaders | Item) -> Message:
    """Return the answer to one question."""
    if isinstance(question, GetHeaders):
        return Headers(chain.get_headers_after(question.locator, HEADERS_MAX))
    return _get_content(chain, question) or NotFound((question,))


def _get_content(chain: ChainView, item: Item) -> Message | None:
    if item.kind == ItemKind.BLOCK:
        block = chain.get_block_bytes(item.hash)
        return BlockMessage(block) if block is not None else None
    if item.kind == ItemKind.TRANSACTION:
        transaction = chain.get_transaction_bytes(item.hash)
        return TransactionMessage(transaction) if transaction is not None else None
    if item.kind == ItemKind.SIDECAR:
        sidecar = chain.get_sidecar_bytes(item.hash)
        return SidecarMessage(sidecar) if sidecar is not None else None
    return None
