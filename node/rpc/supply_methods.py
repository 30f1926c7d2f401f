"""The remote methods that say what money there is, how it is split, and by which numbers.

Supply, task and what votes have changed are keys of the state, each with its proof. All other parameters stand in the
genesis record, whose hash is the chain id; the splits are rules of this version, alike on every network.
"""

from dataclasses import asdict

import msgspec

from chain.codec import encode
from chain.genesis import compute_chain_id
from chain.ledger.bonds import REPORTER_PERCENT
from chain.ledger.bounds import compute_in_force
from chain.ledger.keys import IN_FORCE_KEY, SUPPLY_KEY, task_key
from chain.ledger.pricing import PRICE_UNIT_MACS, STEP_DIVISOR
from chain.ledger.registry import GENESIS_ROYALTY_BP, TREASURY_BP
from chain.ledger.subsidy import compute_subsidy_split
from chain.primitives import BASIS_POINTS
from node.rpc.api import NodeApi
from node.rpc.economy_views import EntryView, view_entry
from node.rpc.errors import not_found
from node.rpc.registry import AnyMethod, Method, Params
from node.rpc.task_methods import TaskParams, parse_task
from node.rpc.views import Amount, HashText, Natural, Record, to_hex


class TotalsView(msgspec.Struct, frozen=True):
    """The totals that the ledger keeps: atoms allocated and issued so far, burned, and in the treasury."""

    allocated: Amount
    issued: Amount
    burned: Amount
    treasury: Amount
    entry: EntryView


class TaskEntryView(msgspec.Struct, frozen=True):
    """A task's account: its running round, what that has to spend, and the atoms for 2^40 verified MACs."""

    task: HashText
    round: Natural
    start_height: Natural
    pot: Amount
    price: Amount
    settled_contributions: Natural
    entry: EntryView


class SplitsView(msgspec.Struct, frozen=True):
    """Who gets which part of what is no subsidy; basis points are hundredths of a percent."""

    basis_points: Natural
    payment_treasury_bp: Natural
    network_royalty_bp: Natural
    reporter_percent: Natural
    price_unit_macs: Amount
    price_step_divisor: Natural


class SubsidyView(msgspec.Struct, frozen=True):
    """What the next block issues, in atoms."""

    height: Natural
    reward: Amount
    pot: Amount
    treasury: Amount


class ParametersView(msgspec.Struct, frozen=True):
    """The rules' numbers in force: those of the genesis `record`, but for what votes have set, as `in_force` proves."""

    chain_id: HashText
    parameters: dict[str, Amount]
    splits: SplitsView
    next_subsidy: SubsidyView
    record: Record
    in_force: EntryView


SPLITS = SplitsView(
    basis_points=BASIS_POINTS,
    payment_treasury_bp=TREASURY_BP,
    network_royalty_bp=GENESIS_ROYALTY_BP,
    reporter_percent=REPORTER_PERCENT,
    price_unit_macs=str(PRICE_UNIT_MACS),
    price_step_divisor=STEP_DIVISOR,
)


async def _get_supply(api: NodeApi, _: Params) -> TotalsView:
    entry = api.get_state_entry(SUPPLY_KEY)
    supply = entry.record
    assert supply is not None, "every state since genesis holds the supply"
    return TotalsView(
        allocated=str(supply.allocated),
        issued=str(supply.issued),
        burned=str(supply.burned),
        treasury=str(supply.treasury),
        entry=view_entry(entry),
    )


async def _get_task(api: NodeApi, params: TaskParams) -> TaskEntryView:
    name = parse_task(params.task) or api.get_task().task
    entry = api.get_state_entry(task_key(name))
    state = entry.record
    if state is None:
        raise not_found("task", to_hex(name))
    return TaskEntryView(
        task=to_hex(name),
        round=state.round,
        start_height=state.start_height,
        pot=str(state.pot),
        price=str(state.price),
        settled_contributions=state.settled_contributions,
        entry=view_entry(entry),
    )


async def _get_parameters(api: NodeApi, _: Params) -> ParametersView:
    genesis, height = api.get_genesis(), api.get_head().foliage.height + 1
    entry = api.get_state_entry(IN_FORCE_KEY)
    assert entry.record is not None, "every state since genesis holds the values in force"
    parameters = compute_in_force(genesis.parameters, entry.record)
    split = compute_subsidy_split(height, parameters)
    return ParametersView(
        chain_id=to_hex(compute_chain_id(genesis)),
        parameters={name: str(value) for name, value in asdict(parameters).items()},
        splits=SPLITS,
        next_subsidy=SubsidyView(height, str(split.reward), str(split.pot), str(split.treasury)),
        record=encode(genesis),
        in_force=view_entry(entry),
    )


GET_SUPPLY = Method(
    "state_getSupply", "The ledger's totals at the head, with their proof.", Params, TotalsView, _get_supply
)
GET_TASK_ENTRY = Method(
    "state_getTask", "A task's pot and price at the head, with their proof.", TaskParams, TaskEntryView, _get_task
)
GET_PARAMETERS = Method(
    "chain_getParameters",
    "The rules' numbers in force and the splits, with the records that prove them.",
    Params,
    ParametersView,
    _get_parameters,
)

SUPPLY_METHODS: tuple[AnyMethod, ...] = (GET_PARAMETERS, GET_SUPPLY, GET_TASK_ENTRY)
