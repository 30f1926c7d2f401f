"""What a node keeps of its peers between runs: the address book, the anchors and the bans, as sealed bytes.

A file is the BLAKE3 of a canonical record, then the record, whose first field is its version. Damage raises a typed
error and nothing is guessed; the seal finds accidents, not forgers, who could write any file. It opens none itself.
"""

from dataclasses import dataclass
from typing import Annotated, TypeVar

from blake3 import blake3

from chain.codec import U8, U16, U64, Bytes, Many, decode, encode
from chain.errors import DecodeError
from p2p.address_book import AddressBook
from p2p.address_tables import ENTRIES_MAX, Entry
from p2p.addresses import Draw, PeerAddress, Prefix, Scope
from p2p.score import NAMES_MAX

VERSION = 1
SEAL_BYTES = 32
FILE_BYTES_MAX = 8 * 1024 * 1024
"""More than a full book takes, at 64 bytes an entry."""
ANCHORS_MAX = 8
"""Kept; as many as there are block-only slots are dialled first, in the order in which they became anchors."""

T = TypeVar("T", "BookRecord", "BansRecord")


@dataclass(frozen=True, slots=True)
class EntryRecord:
    """An address with its history: Unix times in milliseconds, 0 for never; `is_tried` is 0 or 1."""

    address: PeerAddress
    teller: Annotated[bytes, Bytes(3, 5)]
    seen_ms: U64
    attempt_ms: U64
    success_ms: U64
    failures: U16
    is_tried: U8


@dataclass(frozen=True, slots=True)
class BookRecord:
    """An address book, and the peers that are dialled first at the next start."""

    version: U16
    salt: Annotated[bytes, Bytes(32, 32)]
    anchors: Annotated[tuple[PeerAddress, ...], Many(ANCHORS_MAX)]
    entries: Annotated[tuple[EntryRecord, ...], Many(ENTRIES_MAX)]


@dataclass(frozen=True, slots=True)
class Ban:
    """A key (32 bytes) or an IP address (16 bytes) that is refused, and until when in Unix milliseconds."""

    name: Annotated[bytes, Bytes(1, 64)]
    until_ms: U64


@dataclass(frozen=True, slots=True)
class BansRecord:
    """Everybody who is refused."""

    version: U16
    bans: Annotated[tuple[Ban, ...], Many(NAMES_MAX)]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A book's entries at one moment, taken quickly; a record is made of it elsewhere, as that takes longer.

    An entry may change meanwhile: each of its times is right by itself, and no more is asked of them.
    """

    salt: bytes
    anchors: tuple[PeerAddress, ...]
    entries: tuple[Entry, ...]


def take_snapshot(book: AddressBook, anchors: tuple[PeerAddress, ...]) -> Snapshot:
    """Return what there is to be kept of a book."""
    return Snapshot(book.salt, anchors[:ANCHORS_MAX], tuple(book))


def make_record(snapshot: Snapshot) -> BookRecord:
    """Return what a book is kept as; equal books give equal records."""
    entries = tuple(
        EntryRecord(
            entry.address, entry.teller, entry.seen_ms, entry.attempt_ms, entry.success_ms,
            min(entry.failures, 2**16 - 1), int(entry.is_tried),
        )
        for entry in snapshot.entries
    )  # fmt: skip
    return BookRecord(VERSION, snapshot.salt, snapshot.anchors, entries)


def make_book(record: BookRecord, draw: Draw, scope: Scope, now_ms: int) -> AddressBook:
    """Return the book that a record keeps."""
    book = AddressBook(record.salt, draw, scope)
    for kept in record.entries:
        entry = Entry(
            kept.address, Prefix(kept.teller), kept.seen_ms, kept.attempt_ms, kept.success_ms,
            kept.failures, bool(kept.is_tried),
        )  # fmt: skip
        book.restore(entry, now_ms)
    return book


def seal(record: BookRecord | BansRecord) -> bytes:
    """Return the bytes of a file."""
    data = encode(record)
    return blake3(data).digest() + data


def unseal(cls: type[T], data: bytes) -> T:
    """Return the record in a file's bytes; raises DecodeError when they are damaged or of another version."""
    if len(data) > FILE_BYTES_MAX:
        raise DecodeError(f"found {len(data)} bytes, expected at most {FILE_BYTES_MAX}")
    found, expected = data[:SEAL_BYTES], blake3(data[SEAL_BYTES:]).digest()
    if found != expected:
        raise DecodeError(f"found the seal {found.hex()}, expected {expected.hex()}")
    record = decode(cls, data[SEAL_BYTES:], FILE_BYTES_MAX)
    if record.version != VERSION:
        raise DecodeError(f"found version {record.version}, expected {VERSION}")
    return record
