"""Fund a task. Fay has no machine, but she wants a small classifier of digits. She posts it as a task: spec, data and a
budget. Kim adds to its pot. Whoever mines trains it beside the network's own model, is paid from the pot for each
verified multiply-accumulate, and gets shares of it. Fay sees its loss fall, and has the author's part of what it earns.
"""

import time
from dataclasses import replace

from people import get_chain_id, get_coins, get_miner, get_network_model, get_person, get_something_new, rpc, send

from chain.ledger.posted_tasks import compute_posted_task_id
from chain.primitives import ATOMS_PER_COIN
from chain.transaction import ClaimIncome, FundTask, PayModel
from ml.spec import DIGITS, Mlp
from node.addresses import format_address
from node.datasets import find_blob
from node.rpc.economy_methods import GET_DATASET, GET_MODEL, GET_SHARES, DatasetParams, HolderParams, ModelParams
from node.rpc.methods import GET_HEAD
from node.rpc.registry import Params
from node.rpc.task_methods import GET_TASK, TaskParams
from node.rpc.views import from_hex, to_hex
from node.task_terms import ModelTerms, Offer, make_post_task

ROUNDS = 3

fay, kim, miner = get_person("fay"), get_person("kim"), get_miner()

own = rpc.call(GET_TASK, TaskParams())
terms = rpc.call(GET_MODEL, ModelParams(to_hex(get_network_model()))).terms
assert terms is not None
dataset = from_hex(terms.datasets[0])
content = rpc.call(GET_DATASET, DatasetParams(to_hex(dataset))).terms
assert content is not None

# Another seed is another first checkpoint, so that this may run again.
seed = int.from_bytes(get_something_new()[:8], "little")
spec = replace(DIGITS, model=Mlp((64, 32, 10)), init_seed=seed)
model = ModelTerms("Fay's digits", "Apache-2.0", author_bp=3_000)
offer = Offer(20 * ATOMS_PER_COIN, int(own.price), rpc.call(GET_HEAD, Params()).height + 900)
task, data = make_post_task(spec, find_blob(from_hex(content.content_root)), dataset, model, offer)
name = compute_posted_task_id(get_chain_id(), fay.public_key, task)
send(fay, task, "fay posts a task: a classifier with 32 hidden units, for 20 coins", data)
send(kim, FundTask(name, 5 * ATOMS_PER_COIN), "kim adds 5 coins to its pot")

found = rpc.call(GET_TASK, TaskParams(to_hex(name)))
last, begun = found.round, found.round
losses: list[int] = []
print(f"it is trained from round {begun} on")
while len(losses) < ROUNDS:
    time.sleep(1)
    found = rpc.call(GET_TASK, TaskParams(to_hex(name)))
    score = found.checkpoint
    if found.round > last and score.contributors:
        losses.append(int(score.heldout_loss))
        bits = losses[-1] / score.total / 65_536
        print(f"round {score.round - 1}: {score.correct} of {score.total} right, {bits:.3f} bits a digit")
    last = found.round
assert losses[-1] < losses[0], "training together makes it better"
print(f"its loss fell by {100 * (losses[0] - losses[-1]) // losses[0]} % in {ROUNDS} rounds")

shares = rpc.call(GET_SHARES, HolderParams(to_hex(name), format_address(miner.public_key)))
print(f"the miner holds {int(shares.units):,} of {int(shares.units_total):,} units of it")
send(kim, PayModel(name, 10 * ATOMS_PER_COIN), "kim pays fay's model 10 coins: 1 % to the treasury, 30 % to fay")
send(miner, ClaimIncome(name), "the miner claims what its units have earned")
print(f"fay has {get_coins(fay)} coins, kim {get_coins(kim)}; what is left of the pot comes back to both at the end")
