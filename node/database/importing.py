"""Imports into an empty data directory: a chain that is validated block by block, or a state under a hash one trusts.

Every file is checked against the manifest before anything is written, and what is in it against the rules. What was cut
off goes on where it was. It knows no command.
"""

import asyncio

from chain.block import BLOCK_BYTES_MAX, Block
from chain.codec import decode, encode
from chain.errors import InvalidBlock
from chain.genesis import compute_chain_id
from chain.hashing import tagged_hash
from chain.header import HEADER_BYTES_MAX, Header
from chain.ledger.context import make_context as make_ledger_context
from chain.ledger.genesis_state import make_genesis_state
from chain.primitives import Hash
from chain.state.snapshot import (
    CHUNK_BYTES_MAX,
    FIRST_PATH,
    LAST_PATH,
    StateChunk,
    compute_next_path,
    verify_chunk,
)
from chain.state.view import StateView
from chain.storage.blob_store import BlobStore
from chain.storage.leveldb import LevelDb
from chain.storage.snapshot_import import SnapshotImport
from chain.transaction import Sidecar
from consensus.header_chain import ChainEntry, HeaderChain, make_genesis_header
from consensus.header_rules import HeaderContext, validate_headers
from ml.backends import get_backend
from ml.program import Program
from node.admission import Admission
from node.chain import SIDECAR_ENCODED_BYTES_MAX
from node.data_directory import DataDirectory
from node.database.blob_names import compute_blob_names, list_programs, list_tasks
from node.database.export_folder import ExportReader, ExportRefused, OnProgress, iter_records
from node.database.exporting import BLOCK_RECORD_BYTES_MAX, BlockRecord, get_needed_blobs
from node.database.opening import OpenChain, make_context, open_chain
from node.importer import Importer
from node.learning import Learning
from node.outcomes import ImportResult
from node.surroundings import get_time_ms
from node.threads import spread_in_line
from node.validator import make_ticket_verifier

_GOOD = (ImportResult.EXTENDED, ImportResult.ALREADY_KNOWN)


def take_genesis(reader: ExportReader, directory: DataDirectory) -> None:
    """Put the export's genesis record into an empty directory, or find it there; raises ExportRefused."""
    genesis = reader.read_genesis()
    if not directory.genesis_path.exists():
        directory.write_genesis(genesis)
    elif compute_chain_id(directory.read_genesis()) != reader.manifest.chain_id:
        raise ExportRefused(f"{directory.root} holds another network than the export; take an empty directory")


def import_chain(reader: ExportReader, directory: DataDirectory, on_progress: OnProgress) -> int:
    """Validate and keep every block of an export, from where the directory's chain ends; return the height reached.

    Raises ExportRefused, StorageError, DecodeError.
    """
    with open_chain(directory) as opened:
        return asyncio.run(_import_blocks(reader, opened, on_progress))


async def _import_blocks(reader: ExportReader, opened: OpenChain, on_progress: OnProgress) -> int:
    chain, manifest = opened.chain, reader.manifest
    learning = Learning(opened.task, get_backend("cpu"), chain.blobs, chain.parameters.places_drawn)
    verify = make_ticket_verifier(chain.header_context, opened.task)
    importer = Importer(chain, learning, verify, Admission(chain, verify, get_time_ms, spread_in_line))
    importer.start()
    try:
        for name in manifest.get_names("blocks"):
            for data in iter_records(reader.read(name)):
                block, sidecars = _decode_record(data)
                outcome = await importer.import_block(block, sidecars)
                if outcome.result not in _GOOD:
                    found = f"found block {outcome.hash.hex()} {outcome.result.name.lower()}"
                    raise ExportRefused(f"{name}: {found} ({outcome.rule} {outcome.message})".replace(" ( )", ""))
                on_progress("blocks", block.header.height, manifest.height)
    finally:
        await importer.stop()
    if not chain.has_body(manifest.head):
        raise ExportRefused(f"found blocks up to {chain.head.hash.hex()}, expected {manifest.head.hex()}")
    return chain.head.height


