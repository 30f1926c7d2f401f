"""Headers proven under a tip: any choice of heights passes, and whatever is altered is refused with its rule."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.codec import decode, encode
from chain.errors import DecodeError, InvalidBlock, InvalidProof
from chain.header import Header
from chain.primitives import Hash
from consensus.header_chain import ChainEntry, make_entry
from consensus.header_proof import (
    PROOF_BYTES_MAX,
    HeaderProof,
    SkippedTree,
    get_node,
    list_skipped,
    prove_headers,
    replay_proof,
)
from consensus.history import HistoryNode, make_leaf
from tests.consensus.test_history import naive_tree
from tests.support.headers import START_MS, grow, make_chain, make_child, make_context

CONTEXT = make_context()
CHAIN = make_chain(CONTEXT)
LENGTH = 150


def grow_unevenly(count: int) -> ChainEntry:
    entry = CHAIN.genesis
    for n in range(count):
        entry = CHAIN.insert(make_child(CONTEXT, entry, salt=n, delay_ms=(2_000, 400, 5_000, 1_300)[n % 4]))
    return entry


TIP = grow_unevenly(LENGTH)
HEIGHTS = (3, 4, 40, 77, 128, 149)
PROOF = prove_headers(TIP, HEIGHTS)


def replay(proof: HeaderProof, tip: Header = TIP.header) -> tuple[int, ...]:
    return tuple(proven.header.height for proven in replay_proof(CONTEXT, CHAIN.genesis, tip, proof))


@given(st.integers(1, LENGTH), st.sets(st.integers(1, LENGTH), max_size=12))
@settings(max_examples=60, deadline=None)
def test_any_headers_of_any_tip_are_provable(length: int, heights: set[int]) -> None:
    tip, asked = TIP.get_ancestor(length), sorted(height for height in heights if height < length)
    proof = prove_headers(tip, asked)
    assert decode(HeaderProof, encode(proof), PROOF_BYTES_MAX) == proof
    proven = replay_proof(CONTEXT, CHAIN.genesis, tip.header, proof)
    for height, each in zip(asked, proven, strict=True):
        entry = tip.get_ancestor(height)
        assert (each.hash, each.header) == (entry.hash, entry.header)
        assert entry.parent is not None
        assert each.history == entry.parent.history


@given(st.integers(1, LENGTH), st.data())
@settings(max_examples=60, deadline=None)
def test_nodes_are_made_of_what_entries_keep(start: int, data: st.DataObject) -> None:
    count = data.draw(st.sampled_from([1 << k for k in range(8) if start % (1 << k) == 0]))
    if start + count > TIP.height:
        return
    entries = [TIP.get_ancestor(height) for height in range(start - 1, start + count)]
    leaves = [
        make_leaf(entry.hash, entry.total_work - before.total_work, entry.header.foliage.timestamp_ms)
        for before, entry in pairwise(entries)
    ]
    assert get_node(TIP, start, count) == naive_tree(leaves)


def test_skipped_trees_and_headers_cover_all_once() -> None:
    covered = sorted([*((h, 1) for h in (0, *HEIGHTS)), *list_skipped(TIP.height, HEIGHTS)])
    assert [start for start, _ in covered] == [sum(c for _, c in covered[:i]) for i in range(len(covered))]
    assert sum(count for _, count in covered) == TIP.height


def with_node(place: int, **fields: object) -> HeaderProof:
    nodes = list(PROOF.nodes)
    nodes[place] = replace(nodes[place], **fields)  # type: ignore[arg-type]  # fields by name
    return replace(PROOF, nodes=tuple(nodes))


def with_header(place: int, change: Callable[[Header], Header]) -> HeaderProof:
    headers = list(PROOF.headers)
    headers[place] = change(headers[place])
    return replace(PROOF, headers=tuple(headers))


def change_foliage(**fields: object) -> Callable[[Header], Header]:
    return lambda header: replace(header, foliage=replace(header.foliage, **fields))  # type: ignore[arg-type]


def refuse(proof: HeaderProof, rule: str, tip: Header = TIP.header) -> None:
    with pytest.raises((InvalidProof, InvalidBlock)) as caught:
        replay(proof, tip)
    assert str(caught.value).startswith(f"{rule}: ")


def swap(nodes: tuple[SkippedTree, ...], a: int, b: int) -> tuple[SkippedTree, ...]:
    swapped = list(nodes)
    swapped[a], swapped[b] = swapped[b], swapped[a]
    return tuple(swapped)


def test_the_untouched_proof_passes() -> None:
    assert replay(PROOF) == HEIGHTS


@pytest.mark.parametrize("place", range(len(PROOF.nodes)))
def test_no_sum_of_a_node_may_change(place: int) -> None:
    node = PROOF.nodes[place]
    work = int.from_bytes(node.work, "big")
    for changes in (
        {"digest": Hash(bytes(32))},
        {"work": (work + 1).to_bytes(len(node.work), "big")},
        {"first_ms": node.first_ms + 1},
        {"last_ms": node.last_ms + 1},
    ):
        with pytest.raises((InvalidProof, InvalidBlock), match=r"proof-root|proof-parent"):
            replay(with_node(place, **changes))


def test_work_cannot_be_moved_between_nodes() -> None:
    a, b = (int.from_bytes(PROOF.nodes[place].work, "big") for place in (2, 3))
    moved = replace(PROOF.nodes[2], work=(a + 7).to_bytes(8, "big").lstrip(b"\0"))
    rest = replace(PROOF.nodes[3], work=(b - 7).to_bytes(8, "big").lstrip(b"\0"))
    refuse(replace(PROOF, nodes=(*PROOF.nodes[:2], moved, rest, *PROOF.nodes[4:])), "proof-root")


def test_order_and_number_are_fixed() -> None:
    refuse(replace(PROOF, nodes=swap(PROOF.nodes, 2, 3)), "proof-root")
    refuse(replace(PROOF, nodes=PROOF.nodes[:-1]), "proof-nodes")
    refuse(replace(PROOF, nodes=(*PROOF.nodes, PROOF.nodes[-1])), "proof-nodes")
    refuse(replace(PROOF, headers=PROOF.headers[::-1]), "proof-height")
    refuse(replace(PROOF, headers=(PROOF.headers[0], *PROOF.headers)), "proof-height")
    refuse(replace(PROOF, headers=PROOF.headers[1:]), "proof-nodes")
    refuse(replace(PROOF, headers=(*PROOF.headers, TIP.header)), "proof-height")


def test_spelling_is_fixed() -> None:
    refuse(with_node(2, work=b"\0" + PROOF.nodes[2].work), "proof-work")
    refuse(with_node(2, work=b"\xff" * 32), "proof-work")
    refuse(with_node(2, first_ms=0), "proof-time")
    refuse(with_node(2, last_ms=2**64 - 1), "proof-time")


def test_a_header_of_another_fork_is_refused() -> None:
    other = grow(CONTEXT, CHAIN, TIP.get_ancestor(70), 10, salt=2)
    refuse(with_header(3, lambda _: other.get_ancestor(77).header), "proof-parent")
    sibling = CHAIN.insert(make_child(CONTEXT, TIP.get_ancestor(76), salt=7)).header
    refuse(with_header(3, lambda _: sibling), "proof-root")


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("proof-root", change_foliage(state_root=Hash(b"\x09" * 32))),
        ("proof-root", change_foliage(timestamp_ms=1)),
        ("proof-root", change_foliage(target=1 << 200)),
        ("proof-work", change_foliage(target=0)),
        ("proof-parent", change_foliage(parent_hash=Hash(bytes(32)))),
    ],
)
def test_a_changed_header_is_refused(rule: str, change: Callable[[Header], Header]) -> None:
    refuse(with_header(3, change), rule)


def build_under(change: Callable[[Header], Header], height: int) -> tuple[HeaderProof, Header]:
    """Return a proof and tip of a chain that commits to an altered header: its root fits, its rules do not."""
    chain = make_chain(CONTEXT)
    entry = grow(CONTEXT, chain, chain.genesis, height - 1)
    entry = chain.insert(change(make_child(CONTEXT, entry)))
    tip = grow(CONTEXT, chain, entry, 9)
    return prove_headers(tip, [height]), tip.header


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("version", change_foliage(version=2)),
        ("history", change_foliage(history_root=Hash(bytes(32)))),
        ("trunk", change_foliage(trunk_hash=Hash(bytes(32)))),
    ],
)
def test_a_committed_lie_is_refused_by_its_rule(rule: str, change: Callable[[Header], Header]) -> None:
    proof, tip = build_under(change, 33)
    refuse(proof, rule, tip)


@pytest.mark.parametrize("factor", [2, 1_000])
def test_threat_58_an_inflated_difficulty_is_refused(factor: int) -> None:
    def inflate(header: Header) -> Header:
        target = header.foliage.target // factor
        work = 2**256 // (target + 1) - 2**256 // (header.foliage.target + 1)
        trunk = replace(header.trunk, total_work=header.trunk.total_work + work)
        return replace(header, trunk=trunk, foliage=replace(header.foliage, target=target))

    proof, tip = build_under(inflate, 33)
    refuse(proof, "target", tip)


def test_threat_58_a_committed_tree_without_the_climb_is_refused() -> None:
    """All roots fit and every shown header keeps its rules; only the tree's work cannot lead to its last time."""
    chain = make_chain(CONTEXT)
    honest = grow(CONTEXT, chain, chain.genesis, 255)
    tree = get_node(honest, 128, 128)
    stalled = replace(tree, last_timestamp_ms=tree.first_timestamp_ms + 40)
    history = honest.get_ancestor(127).history.extend(stalled)
    foliage = replace(honest.header.foliage, timestamp_ms=stalled.last_timestamp_ms)
    before = ChainEntry(honest.hash, replace(honest.header, foliage=foliage), history, None, None, 255, 255)
    parent = make_entry(make_child(CONTEXT, before), before)
    shown = make_entry(make_child(CONTEXT, parent), parent)
    tip = make_child(CONTEXT, shown)
    assert shown.total_work - before.total_work > 1_000 * (before.total_work // 255), "two blocks outweigh the tree"
    nodes = [get_node(honest, 1 << k, 1 << k) for k in range(7)] + [stalled]
    leaf = make_leaf(parent.hash, parent.total_work - before.total_work, parent.header.foliage.timestamp_ms)
    trees = tuple(as_tree(node) for node in [*nodes, leaf])
    refuse(HeaderProof((shown.header,), trees), "proof-difficulty", tip)


def as_tree(node: HistoryNode) -> SkippedTree:
    work = node.work.to_bytes((node.work.bit_length() + 7) // 8, "big")
    times = (node.first_timestamp_ms - START_MS, node.last_timestamp_ms - START_MS)
    return SkippedTree(node.digest, work, *times)


def test_heights_beyond_reason_cost_nothing() -> None:
    """A tip may claim any height; no list of that size is made."""
    tip = replace(TIP.header, foliage=replace(TIP.header.foliage, height=2**64 - 1))
    refuse(PROOF, "proof-nodes", tip)
    headers = tuple(replace(h, foliage=replace(h.foliage, height=n << 50)) for n, h in enumerate(PROOF.headers, 1))
    refuse(HeaderProof(headers, PROOF.nodes), "proof-nodes", tip)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_mutated_bytes_are_refused(data: st.DataObject) -> None:
    valid = encode(PROOF)
    at, length = data.draw(st.integers(0, len(valid) - 1)), data.draw(st.integers(0, 40))
    mutated = valid[:at] + data.draw(st.binary(max_size=40)) + valid[at + length :]
    if mutated == valid:
        return
    try:
        decoded = decode(HeaderProof, mutated, PROOF_BYTES_MAX)
        replay(decoded)
    except (DecodeError, InvalidProof, InvalidBlock):
        return
    unsigned = [(header.trunk, header.foliage) for header in PROOF.headers]
    assert [(header.trunk, header.foliage) for header in decoded.headers] == unsigned, (
        "only signatures are left to check"
    )
    assert decoded.nodes == PROOF.nodes
