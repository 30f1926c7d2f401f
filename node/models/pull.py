"""A model that a network trains as a checkpoint file: asked of a node, held to the chain's root, written whole.

The node's word is taken for which root that is; `state_getTask` proves it. A file starts no new lineage: it says of
itself that it is no step away from the checkpoint of that root.
"""

from pathlib import Path

from chain.errors import DecodeError
from chain.primitives import Hash
from ml.checkpoint import compute_checkpoint_root, decode_checkpoint
from ml.models import build_program
from ml.spec import decode_spec
from node.models.errors import ModelError
from node.models.files import refuse_existing
from node.models.state_file import ModelState, write_state
from node.rpc.client import RpcClient
from node.rpc.methods import GET_CHECKPOINT, CheckpointParams
from node.rpc.task_methods import GET_POSTED, PostedParams
from node.rpc.views import CheckpointView, HashText, from_hex, to_hex
from node.wallet import get_genesis

NO_SEED = bytes(32)
"""Of a file that no step of a run has led to."""


def pull_checkpoint(url: str, task: HashText | None, round_number: int | None, file: Path) -> CheckpointView:
    """Write the weights that a round of a task starts from to a new file and return what the node says of them.

    `task` names a posted one; None is the network's own. Raises ModelError, OSError and what `RpcClient.call` does.
    """
    refuse_existing(file)
    client = RpcClient(url)
    program, dataset_root = _get_training(client, task)
    spec = decode_spec(program)
    found = client.call(GET_CHECKPOINT, CheckpointParams(round_number, content=True, task=task))
    try:
        checkpoint = decode_checkpoint(build_program(spec), found.content or b"")
    except DecodeError as error:
        raise ModelError("bad-file", f"{url}: {error}; the node is of another version or lies") from None
    root = compute_checkpoint_root(checkpoint)
    if to_hex(root) != found.root:
        raise ModelError("wrong-root", f"{url}: found weights of root {to_hex(root)}, expected {found.root}")
    write_state(file, ModelState(spec, dataset_root, NO_SEED, 0, checkpoint.weights, (), root))
    return found


def _get_training(client: RpcClient, task: HashText | None) -> tuple[bytes, Hash]:
    """Return the spec of a task in canonical bytes, and its data set's root."""
    if task is None:
        own = get_genesis(client).task
        return own.program, own.dataset_root
    posted = client.call(GET_POSTED, PostedParams(task))
    return posted.program, from_hex(posted.dataset_root)
