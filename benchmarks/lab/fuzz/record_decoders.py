"""Every record that the codec can encode, found by looking through the rooms, so that no new one is forgotten.

A module that defines a record names `chain.codec`, where the ranges of fields come from; those modules are searched.
"""

import pkgutil
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from random import Random

import chain
import consensus
import ml
import node
import p2p
from benchmarks.lab.fuzz.coverage import ROOMS
from benchmarks.lab.fuzz.decoder import Decoder, Unfaithful
from benchmarks.lab.fuzz.drawing import Scale, draw_record, is_record
from benchmarks.lab.mutations.byte_mutators import BYTE_MUTATORS
from benchmarks.lab.mutations.target import Judge
from benchmarks.lab.mutations.wire_mutators import WIRE_MUTATORS
from chain import codec

RECORD_BYTES_MAX = 64 * 1024
SCALES = (*(Scale(40, 2),) * 5, Scale(400, 12), Scale(1_500, 40))
"""Of the samples of a record: most small, some beyond what is unpacked at once."""

RECORD_MUTATORS = BYTE_MUTATORS | WIRE_MUTATORS
_PACKAGES = (chain, consensus, ml, p2p, node)


def find_records() -> tuple[type, ...]:
    """Return every record of the rooms, in the order of module and name."""
    found = {kind for name in _iter_modules() for kind in vars(import_module(name)).values() if is_record(kind)}
    return tuple(sorted(found, key=get_name))


def get_name(record: type) -> str:
    """Return what a record is called, its module included."""
    return f"{record.__module__}.{record.__qualname__}"


def make_record_decoders() -> tuple[Decoder, ...]:
    """Return a decoder for each record."""
    return tuple(make_record_decoder(record) for record in find_records())


def make_record_decoder(record: type) -> Decoder:
    """Return the decoder of one record."""
    return Decoder(
        get_name(record), _make_judge(record), partial(_draw_samples, record), RECORD_MUTATORS,
        size_bytes_max=RECORD_BYTES_MAX,
    )  # fmt: skip


def _iter_modules() -> Iterator[str]:
    for package in _PACKAGES:
        assert package.__name__ in ROOMS
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            path = Path(package.__path__[0]).parent.joinpath(*module.name.split("."))
            if not module.ispkg and "chain.codec" in path.with_suffix(".py").read_text():
                yield module.name


def _make_judge(record: type) -> Judge:
    def judge(data: bytes) -> None:
        value: object = codec.decode(record, data, RECORD_BYTES_MAX)
        if (again := codec.encode(value)) != data:
            raise Unfaithful(f"found {data[:80].hex()} accepted, expected {again[:80].hex()}")

    return judge


def _draw_samples(record: type) -> tuple[bytes, ...]:
    rng = Random(f"samples:{get_name(record)}")
    drawn = {codec.encode(draw_record(record, rng, scale)) for scale in SCALES}
    return tuple(sorted(data for data in drawn if len(data) <= RECORD_BYTES_MAX))
