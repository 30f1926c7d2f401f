"""Views: reads see writes, forks keep to themselves, and committing gives the same root by any road."""

from collections.abc import Mapping

import pytest

from chain.errors import DecodeError
from chain.ledger.keys import ACCOUNT_PREFIX, account_key
from chain.ledger.records import Account
from chain.primitives import Hash, PublicKey
from chain.state.proof import verify_exclusion, verify_inclusion
from chain.state.tree import EMPTY_ROOT, MemoryNodes
from chain.state.view import StateKey, StateView

A, B = account_key(PublicKey(b"a" * 32)), account_key(PublicKey(b"b" * 32))


def test_a_fork_is_dropped_or_adopted() -> None:
    view = StateView(EMPTY_ROOT, MemoryNodes())
    view.put(A, Account(0, 5))
    dropped = view.fork()
    dropped.delete(A)
    assert (dropped.get(A), view.get(A)) == (None, Account(0, 5))
    kept = view.fork()
    kept.put(B, Account(1, 6))
    assert view.get(B) is None
    view.adopt(kept)
    assert view.get(B) == Account(1, 6)
    with pytest.raises(AssertionError):
        view.adopt(view.fork().fork())


def test_committing_a_fork_commits_what_lies_under_it_and_changes_nothing() -> None:
    base = StateView(EMPTY_ROOT, MemoryNodes())
    base.put(A, Account(0, 5))
    fork = base.fork()
    fork.put(B, Account(1, 6))
    root, nodes = fork.commit()
    flat = StateView(EMPTY_ROOT, MemoryNodes())
    flat.put(B, Account(1, 6))
    flat.put(A, Account(0, 5))
    assert flat.commit() == (root, nodes)
    assert base.get(B) is None
    committed = StateView(root, MemoryNodes(nodes))
    assert committed.get(A) == Account(0, 5)
    assert dict(committed.iter_records(ACCOUNT_PREFIX, Account)) == {b"a" * 32: Account(0, 5), b"b" * 32: Account(1, 6)}


def test_proofs_are_of_the_committed_root() -> None:
    view = StateView(EMPTY_ROOT, MemoryNodes())
    view.put(A, Account(0, 5))
    root, nodes = view.commit()
    committed = StateView(root, MemoryNodes(nodes))
    verify_inclusion(root, A.name, b"\x92\x00\x05", committed.prove(A))
    verify_exclusion(root, B.name, committed.prove(B))


def test_a_record_out_of_range_is_never_written() -> None:
    view = StateView(EMPTY_ROOT, MemoryNodes())
    view.put(A, Account(0, -1))
    with pytest.raises(DecodeError):
        view.commit()


def test_reading_ahead_finds_what_reading_does() -> None:
    base = StateView(EMPTY_ROOT, MemoryNodes())
    keys = [StateKey(b"key/%d" % number, Account) for number in range(200)]
    for number, key in enumerate(keys[:150]):
        base.put(key, Account(number, 1))
    root, nodes = base.commit()
    one_by_one, ahead = (StateView(root, MemoryNodes(nodes)) for _ in range(2))
    ahead.read_ahead([*keys, *keys[:3]])
    assert [ahead.get(key) for key in keys] == [one_by_one.get(key) for key in keys]
    assert ahead.get(keys[149]) == Account(149, 1)
    assert ahead.get(keys[150]) is None


def test_what_was_read_ahead_is_read_no_more() -> None:
    base = StateView(EMPTY_ROOT, MemoryNodes())
    base.put(A, Account(3, 4))
    root, nodes = base.commit()
    source = CountingNodes(nodes)
    view = StateView(root, source)
    view.read_ahead([A, B])
    loads = source.loads
    assert (view.fork().get(A), view.get(B)) == (Account(3, 4), None)
    assert source.loads == loads > 0


def test_a_change_hides_what_was_read() -> None:
    base = StateView(EMPTY_ROOT, MemoryNodes())
    base.put(A, Account(3, 4))
    root, nodes = base.commit()
    view = StateView(root, MemoryNodes(nodes))
    assert view.get(A) == Account(3, 4)
    fork = view.fork()
    fork.put(A, Account(5, 6))
    fork.delete(B)
    assert (view.get(A), fork.get(A), fork.get(B)) == (Account(3, 4), Account(5, 6), None)
    view.adopt(fork)
    view.read_ahead([A])
    assert view.get(A) == Account(5, 6)


class CountingNodes:
    """Nodes that count how often they are asked for."""

    def __init__(self, nodes: Mapping[Hash, bytes | None]) -> None:
        self._nodes = MemoryNodes(nodes)
        self.loads = 0

    def get_state_node(self, node_hash: Hash) -> bytes | None:
        self.loads += 1
        return self._nodes.get_state_node(node_hash)
