"""Data sets as integers: one canonical blob, one root over it, one split that follows from the root.

A blob holds examples or a text and has exactly one encoding, so that its root names its content. The root also draws
the permutation that holds records out, so that the data alone decides the split; how many are held out is the training
spec's. It knows no file but the digits that ship with this package, no source and no training.
Source: `ml/data/README.md` for the digits; Fisher-Yates as in Knuth, TAOCP 2, section 3.4.2, algorithm P.
"""

import gzip
import struct
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from chain.errors import DecodeError
from chain.hashing import tagged_hash
from chain.merkle import blake3_node, compute_root_of_hashes, hash_leaves
from chain.primitives import Hash
from ml.arithmetic import I32
from ml.prf import derive_key, draw_below

U8: TypeAlias = npt.NDArray[np.uint8]

CHUNK_BYTES = 64 << 10
"""One leaf of the tree over a blob; the last may be shorter."""
HASH_BYTES = 32
TEXT_RECORD_BYTES = 4096
"""What a text is held out in. Its last record also takes the rest, so that none is shorter."""
BLOB_BYTES_MAX = 1 << 30
"""Largest blob: all of it is held in memory, once as bytes and once as the split arrays."""
SHIFT_MAX = 16
"""Bits by which a pixel may be raised: 255 << 16 stays below 2^24, far inside int32."""

_KIND_EXAMPLES = 1
_KIND_TEXT = 2
_EXAMPLES_HEADER = struct.Struct("<BIIBBB")
"""Kind, count, width, centre, shift, highest label."""
_TEXT_HEADER = struct.Struct("<BQ")
"""Kind, bytes of text."""


@dataclass(frozen=True, slots=True)
class PixelScale:
    """How a pixel becomes F16: `(pixel - centre) << shift`, for pixels of 0 to `pixel_max`."""

    pixel_max: int
    centre: int
    shift: int


DIGITS_SCALE = PixelScale(16, 8, 13)
BYTE_SCALE = PixelScale(255, 128, 9)


@dataclass(frozen=True, slots=True)
class Examples:
    """Labelled examples: x (n, in) int32 F16, labels (n, 1) int32; all arrays are read-only.

    `root` names the content of training and held-out examples together.
    """

    x: I32
    labels: I32
    heldout_x: I32
    heldout_labels: I32
    root: Hash


@dataclass(frozen=True, slots=True)
class Text:
    """A text as bytes: `stream` (n,) uint8 to train on, `heldout` (m,) uint8; both are read-only.

    `root` names the content of both together.
    """

    stream: U8
    heldout: U8
    root: Hash


Dataset: TypeAlias = Examples | Text


@dataclass(frozen=True, slots=True)
class ExamplesBlob:
    """What a blob of examples says: pixels (n, in) uint8, labels (n,) uint8 and how pixels become F16."""

    pixels: U8
    labels: U8
    centre: int
    shift: int


def encode_examples(pixels: U8, labels: U8, centre: int, shift: int) -> bytes:
    """Return the canonical blob of examples: header, pixels (n, in) uint8 row by row, labels (n,) uint8.

    Raises DecodeError when a size or the scale is out of its range.
    """
    if pixels.ndim != 2 or labels.shape != pixels.shape[:1] or not pixels.size:
        raise DecodeError(f"examples: found pixels {pixels.shape} and labels {labels.shape}, expected (n, in) and (n,)")
    _validate_scale(centre, shift)
    header = _EXAMPLES_HEADER.pack(_KIND_EXAMPLES, *pixels.shape, centre, shift, int(labels.max()))
    return _check_size(header + pixels.tobytes() + labels.tobytes())


def encode_text(text: bytes) -> bytes:
    """Return the canonical blob of a text; raises DecodeError when it is empty or too long."""
    if not text:
        raise DecodeError("text: found 0 bytes, expected at least 1")
    return _check_size(_TEXT_HEADER.pack(_KIND_TEXT, len(text)) + text)


