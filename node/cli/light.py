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
@click.option("--full", "is_full", is_flag=True, help="Check every header, however long the chain.")
@click.option("--public", "is_public", is_flag=True, help="Sample with the tip's own seed instead of a secret one.")
@click.option("--tickets", type=click.IntRange(1, 1_024), default=24, show_default=True, help="Drawn tickets to open.")
@json_option
def verify(
    url: str, genesis: str, account: str | None, is_full: bool, is_public: bool, tickets: int, is_json: bool
) -> None:
    """Check headers, difficulty, tickets drawn at random and a balance.

    A chain of more than 2,000 blocks is proven by sampled headers (docs/light-client.md).
    """
    from chain.errors import DecodeError
    from chain.primitives import Hash
    from node.addresses import parse_address
    from node.light import REFUSALS, verify_node
    from node.light_chain import Clock, Policy
    from node.rpc.api import HEADERS_MAX
    from node.rpc.client import BadAnswer, RemoteError, RpcClient

    if not re.fullmatch("0x[0-9a-f]{64}", genesis):
        raise click.BadParameter(f"found {genesis!r}, expected 0x and 64 hex digits", param_hint="--genesis")
    try:
        key = None if account is None else parse_address(account)
    except DecodeError as error:
        raise click.BadParameter(str(error), param_hint="--account") from None
    policy = Policy(None if is_full else HEADERS_MAX, is_public=is_public, tickets_drawn=tickets)
    clock = Clock(lambda: time.time_ns() // 1_000_000)
    try:
        report = verify_node(RpcClient(url), Hash(bytes.fromhex(genesis[2:])), clock, key, policy)
    except (*REFUSALS, BadAnswer, RemoteError) as error:
        raise CommandError(ExitCode.VERIFICATION_REFUSED, f"refused: {error}") from None
    print_record(_make_record(report, account), is_json, _make_text(report, account))


def _make_record(report: "LightReport", account: str | None) -> Fields:
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
        "account": account,
        "balance": None if report.balance is None else str(report.balance),
        "trusted": list(TRUSTED),
    }


def _make_text(report: "LightReport", account: str | None) -> str:
    lines = [
        f"verified  genesis 0x{report.genesis_hash.hex()} of {report.network}",
        f"verified  {_describe_headers(report)} to 0x{report.tip.hash.hex()}, their signatures and difficulty",
        f"verified  work claimed by them: {report.tip.total_work} expected MACs",
    ]
    if report.tickets:
        macs = sum(ticket.macs for ticket in report.tickets)
        lines.append(f"verified  {len(report.tickets)} tickets of these, recomputed ({macs} MACs)")
    if report.balance is not None:
        lines.append(f"verified  {account} holds {format_coins(report.balance)} coins")
    return "\n".join(lines + [f"trusted   {what}" for what in TRUSTED])


def _describe_headers(report: "LightReport") -> str:
    if not report.samples:
        return f"all {report.headers} headers"
    return f"{report.headers} of {report.tip.height} headers, {report.samples} places drawn by work,"
