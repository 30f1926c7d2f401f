"""The address book against what must never happen: no bound is passed, no tried address is lost without a dial."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from chain.errors import DecodeError
from p2p import address_tables
from p2p.address_book import CLAIM_MS, DAY_MS, FRESH_MS, REST_MS, SAMPLE_MIN, AddressBook, Choice, is_stale
from p2p.address_file import BookRecord, make_book, make_record, seal, take_snapshot, unseal
from p2p.address_tables import BUCKET_SIZE, compute_new_place, compute_tried_place
from p2p.addresses import (
    PeerAddress,
    Prefix,
    Scope,
    SeenAddress,
    compute_prefix,
    get_scope,
    is_acceptable,
    make_address,
)
from tests.support.peer_addresses import NOW_MS, SALT, at, numbered

TELLER = Prefix(b"\x04\x05\x06")


def make_empty(seed: int = 0, salt: bytes = SALT) -> AddressBook:
    return AddressBook(salt, Random(seed).randrange, Scope.GLOBAL)


def keep(book: AddressBook, anchors: tuple[PeerAddress, ...] = ()) -> BookRecord:
    return make_record(take_snapshot(book, anchors))


def add(book: AddressBook, address: PeerAddress, now_ms: int = NOW_MS, teller: Prefix = TELLER) -> bool:
    return book.add(SeenAddress(address, 0), teller, now_ms)


def find_rivals(count: int) -> list[PeerAddress]:
    """Return addresses that want one tried place."""
    places: dict[object, list[PeerAddress]] = {}
    for number in range(200_000):
        rivals = places.setdefault(compute_tried_place(SALT, numbered(number)), [])
        rivals.append(numbered(number))
        if len(rivals) == count:
            return rivals
    raise AssertionError("no rivals found")


class BookMachine(RuleBasedStateMachine):
    """Any history over few addresses; small tables, so that places are fought over."""

    @initialize(seed=st.integers(0, 2**32))
    def start(self, seed: int) -> None:
        self.sizes = (address_tables.NEW_BUCKETS, address_tables.TRIED_BUCKETS, address_tables.BUCKET_SIZE)
        address_tables.NEW_BUCKETS, address_tables.TRIED_BUCKETS, address_tables.BUCKET_SIZE = 4, 2, 2
        self.book, self.twin = make_empty(seed), make_empty(seed)
        self.now_ms = NOW_MS
        self.tried: set[PeerAddress] = set()
        self.dials: dict[PeerAddress, tuple[int, bool]] = {}

    def teardown(self) -> None:
        if hasattr(self, "sizes"):
            address_tables.NEW_BUCKETS, address_tables.TRIED_BUCKETS, address_tables.BUCKET_SIZE = self.sizes

    @rule(number=st.integers(0, 60), teller=st.integers(0, 3), age_s=st.integers(0, 2**32 - 1))
    def hear(self, number: int, teller: int, age_s: int) -> None:
        seen = SeenAddress(numbered(number * 37), age_s)
        results = [b.add(seen, Prefix(b"\x04\x01" + bytes([teller])), self.now_ms) for b in (self.book, self.twin)]
        assert results[0] == results[1]

    @rule(number=st.integers(0, 60), is_reached=st.booleans())
    def dial(self, number: int, is_reached: bool) -> None:
        address = numbered(number * 37)
        for book in (self.book, self.twin):
            book.on_dial(address, self.now_ms)
            if is_reached:
                book.on_reached(address, self.now_ms)
        self.dials[address] = (self.now_ms, is_reached)

    @rule(choice=st.sampled_from(Choice))
    def select(self, choice: Choice) -> None:
        found = self.book.select(choice, self.now_ms)
        assert found == self.twin.select(choice, self.now_ms)
        entry = self.book.get(found) if found is not None else None
        if entry is not None:
            assert choice is Choice.ANY or entry.is_tried is (choice is Choice.TRIED)
            assert entry.attempt_ms <= entry.success_ms or self.now_ms - entry.attempt_ms >= REST_MS

    @rule()
    def ask_for_a_suspect(self) -> None:
        assert self.book.get_suspect(self.now_ms) == self.twin.get_suspect(self.now_ms)

    @rule(minutes=st.sampled_from([1, 2, 30, 60 * 5, 60 * 24 * 8, 60 * 24 * 31]))
    def wait(self, minutes: int) -> None:
        self.now_ms += minutes * 60_000

    @rule()
    def restart(self) -> None:
        self.book = make_book(unseal(BookRecord, seal(keep(self.book))), self.book._draw, Scope.GLOBAL, self.now_ms)
        self.twin = make_book(keep(self.twin), self.twin._draw, Scope.GLOBAL, self.now_ms)

    @invariant()
    def bounds_hold_and_no_tried_address_is_lost_untested(self) -> None:
        if not hasattr(self, "book"):
            return
        tried = {entry.address for entry in self.book if entry.is_tried}
        for lost in self.tried - tried:
            dialled_ms, was_reached = self.dials[lost]
            assert not was_reached, f"{lost.text} answered its last dial"
            assert self.now_ms - dialled_ms >= REST_MS
        self.tried = tried
        assert len(tried) <= 2 * 2
        assert len(self.book) - len(tried) <= 4 * 2
        assert len(self.book._claims) <= 10
        assert {entry.address for entry in self.book} == set(self.book._entries)
        for entry in self.book:
            table = self.book._tried if entry.is_tried else self.book._new
            place = (
                compute_tried_place(SALT, entry.address)
                if entry.is_tried
                else compute_new_place(SALT, entry.address, entry.teller)
            )
            assert table.get(place) is entry
        assert keep(self.book) == keep(self.twin)


TestBook = BookMachine.TestCase
TestBook.settings = settings(max_examples=80, stateful_step_count=60, deadline=None)


def test_tellers_of_one_prefix_fill_at_most_64_buckets() -> None:
    book = make_empty()
    for number in range(20_000):
        add(book, numbered(number * 3))
    places = {compute_new_place(SALT, entry.address, entry.teller).bucket for entry in book}
    assert len(places) <= 64
    assert len(book) <= 64 * BUCKET_SIZE


def test_addresses_of_one_prefix_reach_at_most_8_tried_buckets() -> None:
    buckets = {compute_tried_place(SALT, at(f"20.1.{n // 256}.{n % 256}")).bucket for n in range(5_000)}
    assert 1 < len(buckets) <= 8
    others = {compute_tried_place(bytes(32), at(f"20.1.{n // 256}.{n % 256}")).bucket for n in range(5_000)}
    assert buckets != others, "another salt, other places"


def test_a_flood_of_addresses_pushes_out_none_that_may_be_good() -> None:
    book = make_empty()
    before = [numbered(number) for number in range(500) if add(book, numbered(number))]
    for number in range(30_000):
        add(book, at(f"99.{number // 256 % 256}.{number % 256}.{number // 65536}"))
    assert all(book.get(address) is not None for address in before)


def test_a_tried_place_is_given_up_only_after_a_dial_in_vain() -> None:
    first, second = find_rivals(2)
    book = make_empty()
    book.on_reached(first, NOW_MS)
    book.on_reached(second, NOW_MS + 1)
    assert book.get_suspect(NOW_MS + 2) is None, "reached within four hours"
    later = NOW_MS + FRESH_MS + DAY_MS
    book.on_reached(second, later)
    assert book.get_suspect(later) == first
    book.on_dial(first, later + 1)
    assert book.get_suspect(later + 2) is None
    book.on_reached(numbered(70_001), later + 2)
    assert book.get_suspect(later + 1 + REST_MS) is None
    now_tried = {entry.address for entry in book if entry.is_tried}
    assert second in now_tried
    assert first not in now_tried
    assert book.get(first) is not None, "it stands among the new ones again"


def test_a_claim_ends_without_a_test_in_favour_of_the_older() -> None:
    first, second = find_rivals(2)
    book = make_empty()
    book.on_reached(first, NOW_MS)
    later = NOW_MS + DAY_MS
    book.on_reached(second, later)
    assert book.get_suspect(later + CLAIM_MS) == first
    book.get_suspect(later + CLAIM_MS + 1)
    assert book.get_suspect(later + CLAIM_MS + 2) is None
    assert [entry.address for entry in book if entry.is_tried] == [first]


def test_no_network_refutes_nobody() -> None:
    first, second = find_rivals(2)
    book = make_empty()
    book.on_reached(first, NOW_MS)
    later = NOW_MS + DAY_MS
    book.on_reached(second, later)
    assert book.get_suspect(later) == first
    for turn in range(20):
        book.on_dial(first, later + 1 + turn * REST_MS)
        book.get_suspect(later + 1 + (turn + 1) * REST_MS)
    entry = book.get(first)
    assert entry is not None
    assert entry.is_tried
    assert entry.failures <= 1, "nobody was reached in between, so only the first counts"


def test_stale_addresses_make_room() -> None:
    book = make_empty()
    address = numbered(1)
    add(book, address)
    for turn in range(3):
        book.on_dial(address, NOW_MS + turn * 2 * REST_MS)
        book.on_reached(numbered(2), NOW_MS + turn * 2 * REST_MS + 1)
    entry = book.get(address)
    assert entry is not None
    assert is_stale(entry, NOW_MS + DAY_MS)
    assert address not in {seen.address for seen in book.sample(1000, NOW_MS + DAY_MS)}


def test_own_and_foreign_addresses_are_not_kept() -> None:
    book = make_empty()
    book.on_own(numbered(5))
    refused = [
        numbered(5),
        at("127.0.0.1"),
        at("10.1.2.3"),
        at("224.0.0.1"),
        at("0.0.0.0"),
        at("::1"),
        at("20.0.0.1", 0),
    ]
    assert not any(add(book, address) for address in refused)
    assert add(book, at("2a00:1450:4001::1"))
    local = AddressBook(SALT, Random(0).randrange, Scope.LOOPBACK)
    assert add(local, at("127.0.0.1", 5000))
    assert not add(local, numbered(5))
    assert (get_scope("127.0.0.1"), get_scope("localhost"), get_scope("0.0.0.0")) == (
        Scope.LOOPBACK, Scope.LOOPBACK, Scope.GLOBAL,
    )  # fmt: skip


def test_addresses_have_one_form_and_prefixes_by_family() -> None:
    assert at("1.2.3.4") == at("::ffff:1.2.3.4")
    assert compute_prefix(at("1.2.3.4").ip) == compute_prefix(at("1.2.9.9").ip) != compute_prefix(at("1.3.3.4").ip)
    assert compute_prefix(at("2a00:1450::1").ip) == compute_prefix(at("2a00:1450:ffff::9").ip)
    assert (at("1.2.3.4").text, at("2a00::1").text) == ("1.2.3.4:4610", "[2a00::1]:4610")
    assert make_address("seed.example.org", 1) is None
    assert not is_acceptable(at("192.168.0.1"), Scope.GLOBAL)


@given(st.binary(max_size=40), st.integers(0, 2**16), st.integers(1, 255))
def test_damaged_files_are_typed_errors(data: bytes, position: int, change: int) -> None:
    book = make_empty()
    for number in range(20):
        add(book, numbered(number * 999))
    whole = bytearray(seal(keep(book, (numbered(0),))))
    with pytest.raises(DecodeError):
        unseal(BookRecord, data)
    whole[position % len(whole)] ^= change
    with pytest.raises(DecodeError):
        unseal(BookRecord, bytes(whole))


def test_a_sample_is_at_most_a_quarter() -> None:
    book = make_empty()
    for number in range(100):
        add(book, numbered(number * 999))
    sample = book.sample(1000, NOW_MS)
    assert len(sample) == len(book) // 4 > SAMPLE_MIN
    assert len({seen.address for seen in sample}) == len(sample)
    assert len(book.sample(7, NOW_MS)) == 7
    assert not make_empty().sample(1000, NOW_MS)
