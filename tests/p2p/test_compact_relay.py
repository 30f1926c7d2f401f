"""Two relays and what travels between them when blocks come without their transactions."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.block import Block
from chain.codec import decode, encode
from chain.packed import pack_block
from chain.primitives import Hash, PublicKey
from chain.transaction import compute_transaction_hash
from p2p.actions import Action, Charge, DeliverBlock, DeliverHeaders, DeliverTransaction, Send, Serve
from p2p.compact import make_compact_block
from p2p.compact_relay import FILLS_BURST
from p2p.gossip import RETELL_MS
from p2p.limits import Limits
from p2p.messages import (
    BlockMessage,
    CompactMessage,
    GetData,
    GetTransactions,
    Inventory,
    Item,
    ItemKind,
    Message,
    PushBlocks,
    Transactions,
)
from p2p.relay import Relay
from p2p.score import Fault
from p2p.serve import Server
from tests.support.scripted_chain import GENESIS, ScriptedChain, make_block, make_transfer

ANN, BEN = PublicKey(b"a" * 32), PublicKey(b"b" * 32)
LIMITS = Limits()
SECRET = Hash(b"s" * 32)
TRANSFERS = tuple(make_transfer(nonce) for nonce in range(20))


class Side:
    """One node's chain, relay and server, and the messages it has sent and not delivered yet."""

    def __init__(self, name: PublicKey, other: PublicKey) -> None:
        self.name, self.other = name, other
        self.chain = ScriptedChain()
        self.relay = Relay(self.chain, LIMITS, SECRET)
        self.server = Server(self.chain, 5)
        self.outbox: deque[Message] = deque()
        self.sent: list[Message] = []
        self.faults: list[Fault] = []
        self.relay.on_established(other)

    def act(self, now_ms: int) -> None:
        while actions := self.relay.poll(now_ms):
            for action in actions:
                self._perform(action, now_ms)

    def _perform(self, action: Action, now_ms: int) -> None:
        if isinstance(action, Send | Serve):
            message = action.message if isinstance(action, Send) else self.server.answer(action.question)
            self.outbox.append(message)
            self.sent.append(message)
        elif isinstance(action, Charge):
            self.faults.append(action.fault)
        elif isinstance(action, DeliverHeaders):
            result = asyncio.run(self.chain.submit_headers(action.peer, action.headers))
            self.relay.on_headers_outcome(action, result, now_ms)
        elif isinstance(action, DeliverBlock):
            result = asyncio.run(self.chain.submit_block(action.block, action.sidecars))
            self.relay.on_block_outcome(action.peer, action.hash, result, now_ms)
        else:
            assert isinstance(action, DeliverTransaction)
            result = self.chain.submit_transaction(action.transaction, action.sidecar)
            self.relay.on_transaction_outcome(action.peer, action.hash, result)

    def list_sent(self, kind: type[Message]) -> list[Message]:
        return [message for message in self.sent if isinstance(message, kind)]


def make_pair() -> tuple[Side, Side]:
    ann, ben = Side(ANN, BEN), Side(BEN, ANN)
    pump(ann, ben)
    return ann, ben


def pump(ann: Side, ben: Side, now_ms: int = 0, is_lost: Callable[[Message], bool] = lambda _: False) -> None:
    """Carry messages both ways until nothing is left to say."""
    ann.act(now_ms)
    ben.act(now_ms)
    while ann.outbox or ben.outbox:
        for side, receiver in ((ann, ben), (ben, ann)):
            while side.outbox:
                message = side.outbox.popleft()
                if not is_lost(message):
                    receiver.relay.on_message(side.name, message, now_ms)
            receiver.act(now_ms)


def publish(side: Side, count: int = 20, height: int = 1) -> Block:
    block = make_block(side.chain.tip.hash, height, TRANSFERS[:count])
    side.chain.add(block)
    side.relay.announce_block(side.chain.tip.hash)
    return block


def fill_pool(side: Side, numbers: range) -> None:
    for number in numbers:
        side.chain.add_transaction(TRANSFERS[number])


def test_a_block_of_known_transactions_comes_without_them() -> None:
    ann, ben = make_pair()
    fill_pool(ben, range(20))
    block = publish(ann)
    pump(ann, ben)
    assert ben.chain.blocks[ann.chain.tip.hash] == encode(block)
    (compact,) = ann.list_sent(CompactMessage)
    assert len(encode(compact)) < len(encode(block)) // 4
    assert not ann.list_sent(BlockMessage)
    assert not ben.list_sent(GetTransactions)
    assert not ann.faults + ben.faults


@pytest.mark.parametrize("known", [range(0), range(7), range(5, 20), range(0, 20, 3)])
def test_what_is_unknown_is_asked_for_once(known: range) -> None:
    ann, ben = make_pair()
    fill_pool(ben, known)
    publish(ann)
    pump(ann, ben)
    assert ben.chain.tip == ann.chain.tip
    (asked,) = ben.list_sent(GetTransactions)
    assert isinstance(asked, GetTransactions)
    assert asked.positions == tuple(number for number in range(20) if number not in known)
    assert not ann.list_sent(BlockMessage)


