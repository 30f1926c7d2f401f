"""The tree of headers: ancestors, forks, locators and medians against walks that take every step."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.header import compute_header_hash
from consensus.header_chain import ChainEntry, HeaderChain, find_fork, get_locator, get_median_timestamp, is_ancestor
from tests.support.headers import grow, make_chain, make_child, make_context


def walk(entry: ChainEntry) -> list[ChainEntry]:
    steps = [entry]
    while steps[-1].parent is not None:
        steps.append(steps[-1].parent)
    return steps[::-1]


def make_tree(choices: list[int]) -> HeaderChain:
    context = make_context()
    chain = make_chain(context)
    for salt, choice in enumerate(choices):
        entries = chain.get_entries()
        chain.insert(make_child(context, entries[-1 - choice % min(len(entries), 4)], salt))
    return chain


TREES = st.lists(st.integers(0, 3), min_size=1, max_size=30).map(make_tree)


@given(TREES, st.data())
@settings(max_examples=40, deadline=None)
def test_ancestors_and_forks_equal_plain_walks(chain: HeaderChain, data: st.DataObject) -> None:
    entries = chain.get_entries()
    left, right = data.draw(st.sampled_from(entries)), data.draw(st.sampled_from(entries))
    ways = walk(left), walk(right)
    assert [left.get_ancestor(height) for height in range(left.height + 1)] == ways[0]
    common = [a for a, b in zip(*ways, strict=False) if a is b]
    assert find_fork(left, right) is common[-1]
    assert is_ancestor(left, right) == (left in ways[1])


def test_ancestors_of_a_long_chain() -> None:
    context = make_context()
    chain = make_chain(context)
    tip = grow(context, chain, chain.genesis, 300)
    assert all(tip.get_ancestor(height).height == height for height in range(301))
    steps, entry = 0, tip
    while entry.height > 0:
        assert entry.skip is not None
        entry, steps = entry.skip, steps + 1
    assert steps <= 18


def test_locator_is_dense_then_sparse() -> None:
    context = make_context()
    chain = make_chain(context)
    tip = grow(context, chain, chain.genesis, 200)
    locator = get_locator(tip)
    entries = [chain.get(header_hash) for header_hash in locator]
    heights = [entry.height for entry in entries if entry]
    assert heights[:10] == list(range(200, 190, -1))
    assert heights[-1] == 0
    assert len(locator) < 25
    assert get_locator(chain.genesis) == (chain.genesis.hash,)


def test_headers_after_a_locator_of_another_branch() -> None:
    context = make_context()
    chain = make_chain(context)
    fork = grow(context, chain, chain.genesis, 20)
    ours, theirs = grow(context, chain, fork, 30), grow(context, chain, fork, 7, salt=1)
    headers = chain.get_headers_after(get_locator(theirs), ours, 10)
    assert [header.height for header in headers] == list(range(21, 31))
    assert headers[0].foliage.parent_hash == fork.hash
    assert chain.get_headers_after(get_locator(ours), ours, 10) == ()
    assert len(chain.get_headers_after((), ours, 2_000)) == 50
    assert chain.get_headers_after((b"\x01" * 32,), ours, 1)[0].height == 1  # type: ignore[arg-type]  # unknown name


def test_median_of_eleven() -> None:
    context = make_context()
    chain = make_chain(context)
    entry = chain.genesis
    assert get_median_timestamp(entry, 11) == entry.header.foliage.timestamp_ms
    for delay_ms in [5_000, -3_000, 9_000, 100, -50, 7, 8, 2_000, 40, 60, 1_000, -10]:
        entry = chain.insert(make_child(context, entry, delay_ms=delay_ms))
    last = [step.header.foliage.timestamp_ms for step in walk(entry)][-11:]
    assert get_median_timestamp(entry, 11) == sorted(last)[5]


def test_inserting_twice_keeps_one_entry() -> None:
    context = make_context()
    chain = make_chain(context)
    header = make_child(context, chain.genesis)
    entry = chain.insert(header)
    assert chain.insert(header) is entry
    assert len(chain) == 2
    assert compute_header_hash(header) in chain


def test_an_unknown_parent_is_a_mistake_of_the_caller() -> None:
    context = make_context()
    chain = make_chain(context)
    tip = grow(context, chain, chain.genesis, 2)
    with pytest.raises(KeyError):
        make_chain(context).insert(tip.header)
