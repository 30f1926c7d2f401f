"""The comparisons of `mathesis lab quality`: which model on which data, for how long, at which learning rates.

A case is a spec without its rate and seeds. Both sides of a comparison read everything else from it, so that they
differ in arithmetic alone. It holds no result.
"""

from dataclasses import dataclass, replace

from chain.hashing import tagged_hash
from ml.dataset import Dataset
from ml.spec import FORMAT_VERSION, RATE_BITS, Decoder, Mlp, Positions, Spec
from node.datasets import load_dataset

PARTS_PER_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class QualityCase:
    """One model and data set on which both sides train for the same number of steps."""

    name: str
    dataset: str
    model: Mlp | Decoder
    batch: int
    steps: int
    """Steps of the runs that are compared."""
    choosing_steps: int
    """Steps of the runs that choose a learning rate, each with a whole schedule of its own."""
    warmup_divisor: int
    """Warm-up takes the steps over this; the rate falls over all others."""
    weight_decay_ppm: int
    """Weight decay in parts per million of the weights, times the learning rate."""
    rates_ppm: tuple[int, ...]
    """Learning rates to choose from, in parts per million; the likeliest first."""
    seeds: int
    heldout: int
    """Records kept out of training."""
    heldout_tokens: int
    """Tokens of the held-out text to score a decoder on."""


CASES = {
    case.name: case
    for case in (
        QualityCase(
            name="digits",
            dataset="digits",
            model=Mlp((64, 128, 128, 10)),
            batch=64,
            steps=440,
            choosing_steps=440,
            warmup_divisor=20,
            weight_decay_ppm=990_000,
            rates_ppm=(12_000, 6_000, 24_000),
            seeds=60,
            heldout=360,
            heldout_tokens=0,
        ),
        QualityCase(
            name="mnist_5k",
            dataset="mnist_5k",
            model=Mlp((784, 256, 256, 10)),
            batch=64,
            steps=1_500,
            choosing_steps=1_500,
            warmup_divisor=20,
            weight_decay_ppm=990_000,
            rates_ppm=(4_000, 2_000, 8_000),
            seeds=25,
            heldout=1_000,
            heldout_tokens=0,
        ),
        QualityCase(
            name="plays",
            dataset="plays",
            model=Decoder(256, 128, 192, 4, 6, 768, int(Positions.LEARNED), 0),
            batch=16,
            steps=2_000,
            choosing_steps=500,
            warmup_divisor=20,
            weight_decay_ppm=100_000,
            rates_ppm=(4_000, 2_000, 8_000),
            seeds=3,
            heldout=32,
            heldout_tokens=131_072,
        ),
        QualityCase(
            name="plays_rotary",
            dataset="plays",
            model=Decoder(256, 128, 128, 2, 4, 512, int(Positions.ROTARY), 1),
            batch=16,
            steps=500,
            choosing_steps=500,
            warmup_divisor=20,
            weight_decay_ppm=100_000,
            rates_ppm=(4_000, 2_000, 8_000),
            seeds=3,
            heldout=32,
            heldout_tokens=131_072,
        ),
    )
}
"""By name."""


def make_spec(case: QualityCase, steps: int, rate_ppm: int, seed: int) -> Spec:
    """Return the spec of one run; both sides take initial weights, batches and schedule from it."""
    warmup = steps // case.warmup_divisor
    return Spec(
        version=FORMAT_VERSION,
        model=case.model,
        batch=case.batch,
        segment_steps=steps,
        learning_rate=(rate_ppm << RATE_BITS) // PARTS_PER_MILLION,
        weight_decay=(case.weight_decay_ppm << RATE_BITS) // PARTS_PER_MILLION,
        warmup_steps=warmup,
        decay_steps=steps - warmup,
        warmup_rounds=0,
        decay_rounds=0,
        outer_momentum=8,
        outer_rate=16,
        delta_bits=8,
        heldout=case.heldout,
        init_seed=seed,
    )


def make_segment_seed(case: QualityCase, seed: int) -> bytes:
    """Return the seed that draws the batches of a run, on both sides."""
    return tagged_hash("lab", case.name.encode(), seed.to_bytes(8, "little"))


def load_case_dataset(case: QualityCase) -> Dataset:
    """Return the data of a case, split; raises DatasetError, DecodeError or OSError."""
    return load_dataset(case.dataset, case.heldout)


def make_quick(case: QualityCase) -> QualityCase:
    """Return a case of the same kind that is over in seconds and shows only that everything runs."""
    steps, model, batch = 40, case.model, 16
    if isinstance(model, Decoder):
        model, batch = replace(model, context=32, width=32, layers=2, heads=2, hidden=64), 4
    tokens = min(case.heldout_tokens, 2_048)
    return replace(
        case,
        name=f"{case.name}-quick",
        model=model,
        batch=batch,
        steps=steps,
        choosing_steps=steps // 2,
        seeds=2,
        heldout_tokens=tokens,
    )
