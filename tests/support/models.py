"""Small models of every kind that exists, with data they can train on: what tests run over.

Sizes are odd on purpose: no dimension is a multiple of another or of a kernel's width unless a rule asks for it.
"""

from dataclasses import dataclass, replace
from functools import cache

from chain.hashing import tagged_hash
from ml.backends import get_backend
from ml.checkpoint import compute_initial_checkpoint
from ml.dataset import Dataset, build_dataset, encode_text, load_digits
from ml.models import build_program
from ml.program import Program
from ml.segment import Runner
from ml.spec import DIGITS, Decoder, Mlp, Positions, Spec

TINY_MLP = replace(DIGITS, model=Mlp((64, 12, 10)), batch=6, segment_steps=2, warmup_steps=1, decay_steps=1)
_DECODER = replace(
    TINY_MLP,
    model=Decoder(128, 7, 12, 2, 2, 20, int(Positions.LEARNED), 0),
    batch=3,
    learning_rate=1 << 24,
    weight_decay=1 << 29,
    heldout=1,
)
TINY_SPECS: dict[str, Spec] = {
    "mlp": TINY_MLP,
    "decoder": _DECODER,
    "decoder-rotary": replace(_DECODER, model=Decoder(128, 7, 12, 2, 3, 20, int(Positions.ROTARY), 0)),
    "decoder-tied": replace(_DECODER, model=Decoder(128, 7, 12, 1, 3, 20, int(Positions.LEARNED), 1)),
    "decoder-rotary-tied": replace(_DECODER, model=Decoder(128, 7, 12, 1, 1, 9, int(Positions.ROTARY), 1)),
}
"""By name; together they hold every kind of op."""


@dataclass(frozen=True, slots=True)
class Case:
    """A spec with its program, its data and a runner on the reference backend."""

    spec: Spec
    program: Program
    dataset: Dataset
    runner: Runner


@cache
def load_text() -> Dataset:
    """Return a text of ASCII that is long enough to hold one record out."""
    words = ["to", "be", "or", "not", "that", "is", "the", "question", "whether", "tis", "nobler", "in", "mind"]
    text = " ".join(words[(i * i + i // 7) % len(words)] for i in range(3000))
    return build_dataset(encode_text(text.encode()), 1)


@cache
def make_case(name: str, backend: str = "reference") -> Case:
    """Return the case called `name`, one of `TINY_SPECS`."""
    spec = TINY_SPECS[name]
    program = build_program(spec)
    dataset = load_digits(spec.heldout) if isinstance(spec.model, Mlp) else load_text()
    seed = tagged_hash("test", b"seed")
    runner = Runner(program, get_backend(backend), dataset, seed, compute_initial_checkpoint(program))
    return Case(spec, program, dataset, runner)
