"""Hashes with a purpose: no digest made for one thing can be taken for another.

`tagged_hash` keys BLAKE3 with its tag and prefixes every part with its length, so that neither two purposes nor
two ways to cut the same bytes collide. SHA-256 serves only the state tree and RFC 6962 lists, where other
chains' verifiers must agree. Source: BLAKE3 specification, section 2.3 (keyed mode).
"""

from functools import cache
from hashlib import sha256 as _sha256

from blake3 import blake3

from chain.primitives import Hash

DOMAIN = b"mathesis/1/"


@cache
def _key(tag: str) -> bytes:
    return blake3(DOMAIN + tag.encode("ascii")).digest()


def tagged_hash(tag: str, *parts: bytes) -> Hash:
    """Return the 32-byte BLAKE3 digest of `parts`, keyed by `tag`, each part behind its u32 length."""
    hasher = blake3(key=_key(tag))
    for part in parts:
        hasher.update(len(part).to_bytes(4, "little"))
        hasher.update(part)
    return Hash(hasher.digest())


def tagged_key(tag: str) -> bytes:
    """Return the 32-byte BLAKE3 key that belongs to `tag`."""
    return _key(tag)


def sha256(data: bytes) -> Hash:
    """Return the SHA-256 digest of `data`."""
    return Hash(_sha256(data).digest())
