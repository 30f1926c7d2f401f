"""What peers tell of addresses, on a clock of integers: rates, relay, answers, and where this node is seen."""

from random import Random

from chain.primitives import PublicKey
from p2p.actions import Action, Send
from p2p.address_book import DAY_MS, AddressBook
from p2p.address_relay import FLUSH_MS, KNOWN_MAX, AddressRelay, Contact
from p2p.addresses import PeerAddress, Prefix, Scope, SeenAddress
from p2p.budgets import OPENING_ITEMS, RATES, MessageBudgets
from p2p.messages import ADDRESSES_MAX, Addresses, GetAddresses, GetData, Inventory, Item, ItemKind, Observed, Ping
from p2p.slots import SlotKind
from tests.support.peer_addresses import NOW_MS, SALT, at, numbered
from tests.support.scripted_chain import GENESIS

ANN, BEN, CAT, DAN = (PublicKey(letter * 32) for letter in (b"a", b"b", b"c", b"d"))
LATER_MS = NOW_MS + 3 * FLUSH_MS


def make_relay(fixed: PeerAddress | None = None) -> AddressRelay:
    random = Random(3)
    relay = AddressRelay(AddressBook(SALT, random.randrange, Scope.GLOBAL), random.randrange, fixed)
    relay.listen_port = 4610
    return relay


def join(relay: AddressRelay, peer: PublicKey, kind: SlotKind, host: str = "33.1.1.1", port: int = 0) -> list[Action]:
    relay.add_peer(peer, Contact(kind, at(host).ip, port), NOW_MS)
    return relay.poll(NOW_MS)


def fresh(*numbers: int) -> Addresses:
    return Addresses(tuple(SeenAddress(numbered(number), 5) for number in numbers))


def get_told(actions: list[Action]) -> dict[PublicKey, set[PeerAddress]]:
    told: dict[PublicKey, set[PeerAddress]] = {}
    for action in actions:
        if isinstance(action, Send) and isinstance(action.message, Addresses):
            told.setdefault(action.peer, set()).update(seen.address for seen in action.message.addresses)
    return told


def test_a_flood_is_taken_at_a_tenth_of_one_a_second() -> None:
    relay = make_relay()
    join(relay, ANN, SlotKind.INBOUND)
    for turn in range(60):
        numbers = range(turn * 1_000, (turn + 1) * 1_000)
        message = Addresses(tuple(SeenAddress(at(f"44.{n // 65536}.{n // 256 % 256}.{n % 256}"), 0) for n in numbers))
        relay.on_message(ANN, message, NOW_MS + turn * 10_000)
    assert 0 < len(relay._book) <= 1 + 60
    assert len(relay._peers[ANN].known) <= KNOWN_MAX


def test_an_answer_that_was_asked_for_is_taken_whole_and_once() -> None:
    relay = make_relay()
    assert join(relay, ANN, SlotKind.FULL) == [Send(ANN, GetAddresses(ADDRESSES_MAX))]
    assert not relay.has_answered(ANN)
    relay.on_message(ANN, fresh(*range(0, 256 * 1_000, 256)), NOW_MS)
    assert relay.has_answered(ANN)
    first = len(relay._book)
    assert first > 800, "some places are taken"
    relay.on_message(ANN, fresh(*range(1, 256 * 1_000, 256)), NOW_MS)
    assert len(relay._book) == first


def test_news_goes_to_two_peers_and_not_back() -> None:
    relay = make_relay()
    for peer in (ANN, BEN, CAT, DAN):
        join(relay, peer, SlotKind.INBOUND)
    relay.on_message(ANN, fresh(7), NOW_MS)
    assert relay.poll(NOW_MS) == [], "not at once"
    told = get_told(relay.poll(LATER_MS))
    assert ANN not in told
    assert 1 <= len(told) <= 2
    assert all(addresses == {numbered(7)} for addresses in told.values())
    relay.on_message(next(iter(told)), fresh(7), LATER_MS)
    assert get_told(relay.poll(LATER_MS + 3 * FLUSH_MS)).keys().isdisjoint(told), "nobody is told twice"


def test_old_many_and_foreign_addresses_are_not_passed_on() -> None:
    relay = make_relay()
    for peer in (ANN, BEN, CAT):
        join(relay, peer, SlotKind.FULL)
        relay.on_message(peer, Addresses(()), NOW_MS)
    relay.on_message(ANN, Addresses((SeenAddress(numbered(1), 600),)), NOW_MS)
    relay.on_message(ANN, fresh(*range(2, 13)), NOW_MS)
    local = Addresses((SeenAddress(at("10.0.0.1"), 1), SeenAddress(at("127.0.0.1"), 1)))
    relay.on_message(ANN, local, NOW_MS)
    assert get_told(relay.poll(LATER_MS)) == {}
    assert relay._book.get(at("10.0.0.1")) is None


def test_a_gossip_storm_stays_bounded() -> None:
    relay = make_relay()
    peers = [PublicKey(bytes([number]) * 32) for number in range(10)]
    for peer in peers:
        join(relay, peer, SlotKind.FULL)
        relay.on_message(peer, Addresses(()), NOW_MS)
    for turn in range(1_000):
        relay.on_message(peers[turn % 10], fresh(*range(turn * 10, turn * 10 + 10)), NOW_MS)
    assert {len(state.pending) for state in relay._peers.values()} == {ADDRESSES_MAX}, "full, and no more"
    assert len(get_told(relay.poll(LATER_MS))) == 10
    assert relay.poll(LATER_MS) == []


