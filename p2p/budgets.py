"""How fast a peer may send each kind of message, beside the budget of bytes that all kinds share.

A small message can cost more than its bytes: a question makes us read the disk, a list of hashes makes us look each of
them up. A peer beyond its budget is read more slowly and is not charged. Content that was asked for is not listed, but
for compact blocks, which come unasked too: what may be in flight bounds it, and the rest is charged. Times are
milliseconds handed in.
"""

from p2p.limits import TokenBucket
from p2p.messages import (
    Addresses,
    CompactMessage,
    GetAddresses,
    GetBlobPart,
    GetData,
    GetHeaders,
    GetStateChunk,
    GetTransactions,
    Inventory,
    ItemKind,
    Message,
    NotFound,
    Observed,
    Ping,
    Pong,
    PushBlocks,
    Status,
)

RATES: dict[type[Message], tuple[int, int]] = {
    Status: (100, 2_000),
    GetHeaders: (20, 100),
    Inventory: (4_000, 40_000),
    GetData: (4_000, 40_000),
    NotFound: (4_000, 40_000),
    GetTransactions: (4_000, 40_000),
    GetStateChunk: (4, 40),
    GetBlobPart: (8, 80),
    Ping: (2, 20),
    Pong: (2, 20),
    GetAddresses: (1, 4),
    Addresses: (1, 10),
    Observed: (1, 4),
    PushBlocks: (1, 10),
    CompactMessage: (10, 100),
}
"""Refill a second and burst, in messages, or in items where a message lists items.

A node that catches up announces every block, so Status and Inventory have large bursts; 4,000 items a second are four
times the transactions a second that the chain is made for; 20 questions for headers are 40,000 headers a second.
"""

OPENING_ITEMS = 100
"""Items that a question for an opening counts for: a whole block is read for an answer of a few kilobytes. The 40 of
them a second that are left are those of eight runs of headers."""


class MessageBudgets:
    """One peer's budgets, a bucket a kind."""

    def __init__(self) -> None:
        """Start with full buckets."""
        self._buckets = {record: TokenBucket(rate, burst) for record, (rate, burst) in RATES.items()}

    def take(self, message: Message, now_ms: int) -> int:
        """Charge a message's budget and return how many milliseconds to wait before it is acted on."""
        bucket = self._buckets.get(type(message))
        if bucket is None:
            return 0
        return bucket.take(max(1, _count_items(message)), now_ms)


def _count_items(message: Message) -> int:
    if isinstance(message, GetData):
        return sum(OPENING_ITEMS if item.kind == ItemKind.OPENING else 1 for item in message.items)
    if isinstance(message, Inventory | NotFound):
        return len(message.items)
    return len(message.positions) if isinstance(message, GetTransactions) else 1
