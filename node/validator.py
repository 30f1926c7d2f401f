"""A validator's parts at work together, without a process around them: no files are opened, no caller is served.

It wires who hears of what: a new head goes to pool, settler, auditor, reporter and peers. It holds no rule.
"""

from dataclasses import dataclass

from chain.block import Block
from chain.signature import SigningKey
from consensus.header_chain import ChainEntry
from consensus.header_rules import HeaderContext, get_segment_seed
from consensus.ticket import Draw, compute_ticket_shape, verify_ticket
from ml.backends import get_backend
from ml.lottery import get_lottery
from node.admission import Admission, VerifyTicket
from node.auditor import Auditor
from node.chain import Chain
from node.chain_port import NodeChainPort
from node.gate import TransactionGate
from node.importer import HeadChange, Importer
from node.learning import Learning, Task
from node.mempool import Mempool
from node.network import Endpoint, Network
from node.parts import Parts
from node.peering import PeeringOptions
from node.reporter import Reporter
from node.sender import Sender
from node.settler import Settler
from node.signatures import Signatures
from node.signing_record import SigningRecord
from node.surroundings import Surroundings
from p2p.handshake import NetworkId


def make_ticket_verifier(context: HeaderContext, task: Task) -> VerifyTicket:
    """Return the check of a block's ticket under its parent."""
    lottery = get_lottery("cpu")

    def verify(block: Block, parent: ChainEntry) -> None:
        ticket, miner = block.header.trunk.ticket, block.header.foliage.miner
        seed = get_segment_seed(context, parent, ticket, miner)
        draw = Draw(context.chain_id, parent.hash, seed, block.header.foliage.target)
        verify_ticket(ticket, block.opening, compute_ticket_shape(task.program, ticket.step, ticket.op), draw, lottery)

    return verify


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose blocks a validator makes, and what was signed before."""

    key: SigningKey
    signed: SigningRecord


@dataclass(frozen=True, slots=True)
class Validator:
    """A node's parts and the services between them."""

    parts: Parts
    auditor: Auditor
    settler: Settler
    reporter: Reporter
    network: Network

    async def start(self, listen: Endpoint, peers: tuple[Endpoint, ...]) -> int:
        """Take blocks and peers, and return the port; raises OSError when it is taken."""
        self.parts.importer.start()
        return await self.network.start(listen.host, listen.port, peers)

    async def stop(self) -> None:
        """Leave the peers, finish what is under way, close the database."""
        await self.network.stop()
        await self.parts.importer.stop()
        await self.parts.gate.stop()
        await self.auditor.follower.stop()
        await self.settler.follower.stop()
        await self.reporter.stop()
        self.parts.chain.store.close()


def make_validator(
    chain: Chain,
    task: Task,
    identity: Identity,
    surroundings: Surroundings,
    verify: VerifyTicket,
    peering: PeeringOptions | None = None,
) -> Validator:
    """Wire the parts around an open chain; `verify` checks tickets (see `make_ticket_verifier`)."""
    parts = make_parts(chain, task, identity, surroundings, verify)
    port = NodeChainPort(chain, parts.importer, parts.mempool, parts.gate)
    network_id = NetworkId(chain.header_context.chain_id, chain.headers.genesis.hash)
    network = Network(port, identity.key, network_id, surroundings=surroundings, options=peering)
    auditor = Auditor(chain, parts.learning, parts.sender, identity.key.public_key)
    settler = Settler(chain, parts.learning)
    reporter = Reporter(chain, parts.gate, identity.key, surroundings.get_random_bytes)

    def on_head(change: HeadChange) -> None:
        parts.gate.on_head(change)
        settler.follower.on_head(change)
        auditor.follower.on_head(change)
        reporter.on_head(change)
        network.announce_block(chain.head.hash)

    parts.importer.listeners.append(on_head)
    parts.importer.admission.equivocation_listeners.append(reporter.on_equivocation)
    parts.gate.on_admitted.append(network.announce_transaction)
    return Validator(parts, auditor, settler, reporter, network)


def make_parts(chain: Chain, task: Task, identity: Identity, surroundings: Surroundings, verify: VerifyTicket) -> Parts:
    """Return the parts around an open chain."""
    learning = Learning(task, get_backend("cpu"), chain.blobs, chain.parameters.places_drawn)
    mempool, get_time_ms = Mempool(), surroundings.get_time_ms
    signatures = Signatures(chain.header_context.chain_id, surroundings.spread)
    gate = TransactionGate(chain, mempool, learning, signatures, get_time_ms)
    admission = Admission(chain, verify, get_time_ms, surroundings.spread)
    importer = Importer(chain, learning, verify, admission, signatures.verify)
    sender = Sender(gate, identity.key, chain.header_context.chain_id)
    return Parts(
        chain, learning, mempool, gate, importer, identity.key, identity.signed, get_time_ms, signatures, sender
    )
