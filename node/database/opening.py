"""A data directory opened by a command instead of a node: locked, with its chain and its task.

Nothing listens and nothing is mined. It knows no command.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from chain.errors import StorageError
from chain.storage.blob_store import BlobStore
from chain.storage.block_store import open_block_store
from consensus.header_rules import HeaderContext, make_header_context
from consensus.ticket import compute_ticket_macs
from node.chain import Chain
from node.data_directory import DataDirectory, DirectoryLock
from node.exit_codes import CommandError, ExitCode
from node.learning import Task, load_task


@dataclass(frozen=True, slots=True)
class OpenChain:
    """A chain on disk with the task that it trains."""

    chain: Chain
    task: Task


def make_context(directory: DataDirectory) -> tuple[HeaderContext, Task]:
    """Return the network's header rules and task; raises StorageError, DecodeError."""
    genesis = directory.read_genesis()
    task = load_task(genesis.task)
    return make_header_context(genesis, lambda ticket: compute_ticket_macs(task.program, ticket)), task


@contextmanager
def hold_directory(directory: DataDirectory) -> Iterator[None]:
    """Keep others out of a data directory; raises CommandError when a node or a command has it."""
    try:
        lock = DirectoryLock(directory)
    except StorageError as error:
        raise CommandError(ExitCode.DIRECTORY_IN_USE, str(error)) from None
    except OSError as error:
        raise CommandError(ExitCode.USAGE, f"cannot open {directory.root}: {error.strerror}") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def open_chain(directory: DataDirectory) -> Iterator[OpenChain]:
    """Yield the chain in a data directory that is held; raises StorageError, DecodeError."""
    context, task = make_context(directory)
    with open_block_store(directory.database_path) as store:
        yield OpenChain(Chain(store, BlobStore(directory.blobs_path), context), task)
