"""The filter forgets no name that may still be needed, and rules out nearly all others."""

import pytest

from chain.hashing import tagged_hash
from chain.primitives import Hash
from chain.storage import stale_filter
from chain.storage.stale_filter import StaleFilter


def make_names(label: str, count: int) -> list[Hash]:
    return [tagged_hash(label, number.to_bytes(4, "big")) for number in range(count)]


def test_what_was_added_is_found_and_hardly_anything_else() -> None:
    names, others, stale = make_names("went", 2_000), make_names("other", 2_000), StaleFilter()
    stale.add(names)
    assert stale.find_candidates(names) == names
    assert len(stale.find_candidates(others)) < 20
    assert stale.find_candidates([]) == []


def test_names_fade_only_when_their_transitions_are_pruned() -> None:
    stale, batches = StaleFilter(), [make_names(f"transition {number}", 50) for number in range(1, 41)]
    kept = 6
    for number, names in enumerate(batches, 1):
        stale.add(names)
        pruned = max(0, number - kept)
        stale.forget(pruned, number)
        for later in batches[pruned:number]:
            assert stale.find_candidates(later) == later
    assert not stale.find_candidates(batches[0]), "what was pruned long ago has faded"


def test_a_full_filter_rules_out_nothing_until_it_empties(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stale_filter, "NAMES_MAX", 60)
    stale, others = StaleFilter(), make_names("other", 10)
    stale.forget(0, 0)
    stale.add(make_names("went", 61))
    assert stale.is_full
    assert stale.find_candidates(others) == others
    stale.forget(1, 1)
    stale.forget(2, 2)
    assert stale.find_candidates(others) == []
