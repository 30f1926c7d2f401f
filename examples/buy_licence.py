"""Buy a licence. Ada sells licences of her model for 10 coins. Ben buys one, once; what proves it is no receipt but a
record in the state, which anybody can check against a block's header without trusting the node that shows it.
"""

from people import get_chain_id, get_coins, get_person, get_something_new, rpc, send

from chain.codec import decode
from chain.hashing import sha256
from chain.header import Header, compute_header_hash
from chain.ledger.economy_records import Licence
from chain.ledger.keys import licence_key
from chain.ledger.registry import compute_model_id
from chain.primitives import ATOMS_PER_COIN
from chain.state.proof import STATE_PROOF_BYTES_MAX, StateProof, verify_inclusion
from chain.transaction import BuyLicence, RegisterModel
from ml.spec import DIGITS, compute_spec_hash
from node.addresses import format_address
from node.rpc.economy_methods import GET_LICENCE, HolderParams
from node.rpc.methods import GET_BLOCK, BlockParams
from node.rpc.views import to_hex

ada, ben = get_person("ada"), get_person("ben")
model = RegisterModel(
    name="translator",
    spec_hash=compute_spec_hash(DIGITS),
    checkpoint_root=sha256(b"translator" + get_something_new()),
    licence="Apache-2.0",
    licence_price=10 * ATOMS_PER_COIN,
    royalty_bp=0,
    author_bp=9_900,
    parents=(),
    datasets=(),
)
send(ada, model, "ada registers a model: 10 coins a licence, of which 99 % are hers and 1 % is the treasury's")
name = compute_model_id(get_chain_id(), ada.public_key, model)
send(ben, BuyLicence(name, model.licence_price), "ben buys a licence")

shown = rpc.call(GET_LICENCE, HolderParams(to_hex(name), format_address(ben.public_key)))
header = decode(Header, rpc.call(GET_BLOCK, BlockParams(shown.entry.header_hash)).header.record, 4_096)
assert to_hex(compute_header_hash(header)) == shown.entry.header_hash
assert shown.entry.value is not None
proof = decode(StateProof, shown.entry.proof, STATE_PROOF_BYTES_MAX)
verify_inclusion(header.foliage.state_root, licence_key(name, ben.public_key).name, shown.entry.value, proof)
licence = decode(Licence, shown.entry.value, 64)
print(f"proven under header {header.foliage.height}: bought in block {licence.height} for {licence.price} atoms")
print(f"ada has {get_coins(ada)} coins, ben {get_coins(ben)}")
