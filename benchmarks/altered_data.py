"""Data sets and what a copier makes of them: for `benchmarks.near_duplicates`, which says how often that is seen.

A source is records of equal size: those of a data set, and fresh ones of the same kind that an altered copy may take
instead. Each alteration returns the whole blob of the copy.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from ml.dataset import U8, ExamplesBlob, decode_blob, encode_examples, encode_text
from ml.sketch import MINIMA, WINDOW_BYTES, compute_sketch, mix_windows
from node.datasets import fetch, find_manifest

BLOB_BYTES_MAX = 512 << 10
"""What travels as block data."""
TEXT_RECORD_BYTES = 4096
BAND_MINIMA = 3

Rng: TypeAlias = np.random.Generator


@dataclass(frozen=True)
class Records:
    """Records (n, bytes) uint8 and, of examples, labels (n,) and the scale; a text has neither."""

    rows: U8
    labels: U8 | None
    scale: tuple[int, int]

    def take(self, rows: np.ndarray[tuple[int, ...], np.dtype[np.int64]] | slice) -> "Records":
        """Return some of the records, in that order."""
        return replace(self, rows=self.rows[rows], labels=None if self.labels is None else self.labels[rows])

    def join(self, other: "Records") -> "Records":
        """Return these and then those of `other`."""
        labels = None
        if self.labels is not None and other.labels is not None:
            labels = np.concatenate([self.labels, other.labels])
        return replace(self, rows=np.concatenate([self.rows, other.rows]), labels=labels)

    def encode(self) -> bytes:
        """Return the canonical blob."""
        if self.labels is None:
            return encode_text(self.rows.tobytes())
        return encode_examples(self.rows, self.labels, *self.scale)


def read_records(name: str) -> Records:
    """Return all records of a data set that ships a manifest with this package."""
    manifest, base = find_manifest(name)
    found = decode_blob(fetch(manifest, base=base))
    if isinstance(found, ExamplesBlob):
        return Records(found.pixels, found.labels, (found.centre, found.shift))
    count = len(found) // TEXT_RECORD_BYTES
    return Records(found[: count * TEXT_RECORD_BYTES].reshape(count, TEXT_RECORD_BYTES), None, (0, 0))


def cut_records(records: Records) -> list[Records]:
    """Return pieces of the records that share none, each as many as half of all or as block data hold."""
    size = min(len(records.rows) // 2, (BLOB_BYTES_MAX - 64) // (records.rows.shape[1] + 1))
    return [records.take(slice(start, start + size)) for start in range(0, len(records.rows) - size + 1, size)]


Alteration: TypeAlias = Callable[[Records, Records, Rng], bytes]
"""From a data set, fresh records and randomness to the copy."""


def flip_bit(own: Records, _: Records, rng: Rng) -> bytes:
    """Change one bit of a record."""
    return _flip(own, rng.integers(own.rows.size, size=1))


def replace_part(percent: int) -> Alteration:
    """Return what puts fresh records in the place of so many percent, here and there."""

    def alter(own: Records, fresh: Records, rng: Rng) -> bytes:
        count = len(own.rows)
        order = np.arange(count)
        taken = rng.choice(count, max(1, count * percent // 100), replace=False)
        order[taken] = count + taken
        return own.join(fresh).take(order).encode()

    return alter


def reorder(own: Records, _: Records, rng: Rng) -> bytes:
    """Put all records in another order."""
    return own.take(rng.permutation(len(own.rows))).encode()


def keep_part(percent: int) -> Alteration:
    """Return what keeps so many percent of the records and takes none instead."""
    return lambda own, _, rng: own.take(
        np.sort(rng.permutation(len(own.rows))[: len(own.rows) * percent // 100])
    ).encode()


def append(percent: int) -> Alteration:
    """Return what adds so many percent of fresh records."""
    return lambda own, fresh, _: own.join(fresh.take(slice(len(own.rows) * percent // 100))).encode()


def disturb(interval: int) -> Alteration:
    """Return what changes a bit of one byte in each `interval` bytes."""

    def alter(own: Records, _: Records, rng: Rng) -> bytes:
        starts = np.arange(0, own.rows.size - interval + 1, interval)
        return _flip(own, starts + rng.integers(interval, size=len(starts)))

    return alter


def encode_anew(own: Records, _: Records, __: Rng) -> bytes:
    """Write every byte otherwise, one to one: the same information, another content."""
    return replace(own, rows=own.rows ^ np.uint8(1)).encode()


def aim(own: Records, _: Records, __: Rng) -> bytes:
    """Change one byte in the window of one minimum of each band, wherever it stands: what who reads the rule does."""
    blob = np.frombuffer(own.encode(), np.uint8).copy()
    (bins, values), minima = mix_windows(blob.tobytes()), np.frombuffer(compute_sketch(blob.tobytes()), "<u4")
    for first in range(0, MINIMA, BAND_MINIMA):
        places = {bin_: np.flatnonzero((bins == bin_) & (values == minima[bin_])) for bin_ in range(first, first + 3)}
        chosen = min((found for found in places.values() if len(found)), key=len)
        blob[chosen + WINDOW_BYTES // 2] ^= 1
    return blob.tobytes()


ALTERATIONS: dict[str, Alteration] = {
    "one bit changed": flip_bit,
    "1 % of records replaced": replace_part(1),
    "10 % of records replaced": replace_part(10),
    "25 % of records replaced": replace_part(25),
    "half of records replaced": replace_part(50),
    "records reordered": reorder,
    "a tenth of records left out": keep_part(90),
    "half of records left out": keep_part(50),
    "half as many records added": append(50),
    "as many records added": append(100),
    "one byte in 64 changed": disturb(64),
    "one byte in 16 changed": disturb(16),
    "every byte encoded otherwise": encode_anew,
    "a byte in each band's rarest minimum changed": aim,
}
"""By name: what a copier does."""


def _flip(own: Records, places: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> bytes:
    flat = own.rows.copy().reshape(-1)
    flat[places] ^= 1
    return replace(own, rows=flat.reshape(own.rows.shape)).encode()
