"""A small network and an honest node's answers for it, over a connection of which the socket alone is missing.

Headers are real and each has a ticket that was mined; nothing is executed, so every block has genesis' state. It lies
about nothing by itself: whoever makes a connection says which answer is to be another.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import msgspec

from benchmarks.lab.mutations.ticket_target import KEYS, START_MS, Setting, mine
from chain.codec import encode
from chain.errors import InvalidProof
from chain.genesis import Allocation, Genesis, Parameters, TaskSpec
from chain.ledger.accounts import get_account
from chain.ledger.genesis_state import make_genesis_state
from chain.ledger.keys import account_key
from chain.primitives import ATOMS_PER_COIN, U256_MAX, ZERO_HASH, Hash
from chain.signature import SigningKey
from chain.state.tree import MemoryNodes
from chain.state.view import StateView
from chain.ticket import TicketOpening
from consensus.flyclient import Demand, prove_chain
from consensus.header_chain import ChainEntry, make_entry, make_first_entry, make_genesis_header
from consensus.header_proof import prove_headers
from consensus.header_rules import HeaderContent, HeaderContext, make_header, make_header_context
from consensus.history import History
from consensus.ticket import compute_ticket_macs
from ml.lottery import get_lottery
from ml.models import build_program
from ml.spec import DIGITS, encode_spec
from node.addresses import parse_address
from node.rpc.client import RpcClient
from node.rpc.methods import (
    GET_ACCOUNT,
    GET_GENESIS,
    GET_HEAD,
    GET_HEADERS,
    GET_TICKET,
    PROVE_CHAIN,
    PROVE_HEADERS,
)
from node.rpc.proofs import AccountProof
from node.rpc.state_views import AccountView, view_account
from node.rpc.views import GenesisView, HeaderView, ProofView, TicketView, from_hex, to_hex, view_header

BLOCKS, K = 26, 64
TARGET_EASY = U256_MAX >> 18
"""A tile of K = 64 wins once in four: a chain of them is soon mined."""
HOLDER = SigningKey(b"\x53" * 32).public_key

Params = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Network:
    """A chain with all that a node needs to answer for it."""

    context: HeaderContext
    tip: ChainEntry
    entries: Mapping[Hash, ChainEntry]
    openings: Mapping[Hash, TicketOpening]
    view: StateView


def make_network(name: str) -> Network:
    """Return a network of `BLOCKS` blocks by two miners."""
    program, owners = build_program(DIGITS), (*(key.public_key for key in KEYS), HOLDER)
    genesis = Genesis(
        name, START_MS, TARGET_EASY, Parameters(),
        tuple(Allocation(owner, 1_000 * ATOMS_PER_COIN) for owner in owners), owners[:2],
        TaskSpec("digits", encode_spec(DIGITS), ZERO_HASH, ZERO_HASH),
    )  # fmt: skip
    root, stored = make_genesis_state(genesis)
    context = make_header_context(genesis, partial(compute_ticket_macs, program))
    entries = [make_first_entry(make_genesis_header(genesis, root), History())]
    openings: dict[Hash, TicketOpening] = {}
    for number in range(BLOCKS):
        parent, key = entries[-1], KEYS[number % 2]
        scene = mine(Setting(context, program, parent, get_lottery("reference")), key, K)
        time_ms = START_MS + genesis.parameters.interval_ms * (number + 1)
        content = HeaderContent(key.public_key, time_ms, root, ZERO_HASH)
        entries.append(make_entry(make_header(context, parent, scene.ticket, content, key), parent))
        openings[entries[-1].hash] = scene.opening
    by_hash = {entry.hash: entry for entry in entries}
    return Network(context, entries[-1], by_hash, openings, StateView(root, MemoryNodes(stored)))


class Connection:
    """Stands where an HTTP connection does. Answers as an honest node, but for the first call of one method."""

    def __init__(self, network: Network, method: str = "", data: bytes = b"") -> None:
        """Answer for `network`; the first answer of `method` is `data`."""
        self._network, self._method, self._data = network, method, data
        self._body = b""
        self.asked: dict[str, bytes] = {}
        """The first answer to every method that was asked."""

    def request(self, _verb: str, _path: str, body: bytes, _headers: Mapping[str, str]) -> None:
        """Take a call."""
        call = json.loads(body)
        answer = self._answer(call["method"], call["params"])
        self._body = b'{"jsonrpc":"2.0","id":%d,"result":%s}' % (call["id"], answer)

    def getresponse(self) -> "Connection":
        """Return what the answer is read from."""
        return self

    def read(self, size_bytes_max: int) -> bytes:
        """Return the answer."""
        return self._body[:size_bytes_max]

    def close(self) -> None:
        """Forget the answer."""
        self._body = b""

    def _answer(self, method: str, params: Params) -> bytes:
        if method == self._method and method not in self.asked:
            self.asked[method] = self._data
            return self._data
        try:
            answer = msgspec.json.encode(_ANSWERS[method](self._network, params))
        except (AssertionError, KeyError, InvalidProof):
            # A client that was lied to asks for what an honest node does not have.
            return b'null,"error":{"code":-32001,"message":"not found"}'
        self.asked.setdefault(method, answer)
        return answer


def make_client(connection: Connection) -> RpcClient:
    """Return the real client over a connection."""
    client = RpcClient("http://127.0.0.1:1")
    client._connection = connection  # type: ignore[assignment]  # its socket is the one part that is not real
    return client


def _get_genesis(network: Network, _params: Params) -> GenesisView:
    genesis, genesis_hash = network.context.genesis, network.tip.get_ancestor(0).hash
    return GenesisView(to_hex(network.context.chain_id), to_hex(genesis_hash), genesis.network, encode(genesis))


def _get_head(network: Network, _params: Params) -> HeaderView:
    return view_header(network.tip.header)


def _get_headers(network: Network, params: Params) -> list[HeaderView]:
    start = _get_int(params, "start")
    heights = range(start, min(network.tip.height + 1, start + _get_int(params, "count")))
    return [view_header(network.tip.get_ancestor(height).header) for height in heights]


def _get_ticket(network: Network, params: Params) -> TicketView:
    header_hash = from_hex(str(params["block"]))
    return TicketView(view_header(network.entries[header_hash].header), encode(network.openings[header_hash]))


def _get_account(network: Network, params: Params) -> AccountView:
    account = parse_address(str(params["account"]))
    key, found = account_key(account), get_account(network.view, account)
    stored = network.view.get(key)
    proof = AccountProof(
        account=account, header_hash=network.tip.hash, height=network.tip.height, state_root=network.view.root,
        key=key.name, value=None if stored is None else encode(stored), proof=encode(network.view.prove(key)),
        nonce=found.nonce, balance=found.balance,
    )  # fmt: skip
    return view_account(proof, found.nonce)


def _prove_chain(network: Network, params: Params) -> ProofView:
    seed, tip = from_hex(str(params["seed"])), str(params["tip"])
    demand = Demand(seed, _get_int(params, "security_bits"), _get_int(params, "stretch_blocks"))
    return ProofView(tip, encode(prove_chain(network.context, network.entries[from_hex(tip)], demand)))


def _prove_headers(network: Network, params: Params) -> ProofView:
    heights, tip = params["heights"], str(params["tip"])
    assert isinstance(heights, list)
    return ProofView(tip, encode(prove_headers(network.entries[from_hex(tip)], heights)))


def _get_int(params: Params, name: str) -> int:
    value = params[name]
    assert isinstance(value, int)
    return value


_ANSWERS: dict[str, Callable[[Network, Params], object]] = {
    GET_GENESIS.name: _get_genesis,
    GET_HEAD.name: _get_head,
    GET_HEADERS.name: _get_headers,
    GET_TICKET.name: _get_ticket,
    GET_ACCOUNT.name: _get_account,
    PROVE_CHAIN.name: _prove_chain,
    PROVE_HEADERS.name: _prove_headers,
}
