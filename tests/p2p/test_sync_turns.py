"""Whose turn it is to be asked for headers, and from where, when what came was too light or has shown enough since."""

from collections import Counter

import pytest

from chain.primitives import Hash, PublicKey
from p2p.actions import Action, DeliverHeaders, Send
from p2p.limits import Limits
from p2p.messages import HEADERS_MAX, GetData, GetHeaders, Headers, OpeningMessage, Status
from p2p.relay import Relay
from p2p.view import Outcome, SubmitResult
from tests.support.scripted_chain import GENESIS, ScriptedChain

ANN, BEN, LIAR = PublicKey(b"a" * 32), PublicKey(b"b" * 32), PublicKey(b"l" * 32)
THEIRS = ScriptedChain()
THEIRS.extend(2 * HEADERS_MAX + 10)
NAMES = THEIRS._get_branch(THEIRS.tip.hash)


def make_relay() -> tuple[ScriptedChain, Relay]:
    ours = ScriptedChain()
    ours.extend(3)
    return ours, Relay(ours, Limits(), Hash(b"s" * 32))


def greet(relay: Relay, peer: PublicKey, claim: int) -> None:
    relay.on_established(peer)
    relay.on_message(peer, Status(1, claim), 0)


def take_question(actions: list[Action]) -> tuple[PublicKey, tuple[Hash, ...]]:
    (question,) = list_questions(actions)
    return question


def list_questions(actions: list[Action]) -> list[tuple[PublicKey, tuple[Hash, ...]]]:
    sent = [action for action in actions if isinstance(action, Send)]
    return [(each.peer, each.message.locator) for each in sent if isinstance(each.message, GetHeaders)]


def play(
    relay: Relay, peer: PublicKey, start: int, outcome: Outcome, count: int = HEADERS_MAX, now_ms: int = 0
) -> list[Action]:
    """Let `peer` answer with the headers above height `start`, which have that outcome; return what is done next."""
    locator = (NAMES[start - 1] if start else GENESIS,)
    relay.on_message(peer, Headers(THEIRS.get_headers_after(locator, count)), now_ms)
    (question,) = (a.message for a in relay.poll(now_ms) if isinstance(a, Send) and isinstance(a.message, GetData))
    for item in question.items:
        relay.on_message(peer, OpeningMessage(item.hash, THEIRS.get_opening_bytes(item.hash) or b""), now_ms)
    (delivery,) = (a for a in relay.poll(now_ms) if isinstance(a, DeliverHeaders))
    relay.on_headers_outcome(delivery, SubmitResult(outcome), now_ms)
    return relay.poll(now_ms)


def test_all_who_claim_more_have_their_turn_and_newcomers_wait_for_it() -> None:
    _, relay = make_relay()
    greet(relay, ANN, 1 << 20)
    greet(relay, LIAR, 1 << 200)
    peer, _ = take_question(relay.poll(0))
    assert peer == LIAR, "of those who were never asked, who claims the most"
    asked = []
    for number in range(4):
        greet(relay, PublicKey(bytes([number]) * 32), 1 << 201)
        peer, _ = take_question(play(relay, peer, 0, Outcome.LIGHT))
        asked.append(peer)
    assert asked[0] == ANN, "before those who came after it"
    assert asked.count(LIAR) == 1


def test_who_answers_slowly_gets_no_more_of_the_time_than_who_answers_at_once() -> None:
    _, relay = make_relay()
    greet(relay, ANN, 1 << 20)
    greet(relay, LIAR, 1 << 200)
    peer, _ = take_question(relay.poll(0))
    now_ms, answers = 0, Counter[PublicKey]()
    while now_ms < 60_000:
        answers[peer] += 1
        now_ms += 9_000 if peer == LIAR else 1_000
        peer, _ = take_question(play(relay, peer, 0, Outcome.ACCEPTED, now_ms=now_ms))
    assert answers[LIAR] <= 4, "half of the time, and the turn that it began with"
    assert answers[ANN] >= 24


def test_who_had_nothing_to_say_has_saved_no_time_up() -> None:
    _, relay = make_relay()
    greet(relay, LIAR, 0)
    greet(relay, ANN, 1 << 20)
    peer, _ = take_question(relay.poll(0))
    for now_ms in range(1_000, 20_000, 1_000):
        peer, _ = take_question(play(relay, peer, 0, Outcome.ACCEPTED, now_ms=now_ms))
        assert peer == ANN
    relay.on_message(LIAR, Status(1, 1 << 200), 19_000)
    asked = []
    for now_ms in range(20_000, 26_000, 1_000):
        peer, _ = take_question(play(relay, peer, 0, Outcome.ACCEPTED, now_ms=now_ms))
        asked.append(peer)
    assert asked.count(LIAR) == 3


def test_a_clock_that_is_set_forward_beside_a_question_costs_no_hour_of_turns() -> None:
    _, relay = make_relay()
    greet(relay, ANN, 1 << 200)
    peer, _ = take_question(relay.poll(0))
    assert peer == ANN
    greet(relay, LIAR, 1 << 201)
    now_ms, asked = 3_600_000, []
    for _ in range(8):
        peer, _ = take_question(play(relay, peer, 0, Outcome.ACCEPTED, now_ms=now_ms))
        now_ms += 5_000
        asked.append(peer)
    assert asked.count(ANN) >= 2


def test_headers_too_light_come_again_from_the_first_once_they_have_shown_enough() -> None:
    ours, relay = make_relay()
    greet(relay, ANN, 1 << 40)
    take_question(relay.poll(0))
    last = HEADERS_MAX - 1
    for _ in range(2):
        _, locator = take_question(play(relay, ANN, 0, Outcome.LIGHT))
        assert locator[:2] == (ours.tip.hash, NAMES[last]), "the end of what was too light, if the best is not theirs"
        _, locator = take_question(play(relay, ANN, HEADERS_MAX, Outcome.LIGHT))
        assert locator[1] == NAMES[last + HEADERS_MAX]
        _, locator = take_question(play(relay, ANN, 2 * HEADERS_MAX, Outcome.PROVEN, 10))
        assert locator[1] == GENESIS
    _, locator = take_question(play(relay, ANN, 0, Outcome.ACCEPTED))
    _, locator = take_question(play(relay, ANN, HEADERS_MAX, Outcome.LIGHT))
    _, locator = take_question(play(relay, ANN, 2 * HEADERS_MAX, Outcome.PROVEN, 10))
    assert locator[1] == NAMES[last], "from the first of those that were not kept"


@pytest.mark.parametrize("outcome", [Outcome.LIGHT, Outcome.ALREADY_KNOWN])
def test_a_peer_that_shows_the_same_headers_again_is_paused(outcome: Outcome) -> None:
    """Each page costs a third of a second to judge, and nothing to send again."""
    _, relay = make_relay()
    greet(relay, ANN, 1 << 40)
    take_question(relay.poll(0))
    _, locator = take_question(play(relay, ANN, 0, outcome))
    assert locator[1] == NAMES[HEADERS_MAX - 1]
    assert list_questions(play(relay, ANN, 0, outcome)) == []
    peer, locator = take_question(relay.poll(5_000))
    assert peer == ANN
    assert NAMES[HEADERS_MAX - 1] not in locator


def test_a_light_branch_that_has_ended_is_paused() -> None:
    _, relay = make_relay()
    greet(relay, ANN, 1 << 40)
    take_question(relay.poll(0))
    assert list_questions(play(relay, ANN, 0, Outcome.LIGHT, 10)) == []
    peer, locator = take_question(relay.poll(5_000))
    assert peer == ANN
    assert NAMES[9] not in locator
