"""Peers that are first to name what they do not bring: others that offer it are asked soon."""

from chain.codec import encode
from chain.header import compute_header_hash
from chain.packed import pack_block
from chain.primitives import Hash, PublicKey
from chain.transaction import Sidecar, compute_sidecar_hash
from p2p.actions import Action, Charge, Send, Serve
from p2p.compact import make_compact_block
from p2p.fetch import REST_MS, Fetcher
from p2p.limits import Limits
from p2p.messages import (
    BlobPart,
    BlockMessage,
    CompactMessage,
    GetData,
    GetHeaders,
    Headers,
    Inventory,
    Item,
    ItemKind,
    NotFound,
    OpeningMessage,
    PushBlocks,
    StateChunkMessage,
    Status,
)
from p2p.relay import Relay
from p2p.score import Fault
from p2p.serve import Server
from p2p.sync import CANDIDATES_MAX
from tests.support.scripted_chain import GENESIS, ScriptedChain, make_block, make_commit, make_transfer

ANN, BEN = PublicKey(b"a" * 32), PublicKey(b"b" * 32)
LIMITS = Limits()
STALL_MS = LIMITS.stall_ms_min


def list_asked(actions: list[Action]) -> list[tuple[PublicKey, Item]]:
    """Return who is asked for what."""
    sent = [(each.peer, each.message) for each in actions if isinstance(each, Send)]
    return [(peer, item) for peer, message in sent if isinstance(message, GetData) for item in message.items]


def list_faults(actions: list[Action]) -> list[tuple[PublicKey, Fault]]:
    return [(each.peer, each.fault) for each in actions if isinstance(each, Charge)]


def make_relay(chain: ScriptedChain) -> Relay:
    relay = Relay(chain, LIMITS, Hash(b"s" * 32))
    for peer in (ANN, BEN):
        relay.on_established(peer)
    relay.poll(0)
    return relay


def make_item(number: int) -> Item:
    return Item(ItemKind.BLOCK, Hash(number.to_bytes(32, "big")))


def make_staller() -> Fetcher:
    """Return a fetcher that Ann has kept waiting once, and that Ben's block came to."""
    fetcher = Fetcher(LIMITS)
    for peer in (ANN, BEN):
        fetcher.add_peer(peer)
    fetcher.want(make_item(0), ANN)
    assert list_asked(fetcher.poll(0, 0)) == [(ANN, make_item(0))]
    fetcher.want(make_item(0), BEN)
    actions = fetcher.poll(STALL_MS, 0)
    assert list_faults(actions) == [(ANN, Fault.TIMEOUT)]
    assert list_asked(actions) == [(BEN, make_item(0))]
    assert fetcher.on_received(BEN, make_item(0), STALL_MS)
    return fetcher


def test_what_another_offers_too_waits_no_longer_for_a_peer_that_stalled_before() -> None:
    fetcher, start_ms = make_staller(), 10 * STALL_MS
    fetcher.want(make_item(1), ANN)
    assert list_asked(fetcher.poll(start_ms, 0)) == [(ANN, make_item(1))]
    fetcher.want(make_item(1), BEN)
    assert list_asked(fetcher.poll(start_ms + STALL_MS - 1, 0)) == []
    actions = fetcher.poll(start_ms + STALL_MS, 0)
    assert list_asked(actions) == [(BEN, make_item(1))]
    assert list_faults(actions) == [], "its second stall is called one after twice the time"
    fetcher.on_received(BEN, make_item(1), start_ms + STALL_MS)
    assert list_faults(fetcher.poll(start_ms + 2 * STALL_MS, 0)) == [(ANN, Fault.TIMEOUT)], "it brought nothing"
    assert list_faults(fetcher.poll(start_ms + 9 * STALL_MS, 0)) == [], "and it is charged once"


def test_a_slow_peer_that_says_it_lacks_what_others_were_asked_for_since_owes_nothing() -> None:
    fetcher, start_ms = make_staller(), 10 * STALL_MS
    fetcher.want(make_item(1), ANN)
    assert list_asked(fetcher.poll(start_ms, 0)) == [(ANN, make_item(1))]
    fetcher.want(make_item(1), BEN)
    assert list_asked(fetcher.poll(start_ms + STALL_MS, 0)) == [(BEN, make_item(1))]
    fetcher.on_not_found(ANN, (make_item(1),), start_ms + STALL_MS + 1)
    assert fetcher.on_received(BEN, make_item(1), start_ms + STALL_MS + 2)
    assert list_faults(fetcher.poll(start_ms + 100 * STALL_MS, 0)) == []


def test_who_says_too_late_that_it_lacks_an_item_is_not_asked_for_it_again() -> None:
    fetcher, start_ms = make_staller(), 10 * STALL_MS
    fetcher.want(make_item(1), ANN)
    fetcher.poll(start_ms, 0)
    assert list_faults(fetcher.poll(start_ms + 2 * STALL_MS, 0)) == [(ANN, Fault.TIMEOUT)]
    fetcher.on_not_found(ANN, (make_item(1),), start_ms + 2 * STALL_MS + 1)
    assert not fetcher.is_wanted(make_item(1))
    assert fetcher.poll(start_ms + 2 * STALL_MS + REST_MS, 0) == []


