"""The remote methods of audits: an auditor with its proof, who may be drawn, and what is assigned to whom.

Registering, leaving and proving are transactions; the node's own auditor sends its proofs itself.
"""

from typing import TypeVar

import msgspec

from chain.ledger.audit_records import NO_AUDITORS, Auditor, Audits
from chain.ledger.auditors import compute_asked_bond
from chain.ledger.keys import AUDITORS_KEY, auditor_key, audits_key
from chain.ledger.records import ContributionKey
from chain.primitives import Hash, PublicKey
from node.addresses import format_address
from node.rpc.api import NodeApi
from node.rpc.arguments import parse_account
from node.rpc.economy_views import EntryView, view_entry
from node.rpc.errors import ErrorCode, ErrorData, RpcError
from node.rpc.registry import AnyMethod, Method, Params
from node.rpc.views import Address, Amount, HashText, Natural, from_hex

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


class AuditsParams(Params, frozen=True):
    """A contribution to a round of a task, genesis' when absent."""

    round: Natural
    miner: Address
    index: Natural = 0
    task: HashText | None = None


class AuditView(msgspec.Struct, frozen=True):
    """An auditor that was drawn for a contribution, and whether it has vouched."""

    auditor: Address
    is_proven: bool


class AuditsView(msgspec.Struct, frozen=True):
    """The audits of a contribution under a head's state root; none before they are drawn and once they are decided."""

    audits: list[AuditView]
    entry: EntryView


class AssignmentView(msgspec.Struct, frozen=True):
    """A segment of the running round, and an auditor that was drawn for it."""

    round: Natural
    miner: Address
    index: Natural
    auditor: Address
    is_proven: bool


def view_auditor(account: PublicKey, record: Auditor | None, entry: EntryView) -> AuditorView:
    """Return an auditor as JSON shows it; what the state does not hold has neither bond nor height."""
    found = record or NO_AUDITOR
    return AuditorView(
        auditor=format_address(account),
        bond=str(found.bond),
        since_height=found.since_height,
        release_height=found.release_height or None,
        missed=found.missed,
        proven=found.proven,
        paid=str(found.paid),
        entry=entry,
    )


async def _get_auditor(api: NodeApi, params: AuditorParams) -> AuditorView:
    account = parse_account(params.account)
    entry = api.get_state_entry(auditor_key(account))
    return view_auditor(account, entry.record, view_entry(entry))


async def _list_auditors(api: NodeApi, _: Params) -> ActiveAuditorsView:
    entry = api.get_state_entry(AUDITORS_KEY)
    listed = (entry.record or NO_AUDITORS).auditors
    active = [ActiveAuditorView(format_address(each.auditor), each.since_height, str(each.bond)) for each in listed]
    asked = compute_asked_bond(api.get_genesis().parameters, listed)
    return ActiveAuditorsView(active, str(asked), view_entry(entry))


def view_audits(record: Audits | None, entry: EntryView) -> AuditsView:
    """Return a contribution's audits as JSON shows them."""
    found = () if record is None else record.audits
    return AuditsView([AuditView(format_address(each.auditor), bool(each.is_proven)) for each in found], entry)


async def _get_audits(api: NodeApi, params: AuditsParams) -> AuditsView:
    task = api.get_task().task if params.task is None else Hash(from_hex(params.task))
    if max(params.round >> 32, params.index >> 16):
        raise RpcError(ErrorCode.INVALID_PARAMS, ErrorData("range", detail="a round has 32 bits, an index 16"))
    key = ContributionKey(parse_account(params.miner), params.index)
    entry = api.get_state_entry(audits_key(task, params.round, key))
    return view_audits(entry.record, view_entry(entry))


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
GET_AUDITS = Method(
    "audit_get",
    "A contribution's audits until they are decided, with their proof.",
    AuditsParams,
    AuditsView,
    _get_audits,
)
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

AUDIT_METHODS: tuple[AnyMethod, ...] = (GET_AUDITOR, GET_AUDITS, LIST_AUDITORS, LIST_ASSIGNMENTS)
