"""Views: reads see writes, forks keep to themselves, and committing gives the same root by any road."""

import pytest

from chain.errors import DecodeError
from chain.ledger.keys import ACCOUNT_PREFIX, account_key
from chain.ledger.records import Account
from chain.primitives import PublicKey
from chain.state.proof import verify_exclusion, verify_inclusion
from chain.state.tree import EMPTY_ROOT, MemoryNodes
from chain.state.view import StateView

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
    with pytest.raises(DecodeError):
        view.put(A, Account(0, -1))
    assert view.get(A) is None
