"""Small decays that round to nothing, and weight gradients that outgrow their fixed point.

Weight decay at the end of a long run is less than a step of F24 for most weights. A weight gradient is a sum over
tokens, so that its range must grow with the batch. Both are provoked through the reference backend's own ops.
"""

from dataclasses import replace

import numpy as np

from benchmarks.lab.probe import Finding, format_percent
from ml.arithmetic import DECAY_INTERVAL, I32, INT32_MAX, WEIGHT_GRADIENT_MAX
from ml.backends.reference import ReferenceBackend
from ml.checkpoint import compute_initial_checkpoint
from ml.graph import FULL_SCALE_ROWS_BITS, WEIGHT_GRADIENT_SHIFT
from ml.models import build_program
from ml.spec import DIGITS, RATE_BITS, Decoder, Positions

DECAY_MODEL = Decoder(256, 128, 1_024, 1, 16, 4_096, int(Positions.LEARNED), 0)
SAMPLE = 16
"""One weight of so many is looked at."""
RATES = (1e-3, 1e-4, 1e-5)
WEIGHT_DECAY = 0.1
TOKENS = 16_384
COLUMNS = 64
MEANS = (0.05, 0.25, 1.0)


def probe_decay() -> Finding:
    """Count the weights that a decay leaves as they are, taken every step and every sixteenth."""
    program = build_program(replace(DIGITS, model=DECAY_MODEL))
    parts = compute_initial_checkpoint(program).weights
    weights = np.concatenate([part.ravel() for part in parts])[None, ::SAMPLE]
    rows = []
    for rate in RATES:
        cells = [f"{rate:g}"]
        for interval in (1, DECAY_INTERVAL):
            kept, lost = _decay(weights, rate * WEIGHT_DECAY, interval)
            cells += [format_percent(kept), format_percent(lost)]
        rows.append(tuple(cells))
    return Finding(
        title="Weight decay at small rates",
        setting=f"{weights.size:,} of the first weights of a block of width {DECAY_MODEL.width:,} with embedding and "
        f"head, F24; weight "
        f"decay {WEIGHT_DECAY} over {DECAY_INTERVAL} steps without a gradient.",
        header=(
            "learning rate",
            "each step: weights unmoved",
            "each step: decay lost",
            f"every {DECAY_INTERVAL}: weights unmoved",
            f"every {DECAY_INTERVAL}: decay lost",
        ),
        rows=tuple(rows),
        answer=f"Format 2 takes decays below 2^-9 a step every {DECAY_INTERVAL} steps, for all of them at once, and "
        f"stronger "
        "ones at every step.",
    )


def _decay(weights: I32, decay: float, interval: int) -> tuple[float, float]:
    """Return the fraction of weights that sixteen steps leave unmoved, and the fraction of the decay that is lost."""
    backend, w = ReferenceBackend(), weights
    state = np.zeros_like(w), np.zeros_like(w, np.int64)
    units = round(decay * interval * 2**RATE_BITS)
    for _ in range(DECAY_INTERVAL // interval):
        w = backend.update_adam((w, *state), np.zeros_like(w), 0, 0, units)[0]
    moved = np.abs(weights.astype(np.float64)).sum() - np.abs(w.astype(np.float64)).sum()
    wanted = np.abs(weights.astype(np.float64)).sum() * (1 - (1 - decay * interval) ** (DECAY_INTERVAL // interval))
    return float((w == weights)[weights != 0].mean()), float(1 - moved / wanted)


def probe_gradient_range() -> Finding:
    """Count saturated weight gradients of 16,384 tokens that agree, with and without the shift by their number."""
    rng = np.random.default_rng(4)
    rows_shift = (TOKENS - 1).bit_length() - FULL_SCALE_ROWS_BITS
    x = ((rng.normal(size=(TOKENS, COLUMNS)) * 0.5 + 1) * 2**16).astype(np.int32)
    rows = []
    for mean in MEANS:
        dy = ((rng.normal(size=(TOKENS, COLUMNS)) + 1) * mean * 2**24).astype(np.int32)
        exact = dy.T.astype(np.float64) @ x.astype(np.float64) / 2.0**40
        cells = [f"{mean:g}", f"{np.abs(exact).max():,.0f}"]
        for shift in (0, rows_shift):
            gradient = _compute_gradient(dy, x, shift)
            held = np.clip(gradient, -WEIGHT_GRADIENT_MAX, WEIGHT_GRADIENT_MAX) * 2.0 ** (shift - 16)
            cells.append(format_percent(float((np.abs(gradient) == INT32_MAX).mean())))
            cells.append(f"{np.abs(held).sum() / np.abs(exact).sum():.3f}")
        rows.append(tuple(cells))
    return Finding(
        title="Weight gradients that outgrow their range",
        setting=f"dY transposed times X over {TOKENS:,} tokens, {COLUMNS} columns each, gradients that agree in sign "
        f"as in a "
        "spike of the loss. What the optimizer sees is clamped at 2,048 in F16.",
        header=(
            "mean gradient of a token",
            "largest sum",
            "unshifted: saturated",
            "optimizer sees",
            f"shifted by {rows_shift}: saturated",
            "optimizer sees",
        ),
        rows=tuple(rows),
        answer="Format 2 brings every sum to what 1,024 tokens would give, so that the range is that of a mean "
        "gradient.",
    )


def _compute_gradient(dy: I32, x: I32, rows_shift: int) -> I32:
    backend = ReferenceBackend()
    (left, left_exponents), (right, right_exponents) = backend.quantise_transposed(dy), backend.quantise_transposed(x)
    product = backend.multiply(left, right)
    return backend.rescale(product, left_exponents, right_exponents, WEIGHT_GRADIENT_SHIFT + rows_shift)