def decode_blob(blob: bytes) -> ExamplesBlob | U8:
    """Return what a blob holds: examples, or a text as (n,) uint8, read-only views of `blob`.

    Raises DecodeError for whatever the two encoders would not have written.
    """
    _check_size(blob)
    kind = blob[0] if blob else -1
    if kind == _KIND_TEXT:
        (size,) = _read_header(_TEXT_HEADER, blob)
        _expect_bytes("text", blob, _TEXT_HEADER.size + size)
        if not size:
            raise DecodeError("text: found 0 bytes, expected at least 1")
        return np.frombuffer(blob, np.uint8, offset=_TEXT_HEADER.size)
    if kind != _KIND_EXAMPLES:
        found = f"kind {kind}" if blob else "no bytes"
        raise DecodeError(f"data set: found {found}, expected kind {_KIND_EXAMPLES} (examples) or {_KIND_TEXT} (text)")
    count, width, centre, shift, label_max = _read_header(_EXAMPLES_HEADER, blob)
    if not count or not width:
        raise DecodeError(f"examples: found {count} of width {width}, expected at least 1 of at least 1")
    _expect_bytes("examples", blob, _EXAMPLES_HEADER.size + count * (width + 1))
    _validate_scale(centre, shift)
    pixels = np.frombuffer(blob, np.uint8, count * width, _EXAMPLES_HEADER.size).reshape(count, width)
    labels = np.frombuffer(blob, np.uint8, count, _EXAMPLES_HEADER.size + count * width)
    if int(labels.max()) != label_max:
        raise DecodeError(f"examples: found highest label {labels.max()}, expected {label_max} as the header says")
    return ExamplesBlob(pixels, labels, centre, shift)


def compute_dataset_root(blob: bytes) -> Hash:
    """Return the root that names a blob: its size and the Merkle root over its chunks of 64 KiB."""
    return compute_root_by_part(len(blob), 0, blob, b"")


def compute_root_by_part(size_bytes: int, start: int, part: bytes, others: bytes) -> Hash:
    """Return the root of a blob of `size_bytes` with `part` from byte `start` on, where a chunk begins.

    `others` are the hashes of 32 bytes of all chunks before and behind the part, in order. Raises DecodeError when
    they are more or fewer than the size leaves.
    """
    assert start % CHUNK_BYTES == 0
    own, first, count = hash_chunks(part), start // CHUNK_BYTES, -(-size_bytes // CHUNK_BYTES)
    if len(others) != HASH_BYTES * (count - len(own)):
        raise DecodeError(f"data set: found {len(others)} bytes of hashes, expected {count - len(own)} hashes")
    hashes: list[bytes] = [others[place : place + HASH_BYTES] for place in range(0, len(others), HASH_BYTES)]
    hashes[first:first] = own
    return tagged_hash("dataset", size_bytes.to_bytes(8, "little"), compute_root_of_hashes(hashes, blake3_node))


def hash_chunks(blob: bytes) -> list[bytes]:
    """Return the hashes of a blob's chunks of 64 KiB, as they stand in its tree."""
    return hash_leaves([blob[start : start + CHUNK_BYTES] for start in range(0, len(blob), CHUNK_BYTES)], blake3_node)


def count_records(blob: bytes) -> int:
    """Return how many records a blob has to hold out from: examples, or 4,096-byte records; raises DecodeError."""
    found = decode_blob(blob)
    return len(found.labels) if isinstance(found, ExamplesBlob) else _count_text_records(len(found))


def build_dataset(blob: bytes, heldout: int) -> Dataset:
    """Return the data set of a blob with `heldout` of its records kept out of training.

    Held out are the records that the permutation of the root puts last. Examples come in the permuted order, the two
    parts of a text in the text's order. Raises DecodeError when the blob is not canonical, a text is shorter than one
    record, or `heldout` leaves nothing to train on.
    """
    found, root = decode_blob(blob), compute_dataset_root(blob)
    if isinstance(found, ExamplesBlob):
        return _split_examples(found, heldout, root)
    return _split_text(found, heldout, root)


@cache
def load_digits(heldout: int) -> Examples:
    """Return the 1,797 handwritten digits with `heldout` of them kept out of training; raises DecodeError."""
    data = (resources.files("ml") / "data" / "digits.csv.gz").read_bytes()
    digits = build_dataset(encode_csv(gzip.decompress(data), DIGITS_SCALE), heldout)
    assert isinstance(digits, Examples)
    return digits


