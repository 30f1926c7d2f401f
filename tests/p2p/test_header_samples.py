"""A run of headers is not taken before its sender has shown some of its work."""

from collections import Counter
from dataclasses import replace

import pytest

from chain.hashing import tagged_hash
from chain.header import Header
from chain.primitives import Hash, PublicKey
from p2p.actions import Action, Charge, DeliverHeaders, Send
from p2p.header_samples import SAMPLES, draw_positions
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


def deliver(ours: ScriptedChain, theirs: ScriptedChain) -> list[Action]:
    """Return what is done with Ann's headers by who has some of them, openings shown as they are asked for."""
    relay = Relay(ours, LIMITS, Hash(b"s" * 32))
    relay.on_established(ANN)
    relay.on_message(ANN, Status(theirs.tip.height, 1 << 40), 0)
    relay.poll(0)
    relay.on_message(ANN, Headers(theirs.get_headers_after((), 2_000)), 1)
    actions = relay.poll(1)
    if any(isinstance(action, Send) for action in actions):
        for item in list_wanted(actions):
            relay.on_message(ANN, answer(theirs, item), 2)
        actions = relay.poll(3)
    return actions


@pytest.mark.parametrize("length", range(1, SAMPLES + 1))
def test_a_run_of_few_headers_shows_all_its_work(length: int) -> None:
    theirs = ScriptedChain()
    theirs.extend(length)
    (delivery,) = deliver(ScriptedChain(), theirs)
    assert isinstance(delivery, DeliverHeaders)
    assert [position for position, _ in delivery.openings] == list(range(length))


def test_known_headers_do_not_hide_new_ones_from_the_draw() -> None:
    theirs, ours = ScriptedChain(), ScriptedChain()
    theirs.extend(1_990)
    for name in theirs._get_branch(theirs.tip.hash):
        ours._add_header(theirs.headers[name])
    theirs.extend(10)
    (delivery,) = deliver(ours, theirs)
    assert isinstance(delivery, DeliverHeaders)
    assert len(delivery.headers) == 2_000
    assert 2 <= len(delivery.openings) <= SAMPLES + 1
    assert min(position for position, _ in delivery.openings) >= 1_990


def test_what_is_known_is_not_asked_for_again() -> None:
    theirs = ScriptedChain()
    theirs.extend(100)
    (delivery,) = deliver(theirs, theirs)
    assert isinstance(delivery, DeliverHeaders)
    assert delivery.openings == ()


def test_nothing_invented_comes_for_free_behind_work_that_is_done() -> None:
    headers = make_headers([100] * 1_999 + [1])
    for number in range(50):
        secret = tagged_hash("test", number.to_bytes(4, "little"))
        assert draw_positions(headers, secret)[-1] == 1_999


def test_a_long_run_waits_for_all_its_openings() -> None:
    theirs, relay, actions = make_relay(200)
    items = list_wanted(actions)
    assert 2 <= len(items) <= SAMPLES + 1
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
    assert max(count for position, count in counts.items() if position not in (50, 99)) < 60


def test_sums_that_do_not_rise_still_give_places() -> None:
    for works in ([0] * 64, [5, -4] * 32, [-1] * 64):
        positions = draw_positions(make_headers(works), Hash(bytes(32)))
        assert positions
        assert all(0 <= position < 64 for position in positions)
