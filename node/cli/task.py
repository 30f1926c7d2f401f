"""`mathesis task`: what the network trains, and bounties for how well it does.

The rules of bounties stand in `chain/ledger/bounties.py`; what they refuse is told in one line.
"""

import click

from node.cli.output import Fields, format_coins, json_option, parse_coins, print_record, rpc_option
from node.cli.sending import Sender, sending_options


@click.group()
def task() -> None:
    """What the network trains: show it, put up a bounty for it."""


@task.command()
@rpc_option
@json_option
def show(url: str, is_json: bool) -> None:
    """Show the task, where its running round stands, and the open bounties."""
    from node.rpc.bounty_methods import LIST_BOUNTIES
    from node.rpc.client import RpcClient
    from node.rpc.methods import GET_TASK
    from node.rpc.registry import Params

    client = RpcClient(url)
    found, bounties = client.call(GET_TASK, Params()), client.call(LIST_BOUNTIES, Params()).bounties
    score = found.checkpoint
    record: Fields = {
        "task": found.task,
        "name": found.name,
        "round": found.round,
        "ends_at_height": found.end_height,
        "correct": score.correct,
        "heldout": score.total,
        "pot_coins": format_coins(int(found.pot)),
        "price": found.price,
        "bounties": len(bounties),
    }
    print_record(record, is_json)
    for each in bounties:
        coins = format_coins(int(each.amount or 0))
        fields: Fields = {"bounty": each.bounty, "poster": each.poster, "coins": coins}
        fields |= {"correct_min": each.correct_min, "last_height": each.last_height}
        text = f"bounty  {coins} coins for {each.correct_min} right by height {each.last_height}  {each.bounty[:18]}"
        print_record(fields, is_json, text)


@task.command()
@click.argument("amount")
@click.option("--correct", "correct_min", type=click.IntRange(1, 2**32 - 1), required=True, help="Held-out records.")
@click.option("--blocks", type=click.IntRange(1, 1_000_000), default=1_000, show_default=True, help="From the head on.")
@sending_options
def bounty(sender: Sender, amount: str, correct_min: int, blocks: int) -> None:
    """Put up AMOUNT coins for the network's model to answer as many held-out records (`task show`) within some blocks.

    The round that gets there pays them to the model's shareholders; if none does, they come back.
    """
    from chain.ledger.bounties import compute_bounty_id
    from chain.transaction import PostBounty
    from node.rpc.client import RpcClient
    from node.rpc.methods import GET_HEAD, GET_TASK
    from node.rpc.registry import Params
    from node.rpc.views import from_hex, to_hex
    from node.wallet import get_chain_id

    atoms, signer, client = parse_coins(amount), sender.open_key(), RpcClient(sender.url)
    found, height = client.call(GET_TASK, Params()), client.call(GET_HEAD, Params()).height
    terms = PostBounty(from_hex(found.task), atoms, correct_min, height + blocks)
    name = to_hex(compute_bounty_id(get_chain_id(client), signer.public_key, terms))
    record: Fields = {"bounty": name, "last_height": terms.last_height}
    sender.send(signer, terms, record, f"bounty {name}, until height {terms.last_height}")
