"""Any valid record, drawn from the ranges that its annotations carry, edges included.

It reads the same annotations as the codec and shares none of its code: a codec that forgot a field or a range would
disagree. Every choice comes from the generator that is handed in.
"""

from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from random import Random
from typing import Annotated, get_args, get_origin, get_type_hints

from chain.codec import Bytes, Many, Tagged, Text, Uint

_ANNOTATIONS = (Uint, Bytes, Text, Many, Tagged)


@dataclass(frozen=True, slots=True)
class Scale:
    """How long what is drawn may be, where its range allows it."""

    size_bytes: int
    length: int


@cache
def get_hints(cls: type) -> dict[str, object]:
    """Return the annotated types of a dataclass's fields, by name."""
    return get_type_hints(cls, include_extras=True)


def is_record(kind: object) -> bool:
    """Say whether something is a class that the codec can encode."""
    if not isinstance(kind, type) or not is_dataclass(kind) or not fields(kind):
        return False
    try:
        hints = get_hints(kind)
    except NameError:
        # A name that exists for type checkers alone is no record's.
        return False
    return all(_has_range(hints[field.name]) for field in fields(kind))


def draw_record(cls: type, rng: Random, scale: Scale) -> object:
    """Return a valid record of type `cls`."""
    hints = get_hints(cls)
    return cls(**{field.name: _draw_field(hints[field.name], rng, scale) for field in fields(cls)})


def _has_range(hint: object) -> bool:
    if get_origin(hint) is Annotated:
        return any(isinstance(each, _ANNOTATIONS) for each in get_args(hint)[1:])
    return is_record(hint)


def _draw_field(hint: object, rng: Random, scale: Scale) -> object:
    if get_origin(hint) is not Annotated:
        assert isinstance(hint, type)
        return draw_record(hint, rng, scale)
    base, *annotations = get_args(hint)
    match next(each for each in annotations if isinstance(each, _ANNOTATIONS)):
        case Uint(bits=bits):
            edges = (0, 1, 127, 128, 255, (1 << bits) - 1, 1 << bits - 1, rng.getrandbits(bits))
            return rng.choice(edges) % (1 << bits)
        case Bytes(size_min=low, size_max=high):
            return rng.randbytes(rng.randint(low, max(low, min(high, scale.size_bytes))))
        case Text(size_max=high):
            return "".join(rng.choices("abé/.0", k=min(high // 4, scale.length)))
        case Many(length_max=high):
            count = rng.randint(0, min(high, scale.length))
            return tuple(_draw_field(get_args(base)[0], rng, scale) for _ in range(count))
        case Tagged():
            return draw_record(rng.choice(get_args(base)), rng, scale)
    raise AssertionError(f"found {hint!r}, expected a field with a range")
