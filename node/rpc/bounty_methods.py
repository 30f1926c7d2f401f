"""The remote methods that read bounties: which are open, and one with its proof.

Whoever posts one sends a transaction.
"""

import msgspec

from chain.ledger.economy_records import Bounty
from chain.ledger.keys import bounty_key, open_bounties_key
from chain.primitives import Hash
from node.addresses import format_address
from node.rpc.api import NodeApi, StateEntry
from node.rpc.economy_views import EntryView, view_entry
from node.rpc.registry import AnyMethod, Method, Params
from node.rpc.task_methods import TaskParams, parse_task
from node.rpc.views import Address, Amount, HashText, Natural, from_hex, to_hex


class BountyParams(Params, frozen=True):
    """A bounty, by its name."""

    bounty: HashText


class BountyView(msgspec.Struct, frozen=True):
    """An open bounty by its name; all but that and `entry` are null when there is none."""

    bounty: HashText
    poster: Address | None
    amount: Amount | None
    correct_min: Natural | None
    last_height: Natural | None
    posted_height: Natural | None
    entry: EntryView


class BountiesView(msgspec.Struct, frozen=True):
    """All open bounties of a task, oldest first; `entry` is the record that names them."""

    bounties: list[BountyView]
    entry: EntryView


def view_bounty(name: Hash, entry: StateEntry[Bounty]) -> BountyView:
    """Return a bounty as JSON shows it."""
    found = entry.record
    return BountyView(
        bounty=to_hex(name),
        poster=None if found is None else format_address(found.poster),
        amount=None if found is None else str(found.terms.amount),
        correct_min=None if found is None else found.terms.correct_min,
        last_height=None if found is None else found.terms.last_height,
        posted_height=None if found is None else found.posted_height,
        entry=view_entry(entry),
    )


async def _get_bounty(api: NodeApi, params: BountyParams) -> BountyView:
    name = from_hex(params.bounty)
    return view_bounty(name, api.get_state_entry(bounty_key(name)))


async def _list_bounties(api: NodeApi, params: TaskParams) -> BountiesView:
    entry = api.get_state_entry(open_bounties_key(parse_task(params.task) or api.get_task().task))
    names = () if entry.record is None else entry.record.names
    bounties = [view_bounty(name, api.get_state_entry(bounty_key(name))) for name in names]
    return BountiesView(bounties, view_entry(entry))


GET_BOUNTY = Method(
    "task_getBounty", "An open bounty at the head, with its proof.", BountyParams, BountyView, _get_bounty
)
LIST_BOUNTIES = Method(
    "task_listBounties",
    "A task's open bounties, of genesis' when none is named.",
    TaskParams,
    BountiesView,
    _list_bounties,
)

BOUNTY_METHODS: tuple[AnyMethod, ...] = (GET_BOUNTY, LIST_BOUNTIES)
