"""`mathesis shares`: who holds a model, what that has earned, and moving or claiming it.

A model is the network's own unless another is named, since it alone has units in this version. Units are verified
multiply-accumulates; the rules stand in `chain/ledger/shares.py`.
"""

from pathlib import Path

import click

from node.cli.keys import resolve_address
from node.cli.output import Fields, directory_option, format_coins, json_option, print_record, rpc_option
from node.cli.registered import NETWORK, find_model, format_percent, iter_holders, parse_model
from node.cli.sending import Sender, find_default_key, sending_options

model_option = click.option("--model", default=NETWORK, show_default=True, help="A model's name, or `network`.")


@click.group()
def shares() -> None:
    """Shares of a model: who holds them; transfer them, claim income."""


@shares.command()
@click.argument("account", required=False)
@model_option
@directory_option
@rpc_option
@json_option
def show(account: str | None, model: str, directory: Path, url: str, is_json: bool) -> None:
    """Show the units of ACCOUNT (an address, a key's name or a keystore file) and what it may claim."""
    from node.rpc.client import RpcClient
    from node.rpc.economy_methods import GET_SHARES, HolderParams

    address, wanted = resolve_address(account or find_default_key(directory), directory), parse_model(model)
    client = RpcClient(url)
    found = client.call(GET_SHARES, HolderParams(find_model(client, wanted), address))
    percent, coins = format_percent(int(found.units), int(found.units_total)), format_coins(int(found.claimable))
    record: Fields = {"model": found.model, "account": found.account, "units": found.units}
    record |= {"units_total": found.units_total, "percent": percent, "claimable_atoms": found.claimable}
    record |= {"claimable_coins": coins, "height": found.entry.height}
    text = f"{int(found.units):,} of {int(found.units_total):,} units, {percent}; {coins} coins to claim"
    print_record(record, is_json, f"{text}, at height {found.entry.height}")


@shares.command("list")
@model_option
@rpc_option
@json_option
def list_(model: str, url: str, is_json: bool) -> None:
    """List everybody who holds units of a model or is owed its income."""
    from node.rpc.client import RpcClient

    wanted = parse_model(model)
    client = RpcClient(url)
    for page in iter_holders(client, find_model(client, wanted)):
        for holder in page.holders:
            percent, coins = (
                format_percent(int(holder.units), int(page.units_total)),
                format_coins(int(holder.claimable)),
            )
            record: Fields = {"account": holder.account, "units": holder.units, "percent": percent}
            record |= {"claimable_atoms": holder.claimable}
            text = f"{holder.account}  {percent:>9}  {int(holder.units):>20,} units  {coins} coins to claim"
            print_record(record, is_json, text)


@shares.command()
@click.argument("recipient")
@click.argument("units", type=click.IntRange(1, 2**128 - 1))
@model_option
@sending_options
def transfer(sender: Sender, recipient: str, units: int, model: str) -> None:
    """Give UNITS to RECIPIENT; what they have earned so far stays with the giver."""
    from chain.transaction import TransferShares
    from node.addresses import parse_address
    from node.rpc.client import RpcClient
    from node.rpc.views import from_hex

    address, wanted = resolve_address(recipient, sender.directory), parse_model(model)
    signer = sender.open_key()
    name = find_model(RpcClient(sender.url), wanted)
    action = TransferShares(from_hex(name), parse_address(address), units)
    record: Fields = {"model": name, "recipient": address, "units": str(units)}
    sender.send(signer, action, record, f"{units:,} units to {address}")


@shares.command()
@model_option
@sending_options
def claim(sender: Sender, model: str) -> None:
    """Take out all whole atoms that the key's units of a model have earned."""
    from chain.transaction import ClaimIncome
    from node.rpc.client import RpcClient
    from node.rpc.economy_methods import GET_SHARES, HolderParams
    from node.rpc.views import from_hex

    client, wanted, signer = RpcClient(sender.url), parse_model(model), sender.open_key()
    name = find_model(client, wanted)
    # What the next block pays may be more: income can come before the claim. This is what stood at the head.
    due = client.call(GET_SHARES, HolderParams(name, sender.get_address())).claimable
    text = f"{format_coins(int(due))} coins were due at the head"
    sender.send(signer, ClaimIncome(from_hex(name)), {"model": name, "claimable_atoms": due}, text)
