"""Lists of models, data sets and holders, found on bounded walks; supply, task and parameters with their proofs."""

from collections.abc import AsyncIterator
from dataclasses import asdict

import pytest
import pytest_asyncio

from chain.codec import decode
from chain.genesis import GENESIS_BYTES_MAX, Genesis, compute_chain_id
from chain.ledger.context import make_context
from chain.ledger.records import Supply, TaskState
from chain.ledger.registry import compute_dataset_id, compute_model_id
from chain.ledger.subsidy import compute_subsidy_split
from chain.primitives import Hash
from node.addresses import format_address
from node.rpc.client import AsyncRpcClient, RemoteError
from node.rpc.list_methods import (
    LIST_DATASETS,
    LIST_HOLDERS,
    LIST_MODELS,
    PAGE_MAX,
    HoldersParams,
    PageParams,
)
from node.rpc.registry import Params
from node.rpc.supply_methods import GET_PARAMETERS, GET_SUPPLY, GET_TASK_ENTRY
from node.rpc.task_methods import TaskParams
from node.rpc.views import to_hex
from tests.node.rpc.test_economy_methods import send, verify
from tests.support.economy import make_dataset
from tests.support.economy import make_model as make_terms
from tests.support.live_node import HOLDER, LiveNode, run_live_node

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveNode]:
    async with run_live_node(tmp_path_factory.mktemp("node")) as node:
        await node.mine(1)
        yield node


async def test_what_was_registered_is_listed(live: LiveNode) -> None:
    context = make_context(live.genesis)
    data_terms = make_dataset(1, royalty_bp=500)
    data = compute_dataset_id(context.chain_id, HOLDER.public_key, data_terms)
    terms = make_terms(2, (context.task_id,), (data,), licence_price=7)
    await send(live, HOLDER, data_terms)
    await send(live, HOLDER, terms)
    name = compute_model_id(context.chain_id, HOLDER.public_key, terms)
    async with AsyncRpcClient(live.url) as rpc:
        models = await rpc.call(LIST_MODELS, PageParams())
        single = [await rpc.call(LIST_MODELS, PageParams(limit=1))]
        while (cursor := single[-1].next) is not None:
            single.append(await rpc.call(LIST_MODELS, PageParams(cursor, 1)))
        datasets = await rpc.call(LIST_DATASETS, PageParams())
        holders = await rpc.call(LIST_HOLDERS, HoldersParams(to_hex(name)))
    assert {entry.model for entry in models.models} == {to_hex(name), to_hex(context.task_id)}
    assert [entry for page in single for entry in page.models] == models.models
    shown = {entry.model: entry.terms for entry in models.models}[to_hex(name)]
    assert (shown.licence_price, shown.parent, shown.datasets) == ("7", to_hex(context.task_id), [to_hex(data)])
    owners = {entry.dataset: entry.terms.owner for entry in datasets.datasets}
    assert owners[to_hex(data)] == format_address(HOLDER.public_key)
    assert len(owners) == 2
    assert list(owners.values()).count(None) == 1, "nobody owns what the network starts from"
    assert (holders.holders, holders.units_total, holders.next) == ([], "0", None)


async def test_calls_beyond_their_bounds_are_refused(live: LiveNode) -> None:
    async with AsyncRpcClient(live.url) as rpc:
        for params in (PageParams(limit=0), PageParams(limit=PAGE_MAX + 1), PageParams("0x12")):
            with pytest.raises(RemoteError, match="parameter-type"):
                await rpc.call(LIST_MODELS, params)
        with pytest.raises(RemoteError, match="model"):
            await rpc.call(LIST_HOLDERS, HoldersParams(to_hex(Hash(b"\x07" * 32))))


async def test_supply_and_task_come_with_proofs_and_parameters_with_the_genesis_record(live: LiveNode) -> None:
    async with AsyncRpcClient(live.url) as rpc:
        totals, task = await rpc.call(GET_SUPPLY, Params()), await rpc.call(GET_TASK_ENTRY, TaskParams())
        rules = await rpc.call(GET_PARAMETERS, Params())
    supply, state = verify(live, totals.entry, Supply), verify(live, task.entry, TaskState)
    assert supply is not None
    assert (totals.allocated, totals.issued) == (str(supply.allocated), str(supply.issued))
    assert (totals.burned, totals.treasury) == (str(supply.burned), str(supply.treasury))
    height, parameters = live.node.parts.chain.head.height, live.genesis.parameters
    splits = [compute_subsidy_split(number, parameters) for number in range(1, height + 1)]
    assert supply.issued == sum(split.reward + split.pot + split.treasury for split in splits)
    assert state is not None
    assert (task.pot, task.price, task.round) == (str(state.pot), str(state.price), state.round)
    assert state.pot == sum(split.pot for split in splits)
    genesis = decode(Genesis, rules.record, GENESIS_BYTES_MAX)
    assert to_hex(compute_chain_id(genesis)) == rules.chain_id
    assert rules.parameters == {name: str(value) for name, value in asdict(genesis.parameters).items()}
    following = compute_subsidy_split(height + 1, parameters)
    assert (rules.next_subsidy.height, rules.next_subsidy.reward) == (height + 1, str(following.reward))
    assert (rules.splits.payment_treasury_bp, rules.parameters["treasury_bp"]) == (100, "1000")
