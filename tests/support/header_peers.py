"""Peers that serve headers alone, and one node's own sync over a real tree of headers, driven on a clock of integers.

Tickets are believed here: what they cost is set by their targets, and a branch far behind the clock has easy ones.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from chain.codec import encode
from chain.genesis import Allocation, Parameters
from chain.ledger.genesis_state import make_genesis_state
from chain.primitives import ATOMS_PER_COIN, Hash, PublicKey
from chain.storage.blob_store import BlobStore
from chain.storage.block_store import BlockStore
from chain.ticket import TicketOpening
from consensus.header_chain import ChainEntry, HeaderChain, make_genesis_header
from consensus.header_rules import HeaderContext, make_header_context
from node.chain import Chain
from node.ports import ChainPort
from p2p.actions import Charge, DeliverHeaders, Peer, Send
from p2p.limits import Limits
from p2p.messages import GetData, GetHeaders, Headers, ItemKind, NotFound, OpeningMessage, Status
from p2p.relay import Relay
from p2p.view import Outcome
from tests.support.headers import GENESIS, KEYS, make_child, ticket_macs
from tests.support.store import MemoryEngine

OPENING = TicketOpening((), ())
STEP_MS = 100


def make_node_context() -> HeaderContext:
    """Return the context of a network whose miners have bonds."""
    allocations = tuple(Allocation(key.public_key, 1_000 * ATOMS_PER_COIN) for key in KEYS)
    return make_header_context(replace(GENESIS, allocations=allocations, parameters=Parameters()), ticket_macs)


def make_headers(context: HeaderContext) -> HeaderChain:
    """Return a tree that holds genesis alone, the one of a node."""
    return HeaderChain(make_genesis_header(context.genesis, make_genesis_state(context.genesis)[0]))


def open_chain(context: HeaderContext, folder: Path) -> Chain:
    """Return the chain of a node that has nothing yet, its rows in memory."""
    return Chain(BlockStore(MemoryEngine()), BlobStore(folder / "blobs"), context)


def grow_late(
    context: HeaderContext, chain: HeaderChain, parent: ChainEntry, count: int, late_ms: int, salt: int = 1
) -> ChainEntry:
    """Insert headers of which the first is `late_ms` behind `parent`, the others a millisecond behind each other."""
    for number in range(count):
        parent = chain.insert(make_child(context, parent, salt, 1 if number else late_ms))
    return parent


@dataclass
class HeaderPeer:
    """Serves the branch of `tip`; `lengthen` makes it longer before each answer."""

    chain: HeaderChain
    tip: ChainEntry
    claim: int
    lengthen: Callable[[ChainEntry], ChainEntry] = lambda tip: tip

    def answer(self, question: GetHeaders, count_max: int = 2_000) -> Headers:
        """Return the headers behind the locator."""
        self.tip = self.lengthen(self.tip)
        return Headers(tuple(map(encode, self.chain.get_headers_after(question.locator, self.tip, count_max))))


@dataclass
class SyncBench:
    """A relay over a chain port, and what its peers were asked and charged for."""

    port: ChainPort
    peers: Mapping[Peer, HeaderPeer]
    now_ms: int = 0
    asked: Counter[Peer] = field(default_factory=Counter)
    wanted: set[Hash] = field(default_factory=set)
    charges: list[Charge] = field(default_factory=list)
    outcomes: list[tuple[Peer, Outcome]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Let all peers say what they claim."""
        self.relay = Relay(self.port, Limits(), Hash(b"s" * 32))
        for peer, served in self.peers.items():
            self.relay.on_established(peer)
            self.relay.on_message(peer, Status(served.tip.height, served.claim), 0)

    async def run(self, until: Callable[[], bool], questions_max: int) -> None:
        """Go on until something holds or so many questions for headers were asked."""
        while not until() and sum(self.asked.values()) < questions_max:
            for action in self.relay.poll(self.now_ms):
                if isinstance(action, Send):
                    self._answer(action)
                elif isinstance(action, DeliverHeaders):
                    result = await self.port.submit_headers(action.peer, action.headers, action.openings)
                    self.outcomes.append((action.peer, result.outcome))
                    self.relay.on_headers_outcome(action, result, self.now_ms)
                elif isinstance(action, Charge):
                    self.charges.append(action)
            self.now_ms += STEP_MS

    def _answer(self, action: Send) -> None:
        peer, message = action.peer, action.message
        if isinstance(message, GetHeaders):
            self.asked[peer] += 1
            self.relay.on_message(peer, self.peers[peer].answer(message), self.now_ms)
        for item in message.items if isinstance(message, GetData) else ():
            if item.kind == ItemKind.OPENING:
                self.relay.on_message(peer, OpeningMessage(item.hash, encode(OPENING)), self.now_ms)
            else:
                self.wanted.add(item.hash)
                self.relay.on_message(peer, NotFound((item,)), self.now_ms)


def name_peer(letter: str) -> PublicKey:
    """Return a peer's key."""
    return PublicKey(letter.encode() * 32)
