"""Near-duplicates: a task that trains on data which resemble somebody's, registered before, owes that data set too.

Registration shows a root, and roots cannot be compared. Content comes to everybody as block data; once all of it has,
its sketch stands in the state, and its name in the bands by which what resembles it is found. Who registered first
decides, not who showed first, so that nobody loses by showing late. It knows a sketch as bytes that the learning engine
makes. What it does not see stands in docs/economy.md.
Sources: Broder 1997; Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", section 3.4, for the bands.
"""

from dataclasses import dataclass

from chain.errors import InvalidTransaction
from chain.ledger.economy_records import BAND_DATASETS_MAX, SKETCH_BYTES, BandEntry, DatasetSketch, SketchBand
from chain.ledger.keys import band_key, sketch_key
from chain.ledger.registry import get_dataset
from chain.primitives import Hash
from chain.state.view import StateKey, StateView

MINIMUM_BYTES = 4
BAND_BYTES = 12
"""Three minima: a lookup reads 32 bands."""
MATCHES_MIN = SKETCH_BYTES // MINIMUM_BYTES // 2
"""Minima in which near-duplicates agree, of 96: half, so that what two contents share is as much as all that only one
of them has. Data of one kind without a common record agreed in 23 at most. With 3 minima in each of 32 bands a pair
that shares half of its windows meets in a band with a probability of 0.986; one with nine tenths misses once in 10^18.
"""


@dataclass(frozen=True, slots=True)
class Resemblance:
    """A data set whose sketch agrees with another in `matches` of 96 minima, at least half."""

    registered_height: int
    dataset: Hash
    matches: int


def apply_sketch(view: StateView, dataset: Hash, sketch: bytes) -> None:
    """Enter the sketch of a registered data set, all of whose content has come, and name it in its bands."""
    view.put(sketch_key(dataset), DatasetSketch(sketch))
    _apply_bands(view, BandEntry(get_dataset(view, dataset).registered_height, dataset), sketch)


def validate_owed(view: StateView, dataset: Hash, owed: tuple[Hash, ...]) -> None:
    """Hold the content of a data set against all others that have come.

    Raises InvalidTransaction when of all that resemble it the one registered first is somebody else's, was registered
    in an earlier block than it, and is not among those `owed` a royalty.
    """
    own = get_dataset(view, dataset)
    for first in find_resembling(view, view.get_existing(sketch_key(dataset)).minima)[:1]:
        is_earlier = first.registered_height < own.registered_height
        if is_earlier and first.dataset not in owed and get_dataset(view, first.dataset).owner != own.owner:
            found = f"found content that agrees with data set {first.dataset.hex()} in {first.matches} of 96 minima"
            raise InvalidTransaction("dataset-near-duplicate", f"{found}, expected that set among the model's")


def find_resembling(view: StateView, sketch: bytes) -> list[Resemblance]:
    """Return the data sets that share a band with a sketch and resemble it, as they were registered."""
    keys = list_bands(sketch)
    view.read_ahead(keys)
    bands = [view.get(key) for key in keys]
    entries = {entry for band in bands if band is not None for entry in band.entries}
    found = []
    for entry in sorted(entries, key=_order):
        matches = count_matches(sketch, view.get_existing(sketch_key(entry.dataset)).minima)
        if matches >= MATCHES_MIN:
            found.append(Resemblance(entry.registered_height, entry.dataset, matches))
    return found


def count_matches(one: bytes, other: bytes) -> int:
    """Return in how many of their minima two sketches agree."""
    starts = range(0, SKETCH_BYTES, MINIMUM_BYTES)
    return sum(one[start : start + MINIMUM_BYTES] == other[start : start + MINIMUM_BYTES] for start in starts)


def _apply_bands(view: StateView, entry: BandEntry, sketch: bytes) -> None:
    """Name a data set in its bands, each of which keeps those registered first.

    Whoever fills a band later than an owner registered keeps nobody from finding that owner's data set.
    """
    for key in list_bands(sketch):
        band = view.get(key)
        entries = (entry,) if band is None else (*band.entries, entry)
        view.put(key, SketchBand(tuple(sorted(entries, key=_order))[:BAND_DATASETS_MAX]))


def list_bands(sketch: bytes) -> list[StateKey[SketchBand]]:
    """Return where the bands of a sketch stand: whoever agrees with it in one of them is found there."""
    starts = range(0, SKETCH_BYTES, BAND_BYTES)
    return [band_key(place, sketch[start : start + BAND_BYTES]) for place, start in enumerate(starts)]


def _order(entry: BandEntry) -> tuple[int, Hash]:
    return entry.registered_height, entry.dataset