def test_who_was_first_is_asked_to_push_and_then_pushes() -> None:
    ann, ben = make_pair()
    publish(ann)
    pump(ann, ben)
    assert ben.list_sent(PushBlocks) == [PushBlocks(1)]
    ann.sent.clear()
    ben.sent.clear()
    fill_pool(ben, range(20))
    publish(ann, height=2)
    pump(ann, ben)
    assert ben.chain.tip == ann.chain.tip
    assert not ann.list_sent(Inventory)
    assert len(ann.list_sent(CompactMessage)) == 1
    assert not ben.list_sent(GetData), "it came unasked"
    assert not ben.faults


def test_three_peers_push_and_the_first_longest_ago_gives_way() -> None:
    relay = Relay(ScriptedChain(), LIMITS, SECRET)
    peers = [PublicKey(bytes([number]) * 32) for number in range(5)]
    wishes: list[Send] = []
    for peer in peers:
        relay.on_established(peer)
        relay.poll(0)
        wishes += [send for send in relay._compact.on_first(peer) if isinstance(send, Send)]
    assert [send.peer for send in wishes if send.message == PushBlocks(1)] == peers
    assert [send.peer for send in wishes if send.message == PushBlocks(0)] == peers[:2]
    assert not relay._compact.is_pusher(peers[0])
    assert relay._compact.is_pusher(peers[4])


def test_a_block_that_stays_incomplete_is_fetched_whole() -> None:
    ann, ben = make_pair()
    block = publish(ann)
    pump(ann, ben, is_lost=lambda message: isinstance(message, Transactions))
    assert ben.chain.tip.hash == GENESIS
    pump(ann, ben, now_ms=LIMITS.stall_ms_min)
    assert ben.chain.blocks[ann.chain.tip.hash] == encode(block)
    assert len(ann.list_sent(BlockMessage)) == 1
    assert not ben.faults, "a lost answer alone is no fault"


@pytest.mark.parametrize("is_swapped", [False, True])
def test_names_that_lie_end_in_the_whole_block(is_swapped: bool) -> None:
    """A peer that names other transactions gains nothing and is not blamed for what chance could have done."""
    ann, ben = make_pair()
    fill_pool(ben, range(20))
    block = make_block(GENESIS, 1, TRANSFERS[:4])
    blocks = (block, replace(block, transactions=TRANSFERS[3::-1]))
    honest, swapped = (make_compact_block(pack_block(each), 5) for each in blocks)
    unknown = replace(honest, short_ids=honest.short_ids[::-1])
    ben.relay.on_message(ANN, Inventory((Item(ItemKind.BLOCK, ann.chain.add(block)),)), 0)
    ben.act(0)
    ben.outbox.clear()
    ben.relay.on_message(ANN, CompactMessage(swapped if is_swapped else unknown), 0)
    pump(ann, ben, now_ms=LIMITS.stall_ms_min)
    assert ben.chain.tip == ann.chain.tip
    assert len(ann.list_sent(BlockMessage)) == 1
    assert not ben.faults


def test_what_is_malformed_or_unasked_is_charged() -> None:
    ann, ben = make_pair()
    block = make_block(GENESIS, 1, TRANSFERS[:4])
    compact = make_compact_block(pack_block(block), 5)
    ben.relay.on_message(ANN, CompactMessage(compact), 0)
    ben.act(0)
    assert ben.faults == [Fault.UNSOLICITED]
    name = ann.chain.add(block)
    ben.relay.on_message(ANN, Inventory((Item(ItemKind.BLOCK, name),)), 0)
    ben.act(0)
    ben.relay.on_message(ANN, CompactMessage(replace(compact, short_ids=compact.short_ids[:-1])), 0)
    ben.act(0)
    assert ben.faults == [Fault.UNSOLICITED, Fault.PROTOCOL]
    ben.relay.on_message(ANN, Inventory((Item(ItemKind.BLOCK, name),)), 0)
    ben.act(0)
    ben.relay.on_message(ANN, CompactMessage(compact), 0)
    ben.act(0)
    ben.relay.on_message(ANN, Transactions(name, (encode(TRANSFERS[0]),)), 0)
    ben.act(0)
    assert ben.faults[2:] == [Fault.PROTOCOL], "one transaction where four were asked for"
    ben.relay.on_message(ANN, Transactions(Hash(bytes(32)), ()), 0)
    ben.act(0)
    assert len(ben.faults) == 3, "an answer that comes too late is no fault"


