"""Merkle lists against RFC 6962: its definition written naively, published probes, and the classic confusions.

Covers commitment threats: leaf taken for inner node, the odd leaf duplicated, a path too short or too long.
"""

import base64
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.errors import InvalidProof
from chain.hashing import sha256
from chain.merkle import blake3_node, compute_path, compute_root, sha256_node, verify_path
from chain.primitives import Hash

VECTORS = os.environ.get("MATHESIS_VECTORS")
NODE_HASHES = [sha256_node, blake3_node]
leaf_lists = st.lists(st.binary(max_size=40), min_size=1, max_size=40)
few = settings(max_examples=60, deadline=None)


def compute_root_naively(leaves: Sequence[bytes], node_hash: Callable[[bytes], bytes]) -> bytes:
    """RFC 6962, section 2.1, word for word: split at the largest power of two below n."""
    if not leaves:
        return node_hash(b"")
    if len(leaves) == 1:
        return node_hash(b"\x00" + leaves[0])
    split = 1 << (len(leaves) - 1).bit_length() - 1
    left, right = (compute_root_naively(half, node_hash) for half in (leaves[:split], leaves[split:]))
    return node_hash(b"\x01" + left + right)


@pytest.mark.parametrize("node_hash", NODE_HASHES)
@given(leaves=st.lists(st.binary(max_size=40), max_size=40))
@few
def test_root_is_the_definition(node_hash: Callable[[bytes], bytes], leaves: list[bytes]) -> None:
    assert compute_root(leaves, node_hash) == compute_root_naively(leaves, node_hash)


def test_known_roots() -> None:
    leaves = [bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")]
    leaves.append(bytes(range(0x60, 0x70)))
    assert compute_root([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert compute_root(leaves).hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


@pytest.mark.parametrize("node_hash", NODE_HASHES)
@given(leaves=leaf_lists, data=st.data())
@few
def test_a_path_shows_its_leaf_and_no_other(
    node_hash: Callable[[bytes], bytes], leaves: list[bytes], data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    root, path = compute_root(leaves, node_hash), compute_path(leaves, index, node_hash)
    verify_path(root, leaves[index], index, len(leaves), path, node_hash)
    with pytest.raises(InvalidProof, match="merkle-root"):
        verify_path(root, leaves[index] + b"\x00", index, len(leaves), path, node_hash)
    with pytest.raises(InvalidProof, match="merkle-root"):
        verify_path(sha256(root), leaves[index], index, len(leaves), path, node_hash)
    with pytest.raises(InvalidProof, match="merkle-length"):
        verify_path(root, leaves[index], index, len(leaves), (*path, root), node_hash)
    for place in range(len(path)):
        bent = (*path[:place], sha256(path[place]), *path[place + 1 :])
        with pytest.raises(InvalidProof, match="merkle-root"):
            verify_path(root, leaves[index], index, len(leaves), bent, node_hash)
        with pytest.raises(InvalidProof, match=r"merkle-(length|root)"):
            verify_path(root, leaves[index], index, len(leaves), (*path[:place], *path[place + 1 :]), node_hash)


@given(leaves=st.lists(st.binary(max_size=8), min_size=2, max_size=20, unique=True), data=st.data())
@few
def test_a_path_shows_no_other_place(leaves: list[bytes], data: st.DataObject) -> None:
    index, other = data.draw(st.lists(st.integers(0, len(leaves) - 1), min_size=2, max_size=2, unique=True))
    with pytest.raises(InvalidProof):
        verify_path(compute_root(leaves), leaves[index], other, len(leaves), compute_path(leaves, index))


@pytest.mark.parametrize(("index", "count"), [(-1, 3), (3, 3), (0, 0), (5, -1)])
def test_an_index_outside_the_list_is_refused(index: int, count: int) -> None:
    with pytest.raises(InvalidProof, match="merkle-index"):
        verify_path(compute_root([b"a", b"b", b"c"]), b"a", index, count, ())


def test_an_inner_node_is_no_leaf() -> None:
    leaves = [b"a", b"b", b"c", b"d"]
    left = sha256_node(b"\x00a") + sha256_node(b"\x00b")
    right = compute_root([b"c", b"d"])
    assert compute_root([left, sha256_node(b"\x00c") + sha256_node(b"\x00d")]) != compute_root(leaves)
    with pytest.raises(InvalidProof, match="merkle-root"):
        verify_path(compute_root(leaves), left, 0, 2, [right])


def test_an_odd_leaf_is_not_duplicated() -> None:
    assert compute_root([b"a", b"b", b"c"]) != compute_root([b"a", b"b", b"c", b"c"])


def probes() -> list[Path]:
    return sorted(Path(VECTORS, "rfc6962", "inclusion").rglob("*.json")) if VECTORS else []


@pytest.mark.skipif(VECTORS is None, reason="MATHESIS_VECTORS is not set")
def test_published_probes() -> None:
    """Leaf hashes stand in the file, so hashing a leaf is replaced by passing it through."""

    def node_hash(data: bytes) -> bytes:
        return data[1:] if data[:1] == b"\x00" else sha256(data)

    found = {True: 0, False: 0}
    for path in probes():
        probe = json.loads(path.read_text())
        root, leaf = (Hash(base64.b64decode(probe[name] or "")) for name in ("root", "leafHash"))
        proof = [Hash(base64.b64decode(item)) for item in probe["proof"] or []]
        try:
            verify_path(root, leaf, probe["leafIdx"], probe["treeSize"], proof, node_hash)
            refused = False
        except InvalidProof:
            refused = True
        assert refused == probe["wantErr"], path
        found[refused] += 1
    assert found[True] > 0
    assert found[False] > 0
