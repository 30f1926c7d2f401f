"""Messages as they travel: frozen records, and the frame `[kind, payload]` around each.

One WebSocket message is one frame. The size allowed for its kind is checked before anything is decoded. Content
(blocks, headers, transactions, sidecars) stays opaque bytes here; only its sizes are known. Nothing is known of state
or order.
"""

from dataclasses import dataclass
from typing import Annotated

from chain.block import BLOCK_BYTES_MAX, TRANSACTIONS_PER_BLOCK_MAX
from chain.codec import U8, U16, U64, U256, Bytes, HashField, Many, PublicKeyField, SignatureField, decode, encode
from chain.errors import DecodeError
from chain.header import HEADER_BYTES_MAX
from chain.ticket import TICKET_OPENING_BYTES_MAX
from chain.transaction import SIDECAR_BYTES_MAX, TRANSACTION_BYTES_MAX
from p2p.addresses import IpField, SeenAddress
from p2p.compact import CompactBlock
from p2p.errors import RemoteProtocolError

FRAME_BYTES_MAX = 2 * 1024 * 1024
CONTROL_BYTES_MAX = 64 * 1024
HANDSHAKE_BYTES_MAX = 4 * 1024
HEADERS_MAX = 2_000
ITEMS_MAX = 1_000
TRANSACTIONS_MAX = 64
"""Transactions of the pool in one message: reading them takes a few milliseconds, and then others have their turn."""
ADDRESSES_MAX = 1_000
CHUNK_BYTES_MAX = 1024 * 1024
"""A chunk of a state, or a part of a blob."""
LOCATOR_MAX = 64
ENVELOPE_BYTES_MAX = 7
"""What a frame adds to its payload: array header, kind, and a byte string's header."""

SIDECAR_ENCODED_BYTES_MAX = SIDECAR_BYTES_MAX + 16
"""An encoded sidecar: its two byte strings share the limit of one."""


class ItemKind:
    """What a hash in an inventory names."""

    BLOCK = 0
    TRANSACTION = 1
    SIDECAR = 2
    COMPACT = 3
    """A block without the transactions that its receiver has."""
    OPENING = 4
    """The opening of a block's ticket."""
    STATE = 5
    """The state under a root; asked for by GetStateChunk alone."""
    BLOB = 6
    """A blob by its name; asked for by GetBlobPart alone."""


ITEM_NAMES = ("block", "transaction", "sidecar", "compact block", "ticket opening", "state", "blob")
"""What each kind is called, by its number."""


@dataclass(frozen=True, slots=True)
class Item:
    """Content by kind (`ItemKind`) and hash."""

    kind: U8
    hash: HashField


@dataclass(frozen=True, slots=True)
class Hello:
    """Who speaks, on which network, and a nonce of 32 fresh random bytes."""

    version: U16
    chain_id: HashField
    genesis_hash: HashField
    key: PublicKeyField
    nonce: Annotated[bytes, Bytes(32, 32)]
    listen_port: U16


@dataclass(frozen=True, slots=True)
class Proof:
    """The signature that binds a Hello to its answer and to the TLS certificate."""

    signature: SignatureField


@dataclass(frozen=True, slots=True)
class Status:
    """Where the sender's head stands; a claim, until its headers show it."""

    height: U64
    total_work: U256


@dataclass(frozen=True, slots=True)
class GetHeaders:
    """Ask for headers above the newest hash of `locator` that the receiver has."""

    locator: Annotated[tuple[HashField, ...], Many(LOCATOR_MAX)]


@dataclass(frozen=True, slots=True)
class Headers:
    """Encoded headers, oldest first, each the parent of the next."""

    headers: Annotated[tuple[Annotated[bytes, Bytes(1, HEADER_BYTES_MAX)], ...], Many(HEADERS_MAX)]


@dataclass(frozen=True, slots=True)
class Inventory:
    """Content that the sender can serve."""

    items: Annotated[tuple[Item, ...], Many(ITEMS_MAX)]


