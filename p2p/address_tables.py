"""The two tables of an address book: addresses heard of, and addresses where a node was reached.

A secret salt decides the one place of an address. All that tellers of one prefix tell lands in at most 64 of 1,024 new
buckets, and all of one prefix's addresses in at most 8 of 256 tried ones, so room is bought with prefixes and not with
addresses. Which entry stays is not decided here. Source: Heilman et al. 2015; Bitcoin Core's addrman.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from chain.hashing import tagged_hash
from p2p.addresses import Draw, PeerAddress, Prefix, compute_prefix

BUCKET_SIZE = 64
NEW_BUCKETS = 1024
TRIED_BUCKETS = 256
NEW_BUCKETS_PER_TELLER = 64
TRIED_BUCKETS_PER_PREFIX = 8
ENTRIES_MAX = (NEW_BUCKETS + TRIED_BUCKETS) * BUCKET_SIZE


@dataclass(slots=True)
class Entry:
    """One address with its history; Unix times in milliseconds, 0 for never."""

    address: PeerAddress
    teller: Prefix
    seen_ms: int
    attempt_ms: int = 0
    success_ms: int = 0
    failures: int = 0
    is_tried: bool = False
    left_ms: int = 0
    """When a connection with the node there ended; forgotten with the process."""


class Place(NamedTuple):
    """A slot of a table."""

    bucket: int
    position: int


class Table:
    """Entries by place; only buckets that hold something are kept."""

    def __init__(self) -> None:
        """Start empty."""
        self._buckets: dict[int, dict[int, Entry]] = {}
        self._numbers: list[int] = []
        self._size = 0

    def get(self, place: Place) -> Entry | None:
        """Return the entry at a place."""
        return self._buckets.get(place.bucket, {}).get(place.position)

    def put(self, place: Place, entry: Entry) -> None:
        """Take an entry; the place must be free."""
        if place.bucket not in self._buckets:
            self._buckets[place.bucket] = {}
            insort(self._numbers, place.bucket)
        bucket = self._buckets[place.bucket]
        assert place.position not in bucket, f"{place} is taken"
        bucket[place.position] = entry
        self._size += 1

    def remove(self, place: Place) -> None:
        """Free a place that is taken."""
        bucket = self._buckets[place.bucket]
        del bucket[place.position]
        self._size -= 1
        if not bucket:
            del self._buckets[place.bucket]
            del self._numbers[bisect_left(self._numbers, place.bucket)]

    def pick(self, draw: Draw) -> Entry | None:
        """Return an entry of a uniformly drawn bucket, None when there is none.

        A crowded bucket is drawn no more often than a sparse one: who fills few buckets is met seldom.
        """
        if not self._numbers:
            return None
        bucket = self._buckets[self._numbers[draw(len(self._numbers))]]
        return bucket[sorted(bucket)[draw(len(bucket))]]

    def list_buckets(self) -> list[tuple[Entry, ...]]:
        """Return what each bucket holds that holds something."""
        return [tuple(bucket[position] for position in sorted(bucket)) for _, bucket in sorted(self._buckets.items())]

    def __iter__(self) -> Iterator[Entry]:
        for bucket in self.list_buckets():
            yield from bucket

    def __len__(self) -> int:
        return self._size


def compute_new_place(salt: bytes, address: PeerAddress, teller: Prefix) -> Place:
    """Return where `address`, told of by `teller`, stands in the table of new addresses."""
    row = _compute_number(salt, b"r", teller + compute_prefix(address.ip)) % NEW_BUCKETS_PER_TELLER
    bucket = _compute_number(salt, b"n", teller + bytes([row])) % NEW_BUCKETS
    return Place(bucket, _compute_position(salt, b"p", bucket, address))


def compute_tried_place(salt: bytes, address: PeerAddress) -> Place:
    """Return where `address` stands in the table of tried addresses."""
    row = _compute_number(salt, b"R", _pack(address)) % TRIED_BUCKETS_PER_PREFIX
    bucket = _compute_number(salt, b"T", compute_prefix(address.ip) + bytes([row])) % TRIED_BUCKETS
    return Place(bucket, _compute_position(salt, b"P", bucket, address))


def _compute_position(salt: bytes, purpose: bytes, bucket: int, address: PeerAddress) -> int:
    return _compute_number(salt, purpose, bucket.to_bytes(2, "little") + _pack(address)) % BUCKET_SIZE


def _compute_number(salt: bytes, purpose: bytes, subject: bytes) -> int:
    return int.from_bytes(tagged_hash("address", salt + purpose + subject)[:8], "little")


def _pack(address: PeerAddress) -> bytes:
    return address.ip + address.port.to_bytes(2, "little")
