"""Addresses against the vectors of BIP-350, and against mistyping."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.errors import DecodeError
from chain.primitives import PublicKey
from node.addresses import decode_bech32m, encode_bech32m, format_address, parse_address

VALID = [
    "A1LQFN3A",
    "a1lqfn3a",
    "an83characterlonghumanreadablepartthatcontainsthetheexcludedcharactersbioandnumber11sg7hg6",
    "abcdef1l7aum6echk45nj3s0wdvt2fg8x9yrzpqzd3ryx",
    "11llllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllludsr8",
    "split1checkupstagehandshakeupstreamerranterredcaperredlc445v",
    "?1v759aa",
]

INVALID = [
    "\x201xj0phk",
    "\x7f1g6xzxy",
    "\x801vctc34",
    "an84characterslonghumanreadablepartthatcontainsthetheexcludedcharactersbioandnumber11d6pts4",
    "qyrz8wqd2c9m",
    "1qyrz8wqd2c9m",
    "y1b0jsk6g",
    "lt1igcx5c0",
    "in1muywd",
    "mm1crxm3i",
    "au1s5cgom",
    "M1VUXWEZ",
    "16plkw9",
    "1p2gdwpf",
]


@pytest.mark.parametrize("text", VALID)
def test_valid_strings_of_the_standard(text: str) -> None:
    prefix, groups = decode_bech32m(text)
    assert encode_bech32m(prefix, groups) == text.lower()


@pytest.mark.parametrize("text", INVALID)
def test_invalid_strings_of_the_standard(text: str) -> None:
    with pytest.raises(DecodeError):
        decode_bech32m(text)


@given(st.binary(min_size=32, max_size=32))
def test_an_address_names_one_key(key: bytes) -> None:
    address = format_address(PublicKey(key))
    assert address.startswith("mth1")
    assert parse_address(address) == key
    assert parse_address(address.upper()) == key


@given(st.binary(min_size=32, max_size=32), st.integers(4, 61), st.sampled_from("qpzry9x8gf2tvdw0s3jn54khce6mua7l"))
def test_a_mistyped_character_is_found(key: bytes, position: int, character: str) -> None:
    address = format_address(PublicKey(key))
    mistyped = address[:position] + character + address[position + 1 :]
    if mistyped != address:
        with pytest.raises(DecodeError, match="checksum"):
            parse_address(mistyped)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (encode_bech32m("bc", [0] * 52), "'mth'"),
        (encode_bech32m("mth", [0] * 50), "31 bytes"),
        (encode_bech32m("mth", [0] * 51 + [1]), "behind the last byte"),
        (encode_bech32m("mth", [0] * 49), "behind the last byte"),
        ("Mth1qqqqqqqqqqqqqq", "mixed case"),
        ("", "prefix"),
    ],
)
def test_what_is_no_address_is_named(text: str, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        parse_address(text)
