"""Contents in parts: each is right by itself, all orders lead to one content, and nothing else gets in."""

import random
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.codec import encode
from chain.errors import DecodeError, InvalidBlock, InvalidTransaction, MissingData
from chain.ledger.context import BlockScope
from chain.ledger.dataset_parts import (
    DATASET_BYTES_MAX,
    PART_BYTES,
    PART_PRICE,
    apply_add_part,
    apply_part,
    count_parts,
    is_complete,
    read_content,
)
from chain.ledger.economy_records import DATASET_PARTS_MAX, DatasetPart, DatasetParts
from chain.ledger.keys import dataset_parts_key, sketch_key, task_key
from chain.ledger.near_duplicates import find_resembling
from chain.ledger.posted_tasks import compute_posted_task_id
from chain.ledger.supply import compute_holdings
from chain.primitives import Hash
from chain.signature import SigningKey
from chain.transaction import AddDatasetPart, PostTask, Sidecar
from ml.dataset import compute_dataset_root
from ml.sketch import compute_sketch, fill_sketch, lower_minima
from node.dataset_parts import make_part
from tests.support.hash_training import MemoryContent
from tests.support.ledger import ALICE, BOB, CAROL, DAVE, FUNDS, LedgerChain
from tests.support.posted import make_task, register_data

CONTENT = random.Random(59).randbytes(2 * PART_BYTES + 70_001)
"""Three parts; the last one ends within a chunk."""
COUNT = count_parts(len(CONTENT))


def make_chain() -> tuple[LedgerChain, Hash]:
    """Return a chain on which Carol has registered the content, and its name."""
    chain = LedgerChain()
    return chain, register_data(chain, CAROL, CONTENT, 500)


def add(chain: LedgerChain, dataset: Hash, index: int, content: bytes = CONTENT) -> AddDatasetPart:
    """Return what brings a part, its block data at hand."""
    return AddDatasetPart(dataset, len(content), index, chain.content.add(make_part(content, index)))


def bring(chain: LedgerChain, dataset: Hash, *indices: int, key: SigningKey = CAROL) -> None:
    """Mine a block with some parts."""
    nonce = chain.account(key).nonce
    parts = (chain.sign(key, add(chain, dataset, index), nonce=nonce + k) for k, index in enumerate(indices))
    chain.mine(*parts)


def find(chain: LedgerChain, dataset: Hash) -> DatasetParts | None:
    return chain.view.get(dataset_parts_key(dataset))


def refuse(chain: LedgerChain, action: AddDatasetPart | PostTask, key: SigningKey = CAROL) -> str:
    with pytest.raises(InvalidBlock) as refused:
        chain.execute(chain.draft(), chain.sign(key, action))
    return refused.value.rule


def make_large_task(chain: LedgerChain, dataset: Hash, number: int = 2) -> PostTask:
    """Return a task on a content that has come in parts."""
    part = chain.content.add(make_part(CONTENT, 0))
    return replace(make_task(chain, dataset, number), data_hash=part)


def make_scope(chain: LedgerChain) -> BlockScope:
    return BlockScope(chain.context, chain.draft(), chain.training, chain.content)


def test_a_task_trains_on_a_content_only_once_its_last_part_has_come() -> None:
    chain, dataset = make_chain()
    terms = make_large_task(chain, dataset)
    assert refuse(chain, terms, DAVE) == "dataset-incomplete"
    for index in range(COUNT):
        assert chain.view.get(sketch_key(dataset)) is None
        bring(chain, dataset, index)
        if index < COUNT - 1:
            assert refuse(chain, terms, DAVE) == "dataset-incomplete"
    found = find(chain, dataset)
    assert found is not None
    assert is_complete(found)
    assert read_content(make_scope(chain), found) == CONTENT
    chain.mine(chain.sign(DAVE, terms))
    name = compute_posted_task_id(chain.context.chain_id, DAVE.public_key, terms)
    assert chain.view.get(task_key(name)) is not None
    other = replace(make_large_task(chain, dataset, 3), data_hash=chain.content.add(make_part(CONTENT, 2)))
    chain.mine(chain.sign(BOB, other))


def test_a_part_costs_its_price_which_the_treasury_gets() -> None:
    chain, dataset = make_chain()
    before = compute_holdings(chain.view).treasury
    bring(chain, dataset, 1, 0, key=DAVE)
    assert chain.account(DAVE).balance == FUNDS - 2 * PART_PRICE
    assert compute_holdings(chain.view).treasury - before >= 2 * PART_PRICE
    poor = SigningKey(b"\x77" * 32)
    with pytest.raises(InvalidBlock, match="balance"):
        chain.execute(chain.draft(), chain.sign(poor, add(chain, dataset, 2)))


