"""A long run of headers is not taken before its sender has shown some of its work."""

from collections import Counter
from dataclasses import replace

from chain.hashing import tagged_hash
from chain.header import Header
from chain.primitives import Hash, PublicKey
from p2p.actions import Action, Charge, DeliverHeaders, Send
from p2p.header_samples import SAMPLED_FROM, SAMPLES, draw_positions
from p2p.limits import Limits
from p2p.messages import GetData, GetHeaders, Headers, Item, ItemKind, NotFound, OpeningMessage, Status
from p2p.relay import Relay
from p2p.score import Fault
from tests.support.scripted_chain import GENESIS, ScriptedChain, make_block

ANN, BEN = PublicKey(b"a" * 32), PublicKey(b"b" * 32)
LIMITS = Limits()


def make_relay(length: int, secret: bytes = b"s") -> tuple[ScriptedChain, Relay, list[Action]]:
    """Return Ann's chain, Ben's relay after her headers have come, and what it does then."""
    theirs = ScriptedChain()
    theirs.extend(length)
    relay = Relay(ScriptedChain(), LIMITS, Hash(secret * 32))
    relay.on_established(ANN)
    relay.on_message(ANN, Status(length, length), 0)
    assert Send(ANN, GetHeaders((GENESIS,))) in relay.poll(0)
    relay.on_message(ANN, Headers(theirs.get_headers_after((), 2_000)), 1)
    return theirs, relay, relay.poll(1)


def list_wanted(actions: list[Action]) -> tuple[Item, ...]:
    (question,) = (a.message for a in actions if isinstance(a, Send) and isinstance(a.message, GetData))
    assert all(item.kind == ItemKind.OPENING for item in question.items)
    return question.items


def answer(theirs: ScriptedChain, item: Item) -> OpeningMessage:
    opening = theirs.get_opening_bytes(item.hash)
    assert opening is not None
    return OpeningMessage(item.hash, opening)


def test_a_short_run_is_judged_at_once() -> None:
    _, _, actions = make_relay(SAMPLED_FROM - 1)
    (delivery,) = actions
    assert isinstance(delivery, DeliverHeaders)
    assert delivery.openings == ()


def test_a_short_run_shows_work_when_a_key_without_a_bond_has_signed_any() -> None:
    theirs, ours = ScriptedChain(), ScriptedChain()
    theirs.extend(3)
    ours.unbonded.add(make_block(GENESIS, 1).header.foliage.miner)
    relay = Relay(ours, LIMITS, Hash(b"s" * 32))
    relay.on_established(ANN)
    relay.on_message(ANN, Status(3, 3), 0)
    relay.poll(0)
    relay.on_message(ANN, Headers(theirs.get_headers_after((), 2_000)), 1)
    items = list_wanted(relay.poll(1))
    assert 1 <= len(items) <= 3
    for item in items:
        relay.on_message(ANN, answer(theirs, item), 2)
    (delivery,) = relay.poll(3)
    assert isinstance(delivery, DeliverHeaders)
    assert (len(delivery.headers), len(delivery.openings)) == (3, len(items))


def test_a_long_run_waits_for_all_its_openings() -> None:
    theirs, relay, actions = make_relay(200)
    items = list_wanted(actions)
    assert 1 <= len(items) <= SAMPLES
    for item in items[:-1]:
        relay.on_message(ANN, answer(theirs, item), 2)
        assert relay.poll(2) == []
    relay.on_message(ANN, answer(theirs, items[-1]), 3)
    (delivery,) = relay.poll(3)
    assert isinstance(delivery, DeliverHeaders)
    assert len(delivery.headers) == 200
    assert len(delivery.openings) == len(items)
    names = theirs._get_branch(theirs.tip.hash)
    assert {names[position] for position, _ in delivery.openings} == {item.hash for item in items}


def test_who_cannot_show_its_work_is_charged_and_paused() -> None:
    _, relay, actions = make_relay(200)
    item = list_wanted(actions)[0]
    relay.on_message(ANN, NotFound((item,)), 2)
    assert [a.fault for a in relay.poll(2) if isinstance(a, Charge)] == [Fault.TIMEOUT]
    relay.on_message(ANN, Status(500, 500), 3)
    assert relay.poll(3) == [], "not asked again for a while"


def test_silence_is_charged_and_another_is_asked() -> None:
    theirs, relay, actions = make_relay(200)
    items = list_wanted(actions)
    relay.on_established(BEN)
    relay.on_message(BEN, Status(200, 200), 2)
    relay.poll(2)
    actions = relay.poll(1 + LIMITS.headers_ms)
    assert [a.fault for a in actions if isinstance(a, Charge)] == [Fault.TIMEOUT]
    assert Send(BEN, GetHeaders((GENESIS,))) in actions
    relay.on_message(ANN, answer(theirs, items[0]), 2 + LIMITS.headers_ms)
    faults = [a.fault for a in relay.poll(2 + LIMITS.headers_ms) if isinstance(a, Charge)]
    assert faults == [], "too late, and the run is gone, but it was asked for"


def test_an_opening_that_nobody_asked_for_is_charged() -> None:
    theirs, relay, actions = make_relay(200)
    items = list_wanted(actions)
    other = next(name for name in theirs._get_branch(theirs.tip.hash) if name not in {item.hash for item in items})
    for message in (answer(theirs, Item(ItemKind.OPENING, other)), answer(theirs, items[0]), answer(theirs, items[0])):
        relay.on_message(ANN, message, 2)
    charges = [a.fault for a in relay.poll(2) if isinstance(a, Charge)]
    assert charges == [Fault.UNSOLICITED] * 2, "another's, and one twice"


def test_a_peer_that_leaves_takes_its_run_along() -> None:
    _, relay, _ = make_relay(200)
    relay.on_gone(ANN)
    relay.on_established(BEN)
    relay.on_message(BEN, Status(200, 200), 2)
    assert Send(BEN, GetHeaders((GENESIS,))) in relay.poll(2)


def make_headers(works: list[int]) -> list[Header]:
    headers, total = [], 1_000
    for height, work in enumerate(works, 1):
        total += work
        header = make_block(GENESIS, height).header
        headers.append(replace(header, trunk=replace(header.trunk, total_work=total)))
    return headers


def test_places_follow_work_and_the_secret() -> None:
    headers = make_headers([1] * 50 + [50] + [1] * 49)
    draws = [draw_positions(headers, tagged_hash("test", number.to_bytes(4, "little"))) for number in range(400)]
    assert len(set(draws)) > 300, "another secret draws other places"
    counts = Counter(position for draw in draws for position in draw)
    # A third of the work is in one header: it is missed by all four draws in one of five runs.
    assert 0.7 < counts[50] / len(draws) < 0.9
    assert max(count for position, count in counts.items() if position != 50) < 60


def test_sums_that_do_not_rise_still_give_places() -> None:
    for works in ([0] * 64, [5, -4] * 32, [-1] * 64):
        positions = draw_positions(make_headers(works), Hash(bytes(32)))
        assert positions
        assert all(0 <= position < 64 for position in positions)
