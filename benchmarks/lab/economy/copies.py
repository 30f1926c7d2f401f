"""Copies of the network's data set in a random history: registered by anybody, and held against what was shown before.

All copies differ in a few bytes, so that any two of them, and the network's own data, are near-duplicates. The books
know who registered which and when, and which has come, with a task or before; from that alone follows what a task owes.
"""

from dataclasses import dataclass
from functools import cache
from random import Random
from typing import TYPE_CHECKING

from chain.ledger.registry import compute_dataset_id
from chain.primitives import ATOMS_PER_COIN, Hash, PublicKey
from chain.transaction import AddDatasetPart, RegisterDataset
from ml.dataset import compute_dataset_root
from node.dataset_parts import make_part
from node.datasets import find_blob

if TYPE_CHECKING:
    from benchmarks.lab.economy.history import History

COPIES = 8
CHANGED = 40
"""Bytes in which a copy differs, of 116,817."""
HEADER_BYTES, LABELS_BYTES = 12, 1_797
ROYALTIES = (0, 333, 2_500)

RESERVE = 40 * ATOMS_PER_COIN
"""Atoms that no draw spends: fees, deposits and budgets must not fail."""


@dataclass(slots=True)
class CopyBook:
    """A data set that resembles all others in these books; `number` is 0 for the network's own."""

    owner: PublicKey
    height: int
    number: int
    is_shown: bool = False


def register_copy(run: "History") -> None:
    """Enter a copy, or one that stands already."""
    owner, number = run.random.choice(run.keys), run.random.randrange(1, COPIES + 1)
    root = compute_dataset_root(read_copy(run.world.genesis.task.dataset_root, number))
    terms = RegisterDataset(root, "CC-BY-4.0", run.random.choice(ROYALTIES))
    if root in run.oracle.contents:
        run.refuse(owner, terms, "content-known")
        return
    name = compute_dataset_id(run.world.context.chain_id, owner.public_key, terms)
    run.oracle.contents.add(root)
    run.oracle.datasets[name] = (owner.public_key, terms.royalty_bp)
    run.books.copies[name] = CopyBook(owner.public_key, run.world.tip.height + 1, number)
    run.enter(owner, terms)


def bring_copy(run: "History") -> None:
    """Bring all of a data set, which is one part, or one that has come already."""
    bringer, name = run.random.choice(run.keys), run.random.choice(list(run.books.copies))
    copy = run.books.copies[name]
    data = read_copy(run.world.genesis.task.dataset_root, copy.number)
    terms = AddDatasetPart(name, len(data), 0, run.world.content.add(make_part(data, 0)))
    if not run.has_room():
        run.refuse(bringer, terms, "block-sidecars")
    elif copy.is_shown:
        run.refuse(bringer, terms, "dataset-complete")
    elif run.balance_of(bringer.public_key) > RESERVE and not run.has_claimed(bringer.public_key):
        run.oracle.credit(bringer.public_key, -ATOMS_PER_COIN)
        run.books.treasury += ATOMS_PER_COIN
        copy.is_shown = True
        run.enter(bringer, terms)


def find_owed(copies: dict[Hash, CopyBook], dataset: Hash) -> Hash | None:
    """Return the data set that training on another one owes a royalty, if there is one."""
    shown = [name for name, copy in copies.items() if copy.is_shown]
    first = min(shown, key=lambda name: (copies[name].height, name), default=dataset)
    is_earlier = copies[first].height < copies[dataset].height
    return first if is_earlier and copies[first].owner != copies[dataset].owner else None


@cache
def read_copy(root: Hash, number: int) -> bytes:
    """Return the network's data with a few pixels changed; with none for the number 0."""
    blob = bytearray(find_blob(root))
    for place in Random(number).sample(range(HEADER_BYTES, len(blob) - LABELS_BYTES), CHANGED if number else 0):
        blob[place] ^= 1
    return bytes(blob)