@given(st.permutations(range(COUNT)), st.lists(st.booleans(), min_size=COUNT, max_size=COUNT))
@settings(max_examples=15)
def test_parts_in_any_order_over_any_blocks_by_anybody_make_one_content(order: list[int], cuts: list[bool]) -> None:
    chain, dataset = make_chain()
    waiting: list[int] = []
    for place, index in enumerate(order):
        waiting.append(index)
        if cuts[place] or place == COUNT - 1:
            bring(chain, dataset, *waiting, key=(CAROL, BOB, DAVE)[place % 3])
            waiting.clear()
            rule = "dataset-complete" if place == COUNT - 1 else "part-known"
            assert refuse(chain, add(chain, dataset, order[0]), DAVE) == rule
    minima = None
    for index in range(COUNT):
        minima = lower_minima(make_part(CONTENT, index).delta, minima)
    assert minima is not None
    parts = tuple(DatasetPart(index, chain.content.add(make_part(CONTENT, index))) for index in range(COUNT))
    assert find(chain, dataset) == DatasetParts(len(CONTENT), parts, minima)
    assert chain.view.get_existing(sketch_key(dataset)).minima == fill_sketch(minima)


def test_all_orders_in_one_block_leave_one_state() -> None:
    roots = set()
    for order in permutations(range(COUNT)):
        chain, dataset = make_chain()
        bring(chain, dataset, *order)
        roots.add(chain.root)
    assert len(roots) == 1


def test_a_part_twice_in_a_block_is_refused_and_an_assembled_block_takes_one() -> None:
    chain, dataset = make_chain()
    one, same = chain.sign(CAROL, add(chain, dataset, 1)), chain.sign(BOB, add(chain, dataset, 1))
    with pytest.raises(InvalidBlock, match="part-known"):
        chain.execute(chain.draft(), one, same)
    assert len(chain.assemble(one, same)) == 1


def test_a_branch_that_lost_has_brought_nothing_and_its_parts_may_come_again() -> None:
    chain, dataset = make_chain()
    bring(chain, dataset, 0)
    place = chain.root, chain.height, chain.beacon
    bring(chain, dataset, 2, 1)
    complete = chain.root
    chain.root, chain.height, chain.beacon = place
    found = find(chain, dataset)
    assert found is not None
    assert [part.index for part in found.parts] == [0]
    assert chain.view.get(sketch_key(dataset)) is None
    bring(chain, dataset, 2, 1)
    assert chain.root == complete


def test_what_is_no_part_of_a_registered_content_is_refused() -> None:
    chain, dataset = make_chain()
    good, size = add(chain, dataset, 1), len(CONTENT)
    sidecar = chain.content.get_sidecar(good.sidecar_hash)
    roots, data = sidecar.output_roots, sidecar.delta

    def hold(part: Sidecar, index: int = 1) -> str:
        return refuse(chain, replace(good, index=index, sidecar_hash=chain.content.add(part)))

    assert refuse(chain, replace(good, dataset=Hash(bytes(32)))) == "dataset-unknown"
    assert refuse(chain, replace(good, size_bytes=0)) == "dataset-size"
    assert refuse(chain, replace(good, size_bytes=DATASET_BYTES_MAX + 1)) == "dataset-size"
    assert refuse(chain, replace(good, index=COUNT)) == "part-index"
    assert refuse(chain, replace(good, index=0)) == "part-root", "in another's place"
    assert refuse(chain, replace(good, size_bytes=size + 1)) == "part-root"
    assert refuse(chain, replace(good, size_bytes=3 * PART_BYTES)) == "part-root"
    assert hold(Sidecar(roots, data[:-1] + b"\x00")) == "part-root"
    assert hold(Sidecar(roots, data[:-1])) == "part-bytes"
    assert hold(Sidecar(roots, data + b"\x00")) == "part-bytes"
    assert hold(Sidecar(roots, data), 2) == "part-bytes", "the last is shorter"
    assert hold(Sidecar(roots[:32], data)) == "part-root", "no hash of the others"
    assert hold(Sidecar(roots + bytes(32), data)) == "part-root"
    assert hold(Sidecar(roots[:-1] + b"\x00", data)) == "part-root"
    assert hold(Sidecar(bytes(32) + roots[32:], data)) == "part-root", "of another root by its own word"
    assert hold(Sidecar(roots, bytes(chain.context.parameters.sidecar_bytes_max))) == "sidecar-size"
    with pytest.raises(MissingData):
        chain.execute(chain.draft(), chain.sign(CAROL, replace(good, sidecar_hash=Hash(bytes(32)))))
    bring(chain, dataset, 0)
    assert refuse(chain, replace(good, size_bytes=size + 1)) == "part-size"
    assert find(chain, dataset) == DatasetParts(
        size, (DatasetPart(0, chain.content.add(make_part(CONTENT, 0))),), lower_minima(CONTENT[:PART_BYTES])
    )