def import_state(reader: ExportReader, directory: DataDirectory, trusted: Hash, on_progress: OnProgress) -> int:
    """Verify and keep a state and its headers up to the block called `trusted`; return its height.

    Raises ExportRefused, InvalidProof, StorageError, DecodeError.
    """
    manifest = reader.manifest
    if manifest.head != trusted:
        raise ExportRefused(f"found the state after block {manifest.head.hex()}, expected {trusted.hex()}")
    context, _ = make_context(directory)
    headers = _verify_headers(reader, context, on_progress)
    blobs = BlobStore(directory.blobs_path)
    engine = LevelDb(directory.database_path)
    try:
        snapshot = SnapshotImport(engine, tagged_hash("import", encode(manifest)))
        _import_chunks(reader, snapshot, on_progress)
        view = StateView(manifest.state_root, snapshot)
        ledger_context = make_ledger_context(context.genesis)
        programs = list_programs(list_tasks(ledger_context, view))
        for name in manifest.get_names("blobs"):
            blobs.put(_verify_blob(name, reader.read(name), programs), reader.read(name))
        for needed in get_needed_blobs(ledger_context, view):
            if not blobs.has(needed):
                raise ExportRefused(f"found no blob {needed.hex()}, expected all that the running round needs")
        snapshot.finish(manifest.chain_id, headers)
    finally:
        engine.close()
    return manifest.height


def _verify_headers(reader: ExportReader, context: HeaderContext, on_progress: OnProgress) -> list[Header]:
    """Return genesis' header and all headers of the export, which lead to the manifest's head and state."""
    manifest = reader.manifest
    genesis_header = make_genesis_header(context.genesis, make_genesis_state(context.genesis)[0])
    entry: ChainEntry = HeaderChain(genesis_header).genesis
    headers = [genesis_header]
    for name in manifest.get_names("headers"):
        page = [decode(Header, data, HEADER_BYTES_MAX) for data in iter_records(reader.read(name))]
        try:
            entry = validate_headers(context, page, entry, get_time_ms(), spread_in_line)
        except InvalidBlock as error:
            raise ExportRefused(f"{name}: {error}") from None
        headers += page
        on_progress("headers", entry.height, manifest.height)
    if (entry.hash, entry.header.foliage.state_root) != (manifest.head, manifest.state_root):
        raise ExportRefused(f"found headers up to {entry.hash.hex()}, expected {manifest.head.hex()}")
    return headers


def _verify_blob(path: str, data: bytes, programs: tuple[Program, ...]) -> Hash:
    """Return the name of a blob; raises ExportRefused when it is not the one in its path."""
    name = path.rpartition("/")[2]
    if name not in [found.hex() for found in compute_blob_names(data, programs)]:
        raise ExportRefused(f"{path}: found no sidecar, data set or checkpoint of that name")
    return Hash(bytes.fromhex(name))


def _import_chunks(reader: ExportReader, snapshot: SnapshotImport, on_progress: OnProgress) -> None:
    names, expected = reader.manifest.get_names("chunks"), FIRST_PATH
    for number, name in enumerate(names):
        chunk = decode(StateChunk, reader.read(name), CHUNK_BYTES_MAX)
        if chunk.first != expected or (chunk.last == LAST_PATH) != (number == len(names) - 1):
            raise ExportRefused(f"{name}: found a chunk from {chunk.first.hex()}, expected one from {expected.hex()}")
        if not snapshot.has_chunk(number):
            snapshot.put_chunk(number, verify_chunk(reader.manifest.state_root, chunk))
        expected = compute_next_path(chunk.last) if chunk.last != LAST_PATH else LAST_PATH
        on_progress("state", number + 1, len(names))
    if not names:
        raise ExportRefused("found no chunk of the state, expected at least one")


def _decode_record(data: bytes) -> tuple[Block, tuple[Sidecar, ...]]:
    record = decode(BlockRecord, data, BLOCK_RECORD_BYTES_MAX)
    sidecars = tuple(decode(Sidecar, sidecar, SIDECAR_ENCODED_BYTES_MAX) for sidecar in record.sidecars)
    return decode(Block, record.block, BLOCK_BYTES_MAX), sidecars
