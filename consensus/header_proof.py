"""Some headers of a chain with the nodes over all others: what it takes to append both in order and reach a tip's root.

A proof is replayed as if the history were grown anew, stepping over whole trees. So each header meets exactly the
history before it, with its sums, and every node is sent once. It does not know why these headers were asked for.
Source: Merkle mountain ranges; FlyClient (Bünz et al. 2019), sections 4 and 5.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated

from chain.codec import U64, Bytes, HashField, Many
from chain.errors import InvalidProof
from chain.header import Header, compute_header_hash
from chain.primitives import U256_MAX, Hash
from consensus.asert import compute_work
from consensus.header_chain import ChainEntry
from consensus.header_rules import HeaderContext, validate_by_history
from consensus.history import History, HistoryNode, compute_leaf_digest, join, make_leaf, split_gap
from consensus.ramp import validate_skipped

PROOF_HEADERS_MAX = 4_096
PROOF_NODES_MAX = 65_536
PROOF_BYTES_MAX = 4 * 1024 * 1024

_TIMESTAMP_MAX_MS = 2**64 - 1


@dataclass(frozen=True, slots=True)
class SkippedTree:
    """A node that a proof steps over: its count follows from its place, its times count from genesis."""

    digest: HashField
    work: Annotated[bytes, Bytes(0, 32)]
    first_ms: U64
    last_ms: U64


@dataclass(frozen=True, slots=True)
class HeaderProof:
    """Headers in order of height, and the trees between them in order of place."""

    headers: Annotated[tuple[Header, ...], Many(PROOF_HEADERS_MAX)]
    nodes: Annotated[tuple[SkippedTree, ...], Many(PROOF_NODES_MAX)]


@dataclass(frozen=True, slots=True)
class ProvenHeader:
    """A header in its place under a tip, with the history before it; its signature and time are yet to be checked."""

    hash: Hash
    header: Header
    history: History


def list_skipped(count: int, heights: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield (start, count) of the trees that a proof of `heights` steps over, in a history of `count` headers.

    Genesis is known to all. The parent of a header stands as a leaf of its own, so that its hash can be compared.
    """
    start = 1
    for height in heights:
        yield from split_gap(start, height - 1)
        if start < height:
            yield height - 1, 1
        start = height + 1
    yield from split_gap(start, count)


def prove_headers(tip: ChainEntry, heights: Sequence[int]) -> HeaderProof:
    """Return the proof of headers at `heights`, ascending, all in [1, tip.height), under the root in `tip`'s header."""
    start_ms = tip.get_ancestor(0).header.foliage.timestamp_ms
    nodes = (get_node(tip, start, count) for start, count in list_skipped(tip.height, heights))
    return HeaderProof(
        tuple(tip.get_ancestor(height).header for height in heights),
        tuple(
            SkippedTree(
                node.digest,
                node.work.to_bytes((node.work.bit_length() + 7) // 8, "big"),
                node.first_timestamp_ms - start_ms,
                node.last_timestamp_ms - start_ms,
            )
            for node in nodes
        ),
    )


def get_node(tip: ChainEntry, start: int, count: int) -> HistoryNode:
    """Return the perfect tree over `count` headers of `tip`'s chain from `start` > 0; no node has to be stored for it.

    The peaks before its last header end in the left half, the quarter right of it, and so on: joined they are the tree.
    """
    last = tip.get_ancestor(start + count - 1)
    assert last.parent is not None
    node = make_leaf(last.hash, last.total_work - last.parent.total_work, last.header.foliage.timestamp_ms)
    for peak in reversed(last.parent.history.peaks):
        if node.count == count:
            break
        node = join(peak, node)
    return node


def replay_proof(
    context: HeaderContext, genesis: ChainEntry, tip: Header, proof: HeaderProof
) -> tuple[ProvenHeader, ...]:
    """Return the headers of `proof`, each in its place under `tip`'s history root; raises InvalidProof, InvalidBlock.

    Each meets the rules that its history decides; skipped trees have the difficulty that their times ask for. Left to
    the caller are the tip's own rules, signatures and clock.
    """
    headers, nodes, history = _append_all(genesis, proof, _list_expected(tip.height, proof))
    if (found := history.compute_root()) != tip.foliage.history_root:
        raise InvalidProof("proof-root", f"found {found.hex()}, expected {tip.foliage.history_root.hex()}")
    for proven in headers:
        validate_by_history(context, proven.header, proven.history)
    validate_skipped(context, nodes, tip.foliage.timestamp_ms)
    return headers


def _list_expected(count: int, proof: HeaderProof) -> tuple[tuple[int, int], ...]:
    """Return place and count of each node of `proof`, whose number must be right; hashes nothing."""
    heights = [header.height for header in proof.headers]
    for before, height in zip([0, *heights], heights, strict=False):
        if not before < height < count:
            raise InvalidProof("proof-height", f"found height {height} after {before}, expected more, below {count}")
    skipped = tuple(islice(list_skipped(count, heights), len(proof.nodes) + 1))
    if len(skipped) != len(proof.nodes):
        relation = "more" if len(skipped) > len(proof.nodes) else str(len(skipped))
        raise InvalidProof("proof-nodes", f"found {len(proof.nodes)} nodes, expected {relation}")
    return skipped


def _append_all(
    genesis: ChainEntry, proof: HeaderProof, skipped: Sequence[tuple[int, int]]
) -> tuple[tuple[ProvenHeader, ...], list[HistoryNode], History]:
    """Append headers and trees in order of place; return the headers, every node appended, and the whole history."""
    history, nodes, proven = genesis.history, list(genesis.history.peaks), []
    trees = (
        _make_node(tree, count, genesis.header.foliage.timestamp_ms)
        for tree, (_, count) in zip(proof.nodes, skipped, strict=True)
    )
    for header in proof.headers:
        while history.count < header.height:
            nodes.append(next(trees))
            history = _extend(history, nodes[-1])
        if nodes[-1].digest != compute_leaf_digest(header.foliage.parent_hash):
            raise InvalidProof("proof-parent", f"found another parent than {header.foliage.parent_hash.hex()}")
        header_hash = compute_header_hash(header)
        proven.append(ProvenHeader(header_hash, header, history))
        nodes.append(make_leaf(header_hash, compute_work(header.foliage.target), header.foliage.timestamp_ms))
        history = _extend(history, nodes[-1])
    for node in trees:
        nodes.append(node)
        history = _extend(history, node)
    return tuple(proven), nodes, history


def _extend(history: History, node: HistoryNode) -> History:
    if history.work + node.work > U256_MAX:
        raise InvalidProof("proof-work", "found more work than 256 bits hold")
    return history.extend(node)


def _make_node(tree: SkippedTree, count: int, start_ms: int) -> HistoryNode:
    if tree.work[:1] == b"\0":
        raise InvalidProof("proof-work", "found a leading zero, expected the shortest form")
    earliest, latest = sorted((tree.first_ms, tree.last_ms))
    if earliest < 1 or start_ms + latest > _TIMESTAMP_MAX_MS:
        raise InvalidProof("proof-time", f"found times {tree.first_ms} and {tree.last_ms} ms after genesis")
    work = int.from_bytes(tree.work, "big")
    return HistoryNode(tree.digest, count, work, start_ms + tree.first_ms, start_ms + tree.last_ms)
