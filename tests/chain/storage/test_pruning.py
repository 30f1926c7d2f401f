"""States that are kept are whole, and nothing else of the tree is on disk, whatever branches the head has been on.

The oracle is naive: it remembers the pairs of every state that the head went through, back to a fork and forward again,
and builds each kept tree from nothing.
"""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.primitives import Hash
from chain.state.tree import EMPTY_ROOT, MemoryNodes, iter_leaves
from chain.state.update import update_tree
from chain.storage import stale_filter, state_nodes
from chain.storage.block_store import BlockStore, PrunedState
from chain.storage.engine import CorruptDatabase
from consensus.header_chain import ChainEntry
from tests.support.store import CONTEXT, GENESIS_UPDATE, BlockMaker, MemoryEngine, StoredBlock

Pairs = dict[bytes, bytes]

# Few keys and few values, so that what went often comes back.
CHANGES = st.dictionaries(
    st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"f"]), st.none() | st.sampled_from([b"x", b"y"]), max_size=4
)
STEPS = st.lists(st.tuples(st.integers(0, 7), st.lists(CHANGES, min_size=1, max_size=4)), min_size=1, max_size=14)


def define_nodes(pairs: Pairs) -> frozenset[Hash]:
    """Return the names of all nodes of a tree that was built from nothing."""
    return frozenset(update_tree(MemoryNodes(), EMPTY_ROOT, pairs).nodes)


@dataclass
class History:
    """A store with few kept states, and the naive account of every state it went through."""

    kept: int
    engine: MemoryEngine = field(default_factory=MemoryEngine)
    maker: BlockMaker = field(default_factory=BlockMaker)

    def __post_init__(self) -> None:
        self.store = BlockStore(self.engine, self.kept)
        self.store.initialise(CONTEXT.chain_id, self.maker.genesis_header, GENESIS_UPDATE.nodes)
        self.branch: list[StoredBlock] = []
        self.states: list[Pairs] = [{b"genesis": b"state"}]
        self.passed: list[Pairs] = list(self.states)
        self.arrivals: list[int] = [0]

    def get_tip(self) -> ChainEntry:
        return self.branch[-1].entry if self.branch else self.maker.headers.genesis

    def move(self, depth: int, blocks: list[dict[bytes, bytes | None]], salt: int) -> None:
        """Leave `depth` blocks of the head's branch and join new ones, in one commit."""
        left, self.branch = self.branch[len(self.branch) - depth :], self.branch[: len(self.branch) - depth]
        del self.states[len(self.states) - depth :], self.arrivals[len(self.arrivals) - depth :]
        if depth:
            self.passed.append(self.states[-1])
        joined = []
        for changes in blocks:
            stored = self.maker.make(self.get_tip(), salt, changes)
            pairs = self.states[-1] | {key: value for key, value in changes.items() if value is not None}
            pairs = {key: value for key, value in pairs.items() if changes.get(key, b"") is not None}
            self.branch.append(stored)
            self.states.append(pairs)
            self.passed.append(pairs)
            self.arrivals.append(len(self.passed) - 1)
            joined.append(stored.connected)
        self.store.commit([stored.block for stored in reversed(left)], joined)

    def is_within_reach(self, depth: int) -> bool:
        return not depth or self.arrivals[-1 - depth] >= self.store.get_tip().pruned

    def validate(self) -> None:
        """Compare the store with the account."""
        tip = self.store.get_tip()
        assert tip.transitions == len(self.passed) - 1
        expected = frozenset[Hash]().union(*(define_nodes(pairs) for pairs in self.passed[tip.pruned :]))
        assert frozenset(get_names_on_disk(self.engine)) == expected
        fresh = BlockStore(self.engine)
        for stored, pairs in list(zip(self.branch, self.states[1:], strict=True))[-self.kept - 1 :]:
            if self.store.is_state_kept(stored.entry.height):
                leaves = iter_leaves(fresh, stored.block.header.foliage.state_root)
                assert {leaf.key: leaf.value for leaf in leaves} == pairs
        fresh.validate(CONTEXT.chain_id)


def get_names_on_disk(engine: MemoryEngine) -> list[Hash]:
    return [Hash(key[1:]) for key in engine.rows if key.startswith(b"s")]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 5), st.integers(0, 3), STEPS)
def test_what_is_on_disk_is_what_the_kept_states_need(
    kept: int, restart: int, steps: list[tuple[int, list[dict[bytes, bytes | None]]]]
) -> None:
    history = History(kept)
    highest = 0
    for salt, (wish, blocks) in enumerate(steps):
        depth = min(wish // 2, len(history.branch))
        if not history.is_within_reach(depth):
            with pytest.raises(PrunedState):
                history.store.commit(
                    [stored.block for stored in reversed(history.branch[len(history.branch) - depth :])],
                    [
                        history.maker.make(
                            history.branch[-depth].entry.parent or history.get_tip(), salt + 100
                        ).connected
                    ],
                )
            continue
        history.move(depth, blocks, salt)
        if salt % 3 == restart:
            # What was born again must be known to whoever starts on these rows.
            history.store = BlockStore(history.engine, kept)
        highest = max(highest, len(history.branch))
        history.validate()
        for height in range(max(0, highest - kept), len(history.branch) + 1):
            assert history.store.is_state_kept(height), "as deep as was promised at the highest head"


def test_a_store_that_kept_everything_catches_up_in_bounded_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_nodes, "PRUNED_NODES_MIN", 3)
    history = History(2)
    history.store = BlockStore(history.engine, None)
    for number in range(40):
        history.move(0, [{b"%d" % (number % 9): b"%d" % number, b"same": b"%d" % (number % 2)}], 0)
    assert history.store.get_tip().pruned == 0
    history.validate()
    history.store = BlockStore(history.engine, 2)
    counts = []
    while history.store.get_tip().pruned < len(history.branch) - 2:
        before = len(get_names_on_disk(history.engine))
        history.move(0, [{b"only": b"%d" % len(history.branch)}], 0)
        counts.append(before - len(get_names_on_disk(history.engine)))
        assert len(counts) < 100
    assert len(counts) > 5, "the backlog was too long for one write"
    assert max(counts) <= 3 + len(define_nodes(history.states[-1]))
    history.validate()


def test_a_node_that_came_back_outlives_the_pruning_of_its_first_end(monkeypatch: pytest.MonkeyPatch) -> None:
    for names_max in (0, stale_filter.NAMES_MAX):
        monkeypatch.setattr(stale_filter, "NAMES_MAX", names_max)
        history = History(3)
        for number, value in enumerate((b"x", b"y", b"x", b"y", b"x", b"z", b"z", b"z", b"z", b"z")):
            history.move(0, [{b"a": value, b"number": b"%d" % number}], 0)
            history.store = BlockStore(history.engine, 3) if number % 2 else history.store
            history.validate()
        assert not [key for key in history.engine.rows if key.startswith(b"r")], (
            "births too old to matter are forgotten"
        )


def test_a_lost_stale_row_stops_the_commit() -> None:
    history = History(1)
    history.move(0, [{b"a": b"x"}, {b"a": b"y"}], 0)
    (key,) = [key for key in history.engine.rows if key.startswith(b"p")]
    del history.engine.rows[key]
    with pytest.raises(CorruptDatabase, match="transition 2 is lost"):
        history.move(0, [{b"a": b"x"}], 0)
