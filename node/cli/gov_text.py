"""How `mathesis gov` reads changes and names of proposals, and how it tells of them.

Amounts are coins where the unit is atoms. It signs nothing and sends nothing.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.keys import resolve_address
from node.cli.output import Fields, format_coins, parse_coins

if TYPE_CHECKING:
    from chain.transaction import Change
    from node.rpc.client import RpcClient
    from node.rpc.governance_views import ProposalView

SHOWN_DIGITS = 10
"""Hex digits by which a list names a proposal; any start that is one proposal's alone will do."""


def parse_change(
    setting: tuple[str, str] | None,
    payment: tuple[str, str] | None,
    subsidy: tuple[str, int] | None,
    directory: Path,
) -> "Change":
    """Return the one change that is asked for; raises UsageError, BadParameter."""
    from chain.errors import InvalidTransaction
    from chain.ledger.bounds import get_bound
    from chain.transaction import ChangeParameter, SpendTreasury, SubsidiseTask
    from node.addresses import parse_address
    from node.cli.registered import parse_name
    from node.rpc.views import from_hex

    if sum(each is not None for each in (setting, payment, subsidy)) != 1:
        raise click.UsageError("expected one change: --set NAME VALUE, --pay ACCOUNT COINS, or --subsidise TASK PARTS")
    if subsidy is not None:
        return SubsidiseTask(from_hex(parse_name(subsidy[0])), subsidy[1])
    if payment is not None:
        return SpendTreasury(parse_address(resolve_address(payment[0], directory)), parse_coins(payment[1]))
    assert setting is not None
    name, text = setting
    try:
        is_coins = get_bound(name).unit == "atoms"
    except InvalidTransaction as error:
        raise click.BadParameter(str(error)) from None
    if not is_coins and not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise click.BadParameter(f"found {text!r}, expected a whole number")
    return ChangeParameter(name, parse_coins(text) if is_coins else int(text))


def find_proposal(client: "RpcClient", text: str) -> str:
    """Return the whole name of the proposal that `text` is, or starts like; raises BadParameter."""
    from node.rpc.governance_methods import LIST_PROPOSALS
    from node.rpc.registry import Params

    start = text.lower().removeprefix("0x")
    if not start or len(start) > 64 or not set(start) <= set("0123456789abcdef"):
        raise click.BadParameter(f"found {text!r}, expected the hex name of a proposal")
    if len(start) == 64:
        return f"0x{start}"
    listed = client.call(LIST_PROPOSALS, Params())
    names = [each.proposal for each in (*listed.live, *listed.decided) if each.proposal.startswith(f"0x{start}")]
    if len(names) != 1:
        raise click.BadParameter(f"found {len(names)} proposals that start with {text!r}, expected one")
    return names[0]


def describe_proposal(proposal: "ProposalView") -> Fields:
    """Return all that is to tell of a proposal."""
    change = proposal.change
    assert change is not None
    votes = {name: format_coins(int(getattr(proposal, name) or 0)) for name in ("yes", "no", "abstain")}
    return {
        "proposal": proposal.proposal,
        "status": proposal.status,
        "title": proposal.title,
        "change": format_change(proposal),
        "proposer": proposal.proposer,
        **votes,
        "made_height": proposal.made_height,
        "close_height": proposal.close_height,
        "effect_height": proposal.effect_height,
    }


def summarise_proposal(proposal: "ProposalView") -> str:
    """Return a proposal in one line."""
    yes, no, abstain = (format_coins(int(atoms or 0)) for atoms in (proposal.yes, proposal.no, proposal.abstain))
    name, status = proposal.proposal[: 2 + SHOWN_DIGITS], proposal.status or ""
    votes = f"{yes} yes, {no} no, {abstain} abstain, to height {proposal.close_height}"
    return f"{name}  {status:<8}  {format_change(proposal)}  {votes}  {proposal.title}"


def format_change(proposal: "ProposalView") -> str:
    """Return what a proposal does, in words."""
    from chain.ledger.bounds import get_bound

    change = proposal.change
    assert change is not None
    if change.task is not None:
        return f"subsidise task {change.task[: 2 + SHOWN_DIGITS]} with {change.share_bp} basis points"
    if change.parameter is None or change.value is None:
        return f"pay {format_coins(int(change.amount or 0))} coins to {change.recipient}"
    return f"set {change.parameter} to {format_value(get_bound(change.parameter).unit, int(change.value))}"


def format_value(unit: str, value: int) -> str:
    """Return a value with its unit."""
    return f"{format_number(unit, value)} {'coins' if unit == 'atoms' else unit}"


def format_number(unit: str, value: int) -> str:
    """Return a value in coins where its unit is atoms."""
    return format_coins(value) if unit == "atoms" else str(value)
