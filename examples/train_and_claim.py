"""Train and claim. A miner trains segments of the network's model; each that settles becomes share units, one for each
multiply-accumulate that was run again. Whatever anybody pays for the model belongs to the holders of units, in
proportion, and waits until they claim it.
"""

import time

from people import URL, get_coins, get_miner, get_network_model, get_person, rpc, send

from chain.primitives import ATOMS_PER_COIN
from chain.transaction import ClaimIncome, PayModel
from node.addresses import format_address
from node.rpc.economy_methods import GET_SHARES, HolderParams
from node.rpc.economy_views import SharesView
from node.rpc.views import to_hex

miner, model = get_miner(), get_network_model()


def get_shares() -> SharesView:
    """Return the miner's units and what it may claim."""
    return rpc.call(GET_SHARES, HolderParams(to_hex(model), format_address(miner.public_key)))


print(f"asking {URL}: has a segment of the first miner settled?")
while get_shares().units == "0":
    time.sleep(1)
shares = get_shares()
print(f"the miner holds {int(shares.units):,} of {int(shares.units_total):,} units of the network's model")

visitor = get_person("vera")
send(visitor, PayModel(model, 3 * ATOMS_PER_COIN), "vera pays the model 3 coins, of which 1 % is the treasury's")
print(f"the miner may claim {get_shares().claimable} atoms")
send(miner, ClaimIncome(model), "the miner claims all whole atoms")
print(f"vera has {get_coins(visitor)} coins left; the miner may claim {get_shares().claimable} atoms more")
