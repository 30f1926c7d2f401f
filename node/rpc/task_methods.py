"""The remote methods that read tasks: one, all live ones, how one was posted and funded, and its data.

Whoever posts or funds one sends a transaction.
"""

import msgspec

from chain.ledger.keys import content_key, funding_key, posted_task_key, task_key
from chain.ledger.records import TaskState
from chain.ledger.task_records import Funding, PostedTask
from chain.primitives import Hash
from node.addresses import format_address
from node.rpc.api import NodeApi, StateEntry
from node.rpc.economy_views import EntryView, view_entry
from node.rpc.errors import not_found
from node.rpc.registry import AnyMethod, Method, Params
from node.rpc.views import Address, Amount, HashText, Natural, Record, TaskView, from_hex, to_hex, view_task


class TaskParams(Params, frozen=True):
    """A task by its name, genesis' when absent."""

    task: HashText | None = None


class PostedParams(Params, frozen=True):
    """A posted task by its name."""

    task: HashText


class FunderView(msgspec.Struct, frozen=True):
    """All that an account has put into a task's pot."""

    account: Address
    amount: Amount


class FundingView(msgspec.Struct, frozen=True):
    """Where a live task's atoms came from, and the basis points that it gets of what blocks issue for contributions."""

    share_bp: Natural
    subsidy: Amount
    funders: list[FunderView]


class PostedTaskView(msgspec.Struct, frozen=True):
    """How a task was posted, under a head's state root; `funding` is null once it has closed.

    `entry` proves the terms, `funding_entry` the funding, `state_entry` where the task stands.
    """

    task: HashText
    poster: Address
    name: str
    program: Record
    dataset: HashText
    dataset_root: HashText
    data_hash: HashText
    parents: list[HashText]
    start_root: HashText
    budget: Amount
    price: Amount
    last_height: Natural
    posted_height: Natural
    funding: FundingView | None
    entry: EntryView
    funding_entry: EntryView
    state_entry: EntryView


def parse_task(name: HashText | None) -> Hash | None:
    """Return the name of a task, None for genesis'."""
    return None if name is None else from_hex(name)


def view_posted(
    names: tuple[Hash, Hash], posted: StateEntry[PostedTask], funding: StateEntry[Funding], state: StateEntry[TaskState]
) -> PostedTaskView:
    """Return a posted task as JSON shows it, by the `names` of the task and of the data set that it trains on."""
    (name, dataset), found = names, posted.record
    assert found is not None
    terms, model = found.terms, found.terms.model
    return PostedTaskView(
        task=to_hex(name),
        poster=format_address(found.poster),
        name=model.name,
        program=terms.program,
        dataset=to_hex(dataset),
        dataset_root=to_hex(found.dataset_root),
        data_hash=to_hex(terms.data_hash),
        parents=[to_hex(parent) for parent in model.parents],
        start_root=to_hex(model.checkpoint_root),
        budget=str(terms.budget),
        price=str(terms.price),
        last_height=terms.last_height,
        posted_height=found.posted_height,
        funding=None if funding.record is None else _view_funding(funding.record),
        entry=view_entry(posted),
        funding_entry=view_entry(funding),
        state_entry=view_entry(state),
    )


def _view_funding(funding: Funding) -> FundingView:
    funders = [FunderView(format_address(each.account), str(each.amount)) for each in funding.funders]
    return FundingView(funding.share_bp, str(funding.subsidy), funders)


async def _get_task(api: NodeApi, params: TaskParams) -> TaskView:
    if params.task is None:
        return view_task(api.get_task())
    found = api.find_task(from_hex(params.task))
    if found is None:
        raise not_found("task", params.task)
    return view_task(found)


async def _list_tasks(api: NodeApi, _: Params) -> list[TaskView]:
    return [view_task(task) for task in api.list_tasks()]


async def _get_posted(api: NodeApi, params: PostedParams) -> PostedTaskView:
    name = from_hex(params.task)
    posted = api.get_state_entry(posted_task_key(name))
    if posted.record is None:
        raise not_found("task", params.task)
    content = api.get_state_entry(content_key(posted.record.dataset_root)).record
    assert content is not None, "a task trains on registered data"
    funding, state = api.get_state_entry(funding_key(name)), api.get_state_entry(task_key(name))
    return view_posted((name, content.name), posted, funding, state)


async def _get_data(api: NodeApi, params: PostedParams) -> Record:
    data = api.get_task_data(from_hex(params.task))
    if data is None:
        raise not_found("data", params.task)
    return data


GET_TASK = Method("task_get", "A task and its running round.", TaskParams, TaskView, _get_task)
LIST_TASKS = Method("task_list", "The live tasks, that of genesis first.", Params, list[TaskView], _list_tasks)
GET_POSTED = Method(
    "task_getPosted", "How a task was posted and funded, with proofs.", PostedParams, PostedTaskView, _get_posted
)
GET_TASK_DATA = Method("task_getData", "The data set of a posted task.", PostedParams, Record, _get_data)

TASK_METHODS: tuple[AnyMethod, ...] = (GET_TASK, LIST_TASKS, GET_POSTED, GET_TASK_DATA)
