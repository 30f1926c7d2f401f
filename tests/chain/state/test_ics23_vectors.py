"""The public ICS-23 sparse Merkle vectors hold under this verifier.

ICS-23 shows absence by the neighbours left and right of a place; this verifier by the place itself. The neighbour that
shares the longest prefix with the key holds all that is needed, so its proof is cut or extended here.
"""

import hashlib
import json
import os
from pathlib import Path

import pytest

from chain.errors import InvalidProof
from chain.primitives import Hash
from chain.state.proof import OtherLeaf, StateProof, verify_exclusion, verify_inclusion

VECTORS = os.environ.get("MATHESIS_VECTORS")
Fields = dict[int, list[bytes]]

pytestmark = pytest.mark.skipif(VECTORS is None, reason="MATHESIS_VECTORS is not set")


def read_protobuf(data: bytes) -> Fields:
    """Return the length-delimited fields of a protobuf message by number; varints are dropped."""
    found: Fields = {}
    place = 0

    def read_varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while place < len(data):
        tag = read_varint()
        number = read_varint()
        if tag & 7 == 2:
            found.setdefault(tag >> 3, []).append(data[place : place + number])
            place += number
    return found


def read_siblings(existence: Fields) -> list[Hash]:
    """Return an existence proof's siblings from the root down."""
    siblings = []
    for step in existence[4]:
        operation = read_protobuf(step)
        prefix, suffix = operation[2][0], operation.get(3, [b""])[0]
        siblings.append(Hash(suffix or prefix[1:]))
        assert prefix[:1] == b"\x01"
        assert len(prefix[1:] + suffix) == 32
    return siblings[::-1]


def bits(data: bytes) -> str:
    return f"{int.from_bytes(data, 'big'):0256b}"


def hash_up(node: bytes, path: str, siblings: list[Hash], top: int) -> Hash:
    """Return the hash of the subtree at depth `top` on the way up from a leaf."""
    for depth in reversed(range(top, len(siblings))):
        pair = siblings[depth] + node if path[depth] == "1" else node + siblings[depth]
        node = hashlib.sha256(b"\x01" + pair).digest()
    return Hash(node)


def convert(path: str, neighbours: list[Fields]) -> StateProof:
    """Return the exclusion proof for `path` that the nearer of the neighbours holds."""

    def common(neighbour: Fields) -> int:
        other = bits(hashlib.sha256(neighbour[1][0]).digest())
        return next(depth for depth in range(256) if other[depth] != path[depth])

    nearest = max(neighbours, key=common)
    shared, siblings = common(nearest), read_siblings(nearest)
    key_hash, value_hash = (Hash(hashlib.sha256(nearest[field][0]).digest()) for field in (1, 2))
    if len(siblings) <= shared:
        return StateProof(tuple(siblings), (OtherLeaf(key_hash, value_hash),))
    leaf = hashlib.sha256(b"\x00" + key_hash + value_hash).digest()
    other_side = hash_up(leaf, bits(key_hash), siblings, shared + 1)
    return StateProof((*siblings[:shared], other_side), ())


def load(name: str) -> tuple[Hash, bytes, bytes, Fields]:
    vector = json.loads((Path(VECTORS or "") / "ics23-smt" / name).read_text())
    root, key, value, proof = (bytes.fromhex(vector[field]) for field in ("root", "key", "value", "proof"))
    return Hash(root), key, value, read_protobuf(proof)


@pytest.mark.parametrize("side", ["left", "middle", "right"])
def test_existence(side: str) -> None:
    root, key, value, proof = load(f"exist_{side}.json")
    existence = read_protobuf(proof[1][0])
    converted = StateProof(tuple(read_siblings(existence)), ())
    verify_inclusion(root, key, value, converted)
    with pytest.raises(InvalidProof):
        verify_inclusion(root, key, value + b"\x00", converted)
    with pytest.raises(InvalidProof):
        verify_exclusion(root, key, converted)


@pytest.mark.parametrize("side", ["left", "middle", "right"])
def test_absence(side: str) -> None:
    root, key, _, proof = load(f"nonexist_{side}.json")
    absence = read_protobuf(proof[2][0])
    assert absence[1][0] == hashlib.sha256(key).digest()
    neighbours = [read_protobuf(absence[field][0]) for field in (2, 3) if field in absence]
    converted = convert(bits(absence[1][0]), neighbours)
    verify_exclusion(root, key, converted)
    with pytest.raises(InvalidProof):
        verify_exclusion(root, key + b"\x00", converted)