def encode_csv(data: bytes, scale: PixelScale) -> bytes:
    """Return the canonical blob of CSV lines without a header: pixels 0 to `scale.pixel_max`, then the label.

    Raises DecodeError, with the number of the line, when a field is no such integer or a line has another length.
    """
    rows = [_parse_line(line, number) for number, line in enumerate(data.splitlines(), start=1)]
    if not rows or len(rows[0]) < 2:
        raise DecodeError("CSV: found no line of two fields, expected pixels and a label on each")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            raise DecodeError(f"CSV line {number}: found {len(row)} fields, expected {len(rows[0])} as in line 1")
    table = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), len(rows[0]))
    pixels, labels = table[:, :-1], table[:, -1]
    if int(pixels.max()) > scale.pixel_max:
        raise DecodeError(f"CSV: found a pixel of {pixels.max()}, expected at most {scale.pixel_max}")
    return encode_examples(pixels, labels, scale.centre, scale.shift)


def _parse_line(line: bytes, number: int) -> bytes:
    try:
        return bytes(map(int, line.split(b",")))
    except ValueError:
        raise DecodeError(f"CSV line {number}: found {line[:40]!r}, expected integers of 0 to 255") from None


def _check_size(blob: bytes) -> bytes:
    if len(blob) > BLOB_BYTES_MAX:
        raise DecodeError(f"data set: found {len(blob)} bytes, expected at most {BLOB_BYTES_MAX}")
    return blob


def _read_header(header: struct.Struct, blob: bytes) -> tuple[int, ...]:
    if len(blob) < header.size:
        raise DecodeError(f"data set: found {len(blob)} bytes, expected a header of {header.size}")
    return header.unpack_from(blob)[1:]


def _expect_bytes(label: str, blob: bytes, expected: int) -> None:
    if len(blob) != expected:
        raise DecodeError(f"{label}: found {len(blob)} bytes, expected {expected} as the header says")


def _validate_scale(centre: int, shift: int) -> None:
    if not (0 <= centre <= 255 and 0 <= shift <= SHIFT_MAX):
        raise DecodeError(
            f"examples: found centre {centre} and shift {shift}, expected at most 255 and at most {SHIFT_MAX}"
        )


def _split_examples(found: ExamplesBlob, heldout: int, root: Hash) -> Examples:
    count = _count_training(len(found.labels), heldout)
    order = _draw_order(derive_key("split", root), len(found.labels))
    x = (found.pixels[order].astype(np.int32) - found.centre) << found.shift
    labels = found.labels[order].astype(np.int32)[:, None]
    for part in (x, labels):
        part.setflags(write=False)
    return Examples(x[:count], labels[:count], x[count:], labels[count:], root)


def _split_text(text: U8, heldout: int, root: Hash) -> Text:
    if len(text) < TEXT_RECORD_BYTES:
        raise DecodeError(f"text: found {len(text)} bytes, expected at least {TEXT_RECORD_BYTES}")
    records = _count_text_records(len(text))
    count = _count_training(records, heldout)
    is_heldout = np.zeros(records, np.bool_)
    is_heldout[_draw_order(derive_key("split", root), records)[count:]] = True
    sizes = np.full(records, TEXT_RECORD_BYTES)
    sizes[-1] += len(text) % TEXT_RECORD_BYTES
    mask = np.repeat(is_heldout, sizes)
    stream, held = text[~mask], text[mask]
    for part in (stream, held):
        part.setflags(write=False)
    return Text(stream, held, root)


def _count_text_records(size: int) -> int:
    return max(1, size // TEXT_RECORD_BYTES)


def _count_training(records: int, heldout: int) -> int:
    if not 0 <= heldout < records:
        raise DecodeError(f"data set: found {heldout} records to hold out, expected at least 0 and less than {records}")
    return records - heldout


def _draw_order(key: int, count: int) -> npt.NDArray[np.int64]:
    order = list(range(count))
    for k in range(count - 1, 0, -1):
        other = draw_below(key, k, k + 1)
        order[k], order[other] = order[other], order[k]
    return np.array(order, np.int64)
