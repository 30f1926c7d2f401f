"""What lies on disk: rows under their seals, keystores, files of peers, exports, archives and logs of training.

A seal keeps accidents out, so here it is put right around each altered content: what is behind it must hold by itself.
Files that are read by path are written into a folder in memory.
"""

import io
import tempfile
import zipfile
import zlib
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import TypeVar

import msgspec
from blake3 import blake3

from benchmarks.lab.fuzz.decoder import Decoder, Unfaithful, hold_canonical
from benchmarks.lab.fuzz.drawing import Scale, draw_record
from benchmarks.lab.fuzz.record_decoders import RECORD_MUTATORS
from benchmarks.lab.fuzz.text_mutators import JSON_MUTATORS, TEXT_MUTATORS
from benchmarks.lab.mutations.byte_mutators import BYTE_MUTATORS
from chain.block import Block
from chain.codec import encode
from chain.errors import StorageError
from chain.hashing import tagged_hash
from chain.primitives import ZERO_HASH
from chain.signature import SigningKey
from chain.storage.seals import DamagedFile, seal, unseal
from ml.spec import DIGITS
from node.database.export_folder import (
    MANIFEST_NAME,
    ExportReader,
    ExportRefused,
    FileEntry,
    Manifest,
    iter_records,
    join_records,
)
from node.datasets.archive import read_members, unpack_gzip
from node.datasets.errors import DatasetError
from node.datasets.progress import ignore_progress
from node.keystore import KeystoreError, load_key, read_address, write_key
from node.models.errors import ModelError
from node.models.specs import make_form
from node.rpc.client import NodeUnreachable, read_token
from node.signing_record import SigningRecord
from node.training.metrics import EvaluationRecord, RunRecord, StepRecord, read_metrics, read_run_record
from p2p import address_file
from p2p.address_file import BansRecord, BookRecord

R = TypeVar("R", BookRecord, BansRecord)

UNPACKED_BYTES_MAX = 64 * 1024
_NAME = b"name"


def make_disk_decoders() -> tuple[Decoder, ...]:
    """Return the decoders of what lies on disk."""
    return (
        _make_peer_file(BookRecord),
        _make_peer_file(BansRecord),
        Decoder("chain.storage.seals.unseal", hold_canonical(partial(unseal, _NAME), partial(seal, _NAME)),
                _list_sealed, BYTE_MUTATORS, (DamagedFile,)),
        Decoder("node.database.export_folder.iter_records", hold_canonical(_split, join_records), _list_joined,
                BYTE_MUTATORS, (ExportRefused,)),
        Decoder("node.database.export_folder.reader", _read_export, _list_manifests, RECORD_MUTATORS, (ExportRefused,)),
        Decoder("node.keystore.load_key", _open_keystore, _list_keystores, JSON_MUTATORS, (KeystoreError,), 4096),
        Decoder("node.signing_record.get", _read_signed, lambda: tuple(map(encode, _draw_blocks())), RECORD_MUTATORS,
                (StorageError,)),
        Decoder("node.rpc.client.read_token", _read_cookie, lambda: (b"", b"ab" * 32, b"token\n"), BYTE_MUTATORS,
                (NodeUnreachable,)),
        Decoder("node.training.metrics.read", _read_metrics, _list_metrics, TEXT_MUTATORS, (ModelError,)),
        Decoder("node.datasets.archive.unpack_gzip", _unpack, _list_streams, BYTE_MUTATORS, (DatasetError,)),
        Decoder("node.datasets.archive.read_members", _read_archive, _list_archives, BYTE_MUTATORS, (DatasetError,)),
    )  # fmt: skip


@cache
def _get_folder() -> Path:
    """Return a folder of this process, in memory where the system has one."""
    memory = Path("/dev/shm")
    holder = tempfile.TemporaryDirectory(prefix="mathesis-fuzz-", dir=memory if memory.is_dir() else None)
    _HOLDERS.append(holder)
    return Path(holder.name)


_HOLDERS: list["tempfile.TemporaryDirectory[str]"] = []
"""Folders that go with the process."""


def _write(name: str, data: bytes) -> Path:
    path = _get_folder() / name
    path.write_bytes(data)
    return path


def _make_peer_file(record: type[R]) -> Decoder:
    """Return the decoder of a file of peers, its seal put right."""

    def read(data: bytes) -> R:
        return address_file.unseal(record, blake3(data).digest() + data)

    def write(found: R) -> bytes:
        return address_file.seal(found)[address_file.SEAL_BYTES :]

    def draw() -> tuple[bytes, ...]:
        rng = Random(f"peers:{record.__name__}")
        drawn = [draw_record(record, rng, scale) for scale in (Scale(40, 2), Scale(40, 3), Scale(60, 40))]
        return tuple(encode(_set_version(each)) for each in drawn)

    return Decoder(f"p2p.address_file.unseal.{record.__name__}", hold_canonical(read, write), draw, RECORD_MUTATORS)


