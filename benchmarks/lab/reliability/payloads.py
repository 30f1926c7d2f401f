"""Frames made to hurt: full, hollow and deep contents for each kind of message, at the size that the kind allows.

It knows the limits of messages and no node.
"""

import os
from collections.abc import Iterator

from chain.block import BLOCK_BYTES_MAX, TRANSACTIONS_PER_BLOCK_MAX
from chain.codec import encode
from chain.header import HEADER_BYTES_MAX
from chain.primitives import Hash
from chain.ticket import TICKET_OPENING_BYTES_MAX
from chain.transaction import TRANSACTION_BYTES_MAX
from p2p.addresses import PeerAddress, SeenAddress
from p2p.messages import (
    ADDRESSES_MAX,
    ENVELOPE_BYTES_MAX,
    FRAME_BYTES_MAX,
    HEADERS_MAX,
    ITEMS_MAX,
    KINDS,
    LOCATOR_MAX,
    SIDECAR_ENCODED_BYTES_MAX,
    TRANSACTIONS_MAX,
    Addresses,
    BlockMessage,
    Frame,
    GetData,
    GetHeaders,
    GetTransactions,
    Headers,
    Inventory,
    Item,
    ItemKind,
    Message,
    NotFound,
    OpeningMessage,
    SidecarMessage,
    TransactionMessage,
    Transactions,
    encode_frame,
)

_ARRAY_32 = b"\xdd"


def make_hollow(kind: int, limit_bytes: int) -> bytes:
    """Return a frame that says it is one array and holds nothing but empty ones."""
    count = limit_bytes - ENVELOPE_BYTES_MAX - 5
    return encode(Frame(kind, _ARRAY_32 + count.to_bytes(4, "big") + b"\x90" * count))


def make_deep(kind: int, limit_bytes: int) -> bytes:
    """Return a frame of arrays, each the only item of the one before."""
    return encode(Frame(kind, b"\x91" * (limit_bytes - ENVELOPE_BYTES_MAX)))


def make_boastful(kind: int) -> bytes:
    """Return a frame whose few bytes announce four thousand million items."""
    return encode(Frame(kind, b"\x91" + _ARRAY_32 + b"\xff" * 4 + b"\x90"))


def iter_full() -> Iterator[Message]:
    """Yield a well-formed message of each kind that can be large, as large as it may be."""
    names = [Hash(os.urandom(32)) for _ in range(ITEMS_MAX)]
    for kind in (ItemKind.BLOCK, ItemKind.TRANSACTION, ItemKind.OPENING):
        items = tuple(Item(kind, name) for name in names)
        yield Inventory(items)
        yield GetData(items)
        yield NotFound(items)
    yield GetHeaders(tuple(names[:LOCATOR_MAX]))
    header_bytes = min(HEADER_BYTES_MAX, FRAME_BYTES_MAX // HEADERS_MAX - 8)
    yield Headers((os.urandom(header_bytes),) * HEADERS_MAX)
    yield BlockMessage(os.urandom(BLOCK_BYTES_MAX))
    yield TransactionMessage((os.urandom(TRANSACTION_BYTES_MAX),) * (FRAME_BYTES_MAX // TRANSACTION_BYTES_MAX))
    yield TransactionMessage((os.urandom(FRAME_BYTES_MAX // TRANSACTIONS_MAX - 8),) * TRANSACTIONS_MAX)
    yield SidecarMessage(os.urandom(SIDECAR_ENCODED_BYTES_MAX))
    yield OpeningMessage(names[0], os.urandom(TICKET_OPENING_BYTES_MAX))
    yield GetTransactions(names[0], tuple(range(TRANSACTIONS_PER_BLOCK_MAX)))
    count = min(TRANSACTIONS_PER_BLOCK_MAX, FRAME_BYTES_MAX // 64)
    yield Transactions(names[0], (os.urandom(48),) * count)
    addresses = (PeerAddress(bytes(10) + b"\xff\xff" + os.urandom(4), 4610) for _ in range(ADDRESSES_MAX))
    yield Addresses(tuple(SeenAddress(address, 0) for address in addresses))


def iter_frames() -> Iterator[tuple[str, bytes]]:
    """Yield frames by name."""
    for message in iter_full():
        yield f"full {type(message).__name__}", encode_frame(message)
    for number, (record, limit_bytes) in enumerate(KINDS):
        yield f"hollow {record.__name__}", make_hollow(number, limit_bytes)
        yield f"deep {record.__name__}", make_deep(number, limit_bytes)
        yield f"boastful {record.__name__}", make_boastful(number)
