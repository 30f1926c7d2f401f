"""Which headers go first: against a plain search over random trees, and the tree's own tips as it grows and shrinks."""

from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.header_chain import ChainEntry, HeaderChain, is_ancestor
from consensus.side_branches import choose_lightest, list_beside
from tests.support.headers import grow, make_chain, make_child, make_context

CONTEXT = make_context()


def make_tree(choices: list[int]) -> HeaderChain:
    chain = make_chain(CONTEXT)
    for salt, choice in enumerate(choices):
        entries = chain.get_entries()
        chain.insert(make_child(CONTEXT, entries[choice % len(entries)], salt, 2_000 + 700 * salt))
    return chain


TREES = st.lists(st.integers(0, 30), min_size=1, max_size=25).map(make_tree)


def find_tips(chain: HeaderChain) -> set[ChainEntry]:
    entries = chain.get_entries()
    return set(entries) - {entry.parent for entry in entries if entry.parent is not None}


def choose_plainly(chain: HeaderChain, kept: list[ChainEntry], count_max: int) -> list[ChainEntry]:
    """Take the lightest end away until no more than `count_max` are beside, looking at all of them each time."""
    left = {entry for entry in chain.get_entries() if not any(is_ancestor(entry, each) for each in kept)}
    chosen = []
    while len(left) > count_max:
        ends = left - {entry.parent for entry in left if entry.parent is not None}
        lightest = min(ends, key=lambda entry: (entry.total_work, -int.from_bytes(entry.hash, "big")))
        chosen.append(lightest)
        left.remove(lightest)
    return chosen


@given(TREES, st.data())
@settings(max_examples=60, deadline=None)
def test_the_lightest_ends_go_first(chain: HeaderChain, data: st.DataObject) -> None:
    entries = chain.get_entries()
    kept = data.draw(st.lists(st.sampled_from(entries), min_size=1, max_size=3))
    count_max = data.draw(st.integers(0, 10))
    chosen = choose_lightest(chain, kept, count_max, lambda _entry: 1)
    assert list(chosen) == choose_plainly(chain, kept, count_max)
    assert set(list_beside(chain, kept)) == {e for e in entries if not any(is_ancestor(e, each) for each in kept)}
    for entry in chosen:
        chain.remove(entry)
        assert set(chain.get_tips()) == find_tips(chain)
    assert len(list_beside(chain, kept)) <= count_max
    assert all(chain.get(each.hash) is each for each in kept)


@given(TREES, st.data())
@settings(max_examples=30, deadline=None)
def test_the_tips_follow_what_comes_and_goes(chain: HeaderChain, data: st.DataObject) -> None:
    for number in range(20):
        tip = data.draw(st.sampled_from(chain.get_tips()))
        if data.draw(st.booleans()) and tip is not chain.genesis:
            chain.remove(tip)
            assert tip.hash not in chain
        else:
            parent = data.draw(st.sampled_from(chain.get_entries()))
            header = make_child(CONTEXT, parent, number)
            assert chain.insert(header) is chain.insert(header)
        assert set(chain.get_tips()) == find_tips(chain)


def test_only_what_is_measured_counts() -> None:
    chain = make_chain(CONTEXT)
    kept = grow(CONTEXT, chain, chain.genesis, 3)
    side = [grow(CONTEXT, chain, chain.genesis, 4, salt) for salt in (1, 2)]
    sizes = {entry.get_ancestor(1).hash: 10 for entry in side}
    chosen = choose_lightest(chain, [kept], 19, lambda entry: sizes.get(entry.hash, 0))
    assert len(chosen) == 4, "a branch goes from its end down to what is large"
    assert chosen[-1].hash in sizes
    assert choose_lightest(chain, [kept], 20, lambda entry: sizes.get(entry.hash, 0)) == ()
