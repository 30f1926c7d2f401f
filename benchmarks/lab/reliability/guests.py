"""Scripted peers: the node's own wires and handshake, and behind them whatever a script says.

A guest that offers answers each question for what it has announced. It holds no chain and judges nothing.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from benchmarks.lab.simulator.setting import Setting
from chain.primitives import Hash
from chain.signature import SigningKey
from node.link import Link
from node.observability.tally import Tally
from node.options import Endpoint
from node.transport import Dialler
from p2p.handshake import NetworkId, Role, make_session
from p2p.limits import Limits
from p2p.messages import (
    BlockMessage,
    GetData,
    Inventory,
    Item,
    ItemKind,
    Message,
    Status,
    TransactionMessage,
    encode_frame,
)

DIAL_S = 10.0
BLOCK_KINDS = (ItemKind.BLOCK, ItemKind.COMPACT)


@asynccontextmanager
async def join(dialler: Dialler, place: Endpoint, setting: Setting) -> AsyncIterator[Link]:
    """Shake hands with a node under a fresh key; raises OSError, RemoteProtocolError."""
    wire = await dialler.dial(place.host, place.port, DIAL_S)
    network = NetworkId(setting.context.chain_id, setting.genesis_hash)
    key = SigningKey(os.urandom(32))
    session = make_session(Role.INITIATOR, key, network, wire.certificate_hash, os.urandom(32), 0)
    link = Link(wire, session, Limits(), Tally())
    try:
        await link.shake_hands()
        yield link
    finally:
        await link.close()


async def send(link: Link, message: Message) -> None:
    """Send a message at once; raises OSError when the node has hung up."""
    await link.wire.send(encode_frame(message))


async def announce(link: Link, kind: int, names: list[Hash]) -> None:
    """Say what can be had."""
    await send(link, Inventory(tuple(Item(kind, name) for name in names)))


async def serve(link: Link, blocks: Mapping[Hash, bytes], transactions: Mapping[Hash, bytes]) -> AsyncIterator[int]:
    """Answer questions until the node hangs up; yields the height of each status that it tells, -1 for an answer."""
    async for message in link.receive():
        if isinstance(message, Status):
            yield message.height
        elif isinstance(message, GetData):
            for item in message.items:
                if item.kind in BLOCK_KINDS and item.hash in blocks:
                    await send(link, BlockMessage(blocks[item.hash]))
                    yield -1
                elif item.kind == ItemKind.TRANSACTION and item.hash in transactions:
                    await send(link, TransactionMessage((transactions[item.hash],)))
                    yield -1


async def wait_for_height(link: Link, heights: AsyncIterator[int], height: int, timeout_s: float) -> None:
    """Return once the node has told of a height; raises TimeoutError, ConnectionError."""
    async with asyncio.timeout(timeout_s):
        async for told in heights:
            if told >= height:
                return
    raise ConnectionError(f"the node hung up on {link.wire.address}")
