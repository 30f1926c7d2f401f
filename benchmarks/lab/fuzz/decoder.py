"""What is fuzzed: a decoder as a judge of bytes, the errors by which it may refuse, and samples to start from.

A judge returns when it accepts; how faithful an accepted input must be is part of the judge. It shares judges and
mutators with the campaign of altered proofs. It knows no decoder.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.lab.mutations.target import Judge, Mutator
from chain.errors import DecodeError

T = TypeVar("T")


class Unfaithful(Exception):
    """A decoder accepted an input that its encoder would not have written, or does not read back."""


@dataclass(frozen=True, slots=True)
class Decoder:
    """One decoder under test. `make_samples` returns inputs that it accepts, or most of them, the same each time."""

    name: str
    """A slug; files of inputs are called by it."""
    judge: Judge
    make_samples: Callable[[], tuple[bytes, ...]]
    mutators: Mapping[str, Mutator]
    refusals: tuple[type[Exception], ...] = (DecodeError,)
    size_bytes_max: int = 64 * 1024
    """What the decoder is handed at most; memory is held against it."""


def hold_canonical(decode: Callable[[bytes], T], encode: Callable[[T], bytes]) -> Judge:
    """Return the judge that accepts what `decode` does, if `encode` gives the very same bytes back."""

    def judge(data: bytes) -> None:
        again = encode(decode(data))
        if again != data:
            raise Unfaithful(f"found {data[:80].hex()} accepted, expected {again[:80].hex()}")

    return judge


def hold_stable(decode: Callable[[bytes], T], encode: Callable[[T], bytes]) -> Judge:
    """Return the judge that accepts what `decode` does, if what `encode` makes of it reads back as the same."""

    def judge(data: bytes) -> None:
        value = decode(data)
        again = decode(encode(value))
        if again != value:
            raise Unfaithful(f"found {again!r:.120} read back, expected {value!r:.120}")

    return judge
