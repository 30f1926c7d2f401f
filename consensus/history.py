"""The history of a chain as a Merkle mountain range whose nodes add up work, time and count.

A header commits to all earlier headers by one root; a light client can ask for any of them, chosen by work, and check
the answer against a header it trusts. It knows a header only by hash, cumulative work and time. Source: Todd's Merkle
mountain ranges; FlyClient (Bünz et al. 2019), whose sums make sampling by work possible.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from chain.codec import U64, U256, HashField, Many
from chain.errors import InvalidProof
from chain.hashing import tagged_hash
from chain.header import Header
from chain.primitives import U256_MAX, Hash


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
        return b"".join(
            (
                self.digest,
                self.count.to_bytes(8, "big"),
                self.work.to_bytes(32, "big"),
                self.first_timestamp_ms.to_bytes(8, "big"),
                self.last_timestamp_ms.to_bytes(8, "big"),
            )
        )


@dataclass(frozen=True, slots=True)
class History:
    """The peaks over headers 0..count-1, widest first. Immutable: `append` returns another."""

    peaks: tuple[HistoryNode, ...] = ()

    @property
    def count(self) -> int:
        """Headers under the peaks."""
        return sum(peak.count for peak in self.peaks)

    @property
    def work(self) -> int:
        """Expected MACs of all these headers: the last one's total work."""
        return sum(peak.work for peak in self.peaks)

    def append(self, header_hash: Hash, header: Header) -> "History":
        """Return the history with one more header."""
        node = make_leaf(header_hash, header.trunk.total_work - self.work, header.foliage.timestamp_ms)
        peaks = list(self.peaks)
        while peaks and peaks[-1].count == node.count:
            node = join(peaks.pop(), node)
        return History((*peaks, node))

    def compute_root(self) -> Hash:
        """Return what the next header commits to."""
        return _compute_root(self.peaks)


@dataclass(frozen=True, slots=True)
class HistoryProof:
    """That a header is number `index` of `count`: the siblings up to its peak, bottom first, and all peaks."""

    index: U64
    count: U64
    siblings: Annotated[tuple[HistoryNode, ...], Many(64)]
    peaks: Annotated[tuple[HistoryNode, ...], Many(64)]


def make_leaf(header_hash: Hash, work: int, timestamp_ms: int) -> HistoryNode:
    """Return the leaf of one header whose block alone cost `work` expected MACs."""
    digest = tagged_hash("history.leaf", header_hash)
    return HistoryNode(digest, 1, work, timestamp_ms, timestamp_ms)


def join(left: HistoryNode, right: HistoryNode) -> HistoryNode:
    """Return the parent of two neighbours; its digest binds the sums of both."""
    digest = tagged_hash("history.node", left.to_bytes(), right.to_bytes())
    return HistoryNode(
        digest, left.count + right.count, left.work + right.work, left.first_timestamp_ms, right.last_timestamp_ms
    )


def prove_header(leaves: Sequence[HistoryNode], index: int) -> HistoryProof:
    """Return the proof for leaf `index` of all `leaves`, oldest first; it hashes every leaf's tree once."""
    assert 0 <= index < len(leaves)
    peaks: list[HistoryNode] = []
    siblings: tuple[HistoryNode, ...] = ()
    start = 0
    for size in _peak_sizes(len(leaves)):
        inside = start <= index < start + size
        peak, path = _climb(leaves[start : start + size], index - start if inside else 0)
        peaks.append(peak)
        siblings = path if inside else siblings
        start += size
    return HistoryProof(index, len(leaves), siblings, tuple(peaks))


def verify_header_proof(root: Hash, leaf: HistoryNode, proof: HistoryProof) -> None:
    """Check that `leaf` (see `make_leaf`) stands where `proof` says under `root`; raises InvalidProof.

    Every count is pinned by `proof.count`; the caller compares `index` and `count` with the heights it expects.
    """
    sizes = _peak_sizes(proof.count)
    if not 0 <= proof.index < proof.count:
        raise InvalidProof("history-index", f"found index {proof.index}, expected one below {proof.count}")
    if tuple(peak.count for peak in proof.peaks) != sizes:
        raise InvalidProof("history-peaks", f"found {len(proof.peaks)} peaks of other sizes, expected {sizes}")
    place, offset = _locate(sizes, proof.index)
    if tuple(node.count for node in proof.siblings) != tuple(1 << k for k in range(sizes[place].bit_length() - 1)):
        raise InvalidProof("history-siblings", f"found {len(proof.siblings)} siblings, expected one of each power of 2")
    node = leaf
    for level, sibling in enumerate(proof.siblings):
        node = join(sibling, node) if offset >> level & 1 else join(node, sibling)
        if node.work > U256_MAX:
            raise InvalidProof("history-work", "found more work than 256 bits hold")
    if node != proof.peaks[place]:
        raise InvalidProof("history-peak", f"found {node.digest.hex()}, expected {proof.peaks[place].digest.hex()}")
    if (found := _compute_root(proof.peaks)) != root:
        raise InvalidProof("history-root", f"found {found.hex()}, expected {root.hex()}")


def _compute_root(peaks: tuple[HistoryNode, ...]) -> Hash:
    return tagged_hash("history.root", *(peak.to_bytes() for peak in peaks))


def _peak_sizes(count: int) -> tuple[int, ...]:
    return tuple(1 << k for k in reversed(range(count.bit_length())) if count >> k & 1)


def _locate(sizes: tuple[int, ...], index: int) -> tuple[int, int]:
    """Return which peak covers leaf `index`, and the leaf's place under it."""
    for place, size in enumerate(sizes):
        if index < size:
            return place, index
        index -= size
    raise AssertionError("the index is below the count")


def _climb(level: Sequence[HistoryNode], index: int) -> tuple[HistoryNode, tuple[HistoryNode, ...]]:
    siblings = []
    while len(level) > 1:
        siblings.append(level[index ^ 1])
        level = [join(level[i], level[i + 1]) for i in range(0, len(level), 2)]
        index //= 2
    return level[0], tuple(siblings)
