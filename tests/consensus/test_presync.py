"""The two passes over a light branch: what is remembered, what it costs, and what may come the second time."""

import pytest

from chain.header import Header
from chain.primitives import Hash
from consensus import presync
from consensus.header_chain import ChainEntry, get_median_timestamp
from consensus.header_rules import compute_lead_in, validate_header
from consensus.presync import Presync, begin, cut_off
from tests.support.headers import NOW_MS, grow, make_chain, make_child, make_context

CONTEXT = make_context()
LEAD_IN = compute_lead_in(CONTEXT)
CHAIN = make_chain(CONTEXT)
TIP = grow(CONTEXT, CHAIN, CHAIN.genesis, 120)
OTHER = grow(CONTEXT, CHAIN, CHAIN.genesis, 120, salt=1)
PAGE = 10


def get_page(tip: ChainEntry, start: int, count: int = PAGE) -> tuple[list[Header], list[Hash]]:
    entries = [tip.get_ancestor(height) for height in range(start, start + count)]
    return [entry.header for entry in entries], [entry.hash for entry in entries]


@pytest.fixture(autouse=True)
def frequent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presync, "MARK_EVERY", PAGE)


def make_first_pass() -> Presync:
    first = begin(CHAIN.genesis, TIP.get_ancestor(PAGE), LEAD_IN)
    for height in range(2 * PAGE, TIP.height + 1, PAGE):
        first.extend(TIP.get_ancestor(height), LEAD_IN, is_enough=height == TIP.height)
    return first


@pytest.mark.parametrize("height", [1, 5, LEAD_IN, LEAD_IN + 1, 64, 120])
def test_an_end_that_was_cut_off_decides_as_the_whole_branch(height: int) -> None:
    entry = TIP.get_ancestor(height)
    cut = cut_off(entry, LEAD_IN)
    assert (cut.hash, cut.history, cut.height) == (entry.hash, entry.history, entry.height)
    assert cut.first_height == max(0, height - LEAD_IN)
    assert cut_off(cut, LEAD_IN).first_height == cut.first_height
    span = CONTEXT.genesis.parameters.median_span
    assert get_median_timestamp(cut, span) == get_median_timestamp(entry, span)
    validate_header(CONTEXT, make_child(CONTEXT, cut), cut, NOW_MS)


def test_the_second_pass_goes_through_the_names_of_the_first() -> None:
    first = make_first_pass()
    assert first.is_proven
    for start in range(1, TIP.height + 1, PAGE):
        assert first.take(*get_page(TIP, start))
    assert first.position == TIP.hash


def test_another_branch_is_not_taken_for_it() -> None:
    first = make_first_pass()
    assert not first.take(*get_page(OTHER, 1))
    assert first.take(*get_page(TIP, 1))
    assert not first.take(*get_page(TIP, 2 * PAGE + 1)), "headers are missing before it"
    assert not first.take(*get_page(OTHER, PAGE + 1))
    assert first.position == TIP.get_ancestor(PAGE).hash


def test_short_pages_get_no_further_than_the_next_name() -> None:
    first = make_first_pass()
    assert first.take(*get_page(OTHER, 1, 3)), "nothing is known of these yet"
    assert first.take(*get_page(OTHER, 4, 6))
    assert not first.take(*get_page(OTHER, 10, 1))


def test_what_is_remembered_does_not_grow_with_the_branch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presync, "MARKS_MAX", 4)
    first = begin(CHAIN.genesis, TIP.get_ancestor(1), LEAD_IN)
    first.mark_every = 1
    for height in range(2, TIP.height + 1):
        first.extend(TIP.get_ancestor(height), LEAD_IN, is_enough=height == TIP.height)
        assert len(first.marks) <= 4
        assert first.tail.first_height >= height - LEAD_IN
    heights = [height for height, _ in first.marks]
    assert heights == sorted(heights)
    assert heights[-1] == TIP.height
    assert max(b - a for a, b in zip([0, *heights], heights, strict=False)) <= 2 * first.mark_every
    assert all(TIP.get_ancestor(height).hash == name for height, name in first.marks)
