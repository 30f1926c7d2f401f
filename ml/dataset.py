"""The handwritten digits as integers: a fixed split, canonical bytes and a root.

The split is a permutation drawn by the PRF from the bytes themselves, so that the data alone decides it. It knows no
training. Pixels 0..16 become F16 values centred on 8. Source: UCI optical digits, see `ml/data/README.md`.
"""

import gzip
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
import numpy.typing as npt

from chain.hashing import tagged_hash
from chain.primitives import Hash
from ml.arithmetic import I32
from ml.prf import derive_key, draw_below

PIXEL_CENTRE = 8
PIXEL_SHIFT = 13


@dataclass(frozen=True, slots=True)
class Dataset:
    """Examples of a task; x (n, in) int32 F16, labels (n, 1) int32. `root` binds both splits."""

    x: I32
    labels: I32
    heldout_x: I32
    heldout_labels: I32
    root: Hash


@cache
def load_digits(heldout: int) -> Dataset:
    """Return the 1,797 digits with `heldout` of them kept out of training."""
    pixels, labels = _read_digits()
    assert 0 <= heldout < len(labels)
    data = encode_examples(pixels, labels)
    order = _draw_order(derive_key("split", data), len(labels))
    x = (pixels.astype(np.int32)[order] - PIXEL_CENTRE) << PIXEL_SHIFT
    drawn = labels.astype(np.int32)[order][:, None]
    count = len(labels) - heldout
    root = tagged_hash("dataset", heldout.to_bytes(4, "little"), data)
    dataset = Dataset(x[:count], drawn[:count], x[count:], drawn[count:], root)
    for part in (dataset.x, dataset.labels, dataset.heldout_x, dataset.heldout_labels):
        part.setflags(write=False)
    return dataset


def encode_examples(pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> bytes:
    """Return the canonical bytes: count and width as u32 LE, pixels row by row, labels."""
    count, width = len(pixels), len(pixels[0])
    return b"".join((count.to_bytes(4, "little"), width.to_bytes(4, "little"), pixels.tobytes(), labels.tobytes()))


def _read_digits() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    data = (resources.files("ml") / "data" / "digits.csv.gz").read_bytes()
    table = np.array([[int(field) for field in line.split(",")] for line in gzip.decompress(data).decode().split()])
    return np.ascontiguousarray(table[:, :-1], np.uint8), np.ascontiguousarray(table[:, -1], np.uint8)


def _draw_order(key: int, count: int) -> list[int]:
    order = list(range(count))
    for k in range(count - 1, 0, -1):
        other = draw_below(key, k, k + 1)
        order[k], order[other] = order[other], order[k]
    return order
