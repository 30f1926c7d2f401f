"""Whom the dial plan dials, on a clock of integers: slots, prefixes, anchors, seeds, static peers, feelers."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.primitives import PublicKey
from p2p.address_book import DAY_MS, AddressBook
from p2p.addresses import PeerAddress, Prefix, Scope, SeenAddress, compute_prefix
from p2p.dialling import (
    FEELER_MS,
    PACE_MS,
    REDIAL_MS,
    REDIAL_MS_MAX,
    SEED_MS,
    THIN_ADDRESSES,
    Connected,
    Dial,
    DialPlan,
    Endpoint,
)
from p2p.limits import Limits
from p2p.slots import Guest, SlotKind, choose_leaver
from tests.support.peer_addresses import NOW_MS, SALT, at, numbered

LIMITS = Limits()
NOBODY = Connected(frozenset(), frozenset())
KEY = PublicKey(b"k" * 32)
AUTOMATIC = (SlotKind.FULL, SlotKind.BLOCK_ONLY)


def make_plan(
    known: int,
    tried: int = 0,
    seed: int = 1,
    seeds: tuple[Endpoint, ...] = (),
    statics: tuple[Endpoint, ...] = (),
) -> DialPlan:
    """Return a plan over a book of so many addresses, each of its own prefix, the first ones tried."""
    random = Random(seed)
    book = AddressBook(SALT, random.randrange, Scope.GLOBAL)
    for number in range(known):
        book.add(SeenAddress(numbered(number * 256), 0), Prefix(b"\x04" + number.to_bytes(2, "big")), NOW_MS)
    for number in range(tried):
        book.on_reached(numbered(number * 256), NOW_MS)
    return DialPlan(book, LIMITS, random.randrange, seeds, statics=statics)


def run(plan: DialPlan, from_ms: int, for_ms: int, connected: Connected = NOBODY) -> list[Dial]:
    """Return all dials of a while, each of which succeeds at once and lasts."""
    dials = []
    for now_ms in range(from_ms, from_ms + for_ms, 200):
        for dial in plan.poll(connected, now_ms):
            plan.on_reached(dial, now_ms)
            dials.append(dial)
            if dial.kind is SlotKind.FEELER:
                plan.on_end(dial, KEY, now_ms)
    return dials


def test_eight_full_two_block_only_and_feelers_each_prefix_once() -> None:
    plan = make_plan(300, tried=40)
    dials = run(plan, NOW_MS, 3_600_000)
    kept = [dial for dial in dials if dial.kind in AUTOMATIC]
    assert [dial.kind for dial in kept] == [SlotKind.FULL] * 8 + [SlotKind.BLOCK_ONLY] * 2
    prefixes = [compute_prefix(dial.target.address.ip) for dial in kept if dial.target.address]
    assert len(set(prefixes)) == 10
    feelers = len(dials) - len(kept)
    assert 15 <= feelers <= 60, "one in two minutes on average"
    assert {dial.origin for dial in kept if dial.kind is SlotKind.BLOCK_ONLY} == {"tried"}


def test_addresses_of_one_prefix_get_one_automatic_slot() -> None:
    plan = make_plan(0)
    for number in range(200):
        plan.book.add(SeenAddress(at(f"20.7.{number}.1"), 0), Prefix(b"\x04\x01" + bytes([number])), NOW_MS)
    dials = run(plan, NOW_MS, 60_000)
    assert len([dial for dial in dials if dial.kind in AUTOMATIC]) == 1


def test_a_flood_of_new_addresses_leaves_every_second_slot_to_tried_ones() -> None:
    for seed in range(6):
        plan = make_plan(2_000, tried=30, seed=seed)
        kept = [dial for dial in run(plan, NOW_MS, 10_000) if dial.kind in AUTOMATIC]
        assert {kept[1].origin, kept[3].origin, kept[5].origin, kept[7].origin} == {"tried"}
        assert len(kept) == 10


def test_automatic_dials_are_paced_and_busy_addresses_left_out() -> None:
    plan = make_plan(12)
    busy = Connected(frozenset(), frozenset(numbered(number * 256) for number in range(11)))
    assert [dial.target.address for dial in plan.poll(busy, NOW_MS)] == [numbered(11 * 256)]
    other = make_plan(50)
    assert len(other.poll(NOBODY, NOW_MS)) == 1
    assert other.poll(NOBODY, NOW_MS + PACE_MS - 1) == []
    assert len(other.poll(NOBODY, NOW_MS + PACE_MS)) == 1


def test_anchors_come_first_and_are_kept_until_others_take_their_place() -> None:
    anchors = tuple(at(f"{number}.1.1.1") for number in range(60, 64))
    plan = make_plan(100, tried=20)
    for anchor in anchors:
        plan.book.on_reached(anchor, NOW_MS)
    plan = DialPlan(plan.book, LIMITS, plan.draw, anchors=anchors)
    assert plan.get_anchors() == anchors
    dials = run(plan, NOW_MS, 1_000)
    assert [(dial.target.address, dial.kind, dial.origin) for dial in dials[:2]] == [
        (anchor, SlotKind.BLOCK_ONLY, "anchor") for anchor in anchors[:2]
    ]
    plan.on_end(dials[0], KEY, NOW_MS + 1_000)
    (third,) = [d for d in run(plan, NOW_MS + 1_000, 30_000) if d.kind is SlotKind.BLOCK_ONLY]
    assert (third.target.address, third.origin) == (anchors[2], "anchor")
    full = tuple(dial.target.address for dial in plan.list_reached((SlotKind.FULL,)))
    assert plan.get_anchors() == anchors + full[:4]


def test_an_anchor_that_is_away_keeps_its_place_before_later_ones_for_nine_starts() -> None:
    away = at("60.1.1.1")
    book = make_plan(0).book
    book.on_reached(away, NOW_MS)
    anchors: tuple[PeerAddress, ...] = (away,)
    for turn in range(1, 11):
        now_ms = NOW_MS + turn * DAY_MS
        plan = DialPlan(book, LIMITS, Random(turn).randrange, anchors=anchors)
        book.on_reached(at(f"70.{turn}.1.1"), now_ms - 1)
        for moment_ms in range(now_ms, now_ms + 30_000, 500):
            for dial in plan.poll(NOBODY, moment_ms):
                if dial.target.address == away:
                    plan.on_end(dial, None, moment_ms)
                else:
                    plan.on_reached(dial, moment_ms)
        anchors = plan.get_anchors()
        assert (anchors[:1] == (away,)) is (turn < 10)
        assert len(anchors) <= 8


def test_static_peers_are_dialled_again_ever_more_slowly_while_they_cannot_be_reached() -> None:
    target = Endpoint("peer.example.org", 1)
    plan = make_plan(0, statics=(target, target))
    now_ms, waits = NOW_MS, []
    for _ in range(10):
        (dial,) = plan.poll(NOBODY, now_ms)
        assert dial == Dial(target, SlotKind.STATIC, "static")
        assert plan.poll(NOBODY, now_ms + 60_000) == [], "it is being dialled"
        plan.on_end(dial, None, now_ms)
        started_ms = now_ms
        while not (now_ms > started_ms and plan.statics and plan._redials[target].next_ms <= now_ms):
            now_ms += 100
        waits.append(now_ms - started_ms)
    assert waits == sorted(waits)
    assert waits[0] == 2 * REDIAL_MS
    assert waits[-1] == REDIAL_MS_MAX
    (dial,) = plan.poll(NOBODY, now_ms)
    plan.on_reached(dial, now_ms)
    plan.on_end(dial, KEY, now_ms)
    assert plan.poll(Connected({KEY}, frozenset()), now_ms + DAY_MS) == [], "it has dialled us meanwhile"
    assert plan.poll(NOBODY, now_ms + REDIAL_MS) == [dial]


def test_seeds_are_asked_one_at_a_time_and_only_while_few_addresses_are_known() -> None:
    seeds = (Endpoint("one.example.org", 1), Endpoint("two.example.org", 1))
    plan = make_plan(0, seeds=seeds)
    (first,) = plan.poll(NOBODY, NOW_MS)
    assert (first.target, first.kind) == (seeds[0], SlotKind.SEED)
    assert plan.poll(NOBODY, NOW_MS + DAY_MS) == []
    plan.on_end(first, None, NOW_MS)
    assert [dial.target for dial in plan.poll(NOBODY, NOW_MS)] == [seeds[1]]
    plan.on_end(Dial(seeds[1], SlotKind.SEED, "seed"), KEY, NOW_MS)
    assert plan.poll(NOBODY, NOW_MS + SEED_MS) == [], "not again within two minutes"
    assert [dial.target for dial in plan.poll(NOBODY, NOW_MS + 2 * SEED_MS)] == [seeds[0]]
    rich = make_plan(THIN_ADDRESSES + 5, seeds=seeds)
    assert len(rich.book) >= THIN_ADDRESSES
    assert SlotKind.SEED not in {dial.kind for dial in run(rich, NOW_MS, 10_000)}


def test_this_node_itself_is_dialled_once() -> None:
    plan = make_plan(1)
    (dial,) = plan.poll(NOBODY, NOW_MS)
    plan.on_self(dial)
    plan.on_end(dial, None, NOW_MS)
    assert len(plan.book) == 0
    assert run(plan, NOW_MS + DAY_MS, 10 * FEELER_MS) == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 60_000), st.booleans()), max_size=80), st.integers(0, 99))
def test_slots_are_never_overdrawn(steps: list[tuple[int, int, bool]], seed: int) -> None:
    plan = make_plan(120, tried=30, seed=seed, statics=(Endpoint("a.example.org", 1),), seeds=(Endpoint("1.2.3.4", 5),))
    now_ms, active = NOW_MS, list[Dial]()
    for choice, wait_ms, is_reached in steps:
        now_ms += wait_ms
        for dial in plan.poll(NOBODY, now_ms):
            assert dial.target not in {other.target for other in active}
            active.append(dial)
            if is_reached:
                plan.on_reached(dial, now_ms)
        kinds = [dial.kind for dial in active]
        bounds = ((SlotKind.FULL, 8), (SlotKind.BLOCK_ONLY, 2), (SlotKind.FEELER, 1), (SlotKind.SEED, 1))
        assert all(kinds.count(kind) <= most for kind, most in bounds)
        if choice < len(active):
            plan.on_end(active.pop(choice), None, now_ms)


def make_guest(number: int, prefix: int, since_ms: int = 0, latency_ms: int = 500) -> Guest:
    """Return a guest that came at `number` unless said otherwise, and brought nothing."""
    key, name = PublicKey(bytes([number]) * 32), Prefix(b"\x04\x00" + bytes([prefix]))
    return Guest(key, name, since_ms or number, latency_ms, 0, 0)


def test_the_one_that_leaves_is_the_youngest_of_the_largest_crowd() -> None:
    crowd = [make_guest(100 + number, 7) for number in range(16)]
    alone = [make_guest(200, 250), make_guest(201, 251)]
    old = [make_guest(number, number, latency_ms=5) for number in range(1, 17)]
    assert choose_leaver(old + crowd + alone, SALT) == crowd[-1].peer


def test_four_thousand_newcomers_never_push_out_close_useful_or_old_guests() -> None:
    close = [make_guest(number, number, latency_ms=1) for number in range(4)]
    block_bearers = [replace(make_guest(10 + number, 10 + number), block_ms=10**6) for number in range(4)]
    bearers = [replace(make_guest(20 + number, 20 + number), transaction_ms=10**6) for number in range(4)]
    old = [make_guest(30 + number, 30 + number, since_ms=-1) for number in range(4)]
    young = [replace(guest, since_ms=10**9) for guest in close + block_bearers + bearers]
    guests, random = young + old, Random(5)
    for turn in range(4_000):
        newcomer = Guest(PublicKey(random.randbytes(32)), Prefix(random.randbytes(3)), 1_000 + turn, 50, 0, 0)
        if len(guests) >= LIMITS.inbound_max:
            leaver = choose_leaver(guests, SALT)
            guests = [guest for guest in guests if guest.peer != leaver]
        guests.append(newcomer)
    left = {guest.peer for guest in guests}
    assert all(guest.peer in left for guest in young + old)


def test_few_guests_are_all_protected() -> None:
    assert choose_leaver([make_guest(number, 7) for number in range(16)], SALT) is None
    assert choose_leaver([], SALT) is None


@pytest.mark.parametrize(("host", "is_known"), [("1.2.3.4", True), ("::1", True), ("seed.example.org", False)])
def test_names_have_no_address(host: str, is_known: bool) -> None:
    found: PeerAddress | None = Endpoint(host, 1).address
    assert (found is not None) is is_known
