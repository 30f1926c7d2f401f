"""Mutators that know nothing of what they alter: bits, runs of bytes, places where an object ends, two objects in one.

Every choice comes from the generator that is handed in. What is returned may be what was given; whoever counts leaves
such cases out.
"""

from random import Random

from benchmarks.lab.mutations.target import Mutator

RUN_BYTES_MAX = 64
EXTENSION_BYTES_MAX = 4096


def flip_bits(rng: Random, data: bytes, _other: bytes) -> bytes:
    """Turn one bit, or up to eight."""
    altered = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        altered[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(altered)


def set_byte(rng: Random, data: bytes, _other: bytes) -> bytes:
    """Set one byte, to a value that encodings and integers treat specially as often as to any."""
    altered = bytearray(data)
    value = rng.choice((0x00, 0x7F, 0x80, 0x90, 0xC0, 0xC1, 0xC4, 0xDD, 0xDF, 0xFF))
    altered[rng.randrange(len(data))] = rng.choice((value, rng.randrange(256)))
    return bytes(altered)


def insert_bytes(rng: Random, data: bytes, _other: bytes) -> bytes:
    """Put a run of bytes somewhere."""
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.randbytes(_draw_run(rng)) + data[place:]


def delete_bytes(rng: Random, data: bytes, _other: bytes) -> bytes:
    """Take a run of bytes out."""
    place = rng.randrange(len(data))
    return data[:place] + data[place + _draw_run(rng) :]


def truncate(rng: Random, data: bytes, _other: bytes) -> bytes:
    """End anywhere."""
    return data[: rng.randrange(len(data))]


def extend(rng: Random, data: bytes, _other: bytes) -> bytes:
    """Go on after the end: with zeros, chance, or the object once more."""
    size_bytes = 1 << rng.randrange(EXTENSION_BYTES_MAX.bit_length())
    return data + rng.choice((bytes(size_bytes), rng.randbytes(size_bytes), data[:size_bytes]))


def splice(rng: Random, data: bytes, other: bytes) -> bytes:
    """Begin as one object and end as another, cut at one place or at two."""
    place = rng.randrange(len(data) + 1)
    if rng.random() < 0.5:
        return data[:place] + other[place:]
    return data[:place] + other[rng.randrange(len(other) + 1) :]


def copy_run(rng: Random, data: bytes, other: bytes) -> bytes:
    """Overwrite a run with one from elsewhere, in this object or another."""
    source = rng.choice((data, other))
    size_bytes = min(1 << rng.randrange(12), len(source), len(data))
    start, place = rng.randrange(len(source) - size_bytes + 1), rng.randrange(len(data) - size_bytes + 1)
    return data[:place] + source[start : start + size_bytes] + data[place + size_bytes :]


def _draw_run(rng: Random) -> int:
    return rng.choice((1, 1, 2, 4, 32, rng.randrange(1, RUN_BYTES_MAX)))


BYTE_MUTATORS: dict[str, Mutator] = {
    "bits turned": flip_bits,
    "byte set": set_byte,
    "bytes inserted": insert_bytes,
    "bytes deleted": delete_bytes,
    "truncated": truncate,
    "extended": extend,
    "two objects spliced": splice,
    "run copied": copy_run,
}
