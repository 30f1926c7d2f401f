"""The names that a blob's bytes may have: a sidecar's hash, a data set's root, or a checkpoint's root under some task.

It knows no folder; which of the names is asked for is the caller's.
"""

from collections.abc import Iterable
from contextlib import suppress

from chain.codec import decode
from chain.errors import DecodeError
from chain.ledger.context import LedgerContext
from chain.ledger.keys import POSTED_TASK_PREFIX
from chain.ledger.tasks import Task, get_task
from chain.primitives import ZERO_HASH, Hash
from chain.state.view import StateView
from chain.transaction import Sidecar, compute_sidecar_hash
from ml.checkpoint import compute_checkpoint_root, decode_checkpoint
from ml.dataset import compute_dataset_root
from ml.models import build_program
from ml.program import Program
from ml.spec import decode_spec
from node.chain import SIDECAR_ENCODED_BYTES_MAX


def list_tasks(context: LedgerContext, view: StateView) -> tuple[Task, ...]:
    """Return every task that a state knows, closed ones too, that of genesis first; reads every leaf, once."""
    leaves = (leaf.key for leaf in view.iter_leaves(ZERO_HASH))
    posted = sorted(key[len(POSTED_TASK_PREFIX) :] for key in leaves if key.startswith(POSTED_TASK_PREFIX))
    return tuple(get_task(context, view, Hash(name)) for name in (context.task_id, *posted))


def list_programs(tasks: Iterable[Task]) -> tuple[Program, ...]:
    """Return the programs of tasks whose checkpoints differ in shape."""
    specs = {spec.model: spec for spec in (decode_spec(task.spec.program) for task in tasks)}
    return tuple(build_program(spec) for spec in specs.values())


def compute_blob_names(data: bytes, programs: Iterable[Program]) -> tuple[Hash, ...]:
    """Return the names under which a node would keep these bytes."""
    names = [compute_dataset_root(data)]
    with suppress(DecodeError):
        names.append(compute_sidecar_hash(decode(Sidecar, data, SIDECAR_ENCODED_BYTES_MAX)))
    for program in programs:
        with suppress(DecodeError):
            names.append(compute_checkpoint_root(decode_checkpoint(program, data)))
    return tuple(names)
