"""Text from a checkpoint, as characters: bytes are drawn by `ml.sampling` and decoded as they come.

Bytes that are no UTF-8 and characters that would steer a terminal are replaced. It knows no terminal.
"""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from ml.backends import Backend
from ml.models import build_program
from ml.sampling import TEMPERATURE_BITS, SamplingRule, generate
from ml.spec import RATE_BITS
from node.models.errors import ModelError
from node.models.rates import parse_rate
from node.models.state_file import ModelState
from node.terminal import clean

START = b"\n"
"""What an empty prompt stands for: the start of a line."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One more byte, and the characters that it completes: none, one, or more after broken ones."""

    byte: int
    text: str


def parse_temperature(text: str) -> int:
    """Return a decimal such as "0.8" in F16; raises ModelError when it is none."""
    try:
        return parse_rate(text) >> RATE_BITS - TEMPERATURE_BITS
    except ModelError:
        raise ModelError(
            "bad-rule", f"found the temperature {text!r}, expected a decimal: 0, or from 1/64 to 64"
        ) from None


def iterate_pieces(
    state: ModelState, backend: Backend, prompt: bytes, rule: SamplingRule, count: int
) -> Iterator[Piece]:
    """Return an iterator of `count` bytes that continue `prompt`, drawn as they are asked for.

    Raises DecodeError when the prompt, the rule or the model does not allow it.
    """
    tokens = generate(build_program(state.spec), backend, state.checkpoint, prompt or START, rule)
    return decode_pieces(prompt, islice(tokens, count), count)


def decode_pieces(prompt: bytes, tokens: Iterator[int], count: int) -> Iterator[Piece]:
    """Yield each of `count` tokens with the characters that it completes, some of them begun by the prompt."""
    decoder = TextDecoder(prompt)
    for place, token in enumerate(tokens, start=1):
        yield Piece(token, decoder.decode(bytes([token]), is_last=place == count))


class TextDecoder:
    """The characters of bytes that come a few at a time, some of them begun by a prompt."""

    def __init__(self, prompt: bytes) -> None:
        """Start behind `prompt`."""
        self._decoder = _make_decoder()
        self._decoder.decode(prompt)

    def decode(self, data: bytes, *, is_last: bool = False) -> str:
        """Return the characters that `data` completes; what is left open by the last bytes is replaced."""
        return clean(self._decoder.decode(data, final=is_last))


def decode_prompt(prompt: bytes) -> str:
    """Return a prompt as characters; one that it leaves open is left to the pieces."""
    return _make_decoder().decode(prompt)


def _make_decoder() -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8")("replace")
