"""Mutators of text and JSON: tokens that parsers treat specially, keys twice, nesting, numbers without end.

A document is cut into tokens and written again freely, valid or not. They know no schema.
"""

import re
from collections.abc import Mapping
from random import Random

from benchmarks.lab.mutations import json_mutators
from benchmarks.lab.mutations.byte_mutators import BYTE_MUTATORS
from benchmarks.lab.mutations.target import Mutator

NESTING_MAX = 14
"""Of the binary logarithm of how many brackets stand in each other."""

SPECIAL = (
    *(b"NaN", b"-Infinity", b"1e999", b"-0", b"0.0", b"1.5", b"-1", b"00", b"null", b"true", b"false", b"{}", b"[]"),
    *(b'""', b'"\\ud800"', b'"\\u0000"', b'"\\n"', b'"\xff"', '"é\u202e"'.encode(), b'"', b",", b":", b"\\", b"\x00"),
    *(b"18446744073709551615", b"18446744073709551616", b"9223372036854775808", b"9007199254740993", b"1" * 5000),
    *(b"-9223372036854775809", b"2147483648", b"256", b"1E-400", b"0x10", b"+1", b"1_0", "٣".encode(), b" ", b"\n"),
)

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?|[A-Za-z]+|[\]\[{}:,]|.', re.DOTALL)


def replace_token(rng: Random, data: bytes, other: bytes) -> bytes:
    """Write something else in a token's place: a special text, or a token of this document or another."""
    tokens = _TOKEN.findall(data)
    source = rng.choice((SPECIAL, tokens, _TOKEN.findall(other) or tokens))
    tokens[rng.randrange(len(tokens))] = rng.choice(source)
    return b"".join(tokens)


def insert_token(rng: Random, data: bytes, other: bytes) -> bytes:
    """Put a token between two."""
    tokens = _TOKEN.findall(data)
    source = rng.choice((SPECIAL, tokens, _TOKEN.findall(other) or tokens))
    tokens.insert(rng.randrange(len(tokens) + 1), rng.choice(source))
    return b"".join(tokens)


def delete_tokens(rng: Random, data: bytes, _other: bytes) -> bytes:
    """Take a few tokens out."""
    tokens = _TOKEN.findall(data)
    place = rng.randrange(len(tokens))
    del tokens[place : place + rng.choice((1, 1, 2, 4))]
    return b"".join(tokens)


def double_tokens(rng: Random, data: bytes, _other: bytes) -> bytes:
    """Write a run of tokens twice, or many times: a key that comes again, a long array."""
    tokens = _TOKEN.findall(data)
    place = rng.randrange(len(tokens))
    run = tokens[place : place + rng.choice((1, 2, 4, 8))]
    return b"".join(tokens[:place] + run * rng.choice((2, 2, 3, 100)) + tokens[place + len(run) :])


def enclose_token(rng: Random, data: bytes, _other: bytes) -> bytes:
    """Put a token into arrays or objects, few or very many."""
    tokens = _TOKEN.findall(data)
    place, depth = rng.randrange(len(tokens)), 1 << rng.randrange(NESTING_MAX)
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}"), (b"[", b"")))
    tokens[place] = opening * depth + tokens[place] + closing * depth
    return b"".join(tokens)


def add_member(rng: Random, data: bytes, other: bytes) -> bytes:
    """Put a member into an object: a key of this document with another value, or a new one with whatever value."""
    tokens = _TOKEN.findall(data)
    opened = [place for place, token in enumerate(tokens) if token == b"{"]
    if not opened:
        return insert_token(rng, data, other)
    keys = [token for token in tokens if token.startswith(b'"')] or [b'"a"']
    depth = 1 << rng.randrange(NESTING_MAX)
    value = rng.choice((rng.choice(SPECIAL), rng.choice(tokens), b"[" * depth + b"]" * depth, b"[" * depth))
    tokens.insert(rng.choice(opened) + 1, rng.choice((*keys, b'"a"')) + b":" + value + b",")
    return b"".join(tokens)


TEXT_MUTATORS: Mapping[str, Mutator] = BYTE_MUTATORS | {
    "token replaced": replace_token,
    "token inserted": insert_token,
    "tokens deleted": delete_tokens,
    "tokens doubled": double_tokens,
    "token enclosed": enclose_token,
    "member added": add_member,
}

JSON_MUTATORS: Mapping[str, Mutator] = {
    **TEXT_MUTATORS,
    **{f"value: {name}": mutate for name, mutate in json_mutators.JSON_MUTATORS.items()},
}
"""Of documents that are JSON, whole values of which can be altered."""
