"""`mathesis task`: what the network trains, tasks that anybody posts and funds, and bounties for how well they do.

The rules stand in `chain/ledger/posted_tasks.py`, `task_pots.py` and `bounties.py`; what they refuse is told in one
line.
"""

import click

from node.cli.output import Fields, format_coins, json_option, parse_coins, print_record, rpc_option
from node.cli.posted import fund, list_tasks, post
from node.cli.registered import parse_name
from node.cli.sending import Sender, sending_options


@click.group()
def task() -> None:
    """What the network trains: list and show tasks, post and fund one, put up a bounty."""


task.add_command(post)
task.add_command(fund)
task.add_command(list_tasks)


@task.command()
@click.argument("name", required=False)
@rpc_option
@json_option
def show(name: str | None, url: str, is_json: bool) -> None:
    """Show the task NAME, or the network's own: where its running round stands, and its open bounties."""
    from node.rpc.bounty_methods import LIST_BOUNTIES
    from node.rpc.client import RpcClient
    from node.rpc.task_methods import GET_TASK, TaskParams

    client = RpcClient(url)
    wanted = TaskParams(None if name is None else parse_name(name))
    found, bounties = client.call(GET_TASK, wanted), client.call(LIST_BOUNTIES, wanted).bounties
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
        "last_height": found.last_height,
        "is_live": found.is_live,
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
@click.option("--task", "name", help="The posted task that is meant, the network's own by default.")
@sending_options
def bounty(sender: Sender, amount: str, correct_min: int, blocks: int, name: str | None) -> None:
    """Put up AMOUNT coins for a task's model to answer as many held-out records (`task show`) within some blocks.

    The round that gets there pays them to the model's shareholders; if none does, they come back.
    """
    from chain.ledger.bounties import compute_bounty_id
    from chain.transaction import PostBounty
    from node.rpc.client import RpcClient
    from node.rpc.methods import GET_HEAD
    from node.rpc.registry import Params
    from node.rpc.task_methods import GET_TASK, TaskParams
    from node.rpc.views import from_hex, to_hex
    from node.wallet import get_chain_id

    atoms, signer, client = parse_coins(amount), sender.open_key(), RpcClient(sender.url)
    wanted = TaskParams(None if name is None else parse_name(name))
    found, height = client.call(GET_TASK, wanted), client.call(GET_HEAD, Params()).height
    terms = PostBounty(from_hex(found.task), atoms, correct_min, height + blocks)
    entered = to_hex(compute_bounty_id(get_chain_id(client), signer.public_key, terms))
    record: Fields = {"bounty": entered, "last_height": terms.last_height}
    sender.send(signer, terms, record, f"bounty {entered}, until height {terms.last_height}")
