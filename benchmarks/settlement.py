"""`python -m benchmarks.settlement`: what the end of a round costs whoever validates, beside what it costs anyway.

For models up to the largest whose segments fit into block data: the mean of the deltas with the outer step, the new
checkpoint's root and file, its score on held-out data; and beside them what every validator does for the contributions
that settle, and what one segment takes to train. Writes benchmarks/results/settlement.md.
"""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.inference import measure_ms
from benchmarks.lab.tables import describe_run, format_table
from chain.codec import encode
from chain.genesis import TaskSpec
from chain.hashing import tagged_hash
from chain.ledger.learning import SegmentContext
from chain.primitives import ZERO_HASH
from chain.storage.blob_store import BlobStore
from chain.transaction import CommitContribution, Sidecar, compute_sidecar_hash
from ml.backends import get_backend
from ml.backends.cpu.tensor_hash import compute_tensor_roots
from ml.checkpoint import Checkpoint, compute_checkpoint_root, compute_initial_checkpoint, encode_checkpoint
from ml.dataset import Dataset, load_digits
from ml.deltas import decode_delta
from ml.evaluation import compute_evaluation
from ml.models import build_program
from ml.segment import Runner
from ml.settlement import compute_next_checkpoint
from ml.spec import DIGITS, Decoder, Spec, count_weights, encode_spec
from node.datasets.registry import load_dataset
from node.learning import Learning, Task
from node.miner.plan import SegmentPlan
from node.miner.segment import TrainedSegment, open_segment, train_segment
from node.models.specs import find_spec

RESULTS = Path(__file__).parent / "results" / "settlement.md"
CONTRIBUTIONS = 4
"""That settle; and as many as a round may have at most."""
CONTRIBUTIONS_MAX = 64
PLACES = 8
CHALLENGE = tagged_hash("benchmark", b"settlement")


@dataclass(frozen=True, slots=True)
class Round:
    """A task with some finished segments of its first round, and the engine of a validator."""

    title: str
    task: Task
    spec: TaskSpec
    checkpoint: Checkpoint
    segments: tuple[TrainedSegment, ...]
    learning: Learning
    folder: Path

    @property
    def sidecars(self) -> tuple[Sidecar, ...]:
        """The block data of the segments."""
        return tuple(segment.sidecar for segment in self.segments)


def list_models() -> list[tuple[str, Spec, Callable[[], Dataset]]]:
    """Return title, spec and data of each model: of the chain's own task, and of decoders that can be posted."""
    tiny = find_spec("plays-tiny").spec
    load = partial(load_dataset, "plays", tiny.heldout)
    segment = replace(tiny, segment_steps=25, warmup_steps=5, decay_steps=0)
    small = replace(segment, model=Decoder(256, 32, 32, 2, 2, 128, 0, 0), batch=16)
    large = replace(segment, model=Decoder(256, 64, 128, 3, 4, 512, 0, 0), batch=16, segment_steps=10, delta_bits=4)
    return [
        ("digits, of genesis", DIGITS, lambda: load_digits(DIGITS.heldout)),
        ("decoder of width 32, 2 layers", small, load),
        ("decoder of width 64, 2 layers", replace(segment, batch=16), load),
        ("decoder of width 128, 3 layers, deltas of 4 bits", large, load),
    ]


def make_round(title: str, spec: Spec, dataset: Dataset) -> Round:
    """Train the segments of a round."""
    program, backend, folder = build_program(spec), get_backend("cpu"), Path(tempfile.mkdtemp())
    checkpoint = compute_initial_checkpoint(program)
    task = Task(program, dataset)
    record = TaskSpec("measured", encode_spec(spec), dataset.root, compute_checkpoint_root(checkpoint))
    seeds = [tagged_hash("benchmark", bytes([number])) for number in range(CONTRIBUTIONS)]
    runners = [Runner(program, backend, dataset, seed, checkpoint) for seed in seeds]
    segments = tuple(train_segment(runner, SegmentPlan(0, 0, 0)) for runner in runners)
    return Round(title, task, record, checkpoint, segments, Learning(task, backend, BlobStore(folder), PLACES), folder)


