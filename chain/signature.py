"""Strict Ed25519: signing, and a verification that leaves no room for two opinions.

OpenSSL accepts public keys of small order, under which one signature fits any message, and encodings with y >= p. Both
are refused here, for the key and for the commitment R, before OpenSSL is asked. Source: RFC 8032; "Taming the Many
EdDSAs" (Chalkias et al. 2020).
"""

from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from chain.primitives import PublicKey, Signature

_FIELD = 2**255 - 19
_Y_MASK = 2**255 - 1


def _compute_small_order_y() -> frozenset[int]:
    """Return the y of the eight points of small order, derived from the curve: y in {0, 1, -1} or order 8."""
    d = -121665 * pow(121666, -1, _FIELD) % _FIELD
    # Doubling a point of order 8 gives y = 0, hence d*y^4 + 2*y^2 - 1 = 0 on -x^2 + y^2 = 1 + d*x^2*y^2.
    root = _square_root((1 + d) % _FIELD)
    assert root is not None
    squares = [(-1 + sign * root) * pow(d, -1, _FIELD) % _FIELD for sign in (1, -1)]
    roots = [y for square in squares if (y := _square_root(square)) is not None]
    return frozenset({0, 1, _FIELD - 1} | {y for root in roots for y in (root, _FIELD - root)})


def _square_root(square: int) -> int | None:
    candidate = pow(square, (_FIELD + 3) // 8, _FIELD)
    if candidate * candidate % _FIELD != square:
        candidate = candidate * pow(2, (_FIELD - 1) // 4, _FIELD) % _FIELD
    return candidate if candidate * candidate % _FIELD == square else None


_SMALL_ORDER_Y = _compute_small_order_y()


def is_valid_point(encoded: bytes) -> bool:
    """Say whether 32 bytes encode y < p of a point whose order is not small."""
    y = int.from_bytes(encoded, "little") & _Y_MASK
    return len(encoded) == 32 and y < _FIELD and y not in _SMALL_ORDER_Y


def verify_signature(key: PublicKey, message: bytes, signature: Signature) -> bool:
    """Say whether `signature` is `key`'s strict Ed25519 signature of `message`."""
    loaded = _load_key(key)
    if loaded is None or len(signature) != 64 or not is_valid_point(signature[:32]):
        return False
    try:
        loaded.verify(signature, message)
    except InvalidSignature:
        return False
    return True


@lru_cache(maxsize=1024)
def _load_key(key: PublicKey) -> Ed25519PublicKey | None:
    """Return the key ready to verify, None when it is not acceptable; few keys sign most headers."""
    if not is_valid_point(key):
        return None
    try:
        return Ed25519PublicKey.from_public_bytes(key)
    except ValueError:
        return None


class SigningKey:
    """An Ed25519 secret that signs; its bytes never appear in its repr."""

    def __init__(self, secret: bytes) -> None:
        """Take the 32 secret bytes."""
        self._key = Ed25519PrivateKey.from_private_bytes(secret)
        self.public_key = PublicKey(self._key.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> Signature:
        """Return the 64-byte signature of `message`."""
        return Signature(self._key.sign(message))

    def get_secret(self) -> bytes:
        """Return the 32 secret bytes, for a keystore alone."""
        return self._key.private_bytes_raw()
