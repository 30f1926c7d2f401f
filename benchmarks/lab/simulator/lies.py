"""What a rogue answers: openings that are not the headers', new blocks that never come, transactions of other blocks.

These get in where an honest peer would: a node asks because the rogue claimed work, named a block first, or brought
blocks until it was asked to push them. It judges nothing.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace

from benchmarks.lab.simulator.visits import Visit, get_blocks
from chain.block import Block
from chain.codec import encode
from chain.header import compute_header_hash
from chain.packed import pack_block
from chain.primitives import Hash
from p2p.compact import SHORT_ID_BYTES, make_compact_block
from p2p.messages import (
    BlockMessage,
    CompactMessage,
    GetData,
    GetHeaders,
    GetTransactions,
    Headers,
    Inventory,
    Item,
    ItemKind,
    Message,
    NotFound,
    OpeningMessage,
    PushBlocks,
    Status,
    Transactions,
)

RUN_BLOCKS = 128
"""Headers of a run that a rogue sends."""

LOOK_S = 0.05
"""How often a rogue looks for a new block."""


async def show_false_openings(visit: Visit) -> None:
    """Claim work, send headers, some with an end that nobody can know, and show openings that are false, or none."""
    chain = visit.get_heaviest()
    blocks = () if chain is None else get_blocks(chain, RUN_BLOCKS)
    if not blocks:
        return
    headers = [encode(block.header) for block in blocks]
    if visit.random.random() < 0.5:
        end = blocks[-1].header
        foliage = replace(end.foliage, state_root=Hash(visit.random.randbytes(32)))
        headers[-1] = encode(replace(end, foliage=foliage))
    wrong, is_silent = encode(visit.random.choice(blocks).opening), visit.random.random() < 0.2
    await visit.tell(Status(1 << 40, 1 << 250))
    while (message := await visit.hear()) is not None:
        if isinstance(message, GetHeaders):
            await visit.tell(Headers(tuple(headers)))
        for item in message.items if isinstance(message, GetData) and not is_silent else ():
            shown = visit.random.choice((wrong, wrong, visit.random.randbytes(200)))
            is_shown = item.kind == ItemKind.OPENING and visit.random.random() < 0.9
            await visit.tell(OpeningMessage(item.hash, shown) if is_shown else NotFound((item,)))


async def hold_back(visit: Visit) -> None:
    """Claim the most work, name every new block as soon as it is anywhere, and bring none of them."""

    async def answer() -> None:
        while (message := await visit.hear()) is not None:
            if isinstance(message, GetHeaders):
                await visit.tell(Headers(()))

    await visit.tell(Status(1 << 40, 1 << 250))
    await _answer_beside_news(visit, answer(), lambda _: None)


async def betray_a_pusher(visit: Visit) -> None:
    """Bring new blocks until asked to push them, then push them with names of no transaction and answer with a lie."""
    is_pusher, lie, known = False, visit.random.randrange(4), dict[Hash, Block]()

    def push(block: Block) -> Message | None:
        known[compute_header_hash(block.header)] = block
        if not is_pusher:
            return None
        compact = make_compact_block(pack_block(block), visit.random.randrange(1 << 64))
        return CompactMessage(replace(compact, short_ids=compact.short_ids + visit.random.randbytes(SHORT_ID_BYTES)))

    async def answer() -> None:
        nonlocal is_pusher
        while (message := await visit.hear()) is not None:
            if isinstance(message, PushBlocks):
                is_pusher = bool(message.is_wanted)
            elif isinstance(message, GetTransactions) and lie:
                await visit.tell(_lie_about(visit, message, lie))
            elif isinstance(message, GetData) and not is_pusher:
                for block in [known[item.hash] for item in message.items if item.hash in known]:
                    await visit.tell(BlockMessage(encode(block)))

    await _answer_beside_news(visit, answer(), push)


async def _answer_beside_news(
    visit: Visit, answer: Coroutine[object, object, None], make: Callable[[Block], Message | None]
) -> None:
    news = asyncio.create_task(_tell_news(visit, make))
    try:
        await answer
    finally:
        news.cancel()
        await asyncio.gather(news, return_exceptions=True)


async def _tell_news(visit: Visit, make: Callable[[Block], Message | None]) -> None:
    """Name each new block of all machines, or send what is made of it."""
    newest: Hash | None = None
    while True:
        chain = visit.get_heaviest()
        if chain is not None and chain.head.height > 0 and chain.head.hash != newest:
            newest = chain.head.hash
            message = make(chain.get_existing_block(newest))
            await visit.tell(message or Inventory((Item(ItemKind.BLOCK, newest),)))
        await asyncio.sleep(LOOK_S)


def _lie_about(visit: Visit, question: GetTransactions, lie: int) -> Message:
    if lie == 1:
        return NotFound((Item(ItemKind.COMPACT, question.block),))
    if lie == 2:
        return Transactions(question.block, tuple(visit.random.randbytes(100) for _ in question.positions))
    others = [encode(each) for block in visit.blocks for each in block.transactions]
    wrong = tuple(visit.random.choice(others) for _ in question.positions) if others else ()
    return Transactions(question.block, wrong)