@dataclass(frozen=True, slots=True)
class GetData:
    """Ask for content; every item is answered with it, transactions together, or by NotFound."""

    items: Annotated[tuple[Item, ...], Many(ITEMS_MAX)]


@dataclass(frozen=True, slots=True)
class NotFound:
    """Content that was asked for and is not held."""

    items: Annotated[tuple[Item, ...], Many(ITEMS_MAX)]


@dataclass(frozen=True, slots=True)
class BlockMessage:
    """An encoded block."""

    block: Annotated[bytes, Bytes(1, BLOCK_BYTES_MAX)]


@dataclass(frozen=True, slots=True)
class TransactionMessage:
    """Encoded transactions of the pool, each of which was asked for."""

    transactions: Annotated[tuple[Annotated[bytes, Bytes(1, TRANSACTION_BYTES_MAX)], ...], Many(TRANSACTIONS_MAX)]


@dataclass(frozen=True, slots=True)
class SidecarMessage:
    """An encoded sidecar."""

    sidecar: Annotated[bytes, Bytes(1, SIDECAR_ENCODED_BYTES_MAX)]


@dataclass(frozen=True, slots=True)
class Ping:
    """Ask whether the other end lives."""

    nonce: U64


@dataclass(frozen=True, slots=True)
class Pong:
    """Answer a Ping with its nonce."""

    nonce: U64


@dataclass(frozen=True, slots=True)
class GetAddresses:
    """Ask for at most `count` addresses of peers; answered once a connection."""

    count: U16


@dataclass(frozen=True, slots=True)
class Addresses:
    """Addresses of peers, asked for or not."""

    addresses: Annotated[tuple[SeenAddress, ...], Many(ADDRESSES_MAX)]


@dataclass(frozen=True, slots=True)
class Observed:
    """The IP address at which the sender sees the receiver."""

    ip: IpField


@dataclass(frozen=True, slots=True)
class CompactMessage:
    """A block with short ids for transactions."""

    compact: CompactBlock


@dataclass(frozen=True, slots=True)
class GetTransactions:
    """Ask for transactions of a block by their positions, ascending."""

    block: HashField
    positions: Annotated[tuple[U16, ...], Many(TRANSACTIONS_PER_BLOCK_MAX)]


@dataclass(frozen=True, slots=True)
class Transactions:
    """The transactions asked for, in the same order."""

    block: HashField
    transactions: Annotated[
        tuple[Annotated[bytes, Bytes(1, TRANSACTION_BYTES_MAX)], ...], Many(TRANSACTIONS_PER_BLOCK_MAX)
    ]


@dataclass(frozen=True, slots=True)
class PushBlocks:
    """Ask the receiver to send new blocks, compact, without being asked for each (1), or no longer (0)."""

    is_wanted: U8


@dataclass(frozen=True, slots=True)
class OpeningMessage:
    """The encoded opening of a block's ticket, by the block's hash."""

    block: HashField
    opening: Annotated[bytes, Bytes(1, TICKET_OPENING_BYTES_MAX)]


@dataclass(frozen=True, slots=True)
class GetStateChunk:
    """Ask for the leaves under a state root from the path `first` on."""

    root: HashField
    first: HashField


@dataclass(frozen=True, slots=True)
class StateChunkMessage:
    """An encoded chunk of the state under `root` from the path `first` on, which proves itself."""

    root: HashField
    first: HashField
    chunk: Annotated[bytes, Bytes(1, CHUNK_BYTES_MAX)]


@dataclass(frozen=True, slots=True)
class GetBlobPart:
    """Ask for bytes of a blob from `offset` on."""

    name: HashField
    offset: U64


@dataclass(frozen=True, slots=True)
class BlobPart:
    """Bytes of a blob from `offset` on, and how many the whole blob has."""

    name: HashField
    offset: U64
    size_bytes: U64
    data: Annotated[bytes, Bytes(0, CHUNK_BYTES_MAX)]


