"""What a training task fixes: the model, the batch, the optimizer and the segment.

A spec is a canonical record; every op, every tensor shape and every constant of training follows from it, so that a
miner chooses nothing. It knows no data and no array. Rates are integers in units of 2**-32, as the optimizer uses them.
"""

from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import Annotated

from chain.codec import U8, U16, U32, U64, Many, Tagged, decode, encode
from chain.errors import DecodeError
from chain.hashing import tagged_hash
from chain.primitives import Hash

FORMAT_VERSION = 4
SPEC_BYTES_MAX = 4096
RATE_BITS = 32
MATMUL_DEPTH_MAX = 131_072
"""Noised operands reach 127, and 131,072 * 127**2 still fits the int32 accumulator."""
TOKENS_MAX = 16_384
"""Tokens of one batch; what a task on chain may have follows from the size of its openings (`ml.provable`)."""
VOCABULARY_MAX = 8_192
CONTEXT_MAX = 4_096
NORMALISED_WIDTH_MAX = 8_192
"""The root of the width in F20, times 2**36, still fits 63 bits; squares of 2**24 over such a row add up to 2**61."""
LAYERS_MAX = 256
HEAD_WIDTH_MAX = 256
DELTA_BITS = (4, 8)
"""What a delta's mantissas may take, sign included: half a byte or a byte."""
WEIGHTS_MAX = 1 << 31
"""Weights of a model: their first values and moments take 16 bytes each."""


class Positions(IntEnum):
    """How a decoder knows where a token stands."""

    LEARNED = 0
    """A table of the context's size is added to the embedding."""
    ROTARY = 1
    """Queries and keys are rotated by an integer table."""


@dataclass(frozen=True, slots=True)
class Mlp:
    """A classifier of stacked linear layers with ReLU between them."""

    widths: Annotated[tuple[U32, ...], Many(32)]
    """Inputs, hidden layers, classes."""


@dataclass(frozen=True, slots=True)
class Decoder:
    """A causal language model over bytes: pre-norm blocks of attention and ReLU-squared layers, no biases."""

    vocabulary: U32
    context: U32
    """Tokens of a sequence."""
    width: U32
    layers: U16
    heads: U16
    hidden: U32
    """Width of the inner layer of each block."""
    positions: U8
    """A `Positions`."""
    tied: U8
    """1 when the head shares the embedding's weights, else 0."""

    @property
    def head_width(self) -> int:
        """Return the columns of one head."""
        return self.width // self.heads


@dataclass(frozen=True, slots=True)
class Spec:
    """A model and how it is trained, in segments of Adam steps."""

    version: U8
    model: Annotated[Mlp | Decoder, Tagged()]
    batch: U32
    """Examples, or sequences of the model's context."""
    segment_steps: U16
    """H: steps of one segment."""
    learning_rate: U32
    """Units of 2**-32."""
    weight_decay: U32
    """Units of 2**-32, times the learning rate over 2**32; taken at every 16th step, or at each where it is strong."""
    warmup_steps: U16
    """Steps of a segment in which the learning rate rises linearly."""
    decay_steps: U16
    """Last steps of a segment in which the learning rate falls linearly, for a steadier end."""
    warmup_rounds: U16
    """First rounds of a task, over which the learning rate of whole segments rises linearly."""
    decay_rounds: U16
    """Rounds of a task over which that rate falls linearly to a twentieth, where it stays; 0 lets it stand."""
    outer_momentum: U8
    """Units of 2**-4; used when a round has two contributors or more."""
    outer_rate: U8
    """Units of 2**-4."""
    delta_bits: U8
    """Bits of a delta's mantissas, one of `DELTA_BITS`."""
    heldout: U32
    """Records of the data set (examples, or blocks of text) kept out of training."""
    init_seed: U64


DIGITS = Spec(
    version=FORMAT_VERSION,
    model=Mlp((64, 128, 128, 10)),
    batch=64,
    segment_steps=64,
    learning_rate=25_769_804,
    weight_decay=4_252_017_623,
    warmup_steps=4,
    decay_steps=32,
    warmup_rounds=0,
    decay_rounds=0,
    outer_momentum=8,
    outer_rate=16,
    delta_bits=8,
    heldout=360,
    init_seed=1,
)
"""8x8 handwritten digits: learning rate 0.006, weight decay 0.99, outer momentum 1/2, outer rate 1."""


def encode_spec(spec: Spec) -> bytes:
    """Return the canonical bytes of `spec`; raises DecodeError when it breaks a bound."""
    validate_spec(spec)
    return encode(spec)


def decode_spec(data: bytes) -> Spec:
    """Return the spec whose canonical bytes are `data`; raises DecodeError."""
    spec = decode(Spec, data, SPEC_BYTES_MAX)
    validate_spec(spec)
    return spec


