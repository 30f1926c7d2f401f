"""Five on a network: a data owner, a model author, two contributors of whom one is dishonest, a buyer; how it ends.

The data owner registers, the author registers a child of the network's model on that data, the buyer buys a licence and
pays for an answer, the contributor claims. The dishonest one is in no genesis: of what the contributor lends it, it
posts a miner's bond, and forges every segment. At the end what the chain says of
everybody is compared with `accounts.py`, which has seen its blocks alone.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lab.parties.accounts import Accounts, count_blocks
from benchmarks.lab.parties.network import Network, run_network
from chain.genesis import Parameters
from chain.hashing import sha256
from chain.ledger.registry import compute_dataset_id, compute_model_id
from chain.primitives import ATOMS_PER_COIN, Hash, PublicKey
from chain.signature import SigningKey
from chain.transaction import (
    BuyLicence,
    ClaimIncome,
    PayModel,
    PostBond,
    RegisterDataset,
    RegisterModel,
    Transfer,
    TransferShares,
)
from ml.models import build_program
from ml.spec import DIGITS, compute_spec_hash
from node.addresses import format_address
from node.devnet.genesis import DEFAULTS
from node.rpc.client import RpcClient
from node.rpc.economy_methods import GET_MODEL, GET_SHARES, HolderParams, ModelParams
from node.rpc.methods import GET_ACCOUNT, GET_GENESIS, GET_MINER, LIST_CONTRIBUTIONS, AccountParams, RoundParams
from node.rpc.registry import Params
from node.rpc.supply_methods import GET_SUPPLY, GET_TASK_ENTRY
from node.rpc.task_methods import GET_TASK, TaskParams
from node.rpc.views import from_hex, to_hex

FEE = 1_000_000
COINS = 100
PRICE = 10 * ATOMS_PER_COIN
LOAN = 100 * ATOMS_PER_COIN
"""What the dishonest contributor begins with: a bond, and ten deposits."""
ANSWER = 3 * ATOMS_PER_COIN + 7
"""What the buyer pays the network's model: not a round number, so that parts are rounded."""


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was compared: what the chain says and what its blocks give."""

    name: str
    found: int
    expected: int

    @property
    def is_equal(self) -> bool:
        """Whether both agree to the atom."""
        return self.found == self.expected


@dataclass(frozen=True, slots=True)
class Outcome:
    """The story's end."""

    height: int
    lines: tuple[Line, ...]
    forged: tuple[str, ...]
    """The status of each of the forger's contributions in settled rounds."""
    forger: PublicKey
    accounts: Accounts

    @property
    def forger_units(self) -> int:
        """Units that the forger has."""
        return self.accounts.models[self.accounts.task].units.get(self.forger, 0)

    @property
    def is_good(self) -> bool:
        """Whether all agrees, somebody settled, and the forger was caught each time and has nothing."""
        caught = bool(self.forged) and set(self.forged) <= {"slashed", "expired"}
        is_worked = self.accounts.counts.get("segments settled", 0) > 0
        is_paid_for = self.accounts.lost.get(self.forger, 0) >= len(self.forged) and self.forger_units == 0
        return all(line.is_equal for line in self.lines) and caught and is_worked and is_paid_for


def make_person(name: str) -> SigningKey:
    """Return the key of a party."""
    return SigningKey(sha256(b"parties" + name.encode()))


DATA_OWNER, AUTHOR, BUYER = (make_person(name) for name in ("data owner", "author", "buyer"))
PEOPLE = {"data owner": DATA_OWNER, "model author": AUTHOR, "buyer": BUYER}


async def play(root: Path, base_port: int, rounds: int, parameters: Parameters = DEFAULTS) -> Outcome:
    """Play the story over so many settled rounds at least; raises TimeoutError, CommandError, RemoteError."""
    people, atoms = [key.public_key for key in PEOPLE.values()], COINS * ATOMS_PER_COIN
    async with run_network(root, base_port, people, atoms, has_forger=True, parameters=parameters) as network:
        await asyncio.to_thread(join, network)
        await network.start_forger()
        await network.wait_until("a settled segment", lambda: get_units(network, network.get_key(0)) > 0)
        await asyncio.to_thread(trade, network)
        last = max(rounds, get_round(network) + 1)
        await network.wait_until(f"{last} settled rounds", lambda: get_round(network) >= last)
        await network.wait_until("a forger that was caught", lambda: bool(list_forged(network)))
        await asyncio.to_thread(network.send, network.get_key(0), ClaimIncome(get_task(network)), FEE)
        await network.stop_mining()
        return await asyncio.to_thread(compare, network)


def join(network: Network) -> None:
    """Lend the last member coins, of which it posts a bond."""
    newcomer = network.get_key(-1)
    network.send(network.get_key(0), Transfer(newcomer.public_key, LOAN), FEE)
    network.send(newcomer, PostBond(network.genesis.parameters.bond), FEE)