def test_what_nobody_else_offers_waits_for_a_slow_peer() -> None:
    fetcher, start_ms = make_staller(), 10 * STALL_MS
    fetcher.want(make_item(1), ANN)
    fetcher.poll(start_ms, 0)
    assert list_asked(fetcher.poll(start_ms + STALL_MS, 0)) == []
    assert fetcher.on_received(ANN, make_item(1), start_ms + STALL_MS)
    assert list_faults(fetcher.poll(start_ms + 9 * STALL_MS, 0)) == []


def test_whoever_was_prompt_is_asked_before_whoever_stalled() -> None:
    fetcher = make_staller()
    for peer in (ANN, BEN):
        fetcher.want(make_item(1), peer)
    assert list_asked(fetcher.poll(10 * STALL_MS, 0)) == [(BEN, make_item(1))]


def test_a_peer_that_was_asked_again_may_answer_as_often_as_it_was_asked() -> None:
    fetcher, item, now_ms = Fetcher(LIMITS), make_item(0), 0
    fetcher.add_peer(ANN)
    fetcher.want(item, ANN)
    for asked in range(3):
        assert list_asked(fetcher.poll(now_ms, 0)) == [(ANN, item)]
        now_ms += STALL_MS << asked
        assert list_faults(fetcher.poll(now_ms, 0)) == [(ANN, Fault.TIMEOUT)]
        now_ms += REST_MS
    assert [fetcher.on_received(ANN, item, now_ms) for _ in range(4)] == [True, True, True, False]


def test_a_block_that_was_asked_for_in_both_forms_may_come_in_both() -> None:
    relay, block = make_relay(ScriptedChain()), make_block(GENESIS, 1)
    block_hash = compute_header_hash(block.header)
    relay.on_message(ANN, Inventory((Item(ItemKind.BLOCK, block_hash),)), 0)
    relay._fetcher.want(Item(ItemKind.BLOCK, block_hash), ANN)
    assert len(list_asked(relay.poll(0))) == 2
    for message in (BlockMessage(encode(block)), CompactMessage(make_compact_block(pack_block(block), 1))):
        relay.on_message(ANN, message, 1)
    assert list_faults(relay.poll(1)) == []


def test_a_compact_block_whose_sender_goes_silent_is_fetched_from_whoever_sent_it_too() -> None:
    relay, block = make_relay(ScriptedChain()), make_block(GENESIS, 1, (make_transfer(0),))
    compact = make_compact_block(pack_block(block), 1)
    item = Item(ItemKind.BLOCK, compute_header_hash(block.header))
    for peer in (ANN, BEN):
        relay.on_message(peer, Inventory((item,)), 0)
        relay.poll(0)
    relay.on_message(ANN, CompactMessage(compact), 0)
    relay._compact._pushers[BEN] = None
    relay.on_message(BEN, CompactMessage(compact), 1)
    relay.poll(1)
    first = list_asked(relay.poll(STALL_MS))
    assert first == [(ANN, item)]
    assert (BEN, item) in list_asked(relay.poll(2 * STALL_MS))


def test_a_compact_block_whose_sender_leaves_is_fetched_from_whoever_sent_it_too() -> None:
    relay, block = make_relay(ScriptedChain()), make_block(GENESIS, 1, (make_transfer(0),))
    for peer in (ANN, BEN):
        relay._compact._pushers[peer] = None
        relay.on_message(peer, CompactMessage(make_compact_block(pack_block(block), 1)), 0)
    relay.poll(0)
    relay.on_gone(ANN)
    assert list_asked(relay.poll(1)) == [(BEN, Item(ItemKind.BLOCK, compute_header_hash(block.header)))]


def test_a_missing_block_that_is_asked_for_gains_those_who_have_it_as_candidates() -> None:
    chain = ScriptedChain()
    relay, block = make_relay(chain), make_block(GENESIS, 1)
    item = Item(ItemKind.BLOCK, compute_header_hash(block.header))
    relay.on_message(ANN, Inventory((item,)), 0)
    assert list_asked(relay.poll(0)) == [(ANN, Item(ItemKind.COMPACT, item.hash))]
    relay.on_message(BEN, Status(1, 1 << 40), 1)
    assert any(isinstance(each, Send) and isinstance(each.message, GetHeaders) for each in relay.poll(1))
    relay.on_message(BEN, Headers((encode(block.header),)), 2)
    (delivery,) = relay.poll(2)
    chain._add_header(block.header)
    relay._sync.on_block_judged(3)
    relay.poll(3)
    assert (BEN, Item(ItemKind.COMPACT, item.hash)) in list_asked(relay.poll(STALL_MS))
    assert delivery is not None


