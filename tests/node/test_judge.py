"""The judge takes blocks before transactions, transactions in batches, and lets a flood go."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from chain.hashing import tagged_hash
from chain.packed import PackedBlock, PackedTransaction, pack_block, pack_transaction
from chain.primitives import Hash, PublicKey
from chain.transaction import Transfer
from node import judge as module
from node.judge import Judge
from node.ports import Outcome, SubmitResult
from p2p.actions import DeliverBlock, DeliverTransaction, Delivery
from p2p.limits import Limits
from p2p.relay import Relay
from tests.support import scripted_chain
from tests.support.ledger import DAVE, LedgerChain, make_public_key
from tests.support.scripted_chain import ScriptedChain

PEER = PublicKey(b"\x07" * 32)
LEDGER = LedgerChain()


class WatchedChain(ScriptedChain):
    """A scripted chain that notes what it is asked, and takes its time when told."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[object] = []
        self.is_open, self.is_block_judged = asyncio.Event(), asyncio.Event()
        self.is_open.set()
        self.is_block_judged.set()

    async def submit_block(self, block: PackedBlock, sidecars: tuple[bytes, ...]) -> SubmitResult:
        self.asked.append("block")
        await self.is_block_judged.wait()
        return SubmitResult(Outcome.ALREADY_KNOWN)

    async def submit_transactions(self, offers: Sequence[tuple[PackedTransaction, bytes | None]]) -> list[SubmitResult]:
        self.asked.append(len(offers))
        await self.is_open.wait()
        return await super().submit_transactions(offers)


class Court:
    """A judge at work and what came of it."""

    def __init__(self) -> None:
        self.chain = WatchedChain()
        self.relay = Relay(self.chain, Limits(), Hash(bytes(32)))
        self.judged: list[tuple[Delivery, bool]] = []
        self.judge = Judge(self.chain, self.relay, lambda: 0, self.judged.extend)

    async def run_until(self, count: int) -> None:
        task = asyncio.create_task(self.judge.run())
        async with asyncio.timeout(10):
            while len(self.judged) < count:
                await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])


def make_delivery(number: int) -> DeliverTransaction:
    transaction = LEDGER.sign(DAVE, Transfer(make_public_key(7), number + 1), nonce=number)
    packed = pack_transaction(transaction)
    return DeliverTransaction(PEER, packed.hash, packed, None)


def make_block(number: int) -> DeliverBlock:
    block = pack_block(scripted_chain.make_block(scripted_chain.GENESIS, 1))
    return DeliverBlock(PEER, tagged_hash("test.block", bytes([number])), block, ())


async def test_blocks_go_before_transactions_that_came_first() -> None:
    court = Court()
    for number in range(5):
        court.judge.put(make_delivery(number))
    court.judge.put(make_block(0))
    court.judge.put(make_block(1))
    assert court.judge.waiting == 7
    await court.run_until(7)
    assert court.chain.asked == ["block", "block", 5]
    assert [is_new for _, is_new in court.judged] == [False, False, *[True] * 5]


async def test_a_block_waits_for_one_batch_at_most() -> None:
    court = Court()
    court.chain.is_open.clear()
    court.judge.put(make_delivery(0))
    task = asyncio.create_task(court.judge.run())
    while not court.chain.asked:
        await asyncio.sleep(0)
    for number in range(1, 9):
        court.judge.put(make_delivery(number))
    court.judge.put(make_block(0))
    court.chain.is_open.set()
    while len(court.judged) < 10:
        await asyncio.sleep(0)
    assert court.chain.asked == [1, "block", 8]
    task.cancel()
    await asyncio.wait([task])


async def test_transactions_wait_for_the_block_under_way_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    court = Court()
    async with asyncio.timeout(1):
        await court.judge.wait_block()
    court.chain.is_block_judged.clear()
    court.judge.put(make_block(0))
    task = asyncio.create_task(court.judge.run())
    while "block" not in court.chain.asked:
        await asyncio.sleep(0)
    waiter = asyncio.create_task(court.judge.wait_block())
    await asyncio.sleep(0.01)
    assert not waiter.done()
    court.chain.is_block_judged.set()
    async with asyncio.timeout(1):
        await waiter
    court.chain.is_block_judged.clear()
    court.judge.put(make_block(1))
    while court.chain.asked != ["block", "block"]:
        await asyncio.sleep(0)
    monkeypatch.setattr(module, "BLOCK_WAIT_S", 0.01)
    async with asyncio.timeout(1):
        await court.judge.wait_block()
    assert len(court.judged) == 1
    task.cancel()
    await asyncio.wait([task])


async def test_each_is_told_its_own_result() -> None:
    court = Court()
    deliveries = [make_delivery(number) for number in range(3)]
    court.chain.refused.add(deliveries[1].hash)
    for delivery in deliveries:
        court.judge.put(delivery)
    await court.run_until(3)
    assert court.judged == [(deliveries[0], True), (deliveries[1], False), (deliveries[2], True)]


async def test_a_batch_is_acted_on_once() -> None:
    court, batches = Court(), list[int]()
    court.judge = Judge(court.chain, court.relay, lambda: 0, lambda judged: batches.append(len(judged)))
    for number in range(5):
        court.judge.put(make_delivery(number))
    task = asyncio.create_task(court.judge.run())
    while not batches:
        await asyncio.sleep(0)
    assert batches == [5]
    task.cancel()
    await asyncio.wait([task])


async def test_a_flood_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRANSACTIONS_QUEUED_MAX", 4)
    court = Court()
    for number in range(20):
        court.judge.put(make_delivery(number))
    for number in range(3):
        court.judge.put(make_block(number))
    assert court.judge.waiting == 7
    await court.run_until(7)
    assert court.chain.asked == ["block"] * 3 + [4]


def make_block_of(peer: int, number: int) -> DeliverBlock:
    return replace(make_block(number), peer=PublicKey(bytes([peer]) * 32))


async def test_peers_take_turns() -> None:
    court = Court()
    for number in range(4):
        court.judge.put(make_block_of(1, number))
    honest = make_block_of(2, 9)
    court.judge.put(honest)
    await court.run_until(5)
    assert [delivery for delivery, _ in court.judged].index(honest) == 1


async def test_what_those_who_left_have_sent_comes_last_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEFT_MAX", 3)
    court = Court()
    sent = [make_block_of(peer, peer) for peer in range(8)]
    for delivery in sent:
        court.judge.put(delivery)
        court.judge.drop_peer(delivery.peer)
    honest = make_block_of(9, 9)
    court.judge.put(honest)
    assert court.judge.waiting == 4
    await court.run_until(4)
    assert [delivery for delivery, _ in court.judged] == [honest, *sent[-3:]]