def measure_settlement(case: Round) -> tuple[float, float, float, float]:
    """Return the milliseconds of the mean of a few deltas, of as many as there may be, of root and file, of a score."""
    program, backend = case.task.program, get_backend("cpu")

    def compute_mean(count: int) -> Checkpoint:
        sidecars = (case.sidecars * count)[:count]
        deltas = [decode_delta(program, each.output_roots, each.delta, compute_tensor_roots) for each in sidecars]
        return compute_next_checkpoint(program, case.checkpoint, deltas)

    after = compute_mean(CONTRIBUTIONS)
    return (
        measure_ms(partial(compute_mean, CONTRIBUTIONS)),
        measure_ms(partial(compute_mean, CONTRIBUTIONS_MAX)),
        measure_ms(lambda: case.learning.keep_checkpoint(after)),
        measure_ms(lambda: compute_evaluation(program, backend, after, case.task.dataset)),
    )


def measure_contribution(case: Round) -> tuple[float, float, float]:
    """Return the milliseconds of judging one contribution's block data, of its openings, and of training it."""
    segment, root = case.segments[0], compute_checkpoint_root(case.checkpoint)
    context, backend = SegmentContext(segment.seed, root, 0), get_backend("cpu")
    roots = segment.trace_root, segment.delta_root, compute_sidecar_hash(segment.sidecar)
    commit = CommitContribution(ZERO_HASH, 0, 0, 0, segment.seed, *roots)
    openings = open_segment(case.task, backend, segment, (CHALLENGE, PLACES))
    runner = Runner(case.task.program, backend, case.task.dataset, segment.seed, case.checkpoint)
    return (
        measure_ms(lambda: case.learning.validate_sidecar(case.spec, root, commit, segment.sidecar)),
        measure_ms(
            lambda: case.learning.verify_openings(case.spec, context, segment.sidecar, CHALLENGE, openings),
        ),
        measure_ms(lambda: train_segment(runner, segment.plan)),
    )


def report(case: Round) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the row of costs in time and that of bytes."""
    mean, mean_max, kept, score = measure_settlement(case)
    judged, opened, trained = measure_contribution(case)
    settled, anyway = mean + kept + score, CONTRIBUTIONS * (judged + opened)
    times = [mean, mean_max, kept, score, settled, judged, opened, trained]
    shares = [f"{settled / anyway:.2f}", f"{settled / (CONTRIBUTIONS * trained):.3f}"]
    held, data = len(encode_checkpoint(case.checkpoint)), len(encode(case.sidecars[0]))
    weights = count_weights(case.task.program.spec.model)
    sizes = (case.title, f"{weights:,}", f"{held:,}", f"{data:,}", f"{CONTRIBUTIONS * data / held:.2f}")
    return (case.title, *(f"{each:.3g}" for each in times), *shares), sizes


def main() -> None:
    """Measure every model and write the page."""
    times, sizes = [], []
    for title, spec, load in list_models():
        print(f"measuring {title}", flush=True)
        case = make_round(title, spec, load())
        assert compute_tensor_roots(case.checkpoint.weights), "compiled before anything is measured"
        time_row, size_row = report(case)
        times.append(time_row)
        sizes.append(size_row)
        shutil.rmtree(case.folder)
    page = _PAGE.format(
        run=describe_run(), times=format_table(_TIMES, times), sizes=format_table(_SIZES, sizes), count=CONTRIBUTIONS
    )
    RESULTS.write_text(page)
    print(page)


_TIMES = (
    "model",
    f"mean of {CONTRIBUTIONS} deltas, outer step",
    f"of {CONTRIBUTIONS_MAX}",
    "root, file",
    "score",
    f"**settlement of {CONTRIBUTIONS}**",
    "block data of one",
    "openings of one",
    "one segment",
    "to what is done anyway",
    "to training",
)
_SIZES = ("model", "weights", "bytes of a checkpoint", "bytes of one's block data", "a round's block data to it")

_PAGE = """# Settlement

`python -m benchmarks.settlement`: {run}

What the end of a round with {count} contributions costs whoever validates, milliseconds of processor time on one
thread, medians. Done anyway is what every validator does for these contributions before: it judges their block data
(roots of trace and delta) and verifies their openings. The last column is beside the training of all of them.

{times}
A checkpoint is weights and outer momentum. Deltas are block data: whoever validates gets and keeps them, and a
round's are a third to three times as large as the checkpoint they lead to.

{sizes}
Whoever follows the head settles ahead: once commits are closed and nothing waits for its openings the settlement is
known, and computed in a thread before the block that ends the round
([ADR 0058](../../docs/adr/0058-settlement-is-computed.md)).
"""

if __name__ == "__main__":
    main()