def _set_version(record: object) -> object:
    assert isinstance(record, BookRecord | BansRecord)
    return replace(record, version=address_file.VERSION)


def _list_sealed() -> tuple[bytes, ...]:
    return tuple(seal(_NAME, data) for data in (b"", b"content", bytes(500)))


def _split(data: bytes) -> list[bytes]:
    return list(iter_records(data))


def _list_joined() -> tuple[bytes, ...]:
    return (b"", join_records([b""]), join_records([b"one", b"", bytes(300)]))


def _read_export(data: bytes) -> None:
    """Open an export whose manifest is whole and read all its files; raises ExportRefused."""
    folder = _get_folder() / "export"
    folder.mkdir(exist_ok=True)
    (folder / MANIFEST_NAME).write_bytes(tagged_hash("export.file", data) + data)
    reader = ExportReader(folder)
    if encode(reader.manifest) != data:
        raise Unfaithful("found a manifest accepted that is not written so")
    reader.validate_files(ignore_progress)


def _list_manifests() -> tuple[bytes, ...]:
    rng = Random("manifests")
    whole = draw_record(Manifest, rng, Scale(40, 0))
    assert isinstance(whole, Manifest)
    whole = replace(whole, version=1, kind_code=1)
    # A file that is there: the reader goes on to its digest.
    folder = _get_folder() / "export"
    folder.mkdir(exist_ok=True)
    (folder / "file").write_bytes(b"content")
    entry = FileEntry("file", 7, tagged_hash("export.file", b"content"))
    manifests = (replace(whole, files=(entry,)), replace(whole, kind_code=0, files=(entry,) * 3))
    return tuple(map(encode, (whole, *manifests)))


def _open_keystore(data: bytes) -> None:
    """Read a keystore's address, and open it where that is as cheap as a development key's; raises KeystoreError."""
    path = _write("key.json", data)
    read_address(path)
    if b'"time_cost": 1,' in data and b'"memory_kib": 8,' in data:
        load_key(path, "")


def _list_keystores() -> tuple[bytes, ...]:
    found = []
    for number in (1, 2):
        path = _get_folder() / f"new-{number}.json"
        path.unlink(missing_ok=True)
        write_key(path, SigningKey(bytes([number]) * 32), "", is_development=True)
        found.append(path.read_bytes())
    return tuple(found)


def _draw_blocks() -> tuple[Block, ...]:
    """Return two blocks that a record can hold."""
    rng = Random("signed")
    drawn = [draw_record(Block, rng, scale) for scale in (Scale(40, 2), Scale(100, 4))]
    return tuple(block for block in drawn if isinstance(block, Block))


def _read_signed(data: bytes) -> None:
    """Read a signed block back whose file is sealed; raises StorageError."""
    name = f"{7:016x}-{ZERO_HASH.hex()}.block"
    folder = _get_folder() / "signed"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(seal(name.encode(), data))
    block = SigningRecord(folder).get(7, ZERO_HASH)
    if block is None or encode(block) != data:
        raise Unfaithful("found another block than was signed")


def _read_cookie(data: bytes) -> None:
    read_token(_write("cookie", data))


def _read_metrics(data: bytes) -> None:
    """Read a run's log as a resumed run does; what a crash has torn is left out. Raises ModelError."""
    path = _write("metrics.jsonl", data)
    read_run_record(path)
    for _ in read_metrics(path, 1 << 31):
        pass


def _list_metrics() -> tuple[bytes, ...]:
    run = RunRecord("ab" * 32, "cd" * 32, "ef" * 32, 64, "examples", make_form(DIGITS))
    step = StepRecord(1, 0.5, 32_768, 64, 0.001, 640.0, 0.1)
    lines = [msgspec.json.encode(each) + b"\n" for each in (run, step, EvaluationRecord(1, 0.5, 9, 3, 4, 0.2))]
    return (lines[0], b"".join(lines), b"".join(lines[:2]) + lines[1][:40])


def _unpack(data: bytes) -> None:
    unpack_gzip(data, "stream", UNPACKED_BYTES_MAX)


def _list_streams() -> tuple[bytes, ...]:
    def pack(data: bytes) -> bytes:
        packer = zlib.compressobj(wbits=31)
        return packer.compress(data) + packer.flush()

    return tuple(map(pack, (b"", b"a text", bytes(range(256)) * 8)))


def _read_archive(data: bytes) -> None:
    read_members(data, ("data/*.txt", "**/*.gz"), ignore_progress)


def _list_archives() -> tuple[bytes, ...]:
    return tuple(_zip(method) for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))


def _zip(method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as zipped:
        members = {"data/a.txt": b"first " * 20, "data/b.txt": b"second", "deep/c.gz": _list_streams()[1]}
        for name, content in members.items():
            zipped.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), content, method)
    return buffer.getvalue()
