"""Gradients of attention scores at a long context: how many vanish in a fixed point of 20, 24 and 28 bits.

A small decoder is trained for a few steps at context 1,024, then one step is taken apart: probabilities and their
gradients give the scores' gradient exactly, which is rounded to each format and carried through to the queries.
"""

from dataclasses import replace

import numpy as np

from benchmarks.lab.probe import F64, Finding, compute_snr_db, format_db, format_percent
from ml.backends import Rounding
from ml.backends.reference import ReferenceBackend
from ml.checkpoint import Checkpoint, compute_initial_checkpoint
from ml.models import build_program
from ml.program import Program
from ml.segment import Runner, StepTensors, as_i32, compute_initial_state, run_step
from ml.spec import FORMAT_VERSION, RATE_BITS, Decoder, Positions, Spec
from ml.training import run_training_step
from node.backends import make_backend
from node.datasets import load_dataset

CONTEXT = 1_024
STEPS = 24
MODEL = Decoder(256, CONTEXT, 128, 2, 4, 512, int(Positions.LEARNED), 0)
FORMATS = (20, 24, 28)
CHOSEN = 28
SPEC = Spec(
    version=FORMAT_VERSION,
    model=MODEL,
    batch=2,
    segment_steps=STEPS,
    learning_rate=(1 << RATE_BITS) // 250,
    weight_decay=(1 << RATE_BITS) // 10,
    warmup_steps=4,
    decay_steps=0,
    warmup_rounds=0,
    decay_rounds=0,
    outer_momentum=8,
    outer_rate=16,
    delta_bits=8,
    heldout=32,
    init_seed=1,
)


def probe_score_gradients() -> Finding:
    """Measure zeros, and the queries' gradient, of the first block in each format; raises DatasetError or OSError."""
    program, tensors = _compute_step()
    names = {tensor.name: tensor.id for tensor in program.tensors}
    p, dp = (as_i32(tensors[names[f"block0.{name}"]]) / 2.0**24 for name in ("p", "dp"))
    keys = as_i32(tensors[names["block0.k"]]) / 2.0**16
    exact = p * (dp - (p * dp).sum(axis=1, keepdims=True)) / MODEL.head_width**0.5
    visible = np.arange(CONTEXT)[None, :] <= (np.arange(len(p)) % CONTEXT)[:, None]
    groups = len(p) // CONTEXT
    queries = _multiply(exact, keys, groups)
    rows = []
    for bits in FORMATS:
        rounded = np.floor(exact * 2.0**bits + 0.5)
        alone = _multiply(rounded / 2.0**bits, keys, groups)
        mantissas, exponents = ReferenceBackend().quantise_rows(rounded.astype(np.int32), Rounding(bits))
        carried = mantissas * 2.0 ** (exponents - bits)
        rows.append(
            (
                f"F{bits}{' (format 2)' if bits == CHOSEN else ''}",
                format_percent(float((rounded[visible] == 0).mean())),
                format_db(compute_snr_db(queries, alone)),
                format_db(_compute_low_snr_db(queries, alone)),
                format_db(compute_snr_db(queries, _multiply(carried, keys, groups))),
            )
        )
    return Finding(
        title="Softmax gradients that round to zero",
        setting=f"Decoder of width {MODEL.width}, {MODEL.layers} layers, {MODEL.heads} heads, context {CONTEXT}, after "
        f"{STEPS} steps of {SPEC.batch} sequences of the plays; first block. The last columns are the gradient of the "
        f"queries "
        "against float64: from scores' gradients in that format alone, and with their rows in 7 bits, as a matmul "
        "reads them.",
        header=(
            "scores' gradient",
            "zeros among visible",
            "queries, format alone",
            "one row in a hundred below",
            "queries, 7-bit rows too",
        ),
        rows=tuple(rows),
        answer="Format 2 keeps the gradients of scores in F28. At this size the rows' 7 bits cost more than the zeros "
        "of F20; "
        "what F28 buys is room for longer contexts and for rows whose gradients are small.",
    )


def _multiply(a: F64, b: F64, groups: int) -> F64:
    blocks = zip(np.split(a, groups), np.split(b, groups), strict=True)
    return np.concatenate([left @ right for left, right in blocks])


def _compute_low_snr_db(exact: F64, found: F64) -> float:
    """Return the signal-to-noise ratio that one row in a hundred is below."""
    noise, power = np.square(found - exact).sum(axis=1), np.square(exact).sum(axis=1)
    # A first row sees itself alone: its gradient is zero.
    ratios = power[power > 0] / np.maximum(noise[power > 0], 1e-30)
    return 10 * float(np.log10(np.quantile(ratios, 0.01)))


def _compute_step() -> tuple[Program, StepTensors]:
    """Train for a few steps, and return every tensor of one more."""
    program = build_program(SPEC)
    dataset, backend = load_dataset("plays", SPEC.heldout), make_backend("cpu")
    runner = Runner(program, backend, dataset, bytes(32), compute_initial_checkpoint(program))
    state = compute_initial_state(program, runner.checkpoint)
    for step in range(STEPS):
        state = run_training_step(runner, step, state).state
    weights = tuple(as_i32(part) for part in state[: len(program.parameters)])
    # One sequence is enough to look at, and a step in which every tensor is kept is not small.
    single = build_program(replace(SPEC, batch=1))
    checkpoint = Checkpoint(weights, runner.checkpoint.momentum)
    looked_at = Runner(single, backend, dataset, bytes(32), checkpoint)
    return single, run_step(looked_at, 0, compute_initial_state(single, checkpoint))