def compute_spec_hash(spec: Spec) -> Hash:
    """Return the name of a valid spec; raises DecodeError."""
    return tagged_hash("spec", encode_spec(spec))


def count_rows(spec: Spec) -> int:
    """Return the rows of an activation: examples of a batch, or its tokens."""
    return spec.batch * spec.model.context if isinstance(spec.model, Decoder) else spec.batch


def count_weights(model: Mlp | Decoder) -> int:
    """Return the number of trained weights, without building the program."""
    if isinstance(model, Mlp):
        return sum(wide * narrow for wide, narrow in pairwise(model.widths))
    block = model.width * (4 * model.width + 2 * model.hidden)
    tables = model.vocabulary * (1 if model.tied else 2)
    positions = model.context if model.positions == Positions.LEARNED else 0
    return model.layers * block + model.width * (tables + positions)


Rule = tuple[bool, str, object]
"""Whether it holds, what is expected, what was found."""


def validate_spec(spec: Spec) -> None:
    """Check the bounds that keep every intermediate inside its integer; raises DecodeError."""
    steps, scheduled = spec.segment_steps, spec.warmup_steps + spec.decay_steps
    rising, falling = spec.warmup_rounds, spec.decay_rounds
    rules: tuple[Rule, ...] = (
        (spec.version == FORMAT_VERSION, f"version {FORMAT_VERSION}", spec.version),
        (spec.batch >= 1, "a batch of 1 or more", spec.batch),
        (steps >= 1, "a step or more a segment", steps),
        (scheduled <= steps, f"warm-up and decay of at most {steps} steps together", scheduled),
        (not falling or rising <= falling, f"a warm-up of at most {falling} rounds, over which it falls", rising),
        (spec.learning_rate < 1 << (RATE_BITS - 3), "a learning rate below 1/8", f"{spec.learning_rate} / 2^32"),
        (spec.outer_momentum < 16, "an outer momentum below 1", spec.outer_momentum),
        (1 <= spec.outer_rate <= 16, "an outer rate in (0, 1]", spec.outer_rate),
        (spec.delta_bits in DELTA_BITS, "a delta of 4 or 8 bits", spec.delta_bits),
    )
    model = spec.model
    rules += _get_mlp_rules(spec, model) if isinstance(model, Mlp) else _get_decoder_rules(spec, model)
    for holds, expected, found in rules:
        if not holds:
            raise DecodeError(f"Spec: expected {expected}, found {found!r:.80}")


def _get_mlp_rules(spec: Spec, model: Mlp) -> tuple[Rule, ...]:
    return (
        (len(model.widths) >= 2, "two widths or more", model.widths),
        (all(1 <= width < MATMUL_DEPTH_MAX for width in model.widths), "widths in [1, 131072)", model.widths),
        (count_weights(model) <= WEIGHTS_MAX, f"at most {WEIGHTS_MAX} weights", count_weights(model)),
        (model.widths[-1:] >= (2,), "two classes or more", model.widths),
        (spec.batch < MATMUL_DEPTH_MAX, "a batch below 131072", spec.batch),
    )


def _get_decoder_rules(spec: Spec, model: Decoder) -> tuple[Rule, ...]:
    tokens, heads = spec.batch * model.context, max(model.heads, 1)
    is_rotary = model.positions == Positions.ROTARY
    return (
        (2 <= model.vocabulary <= VOCABULARY_MAX, f"a vocabulary in [2, {VOCABULARY_MAX}]", model.vocabulary),
        (1 <= model.context <= CONTEXT_MAX, f"a context in [1, {CONTEXT_MAX}]", model.context),
        (tokens <= TOKENS_MAX, f"at most {TOKENS_MAX} tokens a batch (batch x context)", tokens),
        (1 <= model.width <= NORMALISED_WIDTH_MAX, f"a width in [1, {NORMALISED_WIDTH_MAX}]", model.width),
        (1 <= model.layers <= LAYERS_MAX, f"1 to {LAYERS_MAX} layers", model.layers),
        (model.heads >= 1, "a head or more", model.heads),
        (model.width % heads == 0, f"a width that {heads} heads divide", model.width),
        (model.width <= heads * HEAD_WIDTH_MAX, f"heads of at most {HEAD_WIDTH_MAX} columns", model.width // heads),
        (count_weights(model) <= WEIGHTS_MAX, f"at most {WEIGHTS_MAX} weights", count_weights(model)),
        (1 <= model.hidden < MATMUL_DEPTH_MAX, "a hidden width in [1, 131072)", model.hidden),
        (model.positions in tuple(Positions), "positions 0 (learned) or 1 (rotary)", model.positions),
        (model.tied in (0, 1), "tied 0 or 1", model.tied),
        (not is_rotary or model.width // heads % 2 == 0, "an even head width for rotary positions", model.width),
    )