@dataclass(frozen=True, slots=True)
class Frame:
    """The envelope of every message."""

    kind: U8
    payload: Annotated[bytes, Bytes(0, FRAME_BYTES_MAX - ENVELOPE_BYTES_MAX)]


Message = (
    Hello
    | Proof
    | Status
    | GetHeaders
    | Headers
    | Inventory
    | GetData
    | NotFound
    | BlockMessage
    | TransactionMessage
    | SidecarMessage
    | Ping
    | Pong
    | GetAddresses
    | Addresses
    | Observed
    | CompactMessage
    | GetTransactions
    | Transactions
    | PushBlocks
    | OpeningMessage
    | GetStateChunk
    | StateChunkMessage
    | GetBlobPart
    | BlobPart
)

KINDS: tuple[tuple[type[Message], int], ...] = (
    (Hello, HANDSHAKE_BYTES_MAX),
    (Proof, HANDSHAKE_BYTES_MAX),
    (Status, CONTROL_BYTES_MAX),
    (GetHeaders, CONTROL_BYTES_MAX),
    (Headers, FRAME_BYTES_MAX),
    (Inventory, CONTROL_BYTES_MAX),
    (GetData, CONTROL_BYTES_MAX),
    (NotFound, CONTROL_BYTES_MAX),
    (BlockMessage, FRAME_BYTES_MAX),
    (TransactionMessage, FRAME_BYTES_MAX),
    (SidecarMessage, FRAME_BYTES_MAX),
    (Ping, CONTROL_BYTES_MAX),
    (Pong, CONTROL_BYTES_MAX),
    (GetAddresses, CONTROL_BYTES_MAX),
    (Addresses, CONTROL_BYTES_MAX),
    (Observed, CONTROL_BYTES_MAX),
    (CompactMessage, FRAME_BYTES_MAX),
    (GetTransactions, CONTROL_BYTES_MAX),
    (Transactions, FRAME_BYTES_MAX),
    (PushBlocks, CONTROL_BYTES_MAX),
    (OpeningMessage, FRAME_BYTES_MAX),
    (GetStateChunk, CONTROL_BYTES_MAX),
    (StateChunkMessage, FRAME_BYTES_MAX),
    (GetBlobPart, CONTROL_BYTES_MAX),
    (BlobPart, FRAME_BYTES_MAX),
)
"""Each kind's record, by its number on the wire, with the bytes that a whole frame of it may take."""

_KIND_OF = {record: kind for kind, (record, _) in enumerate(KINDS)}


def encode_frame(message: Message) -> bytes:
    """Return the frame that carries `message`; raises DecodeError when a field is out of its range."""
    kind = _KIND_OF[type(message)]
    data = encode(Frame(kind, encode(message)))
    if len(data) > KINDS[kind][1]:
        raise DecodeError(f"{type(message).__name__}: a frame of {len(data)} bytes, expected at most {KINDS[kind][1]}")
    return data


def decode_frame(data: bytes) -> Message:
    """Return the message of a frame; raises RemoteProtocolError."""
    record, size_bytes_max = get_frame_kind(data)
    if len(data) > size_bytes_max:
        raise RemoteProtocolError("size", f"{record.__name__}: found {len(data)} bytes, expected {size_bytes_max}")
    try:
        payload = decode(Frame, data, size_bytes_max).payload
        return decode(record, payload, size_bytes_max)
    except DecodeError as error:
        raise RemoteProtocolError("malformed", str(error)) from None


def get_frame_kind(data: bytes) -> tuple[type[Message], int]:
    """Return a frame's record and size limit from its first two bytes alone; raises RemoteProtocolError."""
    if len(data) < 2 or data[0] != 0x92 or data[1] >= len(KINDS):
        raise RemoteProtocolError(
            "frame", f"found {data[:2].hex() or 'nothing'}, expected 92 and a kind < {len(KINDS)}"
        )
    return KINDS[data[1]]
