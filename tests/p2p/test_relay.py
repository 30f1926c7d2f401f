"""Fetching, assembly, scores and limits, driven by hand on a clock of integers."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from chain.codec import encode
from chain.packed import pack_transaction
from chain.primitives import Hash, PublicKey
from chain.transaction import Sidecar, compute_sidecar_hash
from p2p.actions import Action, Charge, DeliverBlock, DeliverTransaction, Send
from p2p.fetch import Fetcher
from p2p.limits import BoundedSet, Limits, TokenBucket
from p2p.messages import (
    BlockMessage,
    GetData,
    GetHeaders,
    Headers,
    Inventory,
    Item,
    ItemKind,
    NotFound,
    SidecarMessage,
    Status,
    TransactionMessage,
)
from p2p.relay import Relay
from p2p.score import RECOVERY_MS, Fault, ScoreBoard, Standing
from p2p.view import Outcome, SubmitResult
from tests.support.scripted_chain import GENESIS, ScriptedChain, make_block, make_commit, make_transfer

ANN, BEN = PublicKey(b"a" * 32), PublicKey(b"b" * 32)
LIMITS = Limits()
PROVEN = replace(LIMITS, in_flight_new=LIMITS.in_flight_max)
SECRET = Hash(b"s" * 32)


def block_item(number: int) -> Item:
    return Item(ItemKind.BLOCK, Hash(number.to_bytes(32, "big")))


def make_relay(*peers: PublicKey) -> tuple[ScriptedChain, Relay]:
    chain = ScriptedChain()
    relay = Relay(chain, LIMITS, SECRET)
    for peer in peers:
        relay.on_established(peer)
    relay.poll(0)
    return chain, relay


def get_faults(actions: list[Action]) -> list[tuple[PublicKey, Fault]]:
    return [(action.peer, action.fault) for action in actions if isinstance(action, Charge)]


def test_a_peer_is_asked_for_more_with_every_good_block() -> None:
    fetcher = Fetcher(LIMITS)
    fetcher.add_peer(ANN)
    for number in range(100):
        fetcher.want(block_item(number), ANN)
    owed = []
    for now_ms in range(5):
        fetcher.poll(now_ms, 10_000)
        owed.append(fetcher._loads[ANN].owed)
        fetcher.on_good_block(ANN)
    assert owed == [2, 4, 8, 16, 16]
    fetcher.on_good_block(BEN)
    fetcher.drop_peer(ANN)
    fetcher.add_peer(ANN)
    fetcher.want(block_item(200), ANN)
    assert fetcher._loads[ANN].content.asked_max == LIMITS.in_flight_new, "whoever comes back begins anew"


def test_a_stalled_peer_is_charged_once_and_others_are_asked() -> None:
    fetcher = Fetcher(PROVEN)
    fetcher.add_peer(ANN)
    for number in range(20):
        fetcher.want(block_item(number), ANN)
    (ask,) = fetcher.poll(0, 10_000)
    assert isinstance(ask, Send)
    assert isinstance(ask.message, GetData)
    assert len(ask.message.items) == LIMITS.in_flight_max
    fetcher.add_peer(BEN)
    for number in range(20):
        fetcher.want(block_item(number), BEN)
    (ask,) = fetcher.poll(100, 10_000)
    assert ask == Send(BEN, GetData(tuple(block_item(n) for n in range(16, 20))))
    fetcher.on_received(BEN, block_item(16), 1900)
    actions = fetcher.poll(2000, 10_000)
    assert get_faults(actions) == [(ANN, Fault.TIMEOUT)]
    assert {action.peer for action in actions if isinstance(action, Send)} == {BEN}
    assert fetcher.on_received(ANN, block_item(0), 2001), "late, but it was asked for"
    assert not fetcher.on_received(ANN, block_item(0), 2002), "only once"
    assert not fetcher.on_received(ANN, block_item(16), 2002), "never asked of this peer"


@given(
    st.lists(st.tuples(st.sampled_from(["want", "got", "none", "drop", "add", "time"]), st.integers(0, 7)), min_size=8)
)
def test_fetching_keeps_its_books(steps: list[tuple[str, int]]) -> None:
    fetcher, now_ms = Fetcher(LIMITS), 0
    fetcher.add_peer(ANN)
    fetcher.add_peer(BEN)
    for step, number in steps:
        peer, item = (ANN, BEN)[number % 2], Item(number // 4, block_item(number // 2).hash)
        if step == "want":
            fetcher.want(item, peer)
        elif step == "got":
            fetcher.on_received(peer, item, now_ms)
        elif step == "none":
            fetcher.on_not_found(peer, (item,), now_ms)
        elif step == "drop":
            fetcher.drop_peer(peer)
        elif step == "add":
            fetcher.drop_peer(peer)
            fetcher.add_peer(peer)
        now_ms += 700 * number
        fetcher.poll(now_ms, 10_000)
        for load_peer, load in fetcher._loads.items():
            owners = [w for w in fetcher._wants.values() if load_peer in w.candidates]
            assert load.named == len(owners)
            assert all(fetcher._wants[i].asked == load_peer for lane in load.lanes for i in lane.asked)
        assert all(want.candidates for want in fetcher._wants.values())


def test_blocks_wait_for_parents_and_sidecars() -> None:
    chain, relay = make_relay(ANN)
    sidecar = Sidecar(b"\x01" * 32, b"\x02" * 10)
    first = make_block(GENESIS, 1, (make_commit(sidecar),))
    helper = ScriptedChain()
    second = make_block(helper.add(first), 2)
    second_hash = helper.add(second)
    first_hash = second.header.foliage.parent_hash
    items = tuple(Item(ItemKind.BLOCK, block_hash) for block_hash in (second_hash, first_hash))
    relay.on_message(ANN, Inventory(items), 0)
    relay.poll(1)
    relay.on_message(ANN, BlockMessage(encode(second)), 2)
    relay.on_message(ANN, BlockMessage(encode(first)), 3)
    actions = relay.poll(3)
    assert not [action for action in actions if isinstance(action, DeliverBlock)]
    wanted = Item(ItemKind.SIDECAR, compute_sidecar_hash(sidecar))
    assert Send(ANN, GetData((wanted,))) in actions
    relay.on_message(ANN, SidecarMessage(encode(sidecar)), 4)
    (delivery,) = relay.poll(4)
    assert isinstance(delivery, DeliverBlock)
    assert delivery.sidecars == (encode(sidecar),)
    chain.add(first)
    relay.on_block_outcome(ANN, delivery.hash, SubmitResult(Outcome.ACCEPTED), 5)
    assert [action.hash for action in relay.poll(5) if isinstance(action, DeliverBlock)] == [second_hash]


def test_an_unknown_parent_asks_for_headers() -> None:
    _, relay = make_relay(ANN)
    helper = ScriptedChain()
    helper.extend(5)
    relay.on_message(ANN, Inventory((Item(ItemKind.BLOCK, helper.tip.hash),)), 0)
    relay.poll(0)
    relay.on_message(ANN, BlockMessage(helper.blocks[helper.tip.hash]), 1)
    asked = [action.message for action in relay.poll(1) if isinstance(action, Send)]
    assert GetHeaders((GENESIS,)) in asked
    relay.on_message(ANN, Headers(helper.get_headers_after((), 2000)), 2)
    assert [type(action) for action in relay.poll(2)] == [Send], "first some of their work is asked for"


def test_false_claims_pause_and_silence_is_charged() -> None:
    _, relay = make_relay(ANN, BEN)
    relay.on_message(ANN, Status(10, 1000), 0)
    (ask,) = relay.poll(0)
    assert ask == Send(ANN, GetHeaders((GENESIS,)))
    relay.on_message(ANN, Headers(()), 1)
    assert relay.poll(1) == []
    relay.on_message(BEN, Status(10, 500), 2)
    assert relay.poll(2) == [Send(BEN, GetHeaders((GENESIS,)))]
    actions = relay.poll(2 + LIMITS.headers_ms)
    assert get_faults(actions) == [(BEN, Fault.TIMEOUT)]
    assert Send(ANN, GetHeaders((GENESIS,))) in actions


def test_what_was_not_asked_for_is_charged() -> None:
    _, relay = make_relay(ANN)
    block = make_block(GENESIS, 1)
    for message in (
        BlockMessage(encode(block)),
        TransactionMessage((encode(make_transfer(0)),)),
        SidecarMessage(b"\x00"),
        Headers(()),
    ):
        relay.on_message(ANN, message, 0)
        assert get_faults(relay.poll(0)) == [(ANN, Fault.UNSOLICITED)]
    for bad in (
        Inventory((Item(9, GENESIS),)),
        Inventory((Item(ItemKind.COMPACT, GENESIS),)),
        GetData((Item(5, GENESIS),)),
    ):
        relay.on_message(ANN, bad, 0)
        assert get_faults(relay.poll(0)) == [(ANN, Fault.PROTOCOL)]


def test_other_transactions_under_a_good_hash_are_a_protocol_fault() -> None:
    _, relay = make_relay(ANN)
    good = make_block(GENESIS, 1)
    swapped = type(good)(good.header, good.opening, (make_transfer(0),))
    helper = ScriptedChain()
    relay.on_message(ANN, Inventory((Item(ItemKind.BLOCK, helper.add(good)),)), 0)
    relay.poll(0)
    relay.on_message(ANN, BlockMessage(encode(swapped)), 1)
    assert get_faults(relay.poll(1)) == [(ANN, Fault.PROTOCOL)]


def test_a_transaction_travels_once_and_its_judgement_is_remembered() -> None:
    _chain, relay = make_relay(ANN, BEN)
    transaction = make_transfer(0)
    item = Item(ItemKind.TRANSACTION, ScriptedChain().add_transaction(transaction))
    relay.on_message(ANN, Inventory((item,)), 0)
    relay.on_message(BEN, Inventory((item,)), 0)
    assert relay.poll(0) == [Send(ANN, GetData((item,)))]
    relay.on_message(ANN, TransactionMessage((encode(transaction),)), 1)
    assert relay.poll(1) == [DeliverTransaction(ANN, item.hash, pack_transaction(transaction), None)]
    relay.on_transaction_outcome(ANN, item.hash, SubmitResult(Outcome.INVALID, "signature"))
    assert get_faults(relay.poll(2)) == [(ANN, Fault.INVALID_TRANSACTION)]
    relay.on_message(BEN, Inventory((item,)), 3)
    assert relay.poll(3) == []


def test_a_sidecar_nobody_has_lets_the_block_go() -> None:
    _, relay = make_relay(ANN)
    sidecar = Sidecar(b"\x01" * 32, b"\x02")
    block = make_block(GENESIS, 1, (make_commit(sidecar),))
    item = Item(ItemKind.BLOCK, ScriptedChain().add(block))
    relay.on_message(ANN, Inventory((item,)), 0)
    relay.poll(0)
    relay.on_message(ANN, BlockMessage(encode(block)), 1)
    relay.poll(1)
    relay.on_message(ANN, NotFound((Item(ItemKind.SIDECAR, compute_sidecar_hash(sidecar)),)), 2)
    relay.poll(2)
    relay.on_message(ANN, Inventory((item,)), 3)
    assert relay.poll(3) == [Send(ANN, GetData((Item(ItemKind.COMPACT, item.hash),)))], "it is fetched anew"


def test_with_a_block_only_peer_no_transactions_are_exchanged() -> None:
    chain, relay = make_relay(BEN)
    relay.on_established(ANN, is_block_only=True)
    relay.poll(0)
    item = Item(ItemKind.TRANSACTION, chain.add_transaction(make_transfer(0)))
    relay.announce_transaction(item.hash)
    assert relay.poll(0) == [Send(BEN, Inventory((item,)))]
    theirs = Item(ItemKind.TRANSACTION, ScriptedChain().add_transaction(make_transfer(1)))
    relay.on_message(ANN, Inventory((theirs, block_item(5))), 1)
    assert relay.poll(1) == [Send(ANN, GetData((Item(ItemKind.COMPACT, block_item(5).hash),)))]


def transaction_items(count: int) -> tuple[Item, ...]:
    return tuple(Item(ItemKind.TRANSACTION, Hash(number.to_bytes(32, "big"))) for number in range(count))


def test_transactions_are_announced_together() -> None:
    chain, relay = make_relay(ANN, BEN)
    hashes = [chain.add_transaction(make_transfer(nonce)) for nonce in range(5)]
    relay.announce_transaction(hashes[0])
    assert [type(action.message) for action in relay.poll(1_000) if isinstance(action, Send)] == [Inventory] * 2
    for name in hashes[1:]:
        relay.announce_transaction(name)
    assert relay.poll(1_050) == [], "they gather for a while"
    items = tuple(Item(ItemKind.TRANSACTION, name) for name in hashes[1:])
    assert relay.poll(1_100) == [Send(ANN, Inventory(items)), Send(BEN, Inventory(items))]
    assert relay.poll(1_300) == []


def test_a_new_peer_is_told_of_the_pool() -> None:
    chain, relay = make_relay()
    names = [chain.add_transaction(make_transfer(nonce)) for nonce in range(1_500)]
    relay.on_established(ANN)
    told = [action.message for action in relay.poll(0) if isinstance(action, Send)]
    assert isinstance(told[0], Status)
    inventories = [message for message in told if isinstance(message, Inventory)]
    assert [len(message.items) for message in inventories] == [1_000, 500]
    assert [item.hash for message in inventories for item in message.items] == names
    relay.on_established(BEN, is_block_only=True)
    assert [type(action.message) for action in relay.poll(0) if isinstance(action, Send)] == [Status]


def test_no_more_transactions_are_asked_for_than_can_be_judged() -> None:
    _, relay = make_relay(ANN, BEN)
    items = transaction_items(3 * LIMITS.transactions_open_max // 2)
    for peer in (ANN, BEN):
        for start in range(0, len(items), 1_000):
            relay.on_message(peer, Inventory(items[start : start + 1_000]), 0)
    asked = [
        item
        for a in relay.poll(0)
        if isinstance(a, Send) and isinstance(a.message, GetData)
        for item in a.message.items
    ]
    assert len(asked) == LIMITS.transactions_open_max
    assert len(set(asked)) == len(asked)
    assert relay._fetcher.count_transactions_owed() == LIMITS.transactions_open_max
    blocks = tuple(block_item(number) for number in range(20))
    relay.on_message(ANN, Inventory(blocks), 1)
    (ask,) = relay.poll(1)
    assert isinstance(ask, Send)
    assert isinstance(ask.message, GetData)
    assert len(ask.message.items) == LIMITS.in_flight_new, "blocks have a lane of their own"


def test_pending_blocks_are_bounded() -> None:
    _, relay = make_relay(ANN)
    blocks = [make_block(Hash(n.to_bytes(32, "big")), 9, salt=n) for n in range(1, 300)]
    helper = ScriptedChain()
    for block in blocks:
        item = Item(ItemKind.BLOCK, helper._add_header(block.header))
        relay.on_message(ANN, Inventory((item,)), 0)
        relay.poll(0)
        relay.on_message(ANN, BlockMessage(encode(block)), 0)
        relay.poll(0)
    assert len(relay._assembly._pending) <= LIMITS.orphans_max


def test_a_second_content_is_told_and_a_third_is_neither_told_nor_fetched_again() -> None:
    """A thousand contents of one ticket: one announcement, nothing pending, no block asked for twice."""
    _, relay = make_relay(ANN, BEN)
    helper, told = ScriptedChain(), []
    for salt in range(1_000):
        block = make_block(GENESIS, 1, salt=salt)
        item = Item(ItemKind.BLOCK, helper._add_header(block.header))
        relay.on_message(ANN, Inventory((item,)), salt)
        assert relay.poll(salt) == [Send(ANN, GetData((Item(ItemKind.COMPACT, item.hash),)))]
        relay.on_message(ANN, BlockMessage(encode(block)), salt)
        (delivery,) = relay.poll(salt)
        assert isinstance(delivery, DeliverBlock)
        outcome = Outcome.SURPLUS if salt else Outcome.EVIDENCE
        relay.on_block_outcome(ANN, item.hash, SubmitResult(outcome), salt)
        told += [action for action in relay.poll(salt) if isinstance(action, Send)]
        if salt:
            relay.on_message(BEN, Inventory((item,)), salt)
            assert relay.poll(salt) == []
    assert [(send.peer, type(send.message)) for send in told] == [(BEN, Inventory)]
    assert not relay._assembly._pending
    assert not relay._assembly._delivered
    assert not relay._fetcher._wants


@given(st.lists(st.tuples(st.integers(0, 1 << 21), st.integers(0, 3_000)), max_size=60))
def test_a_bucket_never_lets_through_more_than_burst_and_rate(takes: list[tuple[int, int]]) -> None:
    bucket, now_ms, start_ms, total = TokenBucket(1000, 5000), 10, 10, 0
    for size, pause_ms in takes:
        now_ms += pause_ms
        now_ms += bucket.take(size, now_ms)
        total += size
        assert total <= 5000 + (now_ms - start_ms) * 1000 // 1000


def test_bounded_set_forgets_the_oldest() -> None:
    members: BoundedSet[int] = BoundedSet(2)
    for member in (1, 2, 1, 3):
        members.add(member)
    assert (1 in members, 2 in members, 3 in members, len(members)) == (True, False, True, 2)


def test_scores_ignore_ban_and_recover() -> None:
    board = ScoreBoard()
    standings = [board.add(ANN, Fault.INVALID_TRANSACTION, 0) for _ in range(10)]
    assert standings == [Standing.GOOD] * 4 + [Standing.IGNORED] * 5 + [Standing.BANNED]
    assert board.get_standing(ANN, 10 * RECOVERY_MS) is Standing.BANNED, "points return, the ban stays"
    assert board.get_standing(ANN, 24 * 3600 * 1000) is Standing.GOOD
    board.add(BEN, Fault.TIMEOUT, 0)
    assert (board.get_points(BEN, 0), board.get_points(BEN, 2 * RECOVERY_MS)) == (-5, -3)
    assert board.add(BEN, Fault.INVALID_BLOCK, 0) is Standing.BANNED


class CountingChain(ScriptedChain):
    """A scripted chain that knows how often it was asked for a transaction."""

    def __init__(self) -> None:
        super().__init__()
        self.lookups = 0

    def has_transaction(self, transaction_hash: Hash) -> bool:
        self.lookups += 1
        return super().has_transaction(transaction_hash)


def test_a_transaction_is_looked_up_once_however_many_name_it() -> None:
    chain = CountingChain()
    relay = Relay(chain, LIMITS, SECRET)
    for peer in (ANN, BEN):
        relay.on_established(peer)
    transaction = make_transfer(0)
    item = Item(ItemKind.TRANSACTION, pack_transaction(transaction).hash)
    relay.on_message(ANN, Inventory((item,)), 0)
    relay.on_message(BEN, Inventory((item,)), 0)
    relay.poll(0)
    relay.on_message(ANN, TransactionMessage((encode(transaction),)), 1)
    relay.on_message(BEN, Inventory((item,)), 1)
    assert chain.lookups == 1
    assert [type(action) for action in relay.poll(1)] == [DeliverTransaction]
    chain.add_transaction(transaction)
    relay.on_transaction_outcome(ANN, item.hash, SubmitResult(Outcome.ACCEPTED))
    relay.on_message(BEN, Inventory((item,)), 2)
    assert not [each for each in relay.poll(2) if isinstance(each, Send) and isinstance(each.message, GetData)]
    assert chain.lookups == 2
