"""The history of a chain as a Merkle mountain range whose nodes add up work, time and count.

A header commits to all earlier headers by one root. Whoever holds some headers and the nodes over all others can append
both in order and must come to that root; `consensus.flyclient` proves a chain so. It knows a header only by hash,
cumulative work and time. Source: Todd's Merkle
mountain ranges; FlyClient (Bünz et al. 2019), whose sums make sampling by work possible.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

from chain.codec import U64, U256, HashField
from chain.hashing import tagged_hash
from chain.header import Header
from chain.primitives import Hash

_PACKED = Struct(">32sQ32sQQ")


@dataclass(frozen=True, slots=True)
class HistoryNode:
    """A perfect tree over 2^k successive headers: its digest, and the sums its digest binds.

    `work` is what these blocks alone are expected to have cost; the times are those of the first and last header.
    """

    digest: HashField
    count: U64
    work: U256
    first_timestamp_ms: U64
    last_timestamp_ms: U64

    def to_bytes(self) -> bytes:
        """Return the 88 bytes that a parent or a root hashes: integers big-endian after the digest."""
        work = self.work.to_bytes(32, "big")
        return _PACKED.pack(self.digest, self.count, work, self.first_timestamp_ms, self.last_timestamp_ms)


@dataclass(frozen=True, slots=True)
class History:
    """The peaks over headers 0..count-1, widest first, and their sums. Immutable: `append` returns another.

    `work` is the expected MACs of all these headers: the last one's total work.
    """

    peaks: tuple[HistoryNode, ...] = ()
    count: int = 0
    work: int = 0

    @property
    def last_timestamp_ms(self) -> int:
        """The time of the last header; there must be one."""
        return self.peaks[-1].last_timestamp_ms

    def append(self, header_hash: Hash, header: Header) -> "History":
        """Return the history with one more header."""
        leaf = make_leaf(header_hash, header.trunk.total_work - self.work, header.foliage.timestamp_ms)
        return self.extend(leaf)

    def extend(self, node: HistoryNode) -> "History":
        """Return the history with all headers of `node`, which must be a node of the longer mountain range."""
        count, work, peaks = self.count + node.count, self.work + node.work, list(self.peaks)
        assert not peaks or peaks[-1].count >= node.count, "no perfect tree starts here"
        while peaks and peaks[-1].count == node.count:
            node = join(peaks.pop(), node)
        return History((*peaks, node), count, work)

    def compute_root(self) -> Hash:
        """Return what the next header commits to."""
        return tagged_hash("history.root", *[peak.to_bytes() for peak in self.peaks])


def make_leaf(header_hash: Hash, work: int, timestamp_ms: int) -> HistoryNode:
    """Return the leaf of one header whose block alone cost `work` expected MACs."""
    return HistoryNode(compute_leaf_digest(header_hash), 1, work, timestamp_ms, timestamp_ms)


def compute_leaf_digest(header_hash: Hash) -> Hash:
    """Return the digest of a header's leaf."""
    return tagged_hash("history.leaf", header_hash)


def join(left: HistoryNode, right: HistoryNode) -> HistoryNode:
    """Return the parent of two neighbours; its digest binds the sums of both."""
    digest = tagged_hash("history.node", left.to_bytes(), right.to_bytes())
    return HistoryNode(
        digest, left.count + right.count, left.work + right.work, left.first_timestamp_ms, right.last_timestamp_ms
    )


def split_gap(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield (start, count) of the fewest perfect trees that cover headers [start, stop), oldest first.

    Each is a node of every mountain range that holds them all, so whoever knows those nodes can step over the gap.
    """
    while start < stop:
        count = 1 << (stop - start).bit_length() - 1
        if start:
            count = min(count, start & -start)
        yield start, count
        start += count
