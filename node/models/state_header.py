"""The header of a checkpoint file: what it must say for the file to be read at all.

A file is refused here, from its first megabyte and its size, before anything as large as a model is allocated: names,
types, shapes and places of all tensors follow from the spec in the metadata. It opens no file.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from chain.errors import DecodeError
from ml.arithmetic import MEAN_BITS, WEIGHT_BITS, WEIGHT_GRADIENT_BITS
from ml.models import build_program
from ml.spec import Rule, Spec, compute_spec_hash
from node.models.errors import ModelError
from node.models.specs import SpecForm, make_spec

FILE_FORMAT = "mathesis-checkpoint"
FILE_VERSION = 1
HEADER_BYTES_MAX = 1 << 20
"""256 layers have 3,000 tensors of about 120 bytes of header each."""
PARTS = ("weight", "first_moment", "second_moment")
EXPONENTS = {"weight": -WEIGHT_BITS, "first_moment": -(WEIGHT_GRADIENT_BITS + MEAN_BITS), "second_moment": -32}
"""A stored integer is worth itself times two to this."""
_TYPES = {"weight": ("I32", 4), "first_moment": ("I32", 4), "second_moment": ("I64", 8)}
_HEX = re.compile("[0-9a-f]{64}")


class Metadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """What a file says of itself; hashes are hex. An empty `start` stands for the spec's first weights."""

    data_root: str
    digest: str
    exponents: dict[str, int]
    format: str
    seed: str
    spec: SpecForm
    spec_hash: str
    start: str = ""
    step: int
    version: int

    @property
    def parts(self) -> tuple[str, ...]:
        """Say which tensors there are of each parameter."""
        return tuple(part for part in PARTS if part in self.exponents)


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tensor in the header of safetensors."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Header:
    """A header that agrees with its file's size and its own spec."""

    metadata: Metadata
    spec: Spec


def get_tensor_names(spec: Spec, parts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of all tensors: one part of every parameter, then the next part."""
    return tuple(f"{parameter.name}.{part}" for part in parts for parameter in build_program(spec).parameters)


def parse_header(start: bytes, size_bytes: int, name: str) -> Header:
    """Return the header of the file `name` of so many bytes, of which `start` holds the first; raises ModelError."""
    try:
        return _parse_header(start, size_bytes)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, DecodeError, struct.error) as error:
        message = str(error)
    except ModelError as error:
        message = str(error).partition(": ")[2]
    raise ModelError("bad-file", f"{name}: {message}; the file is damaged or no checkpoint of this version") from None


def _parse_header(start: bytes, size_bytes: int) -> Header:
    if len(start) < 8:
        raise DecodeError(f"found {size_bytes} bytes, expected a checkpoint")
    (header_bytes,) = struct.unpack_from("<Q", start)
    if header_bytes > min(HEADER_BYTES_MAX, size_bytes - 8):
        least = min(HEADER_BYTES_MAX, size_bytes - 8)
        raise DecodeError(f"found a header of {header_bytes} bytes, expected at most {least}")
    fields = msgspec.json.decode(start[8 : 8 + header_bytes], type=dict[str, msgspec.Raw])
    if "__metadata__" not in fields:
        raise DecodeError("found no metadata, expected those of a checkpoint")
    texts = msgspec.json.decode(fields.pop("__metadata__"), type=dict[str, str])
    if sorted(texts) != ["mathesis"]:
        raise DecodeError(f"found metadata {sorted(texts)!r:.80}, expected ['mathesis']")
    metadata = msgspec.json.decode(texts["mathesis"], type=Metadata)
    spec = make_spec(metadata.spec)
    _validate_metadata(metadata, spec)
    entries = {tensor: msgspec.json.decode(raw, type=_Entry) for tensor, raw in sorted(fields.items())}
    _validate_entries(entries, spec, metadata.parts, size_bytes - 8 - header_bytes)
    return Header(metadata, spec)


def _validate_metadata(metadata: Metadata, spec: Spec) -> None:
    exponents = {part: EXPONENTS[part] for part in metadata.parts}
    name = f"{FILE_FORMAT} {FILE_VERSION}"
    rules: tuple[Rule, ...] = (
        (f"{metadata.format} {metadata.version}" == name, name, f"{metadata.format} {metadata.version}"),
        (metadata.parts in (PARTS, PARTS[:1]), "weights, or weights and both moments", metadata.parts),
        (metadata.exponents == exponents, f"exponents {EXPONENTS}", metadata.exponents),
        (metadata.spec_hash == compute_spec_hash(spec).hex(), "the spec's own hash", metadata.spec_hash),
        (0 <= metadata.step <= spec.segment_steps, f"a step of at most {spec.segment_steps}", metadata.step),
    )
    for label in ("data_root", "seed", "digest", *(("start",) if metadata.start else ())):
        text: str = getattr(metadata, label)
        rules += ((_HEX.fullmatch(text) is not None, f"64 hex digits of {label}", text),)
    for holds, expected, found in rules:
        if not holds:
            raise DecodeError(f"found {found!r:.80}, expected {expected}")


def _validate_entries(entries: dict[str, _Entry], spec: Spec, parts: tuple[str, ...], data_bytes: int) -> None:
    expected = {tensor: (dtype, shape) for tensor, dtype, shape, _ in _list_tensors(spec, parts)}
    if sorted(entries) != sorted(expected):
        different = sorted(entries.keys() ^ expected.keys())[0]
        raise DecodeError(f"found {len(entries)} tensors, expected {len(expected)}; {different!r:.80} is in one alone")
    for tensor, entry in sorted(entries.items()):
        if (entry.dtype, entry.shape) != expected[tensor]:
            found = f"{entry.dtype} {entry.shape}"
            raise DecodeError(f"{tensor}: found {found:.80}, expected {expected[tensor][0]} {expected[tensor][1]}")
    total = sum(size for *_, size in _list_tensors(spec, parts))
    if total != data_bytes:
        raise DecodeError(f"found {data_bytes} bytes of tensors, expected {total}")


def _list_tensors(spec: Spec, parts: tuple[str, ...]) -> Iterator[tuple[str, str, tuple[int, int], int]]:
    """Yield name, type, shape and bytes of every tensor."""
    for part in parts:
        dtype, itemsize = _TYPES[part]
        for parameter in build_program(spec).parameters:
            shape = (parameter.rows, parameter.columns)
            yield f"{parameter.name}.{part}", dtype, shape, itemsize * parameter.count
