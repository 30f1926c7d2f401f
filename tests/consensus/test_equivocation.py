"""Two headers of one ticket are remembered, a third is not, and tickets do not mix; threats 51, 59."""

from hypothesis import given
from hypothesis import strategies as st

from chain.primitives import ZERO_HASH, Hash
from consensus.equivocation import CONTENTS_MAX, Contents
from consensus.header_chain import ChainEntry, HeaderChain
from consensus.header_rules import HeaderContent, make_header, validate_header
from tests.support.headers import KEYS, NOW_MS, make_chain, make_child, make_context

CONTEXT = make_context()
CHAIN: HeaderChain = make_chain(CONTEXT)
ENTRIES = [
    [CHAIN.insert(make_child(CONTEXT, CHAIN.genesis, ticket, state_root=Hash(bytes([content]) * 32)))
     for content in range(4)] for ticket in range(3)
]  # fmt: skip
"""Three tickets with four contents each."""


def test_the_second_content_is_evidence_and_the_third_is_nothing() -> None:
    first, second, third, _ = ENTRIES[0]
    contents = Contents()
    contents.add(first)
    assert (contents.get_first(first), contents.is_full(second.header)) == (None, False)
    contents.add(second)
    assert contents.get_first(second) is first
    assert contents.get_first(first) is None
    assert contents.is_full(third.header)
    contents.add(third)
    assert contents.get_first(third) is None
    assert list(contents.iter_evidence()) == [(first.header, second.header)]
    assert not contents.is_full(ENTRIES[1][0].header), "another ticket"


def test_a_miner_fills_no_places_but_its_own() -> None:
    """A trunk names no miner: others may sign foliage for it, though no opening will ever bear them out."""
    contents, (won, second, *_) = Contents(), ENTRIES[0]
    for number in range(2):
        content = HeaderContent(KEYS[1].public_key, NOW_MS, Hash(bytes([number]) * 32), ZERO_HASH)
        header = make_header(CONTEXT, CHAIN.genesis, won.header.trunk.ticket, content, KEYS[1])
        validate_header(CONTEXT, header, CHAIN.genesis, NOW_MS)
        assert header.foliage.trunk_hash == won.header.foliage.trunk_hash
        contents.add(CHAIN.insert(header))
    assert not contents.is_full(won.header)
    contents.add(won)
    assert contents.get_first(won) is None
    contents.add(second)
    assert contents.get_first(second) is won


@given(st.lists(st.sampled_from([entry for row in ENTRIES for entry in row]), max_size=30))
def test_memory_is_two_headers_a_ticket_whatever_comes(seen: list[ChainEntry]) -> None:
    contents = Contents()
    for entry in seen:
        contents.add(entry)
    firsts: dict[Hash, list[ChainEntry]] = {}
    for entry in seen:
        row = firsts.setdefault(entry.header.foliage.trunk_hash, [])
        if entry not in row:
            row.append(entry)
    for row in firsts.values():
        assert contents.is_full(row[0].header) == (len(row) >= CONTENTS_MAX)
        assert [contents.get_first(entry) for entry in row] == [None, row[0], None, None][: len(row)]
    evidence = [(row[0].header, row[1].header) for row in firsts.values() if len(row) > 1]
    assert list(contents.iter_evidence()) == evidence
    assert sum(map(len, contents._by_winner.values())) <= CONTENTS_MAX * len(firsts)
