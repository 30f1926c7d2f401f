"""Outliers in 7-bit rows: a channel that towers over all others, and a token whose gradient does.

Both set an exponent that their neighbours in the row must share. Normal operands of a thousand columns stand in for a
trained model's; the remedies are a rotation by an integer Hadamard matrix and exponents by blocks of tokens.
"""

import numpy as np

from benchmarks.lab.probe import F64, Finding, compute_snr_db, format_db
from ml.arithmetic import I32
from ml.backends import Rounding
from ml.backends.reference import ReferenceBackend

ROWS, WIDTH = 1_024, 1_024
ONE_F16 = 1 << 16
OUTLIER = 30
TOKENS, BLOCK, OUTPUTS = 8_192, 1_024, 256
SPIKES = (1, 10, 100, 1_000)


def probe_outlying_channels() -> Finding:
    """Measure a product of 7-bit rows, with a channel of 30 deviations, and after a Hadamard rotation."""
    rng = np.random.default_rng(1)
    x = (rng.normal(size=(ROWS, WIDTH)) * ONE_F16).astype(np.int32)
    w = (rng.normal(size=(WIDTH, WIDTH)) * ONE_F16).astype(np.int32)
    tall = x.copy()
    tall[:, WIDTH // 3] *= OUTLIER
    rows = []
    for name, left in (("normal", x), (f"one channel of {OUTLIER} deviations", tall)):
        plain = compute_product_snr_db(left, w)
        turned = compute_product_snr_db(rotate(left), rotate(w))
        rows.append((name, format_db(plain), format_db(turned)))
    return Finding(
        title="Activation outliers in 7 bits",
        setting=f"X ({ROWS}, {WIDTH}) times W ({WIDTH}, {WIDTH}) transposed, normal, rows in 7 bits to nearest, "
        f"against "
        "float64. The rotation multiplies rows of both by a Hadamard matrix in integers and rounds once.",
        header=("rows of X", "plain (format 2)", "rotated"),
        rows=tuple(rows),
        answer="Format 2 does not rotate. A model that grows such a channel loses half the bits of that matmul; the "
        "rotation "
        "wins nearly all of them back.",
    )


def compute_product_snr_db(a: I32, b: I32) -> float:
    """Return the signal-to-noise ratio of a (M, K) times b (N, K) transposed when the rows of both are in 7 bits."""
    return compute_snr_db(a.astype(np.float64) @ b.T.astype(np.float64), _multiply_7_bits(a, b))


def rotate(x: I32) -> I32:
    """Return x (rows, 2**2n) int32 times the Hadamard matrix over 2**n, by butterflies, rounded half up."""
    turned = x.astype(np.int64)
    size = x.shape[1]
    assert size & (size - 1) == 0
    half = 1
    while half < size:
        pairs = turned.reshape(len(x), -1, 2, half)
        turned = np.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], axis=2)
        turned = turned.reshape(len(x), size)
        half *= 2
    bits = (size.bit_length() - 1) // 2
    rounded: I32 = ((turned + (1 << bits >> 1)) >> bits).astype(np.int32)
    return rounded


def probe_outlying_tokens() -> Finding:
    """Measure a weight gradient in which one token's gradient is taller, with an exponent a row and a block."""
    rng = np.random.default_rng(2)
    x = (rng.normal(size=(TOKENS, OUTPUTS)) * ONE_F16).astype(np.int32)
    dy = (rng.normal(size=(TOKENS, OUTPUTS)) * ONE_F16).astype(np.int32)
    rows = []
    for spike in SPIKES:
        tall = dy.copy()
        tall[TOKENS // 3] *= spike
        exact = tall.T.astype(np.float64) @ x.astype(np.float64)
        # What all other tokens say is what the shared exponent may drown.
        rest = np.delete(tall, TOKENS // 3, axis=0).T.astype(np.float64) @ np.delete(x, TOKENS // 3, axis=0)
        cells = [f"{spike}"]
        for size in (TOKENS, BLOCK):
            error = _compute_weight_gradient(tall, x, size) - exact
            cells.append(format_db(compute_snr_db(rest, rest + error)))
        rows.append(tuple(cells))
    return Finding(
        title="One token that sets a weight gradient's exponent",
        setting=f"dW = dY transposed times X over {TOKENS:,} tokens, {OUTPUTS} columns each, normal; dY in 7 bits "
        "stochastically, X to nearest. One token's gradient is taller by a factor. Noise is measured against what the "
        "other "
        "tokens add up to.",
        header=("factor", "an exponent a row (format 2)", f"an exponent each {BLOCK:,} tokens"),
        rows=tuple(rows),
        answer="Format 2 keeps one exponent a row: rounding is unbiased, so that a spike costs one step some noise. "
        "Exponents by "
        "blocks would confine it to the spike's own block.",
    )


def _multiply_7_bits(a: I32, b: I32) -> F64:
    backend = ReferenceBackend()
    (left, left_exponents), (right, right_exponents) = backend.quantise_rows(a), backend.quantise_rows(b)
    product = left.astype(np.float64) @ right.T.astype(np.float64)
    scaled: F64 = product * 2.0**left_exponents * 2.0**right_exponents.T
    return scaled


def _compute_weight_gradient(dy: I32, x: I32, block: int) -> F64:
    backend = ReferenceBackend()
    total = np.zeros((dy.shape[1], x.shape[1]))
    for start in range(0, len(dy), block):
        part = slice(start, start + block)
        left, left_exponents = backend.quantise_transposed(dy[part], Rounding(3, column=start))
        right, right_exponents = backend.quantise_transposed(x[part])
        product = left.astype(np.float64) @ right.T.astype(np.float64)
        total += product * 2.0**left_exponents * 2.0**right_exponents.T
    return total
