"""The auditors of a development network: every member's key becomes one, and what each has proven is shown and judged.

It asks and sends over RPC, as anybody would; the nodes prove what they are assigned by themselves.
"""

import asyncio
from dataclasses import dataclass

from chain.audit import RegisterAuditor
from node.addresses import format_address
from node.devnet.members import Member
from node.keystore import load_key
from node.rpc.audit_methods import GET_AUDITOR, AuditorParams
from node.rpc.client import AsyncRpcClient
from node.rpc.views import StatusView
from node.wallet import send_action

FEE_ATOMS = 1_000_000


@dataclass(frozen=True, slots=True)
class Audited:
    """What a member's auditor has done: audits proven, what they were paid, and what is left of its bond."""

    proven: int
    paid_atoms: int
    bond_atoms: int


async def register_auditor(member: Member) -> None:
    """Enter a member's key on a bond, unless it stands; raises what `AsyncRpcClient.call` does."""
    key = load_key(member.directory.key_path, "")
    async with AsyncRpcClient(member.rpc.url) as client:
        found = await client.call(GET_AUDITOR, AuditorParams(format_address(key.public_key)))
    if found.entry.value is None:
        bond = member.directory.read_genesis().parameters.auditor_bond
        await asyncio.to_thread(send_action, member.rpc.url, key, RegisterAuditor(bond), FEE_ATOMS)


async def get_audited(client: AsyncRpcClient, statuses: list[StatusView]) -> list[Audited]:
    """Return what each member's auditor has done; raises what `AsyncRpcClient.call` does."""
    found = [await client.call(GET_AUDITOR, AuditorParams(status.node)) for status in statuses]
    return [Audited(each.proven, int(each.paid), int(each.bond)) for each in found]
