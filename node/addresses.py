"""Addresses: a public key as people write it, `mth1...`, in bech32m.

The checksum finds any error in up to four characters. It knows nothing of keys beyond their 32 bytes.
Source: BIP-350 (bech32m) and BIP-173 (character set, mixed case, length).
"""

from collections.abc import Iterable

from chain.errors import DecodeError
from chain.primitives import PublicKey

PREFIX = "mth"
LENGTH_MAX = 90
CHECKSUM_LENGTH = 6

_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATORS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_BECH32M = 0x2BC830A3


def format_address(key: PublicKey) -> str:
    """Return the address of a 32-byte public key."""
    return encode_bech32m(PREFIX, _to_groups(key))


def parse_address(text: str) -> PublicKey:
    """Return the public key of an address; raises DecodeError, naming what is wrong with it."""
    prefix, groups = decode_bech32m(text)
    if prefix != PREFIX:
        raise DecodeError(f"found an address of {prefix!a}, expected one of {PREFIX!a}")
    key = _to_bytes(groups)
    if len(key) != 32:
        raise DecodeError(f"found an address of {len(key)} bytes, expected 32")
    return PublicKey(key)


def encode_bech32m(prefix: str, groups: list[int]) -> str:
    """Return the bech32m text of 5-bit `groups` behind a lower-case prefix."""
    values = _expand(prefix) + groups
    checksum = _compute_polymod(values + [0] * CHECKSUM_LENGTH) ^ _BECH32M
    tail = [checksum >> 5 * (CHECKSUM_LENGTH - 1 - i) & 31 for i in range(CHECKSUM_LENGTH)]
    return f"{prefix}1{''.join(_CHARSET[group] for group in groups + tail)}"


def decode_bech32m(text: str) -> tuple[str, list[int]]:
    """Return the prefix and the 5-bit groups of a bech32m text; raises DecodeError."""
    if len(text) > LENGTH_MAX or any(not 33 <= ord(character) <= 126 for character in text):
        raise DecodeError(f"found {text[:LENGTH_MAX]!a}, expected at most {LENGTH_MAX} printable ASCII characters")
    if text.lower() != text and text.upper() != text:
        raise DecodeError("found an address in mixed case")
    prefix, separator, data = text.lower().rpartition("1")
    if not separator or not prefix or len(data) < CHECKSUM_LENGTH:
        raise DecodeError(f"found {text!a}, expected a prefix, a 1 and at least {CHECKSUM_LENGTH} characters")
    strange = [character for character in data if character not in _CHARSET]
    if strange:
        raise DecodeError(f"found the character {strange[0]!a}, expected one of {_CHARSET}")
    groups = [_CHARSET.index(character) for character in data]
    if _compute_polymod(_expand(prefix) + groups) != _BECH32M:
        raise DecodeError("the address's checksum is wrong; a character was mistyped")
    return prefix, groups[:-CHECKSUM_LENGTH]


def _compute_polymod(values: Iterable[int]) -> int:
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for i, generator in enumerate(_GENERATORS):
            checksum ^= generator if top >> i & 1 else 0
    return checksum


def _expand(prefix: str) -> list[int]:
    return [ord(character) >> 5 for character in prefix] + [0] + [ord(character) & 31 for character in prefix]


def _to_groups(data: bytes) -> list[int]:
    padding = -len(data) * 8 % 5
    bits, length = int.from_bytes(data, "big") << padding, (len(data) * 8 + padding) // 5
    return [bits >> 5 * (length - 1 - i) & 31 for i in range(length)]


def _to_bytes(groups: list[int]) -> bytes:
    bits = 0
    for group in groups:
        bits = bits << 5 | group
    padding = len(groups) * 5 % 8
    if padding > 4 or bits & ((1 << padding) - 1):
        raise DecodeError("found bits behind the last byte of the address, expected fewer than five zeros")
    return (bits >> padding).to_bytes(len(groups) * 5 // 8, "big")