def test_block_data_beside_a_task_are_a_part_of_what_it_trains_on() -> None:
    chain, dataset = make_chain()
    bring(chain, dataset, 0, 1, 2)
    other = CONTENT[:PART_BYTES] + CONTENT[:-PART_BYTES]
    false = chain.content.add(replace(make_part(other, 1), output_roots=make_part(CONTENT, 1).output_roots))
    assert refuse(chain, replace(make_large_task(chain, dataset), data_hash=false), DAVE) == "task-data"


def test_a_content_of_one_part_may_come_before_a_task_and_then_again_with_it() -> None:
    chain = LedgerChain()
    small = b"a small content that is one part"
    dataset = register_data(chain, CAROL, small)
    terms = make_task(chain, dataset, data=small)
    chain.mine(chain.sign(BOB, add(chain, dataset, 0, small)))
    assert chain.view.get_existing(sketch_key(dataset)).minima == compute_sketch(small)
    before = find(chain, dataset)
    assert before is not None
    assert before.parts == (DatasetPart(0, terms.data_hash),), "it is the same block data"
    chain.mine(chain.sign(DAVE, terms))
    assert find(chain, dataset) == before
    assert refuse(chain, add(chain, dataset, 0, small)) == "dataset-complete"


def test_too_much_for_one_part_does_not_come_with_a_task() -> None:
    chain = LedgerChain()
    content = random.Random(1).randbytes(PART_BYTES + 1)
    dataset = register_data(chain, CAROL, content)
    assert refuse(chain, make_task(chain, dataset, data=content), DAVE) == "part-bytes"


def test_a_copy_in_parts_owes_what_it_was_copied_from() -> None:
    chain, original = make_chain()
    bring(chain, original, 0, 1, 2)
    copy = CONTENT[:1_000] + b"\x00" + CONTENT[1_001:]
    copied = register_data(chain, BOB, copy)
    for index in range(COUNT):
        chain.mine(chain.sign(BOB, add(chain, copied, index, copy)))
    sketch = chain.view.get_existing(sketch_key(copied)).minima
    assert [each.dataset for each in find_resembling(chain.view, sketch)] == [original, copied]
    terms = replace(make_task(chain, copied), data_hash=chain.content.add(make_part(copy, 0)))
    assert refuse(chain, terms, BOB) == "dataset-near-duplicate"
    owing = replace(terms, model=replace(terms.model, datasets=tuple(sorted((original, copied)))))
    chain.mine(chain.sign(BOB, owing))


def test_a_part_is_hashed_and_sketched_once_and_the_rest_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    chain, dataset = make_chain()
    bring(chain, dataset, 0, 1)
    last, read = add(chain, dataset, 2), list[Hash]()
    view, scope = chain.view, make_scope(chain)
    sidecars = chain.content.sidecars

    def get(_content: MemoryContent, name: Hash) -> Sidecar:
        read.append(name)
        return sidecars[name]

    monkeypatch.setattr(MemoryContent, "get_sidecar", get)
    apply_add_part(scope, view, CAROL.public_key, last)
    assert read == [last.sidecar_hash]


def test_the_largest_content_has_as_many_parts_as_a_record_has_room_for() -> None:
    assert count_parts(DATASET_BYTES_MAX) == DATASET_PARTS_MAX
    part = DatasetPart(0, Hash(bytes(32)))
    encode(DatasetParts(1, (part,) * DATASET_PARTS_MAX, bytes(384)))
    with pytest.raises(DecodeError):
        encode(DatasetParts(1, (part,) * (DATASET_PARTS_MAX + 1), bytes(384)))


def test_the_largest_content_comes_in_full_parts_that_block_data_have_room_for() -> None:
    """Of zeros, so that the windows of all parts are alike."""
    chain = LedgerChain()
    content, view, scope = bytes(DATASET_BYTES_MAX), chain.view, make_scope(chain)
    dataset = register_data(chain, CAROL, content)
    view = chain.view
    for index in reversed(range(count_parts(len(content)))):
        part = make_part(content, index)
        assert len(encode(part)) <= chain.context.parameters.sidecar_bytes_max
        found = apply_part(scope, view, AddDatasetPart(dataset, len(content), index, chain.content.add(part)), part)
    assert is_complete(found)
    assert compute_dataset_root(read_content(scope, found)) == compute_dataset_root(content)
    with pytest.raises(InvalidTransaction, match="dataset-complete"):
        apply_add_part(scope, view, ALICE.public_key, add(chain, dataset, 0, content))
