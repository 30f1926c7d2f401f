"""What a rogue says unasked, in one visit: garbage, floods, promises and claims.

What it answers to questions is in `lies`. Each kind is a function of a visit and ends when it has done its worst. It
judges nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random

from benchmarks.lab.simulator.lies import betray_a_pusher, hold_back, show_false_openings
from benchmarks.lab.simulator.light_branches import show_light_branches
from benchmarks.lab.simulator.visits import Visit
from chain.block import Block
from chain.codec import encode
from chain.header import compute_header_hash
from chain.packed import pack_block
from chain.primitives import Hash, Signature
from p2p.compact import make_compact_block
from p2p.messages import (
    FRAME_BYTES_MAX,
    BlobPart,
    BlockMessage,
    CompactMessage,
    GetBlobPart,
    GetData,
    GetHeaders,
    GetStateChunk,
    Headers,
    Inventory,
    Item,
    ItemKind,
    NotFound,
    OpeningMessage,
    Ping,
    StateChunkMessage,
    Status,
    TransactionMessage,
    Transactions,
)

VISIT_S = 30.0
FLOOD = 200


async def _send_garbage(visit: Visit) -> None:
    await visit.wire.send(visit.random.randbytes(visit.random.randrange(1, 2_000)))


async def _send_a_bomb(visit: Visit) -> None:
    # Arrays that announce four billion members, one in the other; and a frame over every limit.
    await visit.wire.send(b"\xdd\xff\xff\xff\xff" * visit.random.randrange(1, 10_000))
    await visit.wire.send(bytes(FRAME_BYTES_MAX + 1))


async def _send_unasked(visit: Visit) -> None:
    for block in visit.blocks:
        await visit.tell(BlockMessage(encode(block)))
        await visit.tell(Headers((encode(block.header),)))
        await visit.tell(CompactMessage(make_compact_block(pack_block(block), visit.random.randrange(1 << 64))))
        block_hash = compute_header_hash(block.header)
        await visit.tell(OpeningMessage(block_hash, encode(block.opening)))
        await visit.tell(Transactions(block_hash, tuple(encode(each) for each in block.transactions)))
    await visit.tell(TransactionMessage((visit.random.randbytes(100),)))


async def _send_unasked_pieces(visit: Visit) -> None:
    for _ in range(FLOOD // 10):
        name, data = Hash(visit.random.randbytes(32)), visit.random.randbytes(visit.random.randrange(1, 5_000))
        await visit.tell(StateChunkMessage(name, Hash(bytes(32)), data))
        await visit.tell(BlobPart(name, visit.random.randrange(1 << 64), visit.random.randrange(1 << 64), data))


async def _offer_invalid_blocks(visit: Visit) -> None:
    forged = {}
    for block in visit.blocks:
        spoilt = spoil(block, visit.random)
        forged[compute_header_hash(spoilt.header)] = spoilt
    await visit.tell(Inventory(tuple(Item(ItemKind.BLOCK, block_hash) for block_hash in forged)))
    while (message := await visit.hear()) is not None:
        for item in message.items if isinstance(message, GetData) else ():
            if item.hash in forged:
                block, is_whole = forged[item.hash], item.kind == ItemKind.BLOCK or visit.random.random() < 0.5
                compact = make_compact_block(pack_block(block), visit.random.randrange(1 << 64))
                await visit.tell(BlockMessage(encode(block)) if is_whole else CompactMessage(compact))


async def _claim_work(visit: Visit) -> None:
    await visit.tell(Status(1 << 40, 1 << 250))
    while (message := await visit.hear()) is not None:
        if isinstance(message, GetHeaders) and visit.random.random() < 0.5:
            await visit.tell(Headers(tuple(encode(spoil(block, visit.random).header) for block in visit.blocks)))


async def _promise_and_stall(visit: Visit) -> None:
    for _ in range(FLOOD // 10):
        items = tuple(Item(visit.random.randrange(3), Hash(visit.random.randbytes(32))) for _ in range(FLOOD))
        await visit.tell(Inventory(items))


async def _ask_for_much(visit: Visit) -> None:
    hashes = [compute_header_hash(block.header) for block in visit.blocks] or [Hash(bytes(32))]
    for _ in range(FLOOD):
        kinds = (ItemKind.BLOCK, ItemKind.COMPACT, ItemKind.OPENING, ItemKind.TRANSACTION)
        await visit.tell(GetData(tuple(Item(kind, visit.random.choice(hashes)) for kind in kinds)))
    for block in visit.blocks:
        await visit.tell(GetStateChunk(block.header.foliage.state_root, Hash(visit.random.randbytes(32))))
        await visit.tell(GetBlobPart(block.header.foliage.state_root, visit.random.randrange(1 << 64)))
    await asyncio.sleep(VISIT_S)


async def _chatter(visit: Visit) -> None:
    for number in range(FLOOD):
        await visit.tell(Ping(number))
        await visit.tell(NotFound((Item(ItemKind.BLOCK, Hash(visit.random.randbytes(32))),)))


MALICE: dict[str, Callable[[Visit], Awaitable[None]]] = {
    "garbage": _send_garbage,
    "bomb": _send_a_bomb,
    "unasked content": _send_unasked,
    "unasked pieces of states and blobs": _send_unasked_pieces,
    "invalid blocks": _offer_invalid_blocks,
    "claims of work": _claim_work,
    "stalling": _promise_and_stall,
    "asking for much": _ask_for_much,
    "chatter": _chatter,
    "false openings": show_false_openings,
    "new blocks held back": hold_back,
    "false compact blocks": betray_a_pusher,
}

COSTLY_MALICE = {"light branches without an end": show_light_branches}
"""Kinds that a run has only when it is about them: their real tickets take longer than all else in it."""


def spoil(block: Block, random: Random) -> Block:
    """Return a block that breaks a rule: another root, another time, a signature of nobody, or no opening."""
    header, kind = block.header, random.randrange(4)
    if kind == 0:
        foliage = replace(header.foliage, state_root=Hash(random.randbytes(32)))
        return replace(block, header=replace(header, foliage=foliage))
    if kind == 1:
        foliage = replace(header.foliage, timestamp_ms=header.foliage.timestamp_ms + random.randrange(1, 1 << 40))
        return replace(block, header=replace(header, foliage=foliage))
    if kind == 2:
        return replace(block, header=replace(header, signature=Signature(random.randbytes(64))))
    return replace(block, opening=replace(block.opening, strips_a=()))
