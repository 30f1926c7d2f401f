"""The remote methods that list: models, data sets, and who holds shares of a model, page by page.

A call looks at a bounded number of the state's leaves and answers with what is among them and from where to go on, so
that a page may be short, or empty, before the list is over. A list proves nothing; each entry has a proof of its own.
"""

from typing import Annotated

from msgspec import Meta

from chain.ledger.economy_records import Dataset, Model, Shares
from chain.ledger.keys import DATASET_PREFIX, MODEL_PREFIX, SHARES_PREFIX, model_key
from chain.primitives import ZERO_HASH, Hash
from chain.state.view import StateKind
from node.rpc import list_views
from node.rpc.api import NodeApi
from node.rpc.errors import not_found
from node.rpc.registry import AnyMethod, Method, Params
from node.rpc.views import HashText, from_hex

PAGE_MAX = 100
"""Entries that one call may ask for."""

Limit = Annotated[int, Meta(ge=1, le=PAGE_MAX)]

DATASETS = StateKind(DATASET_PREFIX, Dataset)
MODELS = StateKind(MODEL_PREFIX, Model)


class PageParams(Params, frozen=True):
    """From where to go on (`next` of the page before), and how many entries are wanted at most."""

    cursor: HashText | None = None
    limit: Limit = PAGE_MAX


class HoldersParams(Params, frozen=True):
    """A model, from where to go on, and how many holders are wanted at most."""

    model: HashText
    cursor: HashText | None = None
    limit: Limit = PAGE_MAX


async def _list_models(api: NodeApi, params: PageParams) -> list_views.ModelPageView:
    return list_views.view_models(api.list_state_records(MODELS, _get_first(params.cursor), params.limit))


async def _list_datasets(api: NodeApi, params: PageParams) -> list_views.DatasetPageView:
    return list_views.view_datasets(api.list_state_records(DATASETS, _get_first(params.cursor), params.limit))


async def _list_holders(api: NodeApi, params: HoldersParams) -> list_views.HolderPageView:
    name = from_hex(params.model)
    model = api.get_state_entry(model_key(name)).record
    if model is None:
        raise not_found("model", params.model)
    kind = StateKind(SHARES_PREFIX + name, Shares)
    return list_views.view_holders(name, model, api.list_state_records(kind, _get_first(params.cursor), params.limit))


def _get_first(cursor: HashText | None) -> Hash:
    return ZERO_HASH if cursor is None else from_hex(cursor)


LIST_MODELS = Method(
    "model_list", "Registered models at the head, by pages.", PageParams, list_views.ModelPageView, _list_models
)
LIST_DATASETS = Method(
    "dataset_list",
    "Registered data sets at the head, by pages.",
    PageParams,
    list_views.DatasetPageView,
    _list_datasets,
)
LIST_HOLDERS = Method(
    "model_listHolders",
    "Who holds shares of a model or is owed its income, by pages.",
    HoldersParams,
    list_views.HolderPageView,
    _list_holders,
)

LIST_METHODS: tuple[AnyMethod, ...] = (LIST_MODELS, LIST_DATASETS, LIST_HOLDERS)
