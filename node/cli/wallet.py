"""`mathesis wallet`: keys in the data directory, balances by a node's answer, transfers signed here.

A balance shown here is what the node says; `mathesis light verify` proves it.
"""

from pathlib import Path

import click

from node.cli.keys import find_keystore, get_wallet_path, open_key, parse_fee, passphrase_option, resolve_address
from node.cli.output import directory_option, format_coins, json_option, parse_coins, print_record, rpc_option
from node.cli.sending import fee_option, report_sent, wait_options


@click.group()
def wallet() -> None:
    """Make keys, see balances, send coins."""


@wallet.command()
@click.argument("name", default="default")
@directory_option
@passphrase_option
@click.option("--development", is_flag=True, help="No passphrase: for development networks only.")
@json_option
def new(name: str, directory: Path, passphrase: str | None, *, development: bool, is_json: bool) -> None:
    """Make a key called NAME."""
    from node import keystore
    from node.addresses import format_address

    path = get_wallet_path(directory, name)
    if path.exists():
        raise keystore.KeystoreError(f"{path} exists; a key is never overwritten")
    if passphrase is None:
        passphrase = "" if development else click.prompt("Passphrase", hide_input=True, confirmation_prompt=True)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = keystore.make_key()
    keystore.write_key(path, key, passphrase, development)
    print_record({"name": name, "address": format_address(key.public_key), "file": str(path)}, is_json)


@wallet.command("list")
@directory_option
@json_option
def list_keys(directory: Path, is_json: bool) -> None:
    """List the keys of the data directory."""
    from node.keystore import read_address

    paths = sorted((directory.expanduser() / "wallet").glob("*.json"))
    for path in paths:
        address = read_address(path)
        print_record({"name": path.stem, "address": address}, is_json, f"{path.stem:<16} {address}")
    if not paths and not is_json:
        click.echo("no keys yet; make one with `mathesis wallet new`", err=True)


@wallet.command()
@click.argument("account", default="default")
@directory_option
@rpc_option
@json_option
def balance(account: str, directory: Path, url: str, is_json: bool) -> None:
    """Show the balance of ACCOUNT: an address or a key's name."""
    from node.rpc.client import RpcClient
    from node.rpc.methods import GET_ACCOUNT, AccountParams

    address = resolve_address(account, directory)
    found = RpcClient(url).call(GET_ACCOUNT, AccountParams(address))
    coins = format_coins(int(found.balance))
    record: dict[str, object] = {"address": address, "atoms": found.balance, "coins": coins, "height": found.height}
    print_record(record, is_json, f"{coins} coins at height {found.height}")


@wallet.command()
@click.argument("sender")
@click.argument("recipient")
@click.argument("amount")
@fee_option
@directory_option
@rpc_option
@passphrase_option
@wait_options
@json_option
def send(
    sender: str,
    recipient: str,
    amount: str,
    fee: str,
    directory: Path,
    url: str,
    passphrase: str | None,
    timeout_s: float,
    *,
    is_waiting: bool,
    is_json: bool,
) -> None:
    """Send AMOUNT coins from the key SENDER (a name or a keystore file) to RECIPIENT."""
    from chain.transaction import Transfer
    from node.addresses import parse_address
    from node.wallet import send_action

    target = parse_address(resolve_address(recipient, directory))
    action, fee_atoms = Transfer(target, parse_coins(amount)), parse_fee(fee)
    key = open_key(find_keystore(sender, directory), passphrase)
    transaction_hash = send_action(url, key, action, fee_atoms)
    report_sent(transaction_hash, url, timeout_s if is_waiting else None, ({}, ""), is_json)
