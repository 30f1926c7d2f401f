"""Whether a task that somebody posts can be trained, proven and audited: what the ledger asks the learning engine.

The checks come cheapest first, so that a task that is refused costs little: nothing is sized by what a stranger says
before it is bounded. It knows neither pots nor heights.
"""

from collections.abc import Callable

from chain.codec import encode
from chain.errors import DecodeError, InvalidTransaction
from chain.genesis import TaskSpec
from chain.ledger.learning import TaskBounds
from chain.primitives import Hash
from chain.transaction import Sidecar
from ml.auditing import validate_auditable
from ml.checkpoint import compute_checkpoint_root, compute_initial_checkpoint
from ml.checks import CheckContext
from ml.dataset import Dataset, build_dataset, compute_root_by_part, count_records
from ml.deltas import compute_delta_size
from ml.evaluation import compute_scoring_macs
from ml.fit import validate_fit
from ml.models import build_program
from ml.program import Program
from ml.provable import validate_provable
from ml.spec import Decoder, Spec, count_weights, decode_spec
from ml.trace import compute_output_roots_size

LAYERS_MAX = 32
"""Blocks of a posted decoder: 256 make a program of 13,000 ops, whose openings take 2.5 s to size."""

RECORDS_MAX = 1 << 16
"""Examples, or blocks of text, of a posted task's data: splitting them takes 0.2 s."""


def load_posted(task: TaskSpec, read_data: Callable[[], bytes], bounds: TaskBounds) -> tuple[Program, bytes, Dataset]:
    """Return a task's program, its data and how they are split, once all is within bounds; raises InvalidTransaction.

    `read_data` returns what the task's root names.
    """
    try:
        spec = decode_spec(task.program)
        program = _build_bounded(spec, bounds)
        data = read_data()
        _validate_at_most("task-records", "records", count_records(data), RECORDS_MAX)
        dataset = build_dataset(data, spec.heldout)
        validate_fit(spec, dataset)
        _validate_at_most("task-heldout", "MACs to score it", compute_scoring_macs(spec, dataset), bounds.macs_max)
        validate_provable(CheckContext(program, dataset, bytes(32)))
        validate_auditable(program)
    except DecodeError as error:
        raise InvalidTransaction("task-program", str(error)) from None
    return program, data, dataset


def compute_part_root(size_bytes: int, start: int, part: bytes, others: bytes) -> Hash:
    """Return the root of a content with a part in its place; raises InvalidTransaction."""
    try:
        return compute_root_by_part(size_bytes, start, part, others)
    except DecodeError as error:
        raise InvalidTransaction("part-root", str(error)) from None


def validate_first_checkpoint(task: TaskSpec, program: Program) -> None:
    """Check that a task starts from its program's own first checkpoint; raises InvalidTransaction."""
    expected = compute_checkpoint_root(compute_initial_checkpoint(program))
    if task.checkpoint_root != expected:
        message = f"found {task.checkpoint_root.hex()}, expected the program's first checkpoint {expected.hex()}"
        raise InvalidTransaction("task-checkpoint", message)


def _build_bounded(spec: Spec, bounds: TaskBounds) -> Program:
    if isinstance(spec.model, Decoder):
        _validate_at_most("task-size", "layers", spec.model.layers, LAYERS_MAX)
    # Each weight takes half a byte of a delta at least.
    _validate_at_most("task-size", "weights", count_weights(spec.model), 2 * bounds.sidecar_bytes_max)
    program = build_program(spec)
    _validate_at_most("task-macs", "MACs a segment", program.segment_macs, bounds.macs_max)
    roots, delta = compute_output_roots_size(program), compute_delta_size(program)
    size_bytes = roots + delta + _FRAME_BYTES
    _validate_at_most("task-size", "bytes of block data a segment", size_bytes, bounds.sidecar_bytes_max)
    return program


_FRAME_BYTES = len(encode(Sidecar(bytes(32), bytes(1)))) - 33


def _validate_at_most(rule: str, what: str, found: int, expected: int) -> None:
    if found > expected:
        raise InvalidTransaction(rule, f"found {found} {what}, expected at most {expected}")
