"""Fine-tune somebody's model. Finn gets the network's model from a node, trains it on for twenty steps on this machine,
and registers what comes out as its child. Gus pays the child 6 coins: 40 % are Finn's as author, and 10 % go up the
lineage, to those who trained the network's model. The first miner claims its part of them.
"""

import tempfile
from pathlib import Path

from people import URL, get_chain_id, get_coins, get_miner, get_network_model, get_person, get_something_new, rpc, send

from chain.ledger.registry import compute_model_id
from chain.primitives import ATOMS_PER_COIN
from chain.transaction import ClaimIncome, PayModel, RegisterModel
from ml.checkpoint import compute_checkpoint_root
from ml.spec import compute_spec_hash
from node.cli import main
from node.models.pull import pull_checkpoint
from node.models.state_file import read_state
from node.rpc.economy_methods import GET_MODEL, ModelParams
from node.rpc.views import to_hex

STEPS = 20

finn, gus, network = get_person("finn"), get_person("gus"), get_network_model()
with tempfile.TemporaryDirectory() as folder:
    start, run = Path(folder) / "network.safetensors", Path(folder) / "run"
    pulled = pull_checkpoint(URL, None, None, start)
    print(f"finn has the weights that round {pulled.round} starts from: {pulled.correct} of {pulled.total} right")
    options = ["--from", str(start), "--steps", str(STEPS), "--out", str(run), "--seed", get_something_new().hex()]
    assert main(["train", "digits", *options]) == 0
    child = read_state(run / f"step-{STEPS:06d}.safetensors")

model = RegisterModel(
    name="finn's digits",
    spec_hash=compute_spec_hash(child.spec),
    checkpoint_root=compute_checkpoint_root(child.checkpoint),
    licence="Apache-2.0",
    licence_price=0,
    royalty_bp=0,
    author_bp=4_000,
    parents=(network,),
    datasets=(),
)
send(finn, model, "finn registers his model as a child of the network's")
name = compute_model_id(get_chain_id(), finn.public_key, model)
before = int(rpc.call(GET_MODEL, ModelParams(to_hex(network))).held)
send(gus, PayModel(name, 6 * ATOMS_PER_COIN), "gus pays finn's model 6 coins")
after = int(rpc.call(GET_MODEL, ModelParams(to_hex(network))).held)
print(f"finn has {get_coins(finn)} coins, gus {get_coins(gus)}; {after - before} atoms went to the network's model")
send(get_miner(), ClaimIncome(network), "the first miner claims its part")
