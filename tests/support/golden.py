"""Golden digests of training: the state of small models, a hundred steps apart over a thousand steps.

`python -m tests.support.golden` writes `tests/vectors/training.json` anew with the reference backend; that is done only
together with the format's version. Every backend must reproduce them.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ml.backends import Backend, get_backend
from ml.checkpoint import compute_initial_checkpoint
from ml.dataset import load_digits
from ml.models import build_program
from ml.segment import Runner, compute_initial_state
from ml.spec import DIGITS, Decoder, Mlp, Spec, compute_spec_hash
from ml.training import run_training_step
from tests.support.models import load_text

VECTORS = Path(__file__).resolve().parent.parent / "vectors" / "training.json"
STEPS, INTERVAL = 1000, 100

_LONG = replace(DIGITS, segment_steps=STEPS, warmup_steps=20, decay_steps=500, learning_rate=8 << 20)
_TEXT = replace(_LONG, batch=3, learning_rate=16 << 20, weight_decay=1 << 29, heldout=1)
SPECS: dict[str, Spec] = {
    "mlp": replace(_LONG, model=Mlp((64, 21, 10)), batch=9),
    "decoder": replace(_TEXT, model=Decoder(128, 11, 24, 2, 2, 40, 0, 0)),
    "decoder-rotary-tied": replace(_TEXT, model=Decoder(128, 11, 24, 2, 3, 40, 1, 1)),
}


def iterate_digests(name: str, backend: Backend, steps: int = STEPS) -> Iterator[tuple[int, str]]:
    """Yield (steps done, hex SHA-256 of weights and moments) every INTERVAL steps."""
    spec = SPECS[name]
    program = build_program(spec)
    checkpoint = compute_initial_checkpoint(program)
    dataset = load_digits(spec.heldout) if isinstance(spec.model, Mlp) else load_text()
    runner = Runner(program, backend, dataset, bytes(32), checkpoint)
    state = compute_initial_state(program, checkpoint)
    for step in range(steps):
        state = run_training_step(runner, step, state).state
        if (step + 1) % INTERVAL == 0:
            yield step + 1, hashlib.sha256(b"".join(part.tobytes() for part in state)).hexdigest()


def read_digests(name: str) -> dict[int, str]:
    """Return the published digests of a model by the number of steps done."""
    published = json.loads(VECTORS.read_text())[name]
    assert published["spec"] == compute_spec_hash(SPECS[name]).hex()
    return {int(step): digest for step, digest in published["state_sha256"].items()}


if __name__ == "__main__":
    made = {
        name: {
            "spec": compute_spec_hash(spec).hex(),
            "state_sha256": dict(iterate_digests(name, get_backend("reference"))),
        }
        for name, spec in SPECS.items()
    }
    VECTORS.write_text(json.dumps(made, indent=2) + "\n")
