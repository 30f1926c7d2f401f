"""How pages of data sets, models and holders look in JSON.

A page says from where the next one goes on; it carries no proof. It knows no method.
"""

import msgspec

from chain.ledger.economy_records import Dataset, Model, Shares
from chain.ledger.shares import compute_touched
from chain.primitives import Hash, PublicKey
from node.addresses import format_address
from node.rpc.api import StatePage
from node.rpc.economy_views import DatasetTermsView, ModelTermsView, view_dataset_terms, view_model_terms
from node.rpc.views import Address, Amount, HashText, Natural, to_hex


class DatasetEntryView(msgspec.Struct, frozen=True):
    """A registered data set."""

    dataset: HashText
    terms: DatasetTermsView


class DatasetPageView(msgspec.Struct, frozen=True):
    """Some data sets at a head; `next` is null at the end of the list."""

    height: Natural
    datasets: list[DatasetEntryView]
    next: HashText | None


class ModelEntryView(msgspec.Struct, frozen=True):
    """A registered model, its units, and the atoms that it holds for shareholders."""

    model: HashText
    terms: ModelTermsView
    units: Amount
    held: Amount
    waiting: Amount


class ModelPageView(msgspec.Struct, frozen=True):
    """Some models at a head; `next` is null at the end of the list."""

    height: Natural
    models: list[ModelEntryView]
    next: HashText | None


class HolderView(msgspec.Struct, frozen=True):
    """An account's units of a model and the whole atoms that it may claim."""

    account: Address
    units: Amount
    claimable: Amount


class HolderPageView(msgspec.Struct, frozen=True):
    """Some holders of a model at a head; `next` is null at the end of the list."""

    model: HashText
    height: Natural
    units_total: Amount
    holders: list[HolderView]
    next: HashText | None


def view_datasets(page: StatePage[Dataset]) -> DatasetPageView:
    """Return a page of data sets as JSON shows it."""
    entries = [DatasetEntryView(to_hex(name), view_dataset_terms(record)) for name, record in page.records]
    return DatasetPageView(page.height, entries, _view_next(page.next_path))


def view_models(page: StatePage[Model]) -> ModelPageView:
    """Return a page of models as JSON shows it."""
    entries = [
        ModelEntryView(to_hex(name), view_model_terms(record), str(record.units), str(record.held), str(record.waiting))
        for name, record in page.records
    ]
    return ModelPageView(page.height, entries, _view_next(page.next_path))


def view_holders(name: Hash, model: Model, page: StatePage[Shares]) -> HolderPageView:
    """Return a page of a model's holders as JSON shows it."""
    holders = [
        HolderView(format_address(PublicKey(account)), str(shares.units), str(compute_touched(model, shares).earned))
        for account, shares in page.records
    ]
    return HolderPageView(to_hex(name), page.height, str(model.units), holders, _view_next(page.next_path))


def _view_next(path: Hash | None) -> HashText | None:
    return None if path is None else to_hex(path)