def test_only_inbound_peers_are_answered_and_once_a_connection() -> None:
    relay = make_relay()
    for number in range(400):
        relay._book.add(SeenAddress(numbered(number * 256), 0), Prefix(number.to_bytes(3, "big")), NOW_MS)
    join(relay, ANN, SlotKind.INBOUND)
    join(relay, BEN, SlotKind.FULL)
    relay.on_message(ANN, GetAddresses(1_000), NOW_MS)
    relay.on_message(ANN, GetAddresses(1_000), NOW_MS)
    relay.on_message(BEN, GetAddresses(1_000), NOW_MS)
    (answer,) = relay.poll(NOW_MS)
    told = get_told([answer])[ANN]
    assert len(told) == len(relay._book) // 4
    join(relay, CAT, SlotKind.INBOUND)
    relay.on_message(CAT, GetAddresses(65_535), NOW_MS + DAY_MS // 2)
    assert get_told(relay.poll(NOW_MS))[CAT] == told, "asking anew shows no more of the book"


def test_block_only_peers_exchange_no_addresses() -> None:
    relay = make_relay()
    assert join(relay, ANN, SlotKind.BLOCK_ONLY) == []
    relay.on_message(ANN, fresh(1), NOW_MS)
    relay.on_message(ANN, GetAddresses(9), NOW_MS)
    relay.on_message(ANN, Observed(at("50.1.1.1").ip), NOW_MS)
    assert relay.poll(LATER_MS) == []
    assert len(relay._book) == 0


def test_an_inbound_peer_is_told_how_it_is_seen_and_its_address_is_kept() -> None:
    relay = make_relay()
    assert join(relay, ANN, SlotKind.INBOUND, "33.1.2.3", 5_000) == [Send(ANN, Observed(at("33.1.2.3").ip))]
    assert relay._book.get(at("33.1.2.3", 5_000)) is not None


def test_two_prefixes_that_this_node_chose_confirm_its_address() -> None:
    relay = make_relay()
    own = at("50.1.1.1")
    for peer, kind, host in ((ANN, SlotKind.FULL, "33.1.1.1"), (BEN, SlotKind.FULL, "33.1.2.2")):
        join(relay, peer, kind, host)
        relay.on_message(peer, Observed(own.ip), NOW_MS)
    assert relay.advertised is None, "both lie in one prefix"
    join(relay, CAT, SlotKind.INBOUND, "44.1.1.1")
    relay.on_message(CAT, Observed(own.ip), NOW_MS)
    assert relay.advertised is None, "whoever dials us has no vote"
    join(relay, DAN, SlotKind.FULL, "55.1.1.1")
    relay.on_message(DAN, Observed(at("51.1.1.1").ip), NOW_MS)
    assert relay.advertised is None
    relay.on_message(DAN, Observed(own.ip), NOW_MS)
    assert relay.advertised == own
    told = get_told(relay.poll(LATER_MS))
    assert set(told) == {ANN, BEN, CAT, DAN}
    assert all(own in addresses for addresses in told.values())
    assert not relay._book.add(SeenAddress(own, 0), Prefix(b"\x04\x01\x01"), NOW_MS), "it is ourselves"
    assert get_told(relay.poll(LATER_MS + DAY_MS // 4)) == {}, "twice a day at most"


def test_a_given_address_is_not_voted_away() -> None:
    own = at("50.1.1.1", 9)
    relay = make_relay(own)
    for peer, host in ((ANN, "33.1.1.1"), (BEN, "44.1.1.1"), (CAT, "55.1.1.1")):
        join(relay, peer, SlotKind.FULL, host)
        relay.on_message(peer, Observed(at("66.1.1.1").ip), NOW_MS)
    assert relay.advertised == own


def test_a_node_that_does_not_listen_tells_nobody_of_itself() -> None:
    relay = make_relay()
    relay.listen_port = 0
    for peer, host in ((ANN, "33.1.1.1"), (BEN, "44.1.1.1")):
        join(relay, peer, SlotKind.FULL, host)
        relay.on_message(peer, Observed(at("50.1.1.1").ip), NOW_MS)
    assert get_told(relay.poll(LATER_MS)) == {}


def test_budgets_let_through_burst_and_rate_by_kind() -> None:
    budgets = MessageBudgets()
    rate, burst = RATES[Ping]
    waits = [budgets.take(Ping(0), NOW_MS) for _ in range(burst + 2 * rate)]
    assert waits[:burst] == [0] * burst
    assert waits[-1] == 2_000
    items = Inventory((Item(ItemKind.TRANSACTION, GENESIS),) * 1_000)
    rate, burst = RATES[Inventory]
    waits = [budgets.take(items, NOW_MS) for _ in range(burst // 1_000 + 1)]
    assert (waits[-2], waits[-1]) == (0, 1_000 * 1_000 // rate)


def test_openings_whose_blocks_are_read_for_them_cost_more_than_what_goes_as_it_is_read() -> None:
    rate, burst = RATES[GetData]
    for kind, cost in ((ItemKind.BLOCK, 1), (ItemKind.OPENING, OPENING_ITEMS)):
        budgets, question = MessageBudgets(), GetData((Item(kind, GENESIS),) * 5)
        waits = [budgets.take(question, NOW_MS) for _ in range(burst // (5 * cost) + 1)]
        assert (waits[-2], waits[-1]) == (0, -(-5 * cost * 1_000 // rate))
