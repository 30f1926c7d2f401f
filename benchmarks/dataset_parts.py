"""`python -m benchmarks.dataset_parts`: what a data set that comes in parts costs a validator, in processor time.

Parts go through the ledger's own rules from the files of a blob store, as in a node; the state is in memory. Random
bytes, as no content has more windows that differ. Writes benchmarks/results/dataset_parts.md.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.lab.tables import describe_run, format_table
from chain.codec import decode, encode
from chain.genesis import Allocation, Genesis, Parameters, TaskSpec
from chain.ledger.context import BlockDraft, BlockScope, LedgerContext, make_context
from chain.ledger.dataset_parts import DATASET_BYTES_MAX, apply_part, count_parts, read_content
from chain.ledger.genesis_state import make_genesis_state
from chain.ledger.keys import dataset_parts_key
from chain.ledger.learning import TaskBounds
from chain.ledger.registry import apply_register_dataset, compute_dataset_id
from chain.primitives import ATOMS_PER_COIN, ZERO_HASH, Hash
from chain.signature import SigningKey
from chain.state.tree import MemoryNodes
from chain.state.view import StateView
from chain.storage.blob_store import BlobStore
from chain.ticket import EMPTY_TICKET
from chain.transaction import AddDatasetPart, RegisterDataset, Sidecar, compute_sidecar_hash
from ml.backends import get_backend
from ml.checkpoint import compute_checkpoint_root, compute_initial_checkpoint
from ml.dataset import build_dataset, compute_dataset_root, encode_examples, encode_text, load_digits
from ml.models import build_program
from ml.spec import DIGITS, Decoder, Mlp, Spec, encode_spec
from node.chain import SIDECAR_ENCODED_BYTES_MAX
from node.dataset_parts import make_part
from node.learning import Learning, Task

RESULTS = Path(__file__).parent / "results" / "dataset_parts.md"
REPEATS = 5
OWNER = SigningKey(b"\x59" * 32)
SHORT = replace(DIGITS, segment_steps=8, warmup_steps=1, decay_steps=2)
READER = replace(SHORT, model=Decoder(256, 16, 16, 1, 1, 32, 0, 0), heldout=1)
CLASSIFIER = replace(SHORT, model=Mlp((256, 16, 10)), heldout=4)


@dataclass(frozen=True, slots=True)
class Files:
    """Block data in files, read and decoded each time as a node does."""

    blobs: BlobStore

    def get_sidecar(self, sidecar_hash: Hash) -> Sidecar:
        """Return block data."""
        return decode(Sidecar, self.blobs.get(sidecar_hash) or b"", SIDECAR_ENCODED_BYTES_MAX)


class Ledger:
    """A state with one registered content, whose parts lie in files."""

    def __init__(self, root: Path, blob: bytes) -> None:
        """Register `blob` and keep its parts under `root`."""
        self._blobs = BlobStore(root)
        self.learning = Learning(
            Task(build_program(DIGITS), load_digits(DIGITS.heldout)), get_backend("cpu"), self._blobs, 8
        )
        context = _make_context()
        draft = BlockDraft(1, 0, OWNER.public_key, EMPTY_TICKET, ZERO_HASH)
        self.scope = BlockScope(context, draft, self.learning, Files(self._blobs))
        state_root, nodes = make_genesis_state(context.genesis)
        self.view = StateView(state_root, MemoryNodes(nodes))
        terms = RegisterDataset(compute_dataset_root(blob), "CC0-1.0", 0)
        apply_register_dataset(self.scope, self.view, OWNER.public_key, terms)
        self.dataset = compute_dataset_id(context.chain_id, OWNER.public_key, terms)
        self.parts = [self._keep(blob, index) for index in range(count_parts(len(blob)))]

    def _keep(self, blob: bytes, index: int) -> AddDatasetPart:
        part = make_part(blob, index)
        name = compute_sidecar_hash(part)
        self._blobs.put(name, encode(part))
        return AddDatasetPart(self.dataset, len(blob), index, name)

    def add(self, view: StateView, terms: AddDatasetPart) -> None:
        """Enter a part, read from its file."""
        apply_part(self.scope, view, terms, self.scope.content.get_sidecar(terms.sidecar_hash))

    def read(self) -> bytes:
        """Return the whole content."""
        return read_content(self.scope, self.view.get_existing(dataset_parts_key(self.dataset)))


def _make_context() -> LedgerContext:
    funds = (Allocation(OWNER.public_key, 100 * ATOMS_PER_COIN),)
    task = TaskSpec("digits", encode_spec(DIGITS), load_digits(DIGITS.heldout).root, ZERO_HASH)
    return make_context(Genesis("benchmark", 0, 1, Parameters(), funds, (OWNER.public_key,), task))


def measure(blob: bytes, spec: Spec, root: Path) -> tuple[str, ...]:
    """Return the row of a content: parts, and milliseconds for each thing that is done about it."""
    ledger = Ledger(root, blob)
    *before, last = ledger.parts
    first = ledger.parts[0]
    one = _measure_ms(lambda: ledger.add(ledger.view.fork(), first))
    for terms in before:
        ledger.add(ledger.view, terms)
    completing = _measure_ms(lambda: ledger.add(ledger.view.fork(), last))
    ledger.add(ledger.view, last)
    assert ledger.read() == blob
    bounds = TaskBounds(1 << 50, 512 * 1024)
    start = compute_checkpoint_root(compute_initial_checkpoint(build_program(spec)))
    # Each time another name, so that nothing is remembered.
    names = (TaskSpec(f"{number}", encode_spec(spec), compute_dataset_root(blob), start) for number in range(REPEATS))
    whole = _measure_ms(lambda: ledger.learning.validate_task(next(names), ledger.read, bounds, is_new=True))
    times = (one, completing, _measure_ms(ledger.read), _measure_ms(lambda: build_dataset(blob, spec.heldout)), whole)
    return str(len(ledger.parts)), *(f"{each:.1f}" for each in times)


def _measure_ms(act: Callable[[], object]) -> float:
    taken = []
    for _ in range(REPEATS):
        start = time.process_time()
        act()
        taken.append(1_000 * (time.process_time() - start))
    return statistics.median(taken)


def make_page() -> str:
    """Measure all and return the page."""
    rng = np.random.default_rng(59)
    large = encode_text(rng.bytes(DATASET_BYTES_MAX - 9))
    count = (DATASET_BYTES_MAX - 12) // 257
    labels = (np.arange(count) % 10).astype(np.uint8)
    examples = encode_examples(rng.integers(0, 256, (count, 256), np.uint8), labels, 128, 9)
    contents = (
        ("text of 400 KiB", encode_text(rng.bytes(400 << 10)), READER),
        ("text of 1 MiB", encode_text(rng.bytes(1 << 20)), READER),
        ("text of 8 MiB", large, READER),
        (f"{count} examples of 256 pixels", examples, CLASSIFIER),
    )
    rows = []
    for name, blob, spec in contents:
        with tempfile.TemporaryDirectory() as root:
            rows.append((name, *measure(blob, spec, Path(root))))
    columns = (
        "content",
        "parts",
        "a first part",
        "the last part",
        "all parts read",
        "split",
        "a task checked, all of it",
    )
    return "\n".join(
        (
            "# Data sets in parts\n",
            f"{describe_run()}\n",
            f"Processor time in ms, medians of {REPEATS}. A part is read from its file, held against the root, and",
            "its minima are taken; the last one also enters the sketch. A task is checked once: the parts are read",
            "and joined, split, and kept as one file; the rest is its program.\n",
            format_table(columns, rows),
        )
    )


def main() -> None:
    """Measure and write the page."""
    page = make_page()
    RESULTS.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
