"""Records found page by page on a walk along the state: each once, in bounded steps, from any path on."""

import pytest

from chain.hashing import tagged_hash
from chain.ledger.accounts import apply_credit
from chain.ledger.economy_records import Model, Shares
from chain.ledger.keys import MODEL_PREFIX, SHARES_PREFIX
from chain.ledger.registry import NOBODY, make_model
from chain.primitives import ZERO_HASH, Hash
from chain.state.snapshot import LAST_PATH
from chain.state.tree import EMPTY_ROOT, MemoryNodes, compute_path, iter_leaves
from chain.state.view import StateKey, StateKind, StateView
from chain.transaction import PayModel, TransferShares
from consensus.header_chain import make_first_entry, make_genesis_header
from consensus.history import History
from node import state_pages
from node.addresses import format_address
from node.rpc.api import StatePage
from node.rpc.list_methods import PAGE_MAX
from node.rpc.list_views import view_holders
from tests.support.economy import get_model
from tests.support.economy import make_model as make_terms
from tests.support.hash_training import SEGMENT_MACS
from tests.support.ledger import ALICE, BOB, LedgerChain, settle_round
from tests.support.live_node import HOLDER, make_genesis

MODELS = StateKind(MODEL_PREFIX, Model)


def make_state(models: int, accounts: int) -> StateView:
    """Return a state of models among accounts."""
    view = StateView(EMPTY_ROOT, MemoryNodes())
    for number in range(models):
        name = tagged_hash("test.model", number.to_bytes(4, "big"))
        view.put(StateKey(MODEL_PREFIX + name, Model), make_model(NOBODY, make_terms(number), 1, 0))
    for number in range(accounts):
        apply_credit(view, tagged_hash("test.account", number.to_bytes(4, "big")), 1)  # type: ignore[arg-type]
    root, nodes = view.commit()
    return StateView(root, MemoryNodes(nodes))


def read_pages(view: StateView, count: int) -> list[StatePage[Model]]:
    root_header = make_genesis_header(make_genesis(), view.root)
    entry, first, pages = make_first_entry(root_header, History()), ZERO_HASH, []
    while True:
        page = state_pages.read_page(view, entry, MODELS, first, count)
        pages.append(page)
        if page.next_path is None:
            return pages
        assert page.next_path > first
        first = page.next_path


@pytest.mark.parametrize(("count", "seen_max"), [(100, 512), (1, 512), (7, 3), (100, 1), (3, 5)])
def test_pages_hold_each_record_once_whatever_their_bounds(
    count: int, seen_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_pages, "LEAVES_SEEN_MAX", seen_max)
    view = make_state(models=12, accounts=50)
    pages = read_pages(view, count)
    found = [item for page in pages for item in page.records]
    assert found == list(view.iter_records(MODEL_PREFIX, Model)), "all of them, in the order of paths"
    assert len(found) == 12
    assert max(len(page.records) for page in pages) <= min(count, seen_max)
    assert len(pages) >= 62 // seen_max


def test_a_page_looks_at_a_bounded_number_of_leaves() -> None:
    view, looked = make_state(models=0, accounts=3_000), []
    inner = view.iter_leaves

    def count_leaves(first: Hash) -> object:
        for leaf in inner(first):
            looked.append(leaf.key)
            yield leaf

    view.iter_leaves = count_leaves  # type: ignore[method-assign, assignment]
    entry = make_first_entry(make_genesis_header(make_genesis(), view.root), History())
    page = state_pages.read_page(view, entry, MODELS, ZERO_HASH, PAGE_MAX)
    assert (page.records, len(looked)) == ((), state_pages.LEAVES_SEEN_MAX)
    assert page.next_path is not None


def test_a_walk_from_a_path_gives_what_is_left_of_the_walk_from_the_start() -> None:
    view = make_state(models=3, accounts=60)
    nodes = view._nodes
    leaves = list(iter_leaves(nodes, view.root))
    paths = [compute_path(leaf.key) for leaf in leaves]
    assert paths == sorted(paths)
    for place, path in enumerate(paths):
        assert list(iter_leaves(nodes, view.root, path)) == leaves[place:]
        following = Hash((int.from_bytes(path, "big") + 1).to_bytes(32, "big"))
        assert list(iter_leaves(nodes, view.root, following)) == leaves[place + 1 :]
    assert list(iter_leaves(nodes, view.root, LAST_PATH)) == []


def test_holders_are_shown_with_what_they_may_claim() -> None:
    chain = LedgerChain()
    settle_round(chain, ALICE, BOB)
    task = chain.context.task_id
    chain.mine(chain.sign(BOB, TransferShares(task, HOLDER.public_key, SEGMENT_MACS)))
    chain.mine(chain.sign(ALICE, PayModel(task, 1_000)))
    records = tuple(chain.view.iter_records(SHARES_PREFIX + task, Shares))
    page = StatePage(Hash(bytes(32)), chain.height, chain.root, records, None)
    shown = view_holders(task, get_model(chain, task), page)
    assert shown.units_total == str(2 * SEGMENT_MACS)
    assert {holder.account: (holder.units, holder.claimable) for holder in shown.holders} == {
        format_address(ALICE.public_key): (str(SEGMENT_MACS), "494"),
        format_address(HOLDER.public_key): (str(SEGMENT_MACS), "494"),
    }