def trade(network: Network) -> None:
    """Register, buy, pay, and move some of the contributor's units to the author."""
    chain_id, task = get_chain_id(network), get_task(network)
    data = RegisterDataset(Hash(sha256(b"a book of letters")), "CC-BY-4.0", royalty_bp=500)
    network.send(DATA_OWNER, data, FEE)
    model = RegisterModel(
        name="letters",
        spec_hash=compute_spec_hash(DIGITS),
        checkpoint_root=Hash(sha256(b"weights for letters")),
        licence="Apache-2.0",
        licence_price=PRICE,
        royalty_bp=0,
        author_bp=3_000,
        parents=(task,),
        datasets=(compute_dataset_id(chain_id, DATA_OWNER.public_key, data),),
    )
    network.send(AUTHOR, model, FEE)
    network.send(BUYER, BuyLicence(compute_model_id(chain_id, AUTHOR.public_key, model), PRICE), FEE)
    contributor, units = network.get_key(0), build_program(DIGITS).segment_macs // 3
    network.send(contributor, TransferShares(task, AUTHOR.public_key, units), FEE)
    network.send(BUYER, PayModel(task, ANSWER), FEE)
    network.send(AUTHOR, ClaimIncome(task), FEE)


def compare(network: Network) -> Outcome:
    """Read what the chain says at its standing head and hold it against its blocks."""
    blocks, forger = network.read_blocks(), network.get_key(-1).public_key
    accounts = count_blocks(network.genesis, build_program(DIGITS).segment_macs, blocks)
    client = RpcClient(network.url)
    parties = {name: key.public_key for name, key in PEOPLE.items()}
    parties |= {"contributor": network.get_key(0).public_key, "dishonest contributor": forger}
    lines = list_lines(client, accounts, parties)
    return Outcome(len(blocks), tuple(lines), list_forged(network), forger, accounts)


def list_lines(client: RpcClient, accounts: Accounts, parties: dict[str, PublicKey]) -> list[Line]:
    """Return every party's balance and dues, and all totals, beside what the blocks give."""
    task, lines = to_hex(accounts.task), []
    model = accounts.models[accounts.task]
    for name, account in parties.items():
        address = format_address(account)
        balance = client.call(GET_ACCOUNT, AccountParams(address)).balance
        shares = client.call(GET_SHARES, HolderParams(task, address))
        lines.append(Line(f"balance of the {name}", int(balance), accounts.balances[account]))
        lines.append(Line(f"units of the {name}", int(shares.units), model.units.get(account, 0)))
        lines.append(Line(f"income due to the {name}", int(shares.claimable), int(model.owed.get(account, 0))))
        posted, bond = accounts.miners.bonds.get(account), client.call(GET_MINER, AccountParams(address)).bond
        lines.append(Line(f"bond of the {name}", int(bond), posted.atoms if posted else 0))
    supply, entry = client.call(GET_SUPPLY, Params()), client.call(GET_TASK_ENTRY, TaskParams())
    lines += [
        Line("treasury", int(supply.treasury), accounts.treasury),
        Line("burned", int(supply.burned), accounts.burned),
        Line("issued", int(supply.issued), accounts.issued),
        Line("pot", int(entry.pot), accounts.pot),
        Line("price", int(entry.price), accounts.price),
    ]
    for model_name, held in accounts.models.items():
        found = int(client.call(GET_MODEL, ModelParams(to_hex(model_name))).held)
        assert held.total.denominator == 1, "what is held is whole atoms"
        lines.append(Line(f"income of {to_hex(model_name)[:10]}", found, int(held.total)))
    return lines


def get_chain_id(network: Network) -> Hash:
    """Return the hash that names the network."""
    return from_hex(RpcClient(network.url).call(GET_GENESIS, Params()).chain_id)


def get_task(network: Network) -> Hash:
    """Return the name of the network's own model."""
    return from_hex(RpcClient(network.url).call(GET_TASK, TaskParams()).task)


def get_round(network: Network) -> int:
    """Return the running round: how many have ended."""
    return RpcClient(network.url).call(GET_TASK, TaskParams()).round


def get_units(network: Network, key: SigningKey) -> int:
    """Return somebody's units of the network's model."""
    params = HolderParams(to_hex(get_task(network)), format_address(key.public_key))
    return int(RpcClient(network.url).call(GET_SHARES, params).units)


def list_forged(network: Network) -> tuple[str, ...]:
    """Return what became of each of the last member's contributions in rounds that have ended."""
    client, forger = RpcClient(network.url), format_address(network.get_key(-1).public_key)
    found = [
        entry for number in range(get_round(network)) for entry in client.call(LIST_CONTRIBUTIONS, RoundParams(number))
    ]
    return tuple(entry.status for entry in found if entry.miner == forger)
