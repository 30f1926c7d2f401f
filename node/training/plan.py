"""What decides every bit of a run: spec, data and seed, checked against each other before anything is written.

A run of N steps is one segment of N steps, so that the chain's rules for rates and rounding are the run's. The backend
and its threads decide no bit, only the time.
"""

from dataclasses import dataclass, replace

from chain.hashing import tagged_hash
from ml.backends import Backend
from ml.checkpoint import Checkpoint, compute_checkpoint_root, compute_initial_checkpoint
from ml.dataset import Dataset
from ml.models import build_program
from ml.segment import Runner
from ml.spec import Decoder, Spec, compute_spec_hash
from node.models.data import validate as validate_data
from node.models.errors import ModelError
from node.models.specs import validate

STEPS_MAX = (1 << 16) - 1
"""A segment's steps are a u16."""
SEED_BYTES = 32
WARMUP_PART = 4
"""The learning rate rises over no more than this part of a run."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A run that can start."""

    spec: Spec
    dataset: Dataset
    seed: bytes
    backend: Backend
    start: Checkpoint | None = None
    """The weights that the first step goes on from, the spec's first ones when None."""

    @property
    def unit(self) -> str:
        """Say what a row of a batch is."""
        return "tokens" if isinstance(self.spec.model, Decoder) else "examples"

    @property
    def start_root(self) -> bytes:
        """Return the root of the checkpoint that the run goes on from, empty for none."""
        return b"" if self.start is None else compute_checkpoint_root(self.start)

    def make_runner(self) -> Runner:
        """Return the runner of the whole run, which is one segment."""
        program = build_program(self.spec)
        return Runner(program, self.backend, self.dataset, self.seed, self.start or compute_initial_checkpoint(program))


def fit_spec(spec: Spec, steps: int, learning_rate: int | None = None, weight_decay: int | None = None) -> Spec:
    """Return `spec` for a run of `steps`; rates are in units of 2**-32; raises ModelError.

    Warm-up stays as long as it is, up to a quarter of the run; the fall of the rate keeps its share of the run, which
    knows no rounds.
    """
    if not 1 <= steps <= STEPS_MAX:
        raise ModelError("bad-spec", f"found {steps} steps, expected 1 to {STEPS_MAX}")
    warmup = min(spec.warmup_steps, steps // WARMUP_PART)
    return validate(
        replace(
            spec,
            segment_steps=steps,
            warmup_steps=warmup,
            decay_steps=min(spec.decay_steps * steps // spec.segment_steps, steps - warmup),
            warmup_rounds=0,
            decay_rounds=0,
            learning_rate=spec.learning_rate if learning_rate is None else learning_rate,
            weight_decay=spec.weight_decay if weight_decay is None else weight_decay,
        )
    )


def compute_default_seed(spec: Spec, dataset: Dataset, start: Checkpoint | None = None) -> bytes:
    """Return the seed of a run that names none: it follows from all else, so that two such runs are equal."""
    if start is None:
        return tagged_hash("local-run", compute_spec_hash(spec), dataset.root)
    return tagged_hash("local-run.from", compute_spec_hash(spec), dataset.root, compute_checkpoint_root(start))


def parse_seed(text: str) -> bytes:
    """Return the 32-byte seed that up to 64 hex digits write, as a number; raises ModelError."""
    digits = text.removeprefix("0x")
    if not digits or len(digits) > 2 * SEED_BYTES or set(digits) - set("0123456789abcdefABCDEF"):
        raise ModelError("bad-spec", f"found the seed {text!r:.80}, expected 1 to {2 * SEED_BYTES} hex digits")
    return bytes.fromhex(digits.rjust(2 * SEED_BYTES, "0"))


def make_plan(
    spec: Spec, dataset: Dataset, backend: Backend, seed: bytes | None = None, start: Checkpoint | None = None
) -> Plan:
    """Return the plan of a run; raises ModelError when the data or the weights to start from do not fit the model."""
    validate_data(spec, dataset)
    if start is not None:
        _validate_start(spec, start)
    chosen = compute_default_seed(spec, dataset, start) if seed is None else seed
    return Plan(spec, dataset, chosen, backend, start)


def _validate_start(spec: Spec, start: Checkpoint) -> None:
    expected = [(parameter.rows, parameter.columns) for parameter in build_program(spec).parameters]
    found = [part.shape for part in start.weights]
    if found != expected:
        raise ModelError("bad-spec", f"found weights of {found!r:.60} to start from, expected {expected!r:.60}")
