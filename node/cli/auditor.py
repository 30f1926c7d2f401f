"""`mathesis auditor`: an account that is drawn to execute segments again, by a node's answer.

The key is the node's own unless another is named: a node that runs proves what its own key is assigned. The ledger's
rules stand in `chain/ledger/auditors.py`; what they refuse is told in one line.
"""

from pathlib import Path

import click

from node.cli.keys import get_node_key, resolve_address
from node.cli.output import Fields, directory_option, format_coins, json_option, parse_coins, print_record, rpc_option
from node.cli.sending import Sender, node_sending_options
from node.exit_codes import CommandError, ExitCode


@click.group()
def auditor() -> None:
    """An auditor: enter on a bond, leave, show how one stands."""


@auditor.command()
@click.argument("account", required=False)
@directory_option
@rpc_option
@json_option
def status(account: str | None, directory: Path, url: str, is_json: bool) -> None:
    """Show how ACCOUNT stands: an address, a key's name or a keystore file; the node's own key by default."""
    from node.rpc.audit_methods import GET_AUDITOR, LIST_ASSIGNMENTS, AuditorParams
    from node.rpc.client import RpcClient
    from node.rpc.methods import GET_ACCOUNT, AccountParams
    from node.rpc.registry import Params
    from node.rpc.supply_methods import GET_PARAMETERS

    address, client = resolve_address(account or get_node_key(directory), directory), RpcClient(url)
    found = client.call(GET_AUDITOR, AuditorParams(address))
    assigned = [each for each in client.call(LIST_ASSIGNMENTS, Params()) if each.auditor == address]
    is_auditor, coins = found.entry.value is not None, format_coins(int(found.bond))
    balance = int(client.call(GET_ACCOUNT, AccountParams(address)).balance)
    deposit = int(client.call(GET_PARAMETERS, Params()).parameters["deposit"])
    open_ = sum(not each.is_proven for each in assigned)
    record: Fields = {
        "address": address,
        "is_auditor": is_auditor,
        "atoms": found.bond,
        "coins": coins,
        "since_height": found.since_height if is_auditor else None,
        "release_height": found.release_height,
        "missed": found.missed,
        "proven": found.proven,
        "paid_atoms": found.paid,
        "assigned": len(assigned),
        "open": open_,
        "balance_atoms": str(balance),
        "can_dispute": balance >= deposit,
        "height": found.entry.height,
    }
    leaving = f", free at height {found.release_height}" if found.release_height else ""
    done = f"{found.proven} audits proven for {format_coins(int(found.paid))} coins, {found.missed} missed since"
    counts = f"{done}; this round {len(assigned)}, {open_} open"
    text = f"{coins} coins{leaving}; {counts}" if is_auditor else "not an auditor, no bond"
    poor = f"; {format_coins(balance)} coins left, too few for the {format_coins(deposit)} that a dispute locks"
    shown = f"{text}, at height {found.entry.height}{poor if balance < deposit else ''}"
    print_record(record, is_json, shown)


@auditor.command()
@click.option("--bond", "coins", metavar="COINS", help="Coins to lock, or to add; by default the least for a seat.")
@node_sending_options
def register(coins: str | None, sender: Sender) -> None:
    """Lock a bond and be drawn in proportion to it from now on; or add COINS to the bond that stands."""
    from chain.audit import RegisterAuditor
    from node.addresses import format_address
    from node.rpc.audit_methods import GET_AUDITOR, LIST_AUDITORS, AuditorParams
    from node.rpc.client import RpcClient
    from node.rpc.registry import Params

    asked, signer, client = None if coins is None else parse_coins(coins), sender.open_key(), RpcClient(sender.url)
    held = client.call(GET_AUDITOR, AuditorParams(format_address(signer.public_key)))
    if asked is None and held.entry.value is not None:
        message = f"auditor-held: found a bond of {format_coins(int(held.bond))} coins, expected none, or --bond to add"
        raise CommandError(ExitCode.FAILURE, message)
    bond = int(client.call(LIST_AUDITORS, Params()).asked_bond) if asked is None else asked
    sender.send(signer, RegisterAuditor(bond), {"atoms": str(bond)}, f"bond {format_coins(bond)} coins")


@auditor.command()
@node_sending_options
def retire(sender: Sender) -> None:
    """Give notice, to be drawn no more; once the bond is free (`status` says where), take it back the same way."""
    from chain.audit import RetireAuditor
    from node.addresses import format_address
    from node.rpc.audit_methods import GET_AUDITOR, AuditorParams
    from node.rpc.client import RpcClient

    signer = sender.open_key()
    found = RpcClient(sender.url).call(GET_AUDITOR, AuditorParams(format_address(signer.public_key)))
    step = "notice" if found.release_height is None else "withdrawal"
    sender.send(signer, RetireAuditor(int(found.bond)), {"step": step}, step)
