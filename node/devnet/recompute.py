"""`python -m node.devnet.recompute RPC_URL`: score the settled model again, trusting nothing but its bytes.

A process of its own: it fetches genesis and checkpoint over RPC, checks the checkpoint against the root on the chain,
and computes the held-out score with the reference backend. Prints one JSON object; exits 1 when anything differs.
"""

import json
import sys

from chain.codec import decode
from chain.genesis import GENESIS_BYTES_MAX, Genesis
from ml.backends import get_backend
from ml.checkpoint import compute_checkpoint_root, decode_checkpoint
from ml.evaluation import compute_evaluation
from node.learning import load_task
from node.rpc import methods
from node.rpc.client import RpcClient
from node.rpc.registry import Params
from node.rpc.views import to_hex


def main(url: str) -> int:
    """Print what the running round's checkpoint scores; return the exit code."""
    client = RpcClient(url)
    genesis = decode(Genesis, client.call(methods.GET_GENESIS, Params()).record, GENESIS_BYTES_MAX)
    claimed = client.call(methods.GET_CHECKPOINT, methods.CheckpointParams(content=True))
    task = load_task(genesis.task)
    checkpoint = decode_checkpoint(task.program, claimed.content or b"")
    score = compute_evaluation(task.program, get_backend("reference"), checkpoint, task.dataset)
    is_scored = claimed.total > 0
    score_claimed = (claimed.correct, claimed.total, claimed.heldout_loss)
    is_equal = to_hex(compute_checkpoint_root(checkpoint)) == claimed.root
    # Nobody has scored the checkpoint that a network starts from; there only the root can be compared.
    is_equal &= not is_scored or (score.correct, score.count, str(score.loss_f16)) == score_claimed
    print(json.dumps({"correct": score.correct, "total": score.count, "round": claimed.round, "is_equal": is_equal}))
    return 0 if is_equal else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
