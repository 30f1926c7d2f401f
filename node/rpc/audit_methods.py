"""The remote methods of audits: an auditor with its proof, who may be drawn, and what is assigned to whom.

Registering, leaving and proving are transactions; the node's own auditor sends its proofs itself.
"""

from typing import TypeVar

import msgspec

from chain.ledger.audit_records import NO_AUDITORS, Auditor
from chain.ledger.auditors import compute_asked_bond
from chain.ledger.keys import AUDITORS_KEY, auditor_key
from chain.primitives import PublicKey
from node.addresses import format_address
from node.rpc.api import NodeApi, StateEntry
from node.rpc.arguments import parse_account
from node.rpc.economy_views import EntryView, view_entry
from node.rpc.registry import AnyMethod, Method, Params
from node.rpc.views import Address, Amount, Natural

NO_AUDITOR = Auditor(since_height=0, bond=0, release_height=0, missed=0, proven=0, paid=0)
"""What a key is that the state holds no auditor of."""

T = TypeVar("T")


class AuditorParams(Params, frozen=True):
    """The account of an auditor."""

    account: Address


class AuditorView(msgspec.Struct, frozen=True):
    """An auditor under a head's state root; `release_height` is null while no notice was given.

    `missed` counts assignments let pass since the last one that was proven.
    """

    auditor: Address
    bond: Amount
    since_height: Natural
    release_height: Natural | None
    missed: Natural
    proven: Natural
    paid: Amount
    entry: EntryView


class ActiveAuditorView(msgspec.Struct, frozen=True):
    """An auditor that may be drawn for what is committed above `since_height`, in proportion to its bond."""

    auditor: Address
    since_height: Natural
    bond: Amount


class ActiveAuditorsView(msgspec.Struct, frozen=True):
    """All auditors that may be drawn, in the order in which they entered; a newcomer locks `asked_bond` at least."""

    auditors: list[ActiveAuditorView]
    asked_bond: Amount
    entry: EntryView


class AssignmentView(msgspec.Struct, frozen=True):
    """A segment of the running round, and an auditor that was drawn for it."""

    round: Natural
    miner: Address
    index: Natural
    auditor: Address
    is_proven: bool


def view_auditor(account: PublicKey, entry: StateEntry[Auditor]) -> AuditorView:
    """Return an auditor as JSON shows it; what the state does not hold has neither bond nor height."""
    found = entry.record or NO_AUDITOR
    return AuditorView(
        auditor=format_address(account),
        bond=str(found.bond),
        since_height=found.since_height,
        release_height=found.release_height or None,
        missed=found.missed,
        proven=found.proven,
        paid=str(found.paid),
        entry=view_entry(entry),
    )


async def _get_auditor(api: NodeApi, params: AuditorParams) -> AuditorView:
    account = parse_account(params.account)
    return view_auditor(account, api.get_state_entry(auditor_key(account)))


async def _list_auditors(api: NodeApi, _: Params) -> ActiveAuditorsView:
    entry = api.get_state_entry(AUDITORS_KEY)
    listed = (entry.record or NO_AUDITORS).auditors
    active = [ActiveAuditorView(format_address(each.auditor), each.since_height, str(each.bond)) for each in listed]
    asked = compute_asked_bond(api.get_genesis().parameters, listed)
    return ActiveAuditorsView(active, str(asked), view_entry(entry))


async def _list_assignments(api: NodeApi, _: Params) -> list[AssignmentView]:
    return [
        AssignmentView(
            round=each.round,
            miner=format_address(each.key.miner),
            index=each.key.index,
            auditor=format_address(each.auditor),
            is_proven=each.is_proven,
        )
        for each in api.get_assignments()
    ]


GET_AUDITOR = Method("auditor_get", "An auditor with its proof.", AuditorParams, AuditorView, _get_auditor)
LIST_AUDITORS = Method(
    "auditor_list",
    "The auditors that may be drawn, with their proof, and what a newcomer has to lock.",
    Params,
    ActiveAuditorsView,
    _list_auditors,
)
LIST_ASSIGNMENTS = Method(
    "contribution_audits",
    "The audits assigned in the running round.",
    Params,
    list[AssignmentView],
    _list_assignments,
)

AUDIT_METHODS: tuple[AnyMethod, ...] = (GET_AUDITOR, LIST_AUDITORS, LIST_ASSIGNMENTS)
