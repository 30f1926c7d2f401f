"""The compact proof: honest chains pass, forks without work are found as often as computed, lies end in their rule."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from chain.codec import decode, encode
from chain.errors import InvalidBlock, InvalidProof
from chain.hashing import tagged_hash
from chain.header import Header
from chain.primitives import Hash, Signature
from consensus.flyclient import Demand, compute_places, is_provable, prove_chain, verify_chain
from consensus.header_chain import ChainEntry, make_entry
from consensus.header_proof import PROOF_BYTES_MAX, HeaderProof, prove_headers, replay_proof
from consensus.header_rules import compute_lead_in, validate_header
from consensus.sampling import compute_public_seed
from tests.support.forks import grow_fork, make_unearned
from tests.support.headers import NOW_MS, START_MS, grow, make_chain, make_child, make_context

CONTEXT = make_context()
CHAIN = make_chain(CONTEXT)
TIP = grow(CONTEXT, CHAIN, CHAIN.genesis, 400)
DEMAND = Demand(Hash(b"\x31" * 32), security_bits=20, stretch_blocks=30)
PROOF = prove_chain(CONTEXT, TIP, DEMAND)


def verify(proof: HeaderProof, demand: Demand = DEMAND, tip: Header = TIP.header, now_ms: int = NOW_MS) -> ChainEntry:
    return verify_chain(CONTEXT, CHAIN.genesis, tip, demand, proof, now_ms).tip


def refuse(proof: HeaderProof, rule: str, demand: Demand = DEMAND, tip: Header = TIP.header) -> None:
    with pytest.raises((InvalidProof, InvalidBlock)) as caught:
        verify(proof, demand, tip)
    assert str(caught.value).startswith(f"{rule}: ")


def make_demand(number: int, bits: int = 20, stretch: int = 30) -> Demand:
    return Demand(tagged_hash("test", number.to_bytes(4, "big")), bits, stretch)


@pytest.mark.parametrize("height", [42, 43, 64, 100, 255, 256, 257, 400])
def test_an_honest_chain_passes(height: int) -> None:
    tip = TIP.get_ancestor(height)
    proof = decode(HeaderProof, encode(prove_chain(CONTEXT, tip, DEMAND)), PROOF_BYTES_MAX)
    proven = verify_chain(CONTEXT, CHAIN.genesis, tip.header, DEMAND, proof, NOW_MS)
    assert proven.tip.hash == tip.hash
    assert proven.tip.history == tip.history
    assert proven.tip.first_height == height - 30 - compute_lead_in(CONTEXT) + 1
    assert proven.places == compute_places(DEMAND, tip.total_work, tip.get_ancestor(height - 30).total_work)
    heights = {sample.header.height for sample in proven.samples}
    drawn = {tip.get_ancestor_by_work(place).height for place in proven.places}
    assert heights == {height for height in drawn if height < proven.tip.first_height}


def test_a_proven_tip_can_be_followed() -> None:
    """What stands on the stretch is validated as ever: median time, anchors and skip links need nothing older."""
    entry = verify(PROOF)
    parent = TIP
    for salt in range(60):
        parent = CHAIN.insert(make_child(CONTEXT, parent, salt=salt))
    ours = entry
    for height in range(TIP.height + 1, parent.height + 1):
        header = parent.get_ancestor(height).header
        validate_header(CONTEXT, header, ours, NOW_MS)
        ours = make_entry(header, ours)
    assert ours.hash == parent.hash
    assert ours.get_ancestor(entry.first_height).hash == TIP.get_ancestor(entry.first_height).hash


def test_uneven_difficulty_passes() -> None:
    chain = make_chain(CONTEXT)
    entry = chain.genesis
    for n in range(300):
        entry = chain.insert(make_child(CONTEXT, entry, salt=n, delay_ms=400 if n // 60 % 2 else 3_500))
    works = [entry.get_ancestor(height).header.foliage.target for height in range(1, 301)]
    assert max(works) > 30 * min(works), "difficulty moves far"
    for number in range(8):
        demand = make_demand(number)
        proof = prove_chain(CONTEXT, entry, demand)
        assert verify_chain(CONTEXT, chain.genesis, entry.header, demand, proof, NOW_MS).tip.hash == entry.hash


def test_a_short_chain_is_for_the_other_way() -> None:
    assert not is_provable(CONTEXT, 41, DEMAND)
    with pytest.raises(InvalidProof, match="proof-length"):
        prove_chain(CONTEXT, TIP.get_ancestor(41), DEMAND)
    refuse(PROOF, "proof-length", tip=TIP.get_ancestor(41).header)


@pytest.mark.parametrize("changes", [{"security_bits": 0}, {"security_bits": 129}, {"stretch_blocks": 0}])
def test_demands_are_bounded(changes: dict[str, int]) -> None:
    demand = replace(DEMAND, **changes)  # type: ignore[arg-type]  # fields by name
    with pytest.raises(InvalidProof, match="proof-demand"):
        prove_chain(CONTEXT, TIP, demand)
    with pytest.raises(InvalidProof, match="proof-demand"):
        prove_chain(CONTEXT, TIP, replace(DEMAND, stretch_blocks=1_025))
    with pytest.raises(InvalidProof, match="proof-samples"):
        compute_places(replace(DEMAND, security_bits=128), 2**100, 2**100 - 1)


FORK, EARNED = 120, 140


@pytest.mark.parametrize("bits", [1, 2])
def test_a_fork_is_found_as_often_as_computed(bits: int) -> None:
    """The best forger puts its earned blocks last. Measured over many private seeds, within four standard errors."""
    chain = make_chain(CONTEXT)
    start = grow(CONTEXT, chain, chain.genesis, FORK)
    tip = grow_fork(CONTEXT, chain, start, unearned=140, earned=EARNED)
    trials, found = 150, 0
    stretch = 20
    for number in range(trials):
        demand = make_demand(number, bits, stretch)
        proof = prove_chain(CONTEXT, tip, demand)
        try:
            verify_chain(CONTEXT, chain.genesis, tip.header, demand, proof, NOW_MS)
        except InvalidBlock as error:
            found += error.rule == "digest"
    count = len(compute_places(make_demand(0, bits, stretch), tip.total_work, tip.get_ancestor(380).total_work))
    hit = math.log(280 / EARNED) / math.log(400 / stretch)
    expected = 1 - (1 - hit) ** count
    assert expected >= 1 - 2**-bits
    assert abs(found / trials - expected) < 4 * math.sqrt(expected * (1 - expected) / trials), (found, expected)


def test_work_missing_from_the_stretch_is_always_found() -> None:
    chain = make_chain(CONTEXT)
    start = grow(CONTEXT, chain, chain.genesis, 200)
    tip = grow_fork(CONTEXT, chain, start, unearned=1, earned=DEMAND.stretch_blocks - 1)
    proof = prove_chain(CONTEXT, tip, DEMAND)
    with pytest.raises(InvalidBlock, match="digest"):
        verify_chain(CONTEXT, chain.genesis, tip.header, DEMAND, proof, NOW_MS)


def test_a_tip_without_work_is_found() -> None:
    tip = CHAIN.insert(make_unearned(CONTEXT, TIP))
    refuse(prove_chain(CONTEXT, tip, DEMAND), "digest", tip=tip.header)


def test_another_seed_asks_for_other_headers() -> None:
    other = replace(DEMAND, seed=Hash(b"\x32" * 32))
    refuse(PROOF, "proof-place", other)
    assert verify(prove_chain(CONTEXT, TIP, other), other).hash == TIP.hash


def test_a_public_seed_serves_whoever_cannot_ask() -> None:
    demand = replace(DEMAND, seed=compute_public_seed(TIP.header))
    assert verify(prove_chain(CONTEXT, TIP, demand), demand).hash == TIP.hash


def prove_heights(change: Callable[[list[int]], list[int]]) -> HeaderProof:
    return prove_headers(TIP, change([header.height for header in PROOF.headers]))


def test_neither_more_nor_fewer_headers_pass() -> None:
    drawn = {header.height for header in PROOF.headers}
    unasked = next(height for height in range(1, 300) if height not in drawn)
    refuse(prove_heights(lambda heights: sorted([*heights, unasked])), "proof-unasked")
    refuse(prove_heights(lambda heights: heights[1:]), "proof-place")
    refuse(prove_heights(lambda heights: heights[:-1]), "proof-stretch")
    refuse(prove_heights(lambda heights: [*heights[:-20], *heights[-19:]]), "proof-stretch")
    refuse(HeaderProof((), ()), "proof-stretch")


def change_header(place: int, change: Callable[[Header], Header]) -> HeaderProof:
    headers = list(PROOF.headers)
    headers[place] = change(headers[place])
    return replace(PROOF, headers=tuple(headers))


@pytest.mark.parametrize("place", [0, 5, -35, -1])
def test_signatures_are_checked_everywhere(place: int) -> None:
    refuse(change_header(place, lambda header: replace(header, signature=Signature(bytes(64)))), "signature")


def test_a_tip_is_checked_like_any_header() -> None:
    refuse(PROOF, "signature", tip=replace(TIP.header, signature=Signature(bytes(64))))
    heavier = replace(TIP.header.trunk, total_work=TIP.total_work * 2)
    refuse(PROOF, "work", tip=replace(TIP.header, trunk=heavier))
    refuse(
        PROOF, "proof-root", tip=replace(TIP.header, foliage=replace(TIP.header.foliage, history_root=Hash(bytes(32))))
    )


def test_the_future_is_refused() -> None:
    with pytest.raises(InvalidBlock, match="future"):
        verify(PROOF, now_ms=START_MS)


def test_a_proof_under_another_genesis_is_refused() -> None:
    other = make_chain(make_context(replace(CONTEXT.genesis.parameters, subsidy=1)))
    with pytest.raises((InvalidProof, InvalidBlock), match="proof-root"):
        verify_chain(CONTEXT, other.genesis, TIP.header, DEMAND, PROOF, NOW_MS)


def test_a_ticket_cannot_serve_at_two_heights() -> None:
    """A ticket is drawn under its parent's name; a sampled header must name the parent that the history holds."""
    chain = make_chain(CONTEXT)
    entry = grow(CONTEXT, chain, chain.genesis, 150)
    header = make_child(CONTEXT, entry)
    stolen = replace(header, foliage=replace(header.foliage, parent_hash=entry.get_ancestor(149).hash))

    tip = make_entry(stolen, entry)
    for _ in range(60):
        tip = make_entry(make_child(CONTEXT, tip), tip)
    proof = prove_headers(tip, [151])

    with pytest.raises(InvalidProof, match="proof-parent"):
        replay_proof(CONTEXT, chain.genesis, tip.header, proof)
