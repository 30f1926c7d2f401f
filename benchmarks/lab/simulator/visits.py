"""What a rogue has in hand once a node has let it in: a connection, its own chance, and all that is public.

It sees the blocks of every machine at once, as somebody does who has a listener beside each. It knows no malice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from benchmarks.lab.simulator.machine import Machine
from benchmarks.lab.simulator.wires import VirtualWire
from chain.block import Block
from node.chain import Chain
from p2p.connection import Connection, Established
from p2p.messages import Message

RECENT_BLOCKS = 4


@dataclass(frozen=True, slots=True)
class Visit:
    """A rogue's connection to a machine after the handshake."""

    wire: VirtualWire
    connection: Connection
    random: Random
    host: Machine
    machines: Sequence[Machine]

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The newest blocks of the node that is visited, none when it is down."""
        return () if self.host.validator is None else get_blocks(self.host.validator.parts.chain, RECENT_BLOCKS)

    async def tell(self, message: Message) -> None:
        """Send a message in a good frame; raises OSError."""
        await self.wire.send(self.connection.send(message))

    async def hear(self) -> Message | None:
        """Return what the node says next, None when it has hung up; raises RemoteProtocolError."""
        while (event := self.connection.next_event()) is None:
            data = await self.wire.receive()
            if data is None:
                return None
            self.connection.receive_data(data)
        assert not isinstance(event, Established)
        return event

    def get_heaviest(self) -> Chain | None:
        """Return the chain with the most work of all that are up."""
        chains = [machine.validator.parts.chain for machine in self.machines if machine.validator is not None]
        return max(chains, key=lambda chain: chain.head.total_work, default=None)


def get_blocks(chain: Chain, count: int) -> tuple[Block, ...]:
    """Return up to so many blocks up to the head, genesis left out, oldest first."""
    heights = range(max(1, chain.head.height - count + 1), chain.head.height + 1)
    return tuple(chain.get_existing_block(chain.head.get_ancestor(height).hash) for height in heights)
