"""Header rules: an honest header passes, and each field that lies is refused by the rule that is meant to see it."""

from collections.abc import Callable
from dataclasses import fields, replace
from itertools import pairwise

import pytest

from chain.errors import InvalidBlock
from chain.genesis import compute_segment_seed
from chain.header import Foliage, Header, Trunk, compute_beacon, compute_signing_hash, compute_trunk_hash
from chain.primitives import Hash, PublicKey, Signature
from chain.signature import SigningKey
from chain.ticket import Ticket
from consensus.asert import compute_threshold
from consensus.header_chain import ChainEntry, make_entry
from consensus.header_rules import (
    compute_next_target,
    compute_round,
    compute_timestamp_min,
    get_segment_seed,
    validate_header,
    validate_headers,
)
from tests.support.headers import (
    KEYS,
    NOW_MS,
    STRANGER,
    TICKET_MACS,
    grow,
    make_chain,
    make_child,
    make_context,
)

CONTEXT = make_context()
KEY = KEYS[0]
LENGTH = 20


@pytest.fixture(scope="module")
def parent() -> ChainEntry:
    chain = make_chain(CONTEXT)
    return grow(CONTEXT, chain, chain.genesis, LENGTH)


def seal(trunk: Trunk, foliage: Foliage, key: SigningKey = KEY) -> Header:
    """Bind and sign anew, as an attacker who won a ticket can."""
    foliage = replace(foliage, trunk_hash=compute_trunk_hash(trunk))
    return Header(trunk, foliage, key.sign(compute_signing_hash(CONTEXT.chain_id, foliage)))


def with_ticket(header: Header, parent: ChainEntry, **changes: object) -> Header:
    ticket = replace(header.trunk.ticket, **changes)  # type: ignore[arg-type]  # fields by name
    return seal(Trunk(ticket, compute_beacon(parent.beacon, ticket.digest), header.trunk.total_work), header.foliage)


def refuse(header: Header, parent: ChainEntry, rule: str, now_ms: int = NOW_MS) -> None:
    with pytest.raises(InvalidBlock) as caught:
        validate_header(CONTEXT, header, parent, now_ms)
    assert caught.value.rule == rule
    assert "found" in str(caught.value)


def test_every_header_of_an_honest_chain_passes() -> None:
    chain = make_chain(CONTEXT)
    entry = chain.genesis
    for salt in range(30):
        header = make_child(CONTEXT, entry, salt, delay_ms=(2_000, 10, 9_000)[salt % 3])
        validate_header(CONTEXT, header, entry, NOW_MS)
        entry = chain.insert(header)


FOLIAGE_LIES: dict[str, tuple[object, str]] = {
    "version": (2, "version"),
    "height": (LENGTH + 2, "height"),
    "parent_hash": (Hash(b"\x01" * 32), "parent"),
    "timestamp_ms": (1, "time"),
    "target": (1 << 200, "target"),
    "miner": (STRANGER.public_key, "signature"),
    "history_root": (Hash(b"\x02" * 32), "history"),
}
TICKET_LIES: dict[str, tuple[object, str]] = {
    "task": (Hash(b"\x03" * 32), "task"),
    "round": (7, "round"),
    "anchor_height": (LENGTH, "anchor"),
    "index": (2, "index"),
    "op": (5, "ticket-op"),
    "digest": (Hash(b"\xff" * 32), "digest"),
}
BODY_FIELDS = {"state_root", "transactions_root"}
OPENING_FIELDS = {"step", "lap", "tile_row", "tile_column", "window", "root_a", "root_b"}


def test_each_field_has_a_rule_or_another_judge() -> None:
    assert {f.name for f in fields(Foliage)} == {*FOLIAGE_LIES, *BODY_FIELDS, "trunk_hash"}
    assert {f.name for f in fields(Ticket)} == {*TICKET_LIES, *OPENING_FIELDS}
    assert {f.name for f in fields(Trunk)} == {"ticket", "beacon", "total_work"}


