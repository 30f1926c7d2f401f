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
@json_option
def verify(url: str, genesis: str, account: str | None, is_json: bool) -> None:
    """Check headers, difficulty, one ticket drawn at random and a balance."""
    from chain.errors import DecodeError
    from chain.primitives import Hash
    from node.addresses import parse_address
    from node.light import REFUSALS, Clock, verify_node
    from node.rpc.client import BadAnswer, RemoteError, RpcClient

    if not re.fullmatch("0x[0-9a-f]{64}", genesis):
        raise click.BadParameter(f"found {genesis!r}, expected 0x and 64 hex digits", param_hint="--genesis")
    try:
        key = None if account is None else parse_address(account)
    except DecodeError as error:
        raise click.BadParameter(str(error), param_hint="--account") from None
    clock = Clock(lambda: time.time_ns() // 1_000_000)
    try:
        report = verify_node(RpcClient(url), Hash(bytes.fromhex(genesis[2:])), clock, key)
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
        "ticket_height": report.ticket_height,
        "ticket_macs": report.ticket_macs,
        "account": account,
        "balance": None if report.balance is None else str(report.balance),
        "trusted": list(TRUSTED),
    }


def _make_text(report: "LightReport", account: str | None) -> str:
    lines = [
        f"verified  genesis 0x{report.genesis_hash.hex()} of {report.network}",
        f"verified  {report.tip.height} headers to 0x{report.tip.hash.hex()}, their signatures and difficulty",
        f"verified  work claimed by them: {report.tip.total_work} expected MACs",
    ]
    if report.ticket_height is not None:
        lines.append(f"verified  the ticket of block {report.ticket_height}, recomputed ({report.ticket_macs} MACs)")
    if report.balance is not None:
        lines.append(f"verified  {account} holds {format_coins(report.balance)} coins")
    return "\n".join(lines + [f"trusted   {what}" for what in TRUSTED])
