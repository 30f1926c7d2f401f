"""Exports: the whole chain with its block data, or the state after one block with what a node needs to go on from it.

Reads a chain that nobody changes meanwhile and writes a folder. It decides nothing about whether an export is right.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from chain.block import BLOCK_BYTES_MAX, Block, get_sidecar_hashes
from chain.codec import Bytes, Many, encode
from chain.errors import StorageError
from chain.header import Header
from chain.ledger.context import LedgerContext
from chain.ledger.contributions import iter_contributions
from chain.ledger.economy_records import DatasetParts
from chain.ledger.keys import DATASET_PARTS_PREFIX
from chain.ledger.tasks import Task, get_round_start, get_state, get_task, iter_live_tasks
from chain.primitives import Hash
from chain.state.snapshot import iter_chunks
from chain.state.view import StateView
from chain.storage.block_store import PrunedState
from consensus.header_chain import ChainEntry
from node.chain import SIDECAR_ENCODED_BYTES_MAX, Chain
from node.database.blob_names import list_tasks
from node.database.export_folder import (
    GENESIS_NAME,
    ExportKind,
    ExportRefused,
    ExportWriter,
    Manifest,
    OnProgress,
    join_records,
)
from node.disputes import get_contribution, iter_disputes

SEGMENT_BYTES = 8 * 1024 * 1024
"""Blocks or headers are cut into files of about this size."""


@dataclass(frozen=True, slots=True)
class BlockRecord:
    """A block with its block data, as bytes whose own rules are checked when they are decoded."""

    block: Annotated[bytes, Bytes(1, BLOCK_BYTES_MAX)]
    sidecars: Annotated[tuple[Annotated[bytes, Bytes(1, SIDECAR_ENCODED_BYTES_MAX)], ...], Many(1024)]


BLOCK_RECORD_BYTES_MAX = BLOCK_BYTES_MAX + 64 * SIDECAR_ENCODED_BYTES_MAX


def export_chain(chain: Chain, root: Path, on_progress: OnProgress) -> Manifest:
    """Write every block of the head's branch with its block data; raises ExportRefused, StorageError."""
    if chain.base.height:
        raise ExportRefused(f"found blocks above {chain.base.height} only, expected all: export the state instead")
    writer = _start(chain, root)
    _write_segments(writer, "blocks", _iter_block_records(chain, on_progress))
    return _finish(writer, chain, ExportKind.CHAIN, chain.head)


def export_state(chain: Chain, root: Path, height: int | None, on_progress: OnProgress) -> Manifest:
    """Write the state after the block at `height`, the head's when None; raises PrunedState, StorageError."""
    entry = chain.head if height is None else chain.head.get_ancestor(height)
    if not chain.store.is_state_kept(entry.height):
        raise PrunedState(f"the state at height {entry.height} is not kept, take one near {chain.head.height}")
    writer = _start(chain, root)
    _write_segments(writer, "headers", (encode(header) for header in list_headers(entry)))
    for number, chunk in enumerate(iter_chunks(chain.store, entry.header.foliage.state_root)):
        writer.write(f"chunks/{number:06}", encode(chunk))
        # How far the last path is along all paths is how much of the state is written.
        on_progress("state", int.from_bytes(chunk.last[:4], "big") + 1, 1 << 32)
    for name in get_needed_blobs(chain.ledger_context, chain.view(entry)):
        writer.write(f"blobs/{name.hex()}", _get_blob(chain, name))
    return _finish(writer, chain, ExportKind.STATE, entry)


def get_needed_blobs(context: LedgerContext, view: StateView) -> tuple[Hash, ...]:
    """Return the checkpoints at which all tasks stand, and of live ones the data and the sidecars of the running round.

    A closed task's is what others may go on from. Of all data sets the parts that have come are needed, for the next
    task. The sidecar of a contribution from an earlier round, and the data of its task, which may have closed, are
    needed too for as long as it is disputed.
    """
    roots = [(task, get_state(view, task).checkpoint_root) for task in list_tasks(context, view)]
    contents = view.iter_records(DATASET_PARTS_PREFIX, DatasetParts)
    sidecars = [part.sidecar_hash for _, content in contents for part in content.parts]
    for task in iter_live_tasks(context, view):
        state = get_state(view, task)
        if task.posted is not None:
            sidecars.append(task.posted.dataset_root)
        sidecars += [each.sidecar_hash for _, each in iter_contributions(view, task.name, state)]
    for key, _ in iter_disputes(context, view):
        task = get_task(context, view, key.task)
        roots.append((task, get_round_start(context, view, task, key.round).checkpoint_root))
        sidecars.append(get_contribution(view, key).sidecar_hash)
        if task.posted is not None:
            sidecars.append(task.posted.dataset_root)
    checkpoints = [root for task, root in roots if not _is_computed(task, root)]
    return (*dict.fromkeys(checkpoints), *dict.fromkeys(sidecars))


def _is_computed(task: Task, root: Hash) -> bool:
    """Say whether a checkpoint is the first that a posted task's program gives: whoever needs it computes it."""
    if task.posted is None or task.posted.terms.model.parents:
        return False
    return root == task.spec.checkpoint_root


def _start(chain: Chain, root: Path) -> ExportWriter:
    writer = ExportWriter(root)
    writer.write(GENESIS_NAME, encode(chain.header_context.genesis))
    return writer


def _finish(writer: ExportWriter, chain: Chain, kind: ExportKind, entry: ChainEntry) -> Manifest:
    roots = (entry.hash, entry.header.foliage.state_root)
    return writer.finish(kind, chain.header_context.chain_id, entry.height, roots)


def list_headers(entry: ChainEntry) -> list[Header]:
    """Return the headers behind genesis up to `entry`."""
    headers = []
    walk: ChainEntry | None = entry
    while walk is not None:
        headers.append(walk.header)
        walk = walk.parent
    return headers[-2::-1]


def _iter_block_records(chain: Chain, on_progress: OnProgress) -> Iterator[bytes]:
    for height in range(1, chain.head.height + 1):
        block_hash = chain.store.get_hash_at_height(height)
        if block_hash is None:
            raise StorageError(f"the index of height {height} is lost")
        yield encode(_make_record(chain, chain.get_existing_block(block_hash)))
        on_progress("blocks", height, chain.head.height)


def _make_record(chain: Chain, block: Block) -> BlockRecord:
    return BlockRecord(encode(block), tuple(_get_blob(chain, name) for name in get_sidecar_hashes(block)))


def _get_blob(chain: Chain, name: Hash) -> bytes:
    data = chain.blobs.get(name)
    if data is None:
        raise StorageError(f"the blob {name.hex()} is gone, expected it to be held")
    return data


def _write_segments(writer: ExportWriter, folder: str, records: Iterator[bytes]) -> None:
    waiting: list[bytes] = []
    size_bytes = number = 0
    for record in records:
        waiting.append(record)
        size_bytes += len(record)
        if size_bytes >= SEGMENT_BYTES:
            writer.write(f"{folder}/{number:06}", join_records(waiting))
            waiting, size_bytes, number = [], 0, number + 1
    if waiting:
        writer.write(f"{folder}/{number:06}", join_records(waiting))
