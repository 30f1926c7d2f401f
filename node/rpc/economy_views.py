"""How data sets, models, shares and licences look in JSON, each with the proof of its key at the head.

Who trusts nobody verifies `entry.value` by `entry.proof` under a header's state root; what stands beside is for
reading, and null where the state holds nothing. It knows no method.
"""

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from chain.codec import encode
from chain.ledger.dataset_parts import count_parts
from chain.ledger.economy_records import EMPTY_SHARES, Dataset, DatasetParts, DatasetSketch, Licence, Model, Shares
from chain.ledger.near_duplicates import Resemblance
from chain.ledger.registry import NOBODY
from chain.ledger.shares import compute_touched
from chain.primitives import Hash, PublicKey
from node.addresses import format_address
from node.rpc.api import StateEntry
from node.rpc.views import Address, Amount, HashText, HexText, Natural, Record, to_hex

T = TypeVar("T")


class EntryView(msgspec.Struct, frozen=True):
    """A key of the state under a head's root; `value` is null when it is absent, as `proof` then shows."""

    header_hash: HashText
    height: Natural
    state_root: HashText
    key: HexText
    value: Record | None
    proof: Record


class DatasetTermsView(msgspec.Struct, frozen=True):
    """A registered data set. Nobody owns what a network starts from."""

    owner: Address | None
    content_root: HashText
    licence: str
    royalty_bp: Natural
    registered_height: Natural


class ResemblanceView(msgspec.Struct, frozen=True):
    """Another data set, and in how many of their 96 minima the two sketches agree."""

    dataset: HashText
    matches: Natural
    registered_height: Natural


class DatasetContentView(msgspec.Struct, frozen=True):
    """How many bytes a content has and in how many parts, and the numbers of those that have come, from 0 on."""

    size_bytes: Natural
    parts_total: Natural
    parts: list[Natural]


class DatasetView(msgspec.Struct, frozen=True):
    """A data set by its name; `resembles`, which proves nothing, holds the others in the order of registration.

    The content is null until a part of it has come, the sketch until all have; `parts_entry` and `sketch_entry` prove
    them.
    """

    dataset: HashText
    terms: DatasetTermsView | None
    content: DatasetContentView | None
    sketch: HexText | None
    resembles: list[ResemblanceView]
    entry: EntryView
    parts_entry: EntryView
    sketch_entry: EntryView


class ModelTermsView(msgspec.Struct, frozen=True):
    """What was registered of a model; it never changes. Nobody owns what a network starts from."""

    owner: Address | None
    name: str
    spec_hash: HashText
    checkpoint_root: HashText
    licence: str
    licence_price: Amount
    royalty_bp: Natural
    author_bp: Natural
    parent: HashText | None
    datasets: list[HashText]
    depth: Natural
    registered_height: Natural


class ModelView(msgspec.Struct, frozen=True):
    """A model by its name: its terms, its share units, and the atoms that it holds for shareholders."""

    model: HashText
    terms: ModelTermsView | None
    units: Amount
    held: Amount
    waiting: Amount
    entry: EntryView


class SharesView(msgspec.Struct, frozen=True):
    """An account's units of a model, of how many in all, and the whole atoms that it may claim at the head."""

    model: HashText
    account: Address
    units: Amount
    units_total: Amount
    claimable: Amount
    entry: EntryView


class LicenceView(msgspec.Struct, frozen=True):
    """An account's licence of a model; height and price are null when it has bought none."""

    model: HashText
    account: Address
    bought_height: Natural | None
    price: Amount | None
    entry: EntryView


def view_dataset(
    name: Hash,
    entry: StateEntry[Dataset],
    parts: StateEntry[DatasetParts],
    sketch: StateEntry[DatasetSketch],
    resembling: Sequence[Resemblance],
) -> DatasetView:
    """Return a data set as JSON shows it."""
    return DatasetView(
        dataset=to_hex(name),
        terms=None if entry.record is None else view_dataset_terms(entry.record),
        content=None if parts.record is None else _view_content(parts.record),
        sketch=None if sketch.record is None else to_hex(sketch.record.minima),
        resembles=[
            ResemblanceView(to_hex(each.dataset), each.matches, each.registered_height)
            for each in resembling
            if each.dataset != name
        ],
        entry=view_entry(entry),
        parts_entry=view_entry(parts),
        sketch_entry=view_entry(sketch),
    )


def _view_content(found: DatasetParts) -> DatasetContentView:
    return DatasetContentView(found.size_bytes, count_parts(found.size_bytes), [part.index for part in found.parts])


def view_model(name: Hash, entry: StateEntry[Model]) -> ModelView:
    """Return a model as JSON shows it."""
    found = entry.record
    return ModelView(
        model=to_hex(name),
        terms=None if found is None else view_model_terms(found),
        units=str(found.units if found else 0),
        held=str(found.held if found else 0),
        waiting=str(found.waiting if found else 0),
        entry=view_entry(entry),
    )


def view_shares(name: Hash, account: PublicKey, model: Model | None, entry: StateEntry[Shares]) -> SharesView:
    """Return an account's shares of a model as JSON shows them."""
    shares = EMPTY_SHARES if model is None else compute_touched(model, entry.record or EMPTY_SHARES)
    return SharesView(
        model=to_hex(name),
        account=format_address(account),
        units=str(shares.units),
        units_total=str(model.units if model else 0),
        claimable=str(shares.earned),
        entry=view_entry(entry),
    )


def view_licence(name: Hash, account: PublicKey, entry: StateEntry[Licence]) -> LicenceView:
    """Return an account's licence of a model as JSON shows it."""
    found = entry.record
    return LicenceView(
        model=to_hex(name),
        account=format_address(account),
        bought_height=None if found is None else found.height,
        price=None if found is None else str(found.price),
        entry=view_entry(entry),
    )


def view_dataset_terms(dataset: Dataset) -> DatasetTermsView:
    """Return what was registered of a data set as JSON shows it."""
    return DatasetTermsView(
        owner=_format_owner(dataset.owner),
        content_root=to_hex(dataset.terms.content_root),
        licence=dataset.terms.licence,
        royalty_bp=dataset.terms.royalty_bp,
        registered_height=dataset.registered_height,
    )


def view_model_terms(model: Model) -> ModelTermsView:
    """Return what was registered of a model as JSON shows it."""
    terms = model.terms
    return ModelTermsView(
        owner=_format_owner(model.owner),
        name=terms.name,
        spec_hash=to_hex(terms.spec_hash),
        checkpoint_root=to_hex(terms.checkpoint_root),
        licence=terms.licence,
        licence_price=str(terms.licence_price),
        royalty_bp=terms.royalty_bp,
        author_bp=terms.author_bp,
        parent=to_hex(terms.parents[0]) if terms.parents else None,
        datasets=[to_hex(dataset) for dataset in terms.datasets],
        depth=model.depth,
        registered_height=model.registered_height,
    )


def view_entry(entry: StateEntry[T]) -> EntryView:
    """Return a key of the state with its proof as JSON shows it."""
    return EntryView(
        header_hash=to_hex(entry.header_hash),
        height=entry.height,
        state_root=to_hex(entry.state_root),
        key=to_hex(entry.key),
        value=None if entry.record is None else encode(entry.record),
        proof=entry.proof,
    )


def _format_owner(owner: PublicKey) -> Address | None:
    return None if owner == NOBODY else format_address(owner)
