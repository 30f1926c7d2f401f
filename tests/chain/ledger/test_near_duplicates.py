"""Near-duplicates: a copied data set is trained on by nobody who does not owe the one it was copied from."""

import random
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.codec import encode
from chain.errors import DecodeError, InvalidBlock, InvalidTransaction
from chain.hashing import tagged_hash
from chain.ledger.economy_records import BAND_DATASETS_MAX, SKETCH_BYTES, BandEntry, Dataset, DatasetSketch, SketchBand
from chain.ledger.keys import dataset_key, sketch_key
from chain.ledger.near_duplicates import (
    MATCHES_MIN,
    Resemblance,
    apply_sketch,
    count_matches,
    find_resembling,
    list_bands,
    validate_owed,
)
from chain.primitives import Hash
from chain.signature import SigningKey
from chain.state.view import StateView
from chain.transaction import PayModel, PostTask, RegisterDataset
from ml.dataset import compute_dataset_root
from ml.sketch import compute_sketch
from tests.support.ledger import ALICE, BOB, CAROL, DAVE, LedgerChain
from tests.support.posted import make_task, post_task, register_data

ORIGINAL = random.Random(41).randbytes(4_096)
OTHER = random.Random(42).randbytes(4_096)
RULE = "dataset-near-duplicate"


def flip_bit(data: bytes = ORIGINAL, place: int = 1_000) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def reorder(data: bytes) -> bytes:
    """Return the records of 64 bytes in another order."""
    records = [data[start : start + 64] for start in range(0, len(data), 64)]
    return b"".join(random.Random(5).sample(records, len(records)))


def make_terms(
    chain: LedgerChain, dataset: Hash, data: bytes, number: int = 2, owed: tuple[Hash, ...] = ()
) -> PostTask:
    """Return a task that trains on a data set and owes some others."""
    terms = make_task(chain, dataset, number, data=data)
    return replace(terms, model=replace(terms.model, datasets=tuple(sorted((dataset, *owed)))))


def refuse(chain: LedgerChain, poster: SigningKey, terms: PostTask) -> str:
    with pytest.raises(InvalidBlock) as refused:
        chain.execute(chain.draft(), chain.sign(poster, terms))
    return refused.value.rule


def make_shown(royalty_bp: int = 500) -> tuple[LedgerChain, Hash]:
    """Return a chain on which Carol's data set is shown by a task of Dave's, and its name."""
    chain = LedgerChain()
    original = register_data(chain, CAROL, ORIGINAL, royalty_bp)
    post_task(chain, make_terms(chain, original, ORIGINAL))
    return chain, original


def test_a_posted_task_shows_the_content_of_its_data_set_once() -> None:
    chain, original = make_shown()
    sketch = chain.view.get_existing(sketch_key(original)).minima
    assert sketch == compute_sketch(ORIGINAL)
    assert all(chain.view.get_existing(key).entries == (BandEntry(1, original),) for key in list_bands(sketch)), (
        "it is found by each of its bands"
    )
    before = {key: chain.view.get(key) for key in list_bands(sketch)}
    post_task(chain, make_terms(chain, original, ORIGINAL, 3), BOB)
    assert {key: chain.view.get(key) for key in before} == before


@pytest.mark.parametrize(
    "copy",
    [flip_bit(), ORIGINAL + b"\x00", ORIGINAL[:-1], ORIGINAL[:3_300], ORIGINAL + OTHER[:2_000], reorder(ORIGINAL)],
    ids=["one bit", "a byte more", "a byte less", "a fifth less", "half more", "another order"],
)
def test_threat_41_a_copy_with_little_changed_owes_what_it_was_copied_from(copy: bytes) -> None:
    chain, original = make_shown()
    copied = register_data(chain, BOB, copy)
    assert refuse(chain, BOB, make_terms(chain, copied, copy, 3)) == RULE
    assert refuse(chain, ALICE, make_terms(chain, copied, copy, 3)) == RULE, "whoever posts it"
    other = register_data(chain, CAROL, OTHER)
    assert refuse(chain, BOB, make_terms(chain, copied, copy, 3, (other,))) == RULE, "another set of hers will not do"
    task = post_task(chain, make_terms(chain, copied, copy, 3, (original,)), BOB)
    before = chain.account(CAROL).balance
    chain.mine(chain.sign(DAVE, PayModel(task, 10_000)))
    assert chain.account(CAROL).balance - before == 500, "5 % of 10,000 atoms"


