"""Segments that were really trained: the digits, and a small decoder over a text, so that every kind of op is there.

Every tensor of every step is kept, as an attacker keeps them. It alters nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

from benchmarks.lab.attacks.trajectory_bench import make_seed, make_segment
from chain.primitives import Hash
from ml.backends import get_backend
from ml.backends.cpu.tensor_hash import compute_tensor_roots
from ml.checkpoint import compute_initial_checkpoint
from ml.checks import CheckContext
from ml.dataset import Dataset, build_dataset, encode_text, load_digits
from ml.models import build_program
from ml.program import Op, OpKind, TensorId
from ml.segment import Runner, StepTensors
from ml.spec import DIGITS, Decoder, Positions, Spec
from ml.tensor_tree import DIGEST_BYTES, IntArray, TensorTree
from ml.trace import Trace

STEPS = 4
WORDS = (
    "the",
    "sum",
    "of",
    "two",
    "odd",
    "numbers",
    "is",
    "even",
    "and",
    "so",
    "a",
    "square",
    "has",
    "no",
    "odd",
    "root",
)
TEXT_WORDS = 3_000


@dataclass(frozen=True, slots=True)
class Trained:
    """A segment with the tensors of every step."""

    context: CheckContext
    runner: Runner
    trace: Trace
    steps: tuple[StepTensors, ...]
    trees: tuple[dict[TensorId, TensorTree], ...]
    """By step; filled as openings need them."""

    def commit(self, step: int, altered: Mapping[TensorId, IntArray]) -> Trace:
        """Return the trace with the roots of some outputs of a step taken from other tensors."""
        program, roots = self.context.program, bytearray(self.trace.output_roots)
        before = sum(len(program.get_step_outputs(earlier)) for earlier in range(step))
        places = {output: before + place for place, output in enumerate(program.get_step_outputs(step))}
        for tensor in altered:
            start = DIGEST_BYTES * places[tensor]
            roots[start : start + DIGEST_BYTES] = compute_tensor_roots([altered[tensor]])[0]
        return replace(self.trace, output_roots=bytes(roots))

    def list_ops(self, step: int) -> tuple[Op, ...]:
        """Return one op of each kind of a step, the first of it."""
        firsts: dict[OpKind, Op] = {}
        for op in self.context.program.get_step_ops(step):
            firsts.setdefault(op.kind, op)
        return tuple(firsts.values())


@cache
def train(name: str) -> Trained:
    """Return the segment called "digits" or "decoder"."""
    spec, dataset = _SPECS[name], load_digits(DIGITS.heldout) if name == "digits" else _load_text()
    program = build_program(spec)
    seed: Hash = make_seed(len(name))
    runner = Runner(program, get_backend("cpu"), dataset, seed, compute_initial_checkpoint(program))
    segment = make_segment(runner)
    trees: tuple[dict[TensorId, TensorTree], ...] = tuple({} for _ in segment.steps)
    return Trained(CheckContext(program, dataset, seed), runner, segment.trace, segment.steps, trees)


def _load_text() -> Dataset:
    words = (WORDS[(place * place + place // 5) % len(WORDS)] for place in range(TEXT_WORDS))
    return build_dataset(encode_text(" ".join(words).encode()), _SPECS["decoder"].heldout)


_DIGITS = replace(DIGITS, segment_steps=STEPS, warmup_steps=1, decay_steps=1)
_SPECS: dict[str, Spec] = {
    "digits": _DIGITS,
    "decoder": replace(
        _DIGITS,
        model=Decoder(128, 16, 24, 2, 2, 40, int(Positions.ROTARY), 0),
        batch=4,
        learning_rate=1 << 24,
        weight_decay=1 << 29,
        heldout=1,
    ),
}
