"""What a training task fixes: the shape of the model, the batch, the optimizer and the segment.

A spec is a canonical record; every op, every tensor shape and every constant of training follows from it, so that a
miner chooses nothing. It knows no data and no array. Rates are integers in units of 2**-32, as the optimizer uses them.
"""

from dataclasses import dataclass
from typing import Annotated

from chain.codec import U8, U16, U32, U64, Many, decode, encode
from chain.errors import DecodeError

FORMAT_VERSION = 1
SPEC_BYTES_MAX = 4096
RATE_BITS = 32
MATMUL_DEPTH_MAX = 131_072
"""Noised operands reach 127, and 131,072 * 127**2 still fits the int32 accumulator."""


@dataclass(frozen=True, slots=True)
class MlpSpec:
    """A classifier of stacked linear layers with ReLU between them, trained in segments of Adam steps."""

    version: U8
    widths: Annotated[tuple[U32, ...], Many(32)]
    """Inputs, hidden layers, classes."""
    batch: U32
    segment_steps: U16
    """H: steps of one segment."""
    learning_rate: U32
    """Units of 2**-32."""
    weight_decay: U32
    """Units of 2**-32, times the learning rate over 2**32 at every step."""
    warmup_steps: U16
    """Steps of a segment in which the learning rate rises linearly."""
    decay_steps: U16
    """Last steps of a segment in which the learning rate falls linearly, for a steadier end."""
    outer_momentum: U8
    """Units of 2**-4; used when a round has two contributors or more."""
    outer_rate: U8
    """Units of 2**-4."""
    heldout: U32
    """Examples kept out of training."""
    init_seed: U64


DIGITS = MlpSpec(
    version=FORMAT_VERSION,
    widths=(64, 128, 128, 10),
    batch=64,
    segment_steps=64,
    learning_rate=51_539_607,
    weight_decay=4_252_017_623,
    warmup_steps=4,
    decay_steps=32,
    outer_momentum=8,
    outer_rate=16,
    heldout=360,
    init_seed=1,
)
"""8x8 handwritten digits: learning rate 0.012, weight decay 0.99, outer momentum 1/2, outer rate 1."""


def encode_spec(spec: MlpSpec) -> bytes:
    """Return the canonical bytes of `spec`; raises DecodeError when it breaks a bound."""
    validate_spec(spec)
    return encode(spec)


def decode_spec(data: bytes) -> MlpSpec:
    """Return the spec whose canonical bytes are `data`; raises DecodeError."""
    spec = decode(MlpSpec, data, SPEC_BYTES_MAX)
    validate_spec(spec)
    return spec


def validate_spec(spec: MlpSpec) -> None:
    """Check the bounds that keep every intermediate inside its integer; raises DecodeError."""
    steps = spec.segment_steps
    rules = (
        (spec.version == FORMAT_VERSION, f"version {FORMAT_VERSION}", spec.version),
        (len(spec.widths) >= 2, "two widths or more", spec.widths),
        (all(1 <= width < MATMUL_DEPTH_MAX for width in spec.widths), "widths in [1, 131072)", spec.widths),
        (spec.widths[-1:] >= (2,), "two classes or more", spec.widths),
        (1 <= spec.batch < MATMUL_DEPTH_MAX, "a batch in [1, 131072)", spec.batch),
        (1 <= steps <= 1024, "1 to 1024 steps a segment", steps),
        (spec.warmup_steps + spec.decay_steps <= steps, "warm-up and decay inside the segment", steps),
        (spec.learning_rate < 1 << (RATE_BITS - 3), "a learning rate below 1/8", spec.learning_rate),
        (spec.outer_momentum < 16, "an outer momentum below 1", spec.outer_momentum),
        (1 <= spec.outer_rate <= 16, "an outer rate in (0, 1]", spec.outer_rate),
    )
    for holds, expected, found in rules:
        if not holds:
            raise DecodeError(f"MlpSpec: expected {expected}, found {found!r:.80}")
