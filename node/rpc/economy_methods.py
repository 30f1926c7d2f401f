"""The remote methods that read the economy: a data set, a model, an account's shares and licences of it.

Each answers from one key of the state and proves it, absent ones too. Whoever registers, pays or claims sends a
transaction.
"""

from chain.ledger.keys import dataset_key, dataset_parts_key, licence_key, model_key, shares_key, sketch_key
from node.rpc import economy_views
from node.rpc.api import NodeApi
from node.rpc.arguments import parse_account
from node.rpc.registry import AnyMethod, Method, Params
from node.rpc.views import Address, HashText, from_hex


class DatasetParams(Params, frozen=True):
    """A data set, by its name in the ledger."""

    dataset: HashText


class ModelParams(Params, frozen=True):
    """A model, by its name."""

    model: HashText


class HolderParams(Params, frozen=True):
    """A model and an account."""

    model: HashText
    account: Address


async def _get_dataset(api: NodeApi, params: DatasetParams) -> economy_views.DatasetView:
    name = from_hex(params.dataset)
    sketch = api.get_state_entry(sketch_key(name))
    resembling = () if sketch.record is None else api.find_resembling(sketch.record)
    entry, parts = api.get_state_entry(dataset_key(name)), api.get_state_entry(dataset_parts_key(name))
    return economy_views.view_dataset(name, entry, parts, sketch, resembling)


async def _get_model(api: NodeApi, params: ModelParams) -> economy_views.ModelView:
    name = from_hex(params.model)
    return economy_views.view_model(name, api.get_state_entry(model_key(name)))


async def _get_shares(api: NodeApi, params: HolderParams) -> economy_views.SharesView:
    name, account = from_hex(params.model), parse_account(params.account)
    model = api.get_state_entry(model_key(name)).record
    return economy_views.view_shares(name, account, model, api.get_state_entry(shares_key(name, account)))


async def _get_licence(api: NodeApi, params: HolderParams) -> economy_views.LicenceView:
    name, account = from_hex(params.model), parse_account(params.account)
    return economy_views.view_licence(name, account, api.get_state_entry(licence_key(name, account)))


GET_DATASET = Method(
    "state_getDataset",
    "A registered data set at the head, its parts and its sketch, with their proofs, and what it resembles.",
    DatasetParams,
    economy_views.DatasetView,
    _get_dataset,
)
GET_MODEL = Method(
    "state_getModel",
    "A registered model at the head, with its proof.",
    ModelParams,
    economy_views.ModelView,
    _get_model,
)
GET_SHARES = Method(
    "state_getShares",
    "An account's shares of a model at the head, with their proof.",
    HolderParams,
    economy_views.SharesView,
    _get_shares,
)
GET_LICENCE = Method(
    "state_getLicence",
    "An account's licence of a model at the head, with its proof.",
    HolderParams,
    economy_views.LicenceView,
    _get_licence,
)

ECONOMY_METHODS: tuple[AnyMethod, ...] = (GET_DATASET, GET_MODEL, GET_SHARES, GET_LICENCE)
