"""The content of data sets: parts that come as block data, each held against the root that was registered.

A part shows the hashes of all chunks that are not its own, so that it is known to be right before any other has come,
whoever brings it and in whatever order; what is complete needs no check any more. Each costs the same for ever, so
that nothing has to lapse. With the last one the content counts as shown. It knows no format and no task.
"""

from chain.errors import InvalidTransaction
from chain.ledger.accounts import apply_debit, apply_to_treasury
from chain.ledger.context import BlockScope
from chain.ledger.contributions import get_bounded_sidecar
from chain.ledger.economy_records import DATASET_PARTS_MAX, DatasetPart, DatasetParts
from chain.ledger.keys import dataset_parts_key
from chain.ledger.near_duplicates import apply_sketch
from chain.ledger.registry import get_dataset
from chain.primitives import ATOMS_PER_COIN, Hash, PublicKey
from chain.state.view import StateView
from chain.transaction import AddDatasetPart, Sidecar

PART_BYTES = 448 * 1024
"""Bytes of each part but the last: as many whole chunks as one piece of block data has room for, beside the hashes of
the others."""

DATASET_BYTES_MAX = 8 * 1024 * 1024
"""Bytes of the largest content. Examples take four times as much in memory, for each live task; a miner gets a content
in one answer, of at most 16 MiB in base64."""

PART_PRICE = ATOMS_PER_COIN
"""Atoms that a part costs, for the treasury: whoever starts from a state takes all parts with it, for ever. A round's
rent is as much, so that data which come with a task have paid too."""

assert -(-DATASET_BYTES_MAX // PART_BYTES) == DATASET_PARTS_MAX


def count_parts(size_bytes: int) -> int:
    """Return how many parts a content has."""
    return -(-size_bytes // PART_BYTES)


def validate_part_terms(terms: AddDatasetPart) -> None:
    """Check what of a part needs no state; raises InvalidTransaction."""
    if not 1 <= terms.size_bytes <= DATASET_BYTES_MAX:
        message = f"found a content of {terms.size_bytes} bytes, expected 1 to {DATASET_BYTES_MAX}"
        raise InvalidTransaction("dataset-size", message)
    if terms.index >= (count := count_parts(terms.size_bytes)):
        raise InvalidTransaction("part-index", f"found part {terms.index}, expected one below {count}")


def validate_part_place(view: StateView, terms: AddDatasetPart) -> None:
    """Check that a data set is registered and lacks a part, without its block data; raises InvalidTransaction."""
    get_dataset(view, terms.dataset)
    found = view.get(dataset_parts_key(terms.dataset))
    if found is None:
        return
    if is_complete(found):
        message = f"found all {len(found.parts)} parts of data set {terms.dataset.hex()}, expected one that lacks some"
        raise InvalidTransaction("dataset-complete", message)
    if terms.size_bytes != found.size_bytes:
        raise InvalidTransaction("part-size", f"found {terms.size_bytes} bytes in all, expected {found.size_bytes}")
    if has_part(view, terms):
        raise InvalidTransaction("part-known", f"found part {terms.index} a second time, expected another")


def has_part(view: StateView, terms: AddDatasetPart) -> bool:
    """Say whether a part has come."""
    found = view.get(dataset_parts_key(terms.dataset))
    return found is not None and any(part.index == terms.index for part in found.parts)


def apply_add_part(scope: BlockScope, view: StateView, sender: PublicKey, terms: AddDatasetPart) -> None:
    """Enter a part that was paid for; raises InvalidTransaction, MissingData."""
    validate_part_place(view, terms)
    apply_debit(view, sender, PART_PRICE)
    apply_to_treasury(view, PART_PRICE)
    apply_part(scope, view, terms, get_bounded_sidecar(scope, terms.sidecar_hash))


def apply_part(scope: BlockScope, view: StateView, terms: AddDatasetPart, sidecar: Sidecar) -> DatasetParts:
    """Enter a part that a data set lacks, and show the content that it completes; raises InvalidTransaction."""
    _validate_content(scope, view, terms, sidecar)
    key = dataset_parts_key(terms.dataset)
    before = view.get(key)
    minima = scope.learning.lower_minima(sidecar.delta, None if before is None else before.minima)
    parts = () if before is None else before.parts
    ordered = sorted((*parts, DatasetPart(terms.index, terms.sidecar_hash)), key=lambda part: part.index)
    after = DatasetParts(terms.size_bytes, tuple(ordered), minima)
    view.put(key, after)
    if is_complete(after):
        apply_sketch(view, terms.dataset, scope.learning.fill_sketch(minima))
    return after


def is_complete(found: DatasetParts) -> bool:
    """Say whether all parts have come."""
    return len(found.parts) == count_parts(found.size_bytes)


def read_content(scope: BlockScope, complete: DatasetParts) -> bytes:
    """Return the bytes of a content, all of which has come."""
    return b"".join(scope.content.get_sidecar(part.sidecar_hash).delta for part in complete.parts)


def _validate_content(scope: BlockScope, view: StateView, terms: AddDatasetPart, sidecar: Sidecar) -> None:
    """Check that a part is what the root says stands in its place; raises InvalidTransaction."""
    start, root = terms.index * PART_BYTES, get_dataset(view, terms.dataset).terms.content_root
    expected = min(PART_BYTES, terms.size_bytes - start)
    if len(sidecar.delta) != expected:
        raise InvalidTransaction("part-bytes", f"found {len(sidecar.delta)} bytes, expected {expected}")
    named, others = Hash(sidecar.output_roots[:32]), sidecar.output_roots[32:]
    found = scope.learning.compute_part_root(terms.size_bytes, start, sidecar.delta, others)
    for each in (named, found):
        if each != root:
            raise InvalidTransaction("part-root", f"found a part of root {each.hex()}, expected {root.hex()}")
