"""Register a data set and earn. Dora enters a text of hers for 5 % of what models that use it take in. Max enters a
model that uses it and keeps 30 % for himself. When Vic pays for that model, Dora's and Max's parts reach their balances
in the same block: nobody has to claim them.
"""

from people import get_chain_id, get_coins, get_person, get_something_new, send

from chain.hashing import sha256
from chain.ledger.registry import compute_dataset_id, compute_model_id
from chain.primitives import ATOMS_PER_COIN
from chain.transaction import PayModel, RegisterDataset, RegisterModel
from ml.dataset import compute_dataset_root, encode_text
from ml.spec import DIGITS, compute_spec_hash

dora, max_, vic = get_person("dora"), get_person("max"), get_person("vic")

text = b"Dora's letters, volume " + get_something_new().hex().encode()
data = RegisterDataset(compute_dataset_root(encode_text(text)), licence="CC-BY-4.0", royalty_bp=500)
send(dora, data, "dora registers her letters for 5 % of their models' income")

model = RegisterModel(
    name="letters",
    spec_hash=compute_spec_hash(DIGITS),
    checkpoint_root=sha256(b"weights" + text),
    licence="Apache-2.0",
    licence_price=0,
    royalty_bp=0,
    author_bp=3_000,
    parents=(),
    datasets=(compute_dataset_id(get_chain_id(), dora.public_key, data),),
)
send(max_, model, "max registers a model that uses them; 30 % are his")

name = compute_model_id(get_chain_id(), max_.public_key, model)
send(vic, PayModel(name, 4 * ATOMS_PER_COIN), "vic pays the model 4 coins for an answer")
print(f"dora has {get_coins(dora)} coins, max {get_coins(max_)}, vic {get_coins(vic)}")
