"""`mathesis bond`: the atoms that a key has locked while it may mine, by a node's answer.

A key is the node's own unless another is named: whoever runs a miner has its bond there. The ledger's rules stand in
`chain/ledger/bonds.py`; what they refuse is told in one line.
"""

from pathlib import Path

import click

from node.cli.keys import get_node_key, resolve_address
from node.cli.output import Fields, directory_option, format_coins, json_option, parse_coins, print_record, rpc_option
from node.cli.sending import Sender, node_sending_options


@click.group()
def bond() -> None:
    """A miner's bond: show it, post it, withdraw it."""


@bond.command()
@click.argument("account", required=False)
@directory_option
@rpc_option
@json_option
def show(account: str | None, directory: Path, url: str, is_json: bool) -> None:
    """Show the bond of ACCOUNT: an address, a key's name or a keystore file; of the node's own key by default."""
    from node.rpc.client import RpcClient
    from node.rpc.methods import GET_MINER, AccountParams

    address = resolve_address(account or get_node_key(directory), directory)
    found = RpcClient(url).call(GET_MINER, AccountParams(address))
    is_miner, coins = found.value is not None, format_coins(int(found.bond))
    record: Fields = {
        "address": address,
        "is_miner": is_miner,
        "atoms": found.bond,
        "coins": coins,
        "registered_height": found.registered_height if is_miner else None,
        "release_height": found.release_height,
        "height": found.height,
    }
    leaving = f", free at height {found.release_height}" if found.release_height else ""
    text = f"{coins} coins{leaving}" if is_miner else "not a miner, no bond"
    print_record(record, is_json, f"{address}: {text}, at height {found.height}")


@bond.command()
@click.argument("amount")
@node_sending_options
def post(sender: Sender, amount: str) -> None:
    """Lock AMOUNT coins as the bond of a key that has none; two blocks later it may mine and commit."""
    from chain.transaction import PostBond

    sender.send(sender.open_key(), PostBond(parse_coins(amount)), {}, "")


@bond.command()
@node_sending_options
def withdraw(sender: Sender) -> None:
    """Give notice and stop mining; once the bond is free (`bond show` says where), take it back by the same command."""
    from chain.transaction import WithdrawBond
    from node.addresses import format_address
    from node.rpc.client import RpcClient
    from node.rpc.methods import GET_MINER, AccountParams

    signer = sender.open_key()
    found = RpcClient(sender.url).call(GET_MINER, AccountParams(format_address(signer.public_key)))
    step = "notice" if found.release_height is None else "withdrawal"
    sender.send(signer, WithdrawBond(int(found.bond)), {"step": step}, step)