@pytest.mark.parametrize("copy", [OTHER, ORIGINAL[:2_048] + OTHER[:2_048], bytes(each ^ 1 for each in ORIGINAL)])
def test_what_shares_less_than_half_is_nobody_elses(copy: bytes) -> None:
    """What the rule leaves: half of the records replaced, and every byte written otherwise."""
    chain, _ = make_shown()
    own = register_data(chain, BOB, copy)
    post_task(chain, make_terms(chain, own, copy, 3), BOB)
    assert chain.view.get(sketch_key(own)) is not None


def test_whoever_has_registered_first_may_show_last() -> None:
    """The copier is quicker to post; the owner posts all the same, and the copier does not a second time."""
    chain = LedgerChain()
    original, copy = register_data(chain, CAROL, ORIGINAL), flip_bit()
    copied = register_data(chain, BOB, copy)
    post_task(chain, make_terms(chain, copied, copy), BOB)
    post_task(chain, make_terms(chain, original, ORIGINAL, 3), CAROL)
    assert refuse(chain, BOB, make_terms(chain, copied, copy, 4)) == RULE
    post_task(chain, make_terms(chain, original, ORIGINAL, 5), CAROL)


def test_owners_may_post_later_editions_of_their_own() -> None:
    chain, _ = make_shown()
    edition = register_data(chain, CAROL, flip_bit())
    post_task(chain, make_terms(chain, edition, flip_bit(), 3))
    assert chain.view.get(sketch_key(edition)) is not None


def test_the_edition_of_an_owner_is_no_way_round_the_first_of_another() -> None:
    """Bob has posted a copy that owes Carol's data set; a second copy of his owes it too."""
    chain, original = make_shown()
    copied = register_data(chain, BOB, flip_bit())
    post_task(chain, make_terms(chain, copied, flip_bit(), 3, (original,)), BOB)
    again = register_data(chain, BOB, flip_bit(flip_bit(), 2_000))
    assert refuse(chain, BOB, make_terms(chain, again, flip_bit(flip_bit(), 2_000), 4)) == RULE
    assert refuse(chain, BOB, make_terms(chain, again, flip_bit(flip_bit(), 2_000), 4, (copied,))) == RULE


def test_of_one_block_neither_is_the_earlier() -> None:
    chain, copy = LedgerChain(), flip_bit()
    first, second = (RegisterDataset(compute_dataset_root(data), "MIT", 0) for data in (ORIGINAL, copy))
    chain.mine(chain.sign(CAROL, first), chain.sign(BOB, second))
    names = [find_name(chain, terms) for terms in (first, second)]
    for number, (name, data) in enumerate(zip(names, (ORIGINAL, copy), strict=True), start=2):
        post_task(chain, make_terms(chain, name, data, number))


def find_name(chain: LedgerChain, terms: RegisterDataset) -> Hash:
    found = [name for name, each in chain.view.iter_records(b"dataset/", Dataset) if each.terms == terms]
    return Hash(found[0])


def test_a_branch_that_lost_has_shown_nothing() -> None:
    chain = LedgerChain()
    original, copied = register_data(chain, CAROL, ORIGINAL), register_data(chain, BOB, flip_bit())
    shown, copy = make_terms(chain, original, ORIGINAL), make_terms(chain, copied, flip_bit(), 3)
    place = chain.root, chain.height, chain.beacon
    chain.mine(chain.sign(DAVE, shown))
    kept = chain.root
    assert refuse(chain, BOB, copy) == RULE
    chain.root, chain.height, chain.beacon = place
    assert chain.view.get(sketch_key(original)) is None
    chain.execute(chain.draft(), chain.sign(BOB, copy))
    chain.mine(chain.sign(DAVE, shown))
    assert chain.root == kept
    assert refuse(chain, BOB, copy) == RULE


def test_a_refused_copy_leaves_nothing_and_other_transactions_stay() -> None:
    chain, _ = make_shown()
    copied = register_data(chain, BOB, flip_bit())
    copy, pay = chain.sign(BOB, make_terms(chain, copied, flip_bit(), 3)), chain.sign(ALICE, PayModel(chain.trained, 7))
    assert chain.assemble(copy, pay) == (pay,)
    assert chain.view.get(sketch_key(copied)) is None


def enter(view: StateView, owner: SigningKey, height: int, content: bytes) -> Hash:
    """Enter a data set that was registered at a height."""
    name = tagged_hash("test.name", content)
    view.put(dataset_key(name), Dataset(owner.public_key, RegisterDataset(name, "MIT", 0), height))
    return name


