"""Fund a task. Fay has no machine, but she wants a small model of text: one that has read this project's documents. She
registers them and posts a decoder as a task: spec, data and a budget. Kim adds to its pot. Whoever mines trains it
beside the network's own model, is paid from the pot for each verified multiply-accumulate, and gets shares of it. Fay
sees its loss fall, has the author's part of what it earns, and lets it write.
"""

import tempfile
import time
from pathlib import Path

from people import URL, get_chain_id, get_coins, get_miner, get_person, get_something_new, rpc, send

from chain.ledger.posted_tasks import compute_posted_task_id
from chain.ledger.registry import compute_dataset_id
from chain.primitives import ATOMS_PER_COIN, Hash
from chain.transaction import ClaimIncome, FundTask, PayModel, RegisterDataset
from ml.dataset import compute_dataset_root
from node.addresses import format_address
from node.cli.main import main
from node.datasets import fetch, find_manifest
from node.models.specs import find_spec
from node.rpc.economy_methods import GET_SHARES, HolderParams
from node.rpc.methods import GET_HEAD
from node.rpc.registry import Params
from node.rpc.task_methods import GET_TASK, TaskParams
from node.rpc.views import to_hex
from node.task_terms import ModelTerms, Offer, make_post_task

ROUNDS = 3
DOCUMENTS = Path(__file__).parents[1] / "docs"
DOCUMENTS_BYTES = 256 << 10
READER = find_spec(str(Path(__file__).with_name("reader.json"))).spec
"""Two layers over bytes, 32 wide, 41,984 weights: a segment is two of the digits' work, where four may be."""


def read_documents(folder: Path) -> bytes:
    """Return a data set of this project's documents; a last line makes it another one each time."""
    text = b"\n".join(path.read_bytes() for path in sorted(DOCUMENTS.rglob("*.md")))[:DOCUMENTS_BYTES]
    (folder / "documents.txt").write_bytes(text + f"\n{get_something_new().hex()}\n".encode())
    manifest, base = find_manifest(str(folder / "documents.txt"))
    return fetch(manifest, base=base)


def watch(name: Hash) -> list[int]:
    """Return the losses of the first rounds that somebody has contributed to."""
    found = rpc.call(GET_TASK, TaskParams(to_hex(name)))
    last = found.round
    losses: list[int] = []
    print(f"it is trained from round {last} on")
    while len(losses) < ROUNDS:
        time.sleep(1)
        found = rpc.call(GET_TASK, TaskParams(to_hex(name)))
        score = found.checkpoint
        if found.round > last and score.contributors:
            losses.append(int(score.heldout_loss))
            bits = losses[-1] / score.total / 65_536
            print(f"round {score.round - 1}: {score.correct} of {score.total} bytes right, {bits:.3f} bits a byte")
        last = found.round
    return losses


fay, kim, miner, own = get_person("fay"), get_person("kim"), get_miner(), rpc.call(GET_TASK, TaskParams())
with tempfile.TemporaryDirectory() as folder:
    data = read_documents(Path(folder))
    content = RegisterDataset(compute_dataset_root(data), "Apache-2.0", 0)
    dataset = compute_dataset_id(get_chain_id(), fay.public_key, content)
    send(fay, content, f"fay registers {len(data):,} bytes of text")

    model = ModelTerms("Fay's reader", "Apache-2.0", author_bp=3_000)
    offer = Offer(20 * ATOMS_PER_COIN, int(own.price), rpc.call(GET_HEAD, Params()).height + 900)
    task, sidecar = make_post_task(READER, data, dataset, model, offer)
    name = compute_posted_task_id(get_chain_id(), fay.public_key, task)
    send(fay, task, "fay posts a task: a decoder of two layers, for 20 coins", sidecar)
    send(kim, FundTask(name, 5 * ATOMS_PER_COIN), "kim adds 5 coins to its pot")

    losses = watch(name)
    assert losses[-1] < losses[0], "training together makes it better"
    print(f"its loss fell by {100 * (losses[0] - losses[-1]) // losses[0]} % in {ROUNDS} rounds")

    shares = rpc.call(GET_SHARES, HolderParams(to_hex(name), format_address(miner.public_key)))
    print(f"the miner holds {int(shares.units):,} of {int(shares.units_total):,} units of it")
    send(kim, PayModel(name, 10 * ATOMS_PER_COIN), "kim pays fay's model 10 coins: 1 % to the treasury, 30 % to fay")
    send(miner, ClaimIncome(name), "the miner claims what its units have earned")
    print(f"fay has {get_coins(fay)} coins, kim {get_coins(kim)}; what is left of the pot comes back to both")

    pulled = Path(folder) / "reader.safetensors"
    assert main(["model", "pull", str(pulled), "--task", to_hex(name), "--rpc", URL]) == 0
    print("so far it writes like this:", flush=True)
    assert main(["model", "sample", str(pulled), "--prompt", "A block", "--bytes", "80"]) == 0
