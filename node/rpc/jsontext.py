"""JSON as a stranger sends it: bounded, without duplicate keys, NaN, infinities, half pairs or deep nesting.

Python's own parser accepts all three, and a thousand brackets make it recurse too deep, so the shape is measured before
anything is built. It knows nothing of JSON-RPC. Source: RFC 8259.
"""

import json
import re
from itertools import accumulate
from math import isinf
from typing import NoReturn, TypeAlias

from chain.errors import DecodeError

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

BODY_BYTES_MAX = 1024 * 1024
DEPTH_MAX = 32
CONTAINERS_MAX = 4_096
"""Arrays and objects in one body: a full batch of calls with forty each."""

# Possessive, and the closing quote optional: linear in the size whatever the input.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_OPENING, _CLOSING = b"[{", b"]}"
_NOT_BRACKETS = bytes(set(range(256)) - set(_OPENING + _CLOSING))


def parse_json(data: bytes) -> Json:
    """Return the JSON value in `data`; raises DecodeError, naming what was found and expected."""
    if len(data) > BODY_BYTES_MAX:
        raise DecodeError(f"found {len(data)} bytes, expected at most {BODY_BYTES_MAX}")
    _validate_shape(data)
    try:
        value: Json = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_make_object,
            parse_constant=_refuse_constant,
            parse_float=_parse_float,
        )
    except UnicodeDecodeError as error:
        raise DecodeError(f"found a byte that is no UTF-8 at offset {error.start}") from None
    except json.JSONDecodeError as error:
        raise DecodeError(f"not JSON: {error.msg} at offset {error.pos}") from None
    except ValueError:
        raise DecodeError("found an integer of thousands of digits, expected a JSON number of modest size") from None
    if _SURROGATE.search(data):
        _validate_text(value)
    return value


def _validate_shape(data: bytes) -> None:
    brackets = _STRING.sub(b"", data).translate(None, delete=_NOT_BRACKETS)
    opened = sum(map(brackets.count, (b"[", b"{")))
    if opened > CONTAINERS_MAX:
        raise DecodeError(f"found {opened} arrays and objects, expected at most {CONTAINERS_MAX}")
    depth = max(accumulate(1 if byte in _OPENING else -1 for byte in brackets), default=0)
    if depth > DEPTH_MAX:
        raise DecodeError(f"found {depth} levels of nesting, expected at most {DEPTH_MAX}")


def _validate_text(value: Json) -> None:
    """Refuse half of a surrogate pair, which JSON can spell and UTF-8 cannot: no answer could repeat it."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise DecodeError("found half of a surrogate pair, expected text that UTF-8 can write") from None


def _make_object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise DecodeError(f"found the key {twice[:40]!a} twice in one object")
    return result


def _parse_float(text: str) -> float:
    value = float(text)
    if isinf(value):
        raise DecodeError(f"found {text[:40]}, expected a number that a double can hold")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise DecodeError(f"found {name}, expected a JSON number")
