"""The heaviest chain, first seen among equals, without the poisoned, against a naive choice."""

from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.fork_choice import InvalidMarks, choose_path, find_heaviest, find_path
from consensus.header_chain import ChainEntry, HeaderChain
from tests.support.headers import grow, make_chain, make_child, make_context


def make_tree(choices: list[tuple[int, int]]) -> HeaderChain:
    """Delays differ, so targets and work differ between branches of one length."""
    context = make_context()
    chain = make_chain(context)
    for salt, (choice, delay_ms) in enumerate(choices):
        entries = chain.get_entries()
        chain.insert(make_child(context, entries[-1 - choice % min(len(entries), 5)], salt, delay_ms))
    return chain


TREES = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from([1, 500, 2_000, 2_000, 30_000])), min_size=1, max_size=25
).map(make_tree)


def way(entry: ChainEntry) -> list[ChainEntry]:
    return ([*way(entry.parent)] if entry.parent else []) + [entry]


@given(TREES, st.data())
@settings(max_examples=80, deadline=None)
def test_heaviest_equals_the_naive_choice(chain: HeaderChain, data: st.DataObject) -> None:
    entries = list(chain.get_entries())
    bad = data.draw(st.lists(st.sampled_from(entries[1:]), max_size=3))
    missing = {entry.hash for entry in data.draw(st.lists(st.sampled_from(entries[1:]), max_size=3))}
    marks = InvalidMarks()
    for entry in bad:
        marks.mark(chain, entry)
    usable = [e for e in entries if not any(step in bad or step.hash in missing for step in way(e))]
    naive = max(usable, key=lambda entry: (entry.total_work, -entries.index(entry)))
    assert find_heaviest(chain, marks, lambda header_hash: header_hash not in missing) is naive
    for entry in entries:
        assert marks.is_poisoned(entry.hash) == any(step in bad for step in way(entry))


@given(TREES, st.data())
@settings(max_examples=60, deadline=None)
def test_a_path_leads_from_head_to_candidate(chain: HeaderChain, data: st.DataObject) -> None:
    head, candidate = (data.draw(st.sampled_from(chain.get_entries())) for _ in range(2))
    path = find_path(head, candidate)
    standing = way(head)
    for entry in path.disconnect:
        assert standing.pop() is entry
    for entry in path.connect:
        assert entry.parent is standing[-1]
        standing.append(entry)
    assert standing == way(candidate)
    assert not set(map(id, path.disconnect)) & set(map(id, path.connect))
    chosen = choose_path(head, candidate)
    assert chosen == (path if candidate.total_work > head.total_work else None)


def test_of_equal_work_the_first_seen_stays() -> None:
    context = make_context()
    chain = make_chain(context)
    first, second = (chain.insert(make_child(context, chain.genesis, salt)) for salt in (0, 1))
    assert first.total_work == second.total_work
    assert choose_path(first, second) is None
    assert find_heaviest(chain, InvalidMarks()) is first


def test_more_work_beats_more_blocks() -> None:
    context = make_context()
    chain = make_chain(context)
    slow, fast = chain.genesis, chain.genesis
    for _ in range(6):
        slow = chain.insert(make_child(context, slow, 1, delay_ms=60_000))
    for _ in range(5):
        fast = chain.insert(make_child(context, fast, 0, delay_ms=10))
    assert slow.height > fast.height
    path = choose_path(slow, fast)
    assert path is not None
    assert (len(path.disconnect), len(path.connect)) == (6, 5)


def test_marking_reports_each_poisoned_block_once() -> None:
    context = make_context()
    chain = make_chain(context)
    tip = grow(context, chain, chain.genesis, 4)
    marks = InvalidMarks()
    third = tip.get_ancestor(3)
    assert [entry.height for entry in marks.mark(chain, third)] == [3, 4]
    assert [entry.height for entry in marks.mark(chain, tip.get_ancestor(2))] == [2]
    assert find_heaviest(chain, marks).height == 1
