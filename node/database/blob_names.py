"""The names that a blob's bytes may have: a sidecar's hash, or a checkpoint's root under the network's task.

It knows no folder; which of the names is asked for is the caller's.
"""

from contextlib import suppress

from chain.codec import decode
from chain.errors import DecodeError
from chain.primitives import Hash
from chain.transaction import Sidecar, compute_sidecar_hash
from ml.checkpoint import compute_checkpoint_root, decode_checkpoint
from node.chain import SIDECAR_ENCODED_BYTES_MAX
from node.learning import Task


def compute_blob_names(data: bytes, task: Task) -> tuple[Hash, ...]:
    """Return the names under which a node would keep these bytes; none when they are no blob of the network."""
    names: list[Hash] = []
    with suppress(DecodeError):
        names.append(compute_sidecar_hash(decode(Sidecar, data, SIDECAR_ENCODED_BYTES_MAX)))
    with suppress(DecodeError):
        names.append(compute_checkpoint_root(decode_checkpoint(task.program, data)))
    return tuple(names)