def test_invented_blocks_have_the_pool_looked_through_now_and_then_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    ann, ben = make_pair()
    looks: list[int] = []

    def look() -> tuple[Hash, ...]:
        looks.append(1)
        return ()

    monkeypatch.setattr(ben.chain, "iter_pool", look)
    ben.relay._compact.on_first(ANN)
    for number in range(3 * FILLS_BURST):
        block = make_block(GENESIS, 1, TRANSFERS[:2], salt=number)
        ben.relay.on_message(ANN, CompactMessage(make_compact_block(pack_block(block), 5)), 0)
    assert len(looks) == FILLS_BURST
    honest = publish(ann)
    pump(ann, ben)
    assert len(looks) == FILLS_BURST
    assert ben.chain.blocks[ann.chain.tip.hash] == encode(honest), "it comes whole"
    block = make_block(ben.chain.tip.hash, 2, TRANSFERS[:2], salt=1)
    ben.relay.on_message(ANN, CompactMessage(make_compact_block(pack_block(block), 5)), 1_000)
    assert len(looks) == FILLS_BURST + 1


def test_an_answer_to_an_earlier_question_is_no_fault() -> None:
    """A pusher on a slow line sends a block again while its first answer is under way, and the pool has changed."""
    ann, ben = make_pair()
    fill_pool(ben, range(16))
    name = ann.chain.add(make_block(GENESIS, 1, TRANSFERS[:18]))
    compact = CompactMessage(make_compact_block(pack_block(make_block(GENESIS, 1, TRANSFERS[:18])), 5))
    ben.relay._compact.on_first(ANN)

    def receive(message: Message, now_ms: int) -> list[tuple[int, ...]]:
        ben.sent.clear()
        ben.relay.on_message(ANN, message, now_ms)
        ben.act(now_ms)
        return [each.positions for each in ben.list_sent(GetTransactions) if isinstance(each, GetTransactions)]

    assert receive(compact, 0) == [(16, 17)]
    ben.act(LIMITS.stall_ms_min)
    ben.chain.transactions.pop(compute_transaction_hash(TRANSFERS[3]))
    assert receive(compact, LIMITS.stall_ms_min) == [], "it still owes an answer"
    assert receive(Transactions(name, tuple(map(encode, TRANSFERS[16:18]))), LIMITS.stall_ms_min + 1) == []
    assert not ben.faults
    assert receive(compact, LIMITS.stall_ms_min + 1) == [(3, 16, 17)], "it owes none any more"


def test_single_transactions_are_served_of_recent_blocks_alone() -> None:
    chain = ScriptedChain()
    server = Server(chain, 5)
    old = chain.add(make_block(GENESIS, 1, TRANSFERS[:3]))
    new = chain.add(make_block(old, 2, TRANSFERS[:3]))
    assert isinstance(server.answer(Item(ItemKind.COMPACT, new)), CompactMessage)
    assert isinstance(server.answer(Item(ItemKind.COMPACT, old)), BlockMessage), "an older one comes whole"
    assert server.answer(GetTransactions(new, (0, 2))) == Transactions(
        new, (encode(TRANSFERS[0]), encode(TRANSFERS[2]))
    )
    for block_hash, positions in ((old, (0,)), (new, (3,)), (new, (1, 1)), (new, (2, 1))):
        assert not isinstance(server.answer(GetTransactions(block_hash, positions)), Transactions)


def test_a_transaction_that_a_peer_missed_is_told_again() -> None:
    """Without it no later nonce of its account could ever stand in that peer's blocks."""
    ann, ben = make_pair()
    ann.chain.add_transaction(TRANSFERS[0])
    ann.relay.announce_transaction(compute_transaction_hash(TRANSFERS[0]))
    pump(ann, ben, 200, lambda message: isinstance(message, Inventory))
    assert not ben.chain.transactions
    pump(ann, ben, 5_000)
    assert not ben.chain.transactions, "not before its time"
    pump(ann, ben, RETELL_MS)
    assert ben.chain.transactions == ann.chain.transactions
    told = len(ann.list_sent(Inventory))
    pump(ann, ben, 2 * RETELL_MS)
    assert len(ann.list_sent(Inventory)) == told + 1
    assert not ann.faults + ben.faults


@given(
    st.sets(st.integers(0, 19)),
    st.lists(st.booleans(), max_size=40),
    st.lists(st.integers(0, 20), min_size=1, max_size=4),
)
def test_over_a_line_that_loses_messages_both_end_with_one_chain(
    known: set[int], losses: list[bool], sizes: list[int]
) -> None:
    ann, ben = make_pair()
    for number in sorted(known):
        ben.chain.add_transaction(TRANSFERS[number])
    line = iter(losses)
    for height, size in enumerate(sizes, 1):
        publish(ann, size, height)
        pump(ann, ben, height, lambda _message: next(line, False))
    # The line is good again: a new connection, as a broken one would lead to.
    for side, other in ((ann, BEN), (ben, ANN)):
        side.relay.on_gone(other)
        side.relay.on_established(other)
    for now_ms in range(10_000, 400_000, 10_000):
        pump(ann, ben, now_ms)
    assert ben.chain.tip == ann.chain.tip
    assert {h: decode(Block, b, 2**21) for h, b in ben.chain.blocks.items()} == {
        h: decode(Block, b, 2**21) for h, b in ann.chain.blocks.items()
    }
