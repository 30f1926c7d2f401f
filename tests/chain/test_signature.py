"""Strict Ed25519: the published edge cases, forgeries under keys of small order, and second spellings of a signature.

Every node and every other implementation must give the same answer, so each case here has exactly one.
"""

import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.primitives import PublicKey, Signature
from chain.signature import SigningKey, is_valid_point, verify_signature

VECTORS = os.environ.get("MATHESIS_VECTORS")
ORDER = 2**252 + 27742317777372353535851937790883648493
FIELD = 2**255 - 19
BASE_POINT = bytes.fromhex("5866666666666666666666666666666666666666666666666666666666666666")
IDENTITY = bytes([1]) + bytes(31)
SMALL_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
]
KEY = SigningKey(bytes(range(32)))


@pytest.mark.skipif(VECTORS is None, reason="MATHESIS_VECTORS is not set")
def test_the_twelve_published_edge_cases() -> None:
    assert VECTORS is not None
    cases = json.loads(Path(VECTORS, "ed25519", "speccheck-cases.json").read_text())
    values = [[bytes.fromhex(case[name]) for name in ("pub_key", "message", "signature")] for case in cases]
    answers = [verify_signature(PublicKey(key), message, Signature(signature)) for key, message, signature in values]
    assert "".join("V" if answer else "x" for answer in answers) == "xxxVxxxxxxxx"


@given(message=st.binary(max_size=100))
@settings(max_examples=30, deadline=None)
def test_the_identity_key_signs_nothing(message: bytes) -> None:
    """R = [1]B and s = 1 satisfy the equation under the identity key, whatever the message: OpenSSL takes it."""
    forged = BASE_POINT + (1).to_bytes(32, "little")
    Ed25519PublicKey.from_public_bytes(IDENTITY).verify(forged, message)
    assert not verify_signature(PublicKey(IDENTITY), message, Signature(forged))


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_points_of_small_order_are_refused_as_key_and_as_commitment(point: str) -> None:
    encoded = bytes.fromhex(point)
    assert not is_valid_point(encoded)
    assert not verify_signature(PublicKey(encoded), b"m", KEY.sign(b"m"))
    assert not verify_signature(KEY.public_key, b"m", Signature(encoded + KEY.sign(b"m")[32:]))


@pytest.mark.parametrize("y", [FIELD, FIELD + 1, FIELD + 5, 2**255 - 1])
@pytest.mark.parametrize("sign_bit", [0, 1 << 255])
def test_a_y_of_the_field_size_or_more_is_refused(y: int, sign_bit: int) -> None:
    assert not is_valid_point((y | sign_bit).to_bytes(32, "little"))


@given(secret=st.binary(min_size=32, max_size=32), message=st.binary(max_size=200), bit=st.integers(0, 511))
@settings(max_examples=40, deadline=None)
def test_a_signature_fits_its_message_and_key_alone(secret: bytes, message: bytes, bit: int) -> None:
    key = SigningKey(secret)
    signature = key.sign(message)
    bent = int.from_bytes(signature, "little") ^ (1 << bit)
    assert verify_signature(key.public_key, message, signature)
    assert not verify_signature(key.public_key, message + b"x", signature)
    assert not verify_signature(key.public_key, message, Signature(bent.to_bytes(64, "little")))
    assert verify_signature(KEY.public_key, message, signature) == (key.public_key == KEY.public_key)


def test_a_scalar_beyond_the_order_is_refused() -> None:
    signature = KEY.sign(b"m")
    scalar = int.from_bytes(signature[32:], "little") + ORDER
    assert not verify_signature(KEY.public_key, b"m", Signature(signature[:32] + scalar.to_bytes(32, "little")))


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_keys_and_signatures_of_another_size_are_refused(size: int) -> None:
    assert not verify_signature(PublicKey(bytes([9]) * size), b"m", KEY.sign(b"m"))
    assert not verify_signature(KEY.public_key, b"m", Signature(KEY.sign(b"m")[: size if size < 64 else 63]))


def test_the_secret_stays_out_of_the_representation() -> None:
    assert KEY.get_secret() == bytes(range(32))
    assert bytes(range(32)).hex() not in repr(KEY) + str(vars(KEY))
