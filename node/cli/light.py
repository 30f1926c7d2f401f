"""`mathesis light`: what a node says, verified from a genesis hash alone.

The checks stand in `node.light`; here they are told, with what is left to trust.
"""

import re
import time
from typing import TYPE_CHECKING

import click

from node.cli.output import Fields, format_coins, json_option, print_record, rpc_option
from node.exit_codes import CommandError, ExitCode

if TYPE_CHECKING:
    from chain.ledger.audit_records import Audit, Auditor
    from chain.ledger.records import ContributionKey
    from chain.primitives import PublicKey
    from node.light import LightReport

TRUSTED = (
    "this machine's clock, within the future limit",
    "that no heavier chain exists than the one this node shows",
    "validators for transactions, state transitions and the training behind unopened tickets",
)
"""What a light client cannot see."""


@click.group()
def light() -> None:
    """Verify a node's answers without trusting it."""


@light.command()
@rpc_option
@click.option("--genesis", "genesis", required=True, help="Hash of the network's block 0, 0x-hex.")
@click.option("--account", help="An address whose balance to prove.")
@click.option("--auditor", help="An address whose auditor's bond to prove.")
@click.option(
    "--audits", metavar="ROUND/MINER/INDEX", help="A contribution to the network's task whose audits to prove."
)
@click.option("--full", "is_full", is_flag=True, help="Check every header, however long the chain.")
@click.option("--public", "is_public", is_flag=True, help="Sample with the tip's own seed instead of a secret one.")
@click.option("--tickets", type=click.IntRange(1, 1_024), default=24, show_default=True, help="Drawn tickets to open.")
@json_option
def verify(
    url: str,
    genesis: str,
    account: str | None,
    auditor: str | None,
    audits: str | None,
    is_full: bool,
    is_public: bool,
    tickets: int,
    is_json: bool,
) -> None:
    """Check headers, difficulty, tickets drawn at random, and what the state holds of an account, auditor or audits.

    A chain of more than 2,000 blocks is proven by sampled headers (docs/light-client.md). Audits stand in the state
    from their draw until they are decided.
    """
    from chain.primitives import Hash
    from node.light import REFUSALS, Wanted, verify_node
    from node.light_chain import Clock, Policy
    from node.rpc.api import HEADERS_MAX
    from node.rpc.client import BadAnswer, RemoteError, RpcClient

    if not re.fullmatch("0x[0-9a-f]{64}", genesis):
        raise click.BadParameter(f"found {genesis!r}, expected 0x and 64 hex digits", param_hint="--genesis")
    keys = _parse_address(account, "--account"), _parse_address(auditor, "--auditor")
    wanted = Wanted(*keys, None if audits is None else _parse_contribution(audits))
    policy = Policy(None if is_full else HEADERS_MAX, is_public=is_public, tickets_drawn=tickets)
    clock = Clock(lambda: time.time_ns() // 1_000_000)
    try:
        report = verify_node(RpcClient(url), Hash(bytes.fromhex(genesis[2:])), clock, wanted, policy)
    except (*REFUSALS, BadAnswer, RemoteError) as error:
        raise CommandError(ExitCode.VERIFICATION_REFUSED, f"refused: {error}") from None
    names = {"account": account, "auditor": auditor, "audits": audits}
    print_record(_make_record(report, names), is_json, _make_text(report, names))


def _parse_address(text: str | None, option: str) -> "PublicKey | None":
    from chain.errors import DecodeError
    from node.addresses import parse_address

    try:
        return None if text is None else parse_address(text)
    except DecodeError as error:
        raise click.BadParameter(str(error), param_hint=option) from None


def _parse_contribution(text: str) -> "tuple[int, ContributionKey]":
    from chain.ledger.records import ContributionKey

    found = re.fullmatch("([0-9]{1,9})/([^/]+)/([0-9]{1,4})", text)
    miner = None if found is None else _parse_address(found[2], "--audits")
    if found is None or miner is None:
        raise click.BadParameter(f"found {text!r}, expected ROUND/MINER/INDEX", param_hint="--audits")
    return int(found[1]), ContributionKey(miner, int(found[3]))


def _make_record(report: "LightReport", names: dict[str, str | None]) -> Fields:
    auditor = report.auditor
    return {
        "verified": True,
        "network": report.network,
        "genesis": f"0x{report.genesis_hash.hex()}",
        "height": report.tip.height,
        "head": f"0x{report.tip.hash.hex()}",
        "expected_macs": str(report.tip.total_work),
        "headers": report.headers,
        "samples": report.samples,
        "proof_bytes": report.proof_bytes,
        "received_bytes": report.received_bytes,
        "tickets": [{"height": ticket.height, "macs": ticket.macs} for ticket in report.tickets],
        "account": names["account"],
        "balance": None if report.balance is None else str(report.balance),
        "auditor": None if auditor is None else {"address": names["auditor"]} | _describe_auditor(auditor),
        "audits": None if report.audits is None else _list_audits(report.audits),
        "trusted": list(TRUSTED),
    }


def _describe_auditor(auditor: "Auditor") -> dict[str, str | int | None]:
    return {
        "bond_atoms": str(auditor.bond),
        "since_height": auditor.since_height,
        "release_height": auditor.release_height or None,
        "missed": auditor.missed,
        "proven": auditor.proven,
        "paid_atoms": str(auditor.paid),
    }


def _list_audits(audits: "tuple[Audit, ...]") -> list[dict[str, str | bool]]:
    from node.addresses import format_address

    return [{"auditor": format_address(each.auditor), "is_proven": bool(each.is_proven)} for each in audits]


def _make_text(report: "LightReport", names: dict[str, str | None]) -> str:
    lines = [
        f"verified  genesis 0x{report.genesis_hash.hex()} of {report.network}",
        f"verified  {_describe_headers(report)} to 0x{report.tip.hash.hex()}, their signatures and difficulty",
        f"verified  work claimed by them: {report.tip.total_work} expected MACs",
    ]
    if report.tickets:
        macs = sum(ticket.macs for ticket in report.tickets)
        lines.append(f"verified  {len(report.tickets)} tickets of these, recomputed ({macs} MACs)")
    if report.balance is not None:
        lines.append(f"verified  {names['account']} holds {format_coins(report.balance)} coins")
    if report.auditor is not None:
        found = report.auditor
        done = f"{found.proven} audits proven, {found.missed} missed since"
        lines.append(f"verified  {names['auditor']} has {format_coins(found.bond)} coins locked as an auditor; {done}")
    if report.audits is not None:
        told = [
            f"{each['auditor']} {'proven' if each['is_proven'] else 'open'}" for each in _list_audits(report.audits)
        ]
        lines.append(f"verified  audits of {names['audits']}: {', '.join(told) or 'none'}")
    return "\n".join(lines + [f"trusted   {what}" for what in TRUSTED])


def _describe_headers(report: "LightReport") -> str:
    if not report.samples:
        return f"all {report.headers} headers"
    return f"{report.headers} of {report.tip.height} headers, {report.samples} places drawn by work,"