def test_block_data_of_a_missing_block_gain_those_who_have_it_as_candidates() -> None:
    """Who sent the block may be gone slow; a node waited for it alone and left the chain behind."""
    chain, sidecar = ScriptedChain(), Sidecar(b"\x01" * 32, b"\x02" * 10)
    relay, block = make_relay(chain), make_block(GENESIS, 1, (make_commit(sidecar),))
    item = Item(ItemKind.BLOCK, compute_header_hash(block.header))
    relay.on_message(ANN, Inventory((item,)), 0)
    relay.poll(0)
    relay.on_message(ANN, BlockMessage(encode(block)), 1)
    wanted = Item(ItemKind.SIDECAR, compute_sidecar_hash(sidecar))
    assert list_asked(relay.poll(1)) == [(ANN, wanted)]
    relay.on_message(BEN, Status(1, 1 << 40), 2)
    relay.poll(2)
    relay.on_message(BEN, Headers((encode(block.header),)), 3)
    relay.poll(3)
    chain._add_header(block.header)
    relay._sync.on_block_judged(4)
    relay.poll(4)
    assert (BEN, wanted) in list_asked(relay.poll(1 + STALL_MS))


def test_headers_that_come_late_are_no_fault_once_for_each_question() -> None:
    relay = make_relay(ScriptedChain())
    relay.on_message(ANN, Status(1, 1 << 40), 0)
    relay.poll(0)
    assert list_faults(relay.poll(LIMITS.headers_ms)) == [(ANN, Fault.TIMEOUT)]
    for expected in ([], [(ANN, Fault.UNSOLICITED)]):
        relay.on_message(ANN, Headers((encode(make_block(GENESIS, 1).header),)), LIMITS.headers_ms + 1)
        assert list_faults(relay.poll(LIMITS.headers_ms + 1)) == expected


def test_openings_that_come_late_are_no_fault_once_for_each_that_was_asked_for() -> None:
    chain, other = ScriptedChain(), ScriptedChain()
    relay = make_relay(chain)
    other.extend(40)
    relay.on_message(ANN, Status(40, 1 << 40), 0)
    relay.poll(0)
    relay.on_message(ANN, Headers(other.get_headers_after((GENESIS,), 40)), 1)
    asked = [item.hash for _, item in list_asked(relay.poll(1))]
    assert list_faults(relay.poll(LIMITS.headers_ms + 1)) == [(ANN, Fault.TIMEOUT)]
    for block_hash in asked:
        relay.on_message(ANN, OpeningMessage(block_hash, b"opening"), LIMITS.headers_ms + 2)
    assert list_faults(relay.poll(LIMITS.headers_ms + 2)) == []
    relay.on_message(ANN, OpeningMessage(asked[0], b"opening"), LIMITS.headers_ms + 2)
    assert list_faults(relay.poll(LIMITS.headers_ms + 2)) == [(ANN, Fault.UNSOLICITED)]


def test_a_pushed_block_that_is_the_head_no_longer_is_only_named() -> None:
    chain = ScriptedChain()
    relay, server = make_relay(chain), Server(chain, 1)
    relay.on_message(ANN, PushBlocks(1), 0)
    pushes = []
    for _ in range(3):
        chain.extend(1)
        relay.announce_block(chain.tip.hash)
        pushes += [each.question for each in relay.poll(1) if isinstance(each, Serve)]
    *old, newest = [server.answer(question) for question in pushes]
    assert isinstance(newest, CompactMessage)
    assert [type(message) for message in old] == [Inventory, Inventory]


def test_pieces_of_states_and_blobs_that_were_not_asked_for_are_charged() -> None:
    relay, name = make_relay(ScriptedChain()), Hash(bytes(32))
    for message in (StateChunkMessage(name, name, b"chunk"), BlobPart(name, 0, 5, b"bytes")):
        relay.on_message(ANN, message, 0)
        assert list_faults(relay.poll(0)) == [(ANN, Fault.UNSOLICITED)]


def test_peers_that_came_first_and_have_no_block_keep_nobody_from_one_who_has_it() -> None:
    """As many as are asked for one block; each claims more work than anybody, and none has what it says."""
    ours, theirs = ScriptedChain(), ScriptedChain()
    theirs.extend(3)
    for header in theirs.headers.values():
        ours._add_header(header)
    relay, liars = Relay(ours, LIMITS, Hash(b"s" * 32)), [PublicKey(bytes([n]) * 32) for n in range(CANDIDATES_MAX)]
    for peer in (*liars, BEN):
        relay.on_established(peer)
        relay.on_message(peer, Status(3, theirs.tip.total_work if peer == BEN else 1 << 200), 0)
    first, asked = ours.get_missing_blocks(1)[0], list[tuple[PublicKey, Item]]()
    for now_ms in range(0, 10_000, 100):
        found = list_asked(relay.poll(now_ms))
        for peer, item in found:
            relay.on_message(peer, NotFound((item,)), now_ms)
        asked += found
    assert (BEN, Item(ItemKind.BLOCK, first)) in asked
