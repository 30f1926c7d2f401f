"""A small network of real processes for a while: an honest miner, perhaps a forger, and people with coins.

What runs is what anybody runs; people sign and send over RPC. At the end mining stops, so that one head stands still
while everything is read. It knows no story.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from chain.block import BLOCK_BYTES_MAX, Block
from chain.codec import decode
from chain.genesis import Allocation, Genesis, Parameters
from chain.primitives import PublicKey
from chain.signature import SigningKey
from chain.transaction import Action
from node.devnet.genesis import DEFAULTS
from node.devnet.members import Member, make_members, start_miner, start_node
from node.devnet.processes import Child, stop_children
from node.keystore import load_key
from node.options import DevnetOptions
from node.rpc.client import NodeUnreachable, RpcClient
from node.rpc.methods import GET_BLOCK, GET_STATUS, BlockParams
from node.rpc.registry import Params
from node.rpc.views import StatusView
from node.wallet import send_action, wait_for_block

POLL_S = 0.5
START_TIMEOUT_S = 180
WAIT_S = 600
"""For a block or a round, on a machine that has other things to do."""


@dataclass(slots=True)
class Network:
    """A running network; the first member mines honestly, the last forges if anyone does, once it has joined."""

    members: tuple[Member, ...]
    nodes: list[Child] = field(default_factory=list)
    miners: list[Child] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The first node's address."""
        return self.members[0].rpc.url

    @property
    def genesis(self) -> Genesis:
        """The network's genesis record."""
        return self.members[0].directory.read_genesis()

    def get_key(self, number: int) -> SigningKey:
        """Return the key of a member."""
        return load_key(self.members[number].directory.key_path, "")

    def get_status(self, number: int = 0) -> StatusView | None:
        """Return what a node says of itself, or None while it does not answer."""
        client = RpcClient(self.members[number].rpc.url)
        try:
            return client.call(GET_STATUS, Params())
        except NodeUnreachable:
            return None
        finally:
            client.close()

    def send(self, key: SigningKey, action: Action, fee: int) -> int:
        """Sign and send an action and return the height of its block; raises CommandError, RemoteError."""
        return wait_for_block(self.url, send_action(self.url, key, action, fee), WAIT_S)

    async def start_forger(self) -> None:
        """Let the last member mine; it forges every segment."""
        self.miners.append(await start_miner(self.members[-1], is_sabotaging=True))

    async def wait_until(self, what: str, is_reached: Callable[[], bool]) -> None:
        """Poll until something holds, asking in a thread; raises TimeoutError with what was waited for."""
        try:
            async with asyncio.timeout(WAIT_S):
                while not await asyncio.to_thread(is_reached):
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise TimeoutError(f"waited {WAIT_S} s in vain for {what}") from None

    async def stop_mining(self) -> None:
        """Stop all miners and wait until all nodes agree on a head; raises TimeoutError."""
        await stop_children(self.miners)
        async with asyncio.timeout(WAIT_S):
            while True:
                statuses = [self.get_status(number) for number in range(len(self.members))]
                heads = {status.head.hash for status in statuses if status is not None}
                if len(heads) == 1 and None not in statuses and not any(s and s.is_syncing for s in statuses):
                    return
                await asyncio.sleep(POLL_S)

    def read_blocks(self) -> list[Block]:
        """Return all blocks of the first node's chain from height 1 on."""
        client, status = RpcClient(self.url), self.get_status()
        assert status is not None
        heights = range(1, status.head.height + 1)
        records = [client.call(GET_BLOCK, BlockParams(height)).record for height in heights]
        return [decode(Block, record, BLOCK_BYTES_MAX) for record in records]


@asynccontextmanager
async def run_network(
    root: Path,
    base_port: int,
    people: Sequence[PublicKey],
    atoms: int,
    *,
    has_forger: bool,
    parameters: Parameters = DEFAULTS,
) -> AsyncIterator[Network]:
    """Run nodes and a miner under `root` until left; each of `people` has so many atoms from genesis on.

    Who is to forge has nothing, no bond, and does not mine yet.
    """
    nodes = 2 if has_forger else 1
    options = DevnetOptions(root, nodes=nodes, miners=1, fresh=True, base_port=base_port)
    allocations = tuple(Allocation(account, atoms) for account in people)
    network = Network(make_members(options, allocations, parameters, newcomers=int(has_forger)))
    try:
        for member in network.members:
            network.nodes.append(await start_node(member, network.members))
        async with asyncio.timeout(START_TIMEOUT_S):
            while any(network.get_status(number) is None for number in range(nodes)):
                await asyncio.sleep(POLL_S)
        network.miners.append(await start_miner(network.members[0]))
        yield network
    finally:
        await stop_children(network.miners)
        await stop_children(network.nodes)