def test_bands_keep_those_registered_first_whoever_shows_first() -> None:
    chain = LedgerChain()
    editions = [flip_bit(place=place) for place in range(0, 3_000, 500)]
    assert len(editions) > BAND_DATASETS_MAX
    roots = set()
    for order in ((0, 1, 2, 3, 4, 5), (5, 4, 3, 2, 1, 0), (2, 5, 0, 4, 1, 3)):
        view = chain.view
        names = [enter(view, BOB, height, data) for height, data in enumerate(editions, start=7)]
        for place in order:
            apply_sketch(view, names[place], compute_sketch(editions[place]))
        found = find_resembling(view, compute_sketch(ORIGINAL))
        assert [each.dataset for each in found][:4] == names[:4]
        assert len(found) <= len(editions)
        roots.add(view.commit()[0])
        # Somebody who fills the bands later keeps nobody from finding the data set that was registered before.
        first = enter(view, CAROL, 6, ORIGINAL)
        apply_sketch(view, first, compute_sketch(ORIGINAL))
        validate_owed(view, first, ())
        with pytest.raises(InvalidTransaction, match=first.hex()):
            validate_owed(view, names[0], ())
    assert len(roots) == 1, "who shows first leaves no trace"


def test_a_lookup_is_bounded_whatever_was_shown() -> None:
    chain = LedgerChain()
    view, sketch = chain.view, compute_sketch(ORIGINAL)
    for key in list_bands(sketch):
        entries = [BandEntry(height, tagged_hash("test.far", key.name, bytes([height]))) for height in range(4)]
        for entry in entries:
            view.put(sketch_key(entry.dataset), DatasetSketch(compute_sketch(entry.dataset)))
        view.put(key, SketchBand(tuple(entries)))
    own = enter(view, BOB, 9, ORIGINAL)
    apply_sketch(view, own, compute_sketch(ORIGINAL))
    validate_owed(view, own, ())
    assert find_resembling(view, sketch) == [], "all bands were full of sets registered before"
    for key in list_bands(sketch):
        assert len(view.get_existing(key).entries) == BAND_DATASETS_MAX
        with pytest.raises(DecodeError):
            encode(SketchBand((BandEntry(0, own),) * (BAND_DATASETS_MAX + 1)))


@pytest.mark.parametrize("size", [0, SKETCH_BYTES - 1, SKETCH_BYTES + 1])
def test_a_sketch_of_another_size_is_no_record(size: int) -> None:
    with pytest.raises(DecodeError):
        encode(DatasetSketch(bytes(size)))


@given(st.integers(0, 96))
def test_half_of_the_minima_make_a_near_duplicate(alike: int) -> None:
    """The minima that agree stand in front, so that all from three on meet in a band."""
    chain = LedgerChain()
    view, one = chain.view, compute_sketch(ORIGINAL)
    other = one[: 4 * alike] + bytes(each ^ 0xFF for each in one[4 * alike :])
    assert count_matches(one, other) == alike
    name = tagged_hash("test.near")
    view.put(sketch_key(name), DatasetSketch(other))
    for key in list_bands(other):
        view.put(key, SketchBand((BandEntry(3, name),)))
    expected = [Resemblance(3, name, alike)] if alike >= MATCHES_MIN else []
    assert find_resembling(view, one) == expected
    assert MATCHES_MIN == 48


def test_what_shares_no_band_is_not_found_however_much_is_alike() -> None:
    """One minimum in each band is another: what aims at the rule slips past it."""
    chain = LedgerChain()
    view, one = chain.view, compute_sketch(ORIGINAL)
    other = b"".join(one[start : start + 8] + bytes(4) for start in range(0, SKETCH_BYTES, 12))
    name = tagged_hash("test.aimed")
    view.put(sketch_key(name), DatasetSketch(other))
    for key in list_bands(other):
        view.put(key, SketchBand((BandEntry(3, name),)))
    assert count_matches(one, other) == 64
    assert find_resembling(view, one) == []


def test_the_order_of_postings_in_a_block_decides_only_by_registration() -> None:
    """Carol's set is earlier in every order; Bob's copy stands only where it comes before hers is shown."""
    outcomes = set()
    for order in permutations(range(2)):
        chain = LedgerChain()
        original, copied = register_data(chain, CAROL, ORIGINAL), register_data(chain, BOB, flip_bit())
        posts = [
            chain.sign(CAROL, make_terms(chain, original, ORIGINAL)),
            chain.sign(BOB, make_terms(chain, copied, flip_bit(), 3)),
        ]
        taken = chain.assemble(*(posts[place] for place in order))
        assert posts[0] in taken
        outcomes.add(len(taken))
    assert outcomes == {1, 2}