@pytest.mark.parametrize("name", FOLIAGE_LIES)
def test_a_lie_in_the_foliage(name: str, parent: ChainEntry) -> None:
    value, rule = FOLIAGE_LIES[name]
    header = make_child(CONTEXT, parent)
    lie = replace(header.foliage, **{name: value})  # type: ignore[arg-type]  # fields by name
    refuse(seal(header.trunk, lie, KEY), parent, rule)


@pytest.mark.parametrize("name", TICKET_LIES)
def test_a_lie_in_the_ticket(name: str, parent: ChainEntry) -> None:
    value, rule = TICKET_LIES[name]
    refuse(with_ticket(make_child(CONTEXT, parent), parent, **{name: value}), parent, rule)


def test_a_lie_in_the_trunk(parent: ChainEntry) -> None:
    header = make_child(CONTEXT, parent)
    refuse(seal(replace(header.trunk, beacon=Hash(bytes(32))), header.foliage), parent, "beacon")
    refuse(seal(replace(header.trunk, total_work=header.trunk.total_work + 1), header.foliage), parent, "work")
    foliage = replace(header.foliage, trunk_hash=Hash(bytes(32)))
    signature = KEY.sign(compute_signing_hash(CONTEXT.chain_id, foliage))
    refuse(Header(header.trunk, foliage, signature), parent, "trunk")


@pytest.mark.parametrize("name", sorted(BODY_FIELDS | OPENING_FIELDS))
def test_what_is_not_signed_again_is_refused(name: str, parent: ChainEntry) -> None:
    header = make_child(CONTEXT, parent)
    value = Hash(b"\x09" * 32) if name in {*BODY_FIELDS, "root_a", "root_b"} else 3
    if name in BODY_FIELDS:
        lie = replace(header, foliage=replace(header.foliage, **{name: value}))  # type: ignore[arg-type]  # by name
        refuse(lie, parent, "signature")
    else:
        ticket = replace(header.trunk.ticket, **{name: value})  # type: ignore[arg-type]  # fields by name
        refuse(replace(header, trunk=replace(header.trunk, ticket=ticket)), parent, "trunk")


def test_only_the_miner_signs(parent: ChainEntry) -> None:
    header = make_child(CONTEXT, parent)
    refuse(seal(header.trunk, header.foliage, KEYS[1]), parent, "signature")
    flipped = Signature(header.signature[:-1] + bytes([header.signature[-1] ^ 1]))
    refuse(replace(header, signature=flipped), parent, "signature")
    elsewhere = KEY.sign(compute_signing_hash(Hash(bytes(32)), header.foliage))
    refuse(replace(header, signature=elsewhere), parent, "signature")


def test_headers_do_not_tell_who_is_bonded(parent: ChainEntry) -> None:
    header = make_child(CONTEXT, parent)
    stranger = seal(header.trunk, replace(header.foliage, miner=STRANGER.public_key), STRANGER)
    validate_header(CONTEXT, stranger, parent, NOW_MS)


def test_a_key_of_small_order_is_no_miner(parent: ChainEntry) -> None:
    header = make_child(CONTEXT, parent)
    weak = replace(header.foliage, miner=PublicKey(b"\x01" + bytes(31)))
    refuse(replace(header, foliage=weak, signature=Signature(b"\x01" + bytes(63))), parent, "signature")


def test_time_must_pass_the_median_and_not_lead_the_clock(parent: ChainEntry) -> None:
    earliest = compute_timestamp_min(CONTEXT, parent)
    behind = earliest - parent.header.foliage.timestamp_ms
    validate_header(CONTEXT, make_child(CONTEXT, parent, delay_ms=behind), parent, NOW_MS)
    refuse(make_child(CONTEXT, parent, delay_ms=behind - 1), parent, "time")
    header = make_child(CONTEXT, parent)
    limit = header.foliage.timestamp_ms - CONTEXT.genesis.parameters.future_ms_max
    validate_header(CONTEXT, header, parent, limit)
    refuse(header, parent, "future", limit - 1)


def test_future_is_said_only_when_nothing_else_is_wrong(parent: ChainEntry) -> None:
    header = make_child(CONTEXT, parent, delay_ms=10**12)
    refuse(header, parent, "future")
    refuse(replace(header, signature=Signature(bytes(64))), parent, "signature")


def test_the_digest_must_stay_below_the_threshold(parent: ChainEntry) -> None:
    threshold = compute_threshold(compute_next_target(CONTEXT, parent), TICKET_MACS)
    header = make_child(CONTEXT, parent)
    last = with_ticket(header, parent, digest=Hash((threshold - 1).to_bytes(32, "big")))
    validate_header(CONTEXT, last, parent, NOW_MS)
    refuse(with_ticket(header, parent, digest=Hash(threshold.to_bytes(32, "big"))), parent, "digest")


def test_target_follows_the_parents_time_alone(parent: ChainEntry) -> None:
    quick, late = make_child(CONTEXT, parent, delay_ms=1), make_child(CONTEXT, parent, delay_ms=90_000)
    assert quick.foliage.target == late.foliage.target
    chain = make_chain(CONTEXT)
    after = [
        compute_next_target(CONTEXT, chain.insert(make_child(CONTEXT, chain.genesis, delay_ms=d))) for d in (1, 18_000)
    ]
    assert after[1] == 2 * CONTEXT.genesis.target
    assert after[0] < CONTEXT.genesis.target


def naive_anchors(height: int) -> set[int]:
    """The definition read out loud: s-1 <= a, a < p <= a + L, and genesis may anchor itself."""
    start = height - height % 9
    window = CONTEXT.genesis.parameters.anchor_window
    return {
        a for a in range(height + 2) if a >= start - 1 and (a < height or a == height == 0) and height <= a + window
    }


def test_anchors_lie_in_their_window() -> None:
    assert CONTEXT.genesis.parameters.round_blocks == 9
    chain = make_chain(CONTEXT)
    entry = chain.genesis
    for height in range(20):
        header = make_child(CONTEXT, entry)
        assert compute_round(CONTEXT, height) == height // 9
        accepted = set()
        for anchor in range(height + 2):
            try:
                validate_header(CONTEXT, with_ticket(header, entry, anchor_height=anchor), entry, NOW_MS)
            except InvalidBlock as error:
                assert error.rule == "anchor"  # noqa: PT017 - one of many outcomes in a loop
            else:
                accepted.add(anchor)
        assert accepted == naive_anchors(height)
        entry = chain.insert(header)


def test_the_segment_seed_comes_from_the_anchors_beacon(parent: ChainEntry) -> None:
    header = make_child(CONTEXT, parent)
    ticket = header.trunk.ticket
    anchor = parent.get_ancestor(ticket.anchor_height)
    expected = compute_segment_seed(
        CONTEXT.chain_id, CONTEXT.task_id, ticket.round, anchor.beacon, header.foliage.miner, ticket.index
    )
    assert get_segment_seed(CONTEXT, parent, ticket, header.foliage.miner) == expected
    assert get_segment_seed(CONTEXT, parent, ticket, KEYS[1].public_key) != expected


@pytest.mark.parametrize("cuts", [(0, 12), (0, 1, 5, 12)])
def test_a_run_of_headers_equals_one_by_one(cuts: tuple[int, ...], parent: ChainEntry) -> None:
    entry, headers = parent, []
    for salt in range(12):
        headers.append(make_child(CONTEXT, entry, salt))
        entry = make_entry(headers[-1], entry)

    def spread(work: Callable[[int, int], None], n: int) -> None:
        assert n == cuts[-1]
        for start, stop in pairwise(cuts):
            work(start, stop)

    assert validate_headers(CONTEXT, headers, parent, NOW_MS, spread).history == entry.history
    for place in range(12):
        lies = list(headers)
        lies[place] = replace(lies[place], signature=Signature(bytes(64)))
        with pytest.raises(InvalidBlock, match="signature"):
            validate_headers(CONTEXT, lies, parent, NOW_MS, spread)
    with pytest.raises(InvalidBlock, match="height"):
        validate_headers(CONTEXT, headers[1:], parent, NOW_MS, spread)
