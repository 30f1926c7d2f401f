"""`mathesis task post|fund|list`: have a model of your own trained, from a pot that others may add to.

What is signed is made in `node/task_terms.py`.
"""

import click

from node.cli.failures import end_in_exit_codes
from node.cli.output import Fields, format_coins, json_option, parse_coins, print_record, rpc_option
from node.cli.registered import NETWORK, find_dataset, find_model, parse_model, parse_name
from node.cli.sending import Sender, sending_options
from node.terminal import clean_line

BasisPoints = click.IntRange(0, 10_000)


@click.command()
@click.argument("spec")
@click.argument("budget")
@click.option("--name", required=True, help="What people call the model, up to 64 bytes.")
@click.option("--licence", required=True, help="SPDX expression, such as Apache-2.0.")
@click.option("--dataset", default=NETWORK, show_default=True, help="A registered data set, or that of the network.")
@click.option(
    "--blocks", type=click.IntRange(18, 1_000_000), default=1_000, show_default=True, help="From the head on."
)
@click.option("--price", help="Atoms for 2^40 MACs in the first round; what the network's own task pays by default.")
@click.option("--licence-price", default="0", show_default=True, help="Coins for a licence; 0 sells none.")
@click.option("--royalty-bp", type=BasisPoints, default=0, show_default=True, help="What children owe, in 1/10,000.")
@click.option("--author-bp", type=BasisPoints, default=0, show_default=True, help="Your part of income, in 1/10,000.")
@click.option("--parent", help="Go on from where a model stands that the chain has trained: a name, or `network`.")
@click.option(
    "--source", "sources", multiple=True, help="A data set that the one trained on was made from; may be repeated."
)
@sending_options
def post(
    sender: Sender,
    spec: str,
    budget: str,
    name: str,
    licence: str,
    dataset: str,
    blocks: int,
    price: str | None,
    licence_price: str,
    royalty_bp: int,
    author_bp: int,
    parent: str | None,
    sources: tuple[str, ...],
) -> None:
    """Have SPEC (a name or a JSON file, `model specs`) trained by whoever likes the price, for BUDGET coins.

    Each verified multiply-accumulate is paid from the budget and earns a share of the model. What is left after the
    last block comes back. The data set has to be registered (`dataset register`) and at hand on this machine; where it
    resembles one that somebody else registered before, that one is a --source and has its royalty.
    """
    from chain.ledger.posted_tasks import compute_posted_task_id
    from node.datasets import find_blob
    from node.models.specs import find_spec
    from node.rpc.client import RpcClient
    from node.rpc.methods import GET_HEAD
    from node.rpc.registry import Params
    from node.rpc.task_methods import GET_TASK, TaskParams
    from node.rpc.views import from_hex, to_hex
    from node.task_terms import ModelTerms, Offer, make_post_task
    from node.wallet import get_chain_id

    parent_name = None if parent is None else parse_model(parent)
    owed = tuple(from_hex(parse_name(source)) for source in sources)
    with end_in_exit_codes():
        wanted = find_spec(spec).spec
    signer, client = sender.open_key(), RpcClient(sender.url)
    own = client.call(GET_TASK, TaskParams())
    lineage = None
    if parent is not None:
        found = client.call(GET_TASK, TaskParams(find_model(client, parent_name)))
        lineage = from_hex(found.task), from_hex(found.checkpoint.root)
    registered, root = find_dataset(client, dataset)
    last_height = client.call(GET_HEAD, Params()).height + blocks
    atoms = 0 if licence_price == "0" else parse_coins(licence_price)
    model = ModelTerms(name, licence, atoms, author_bp, royalty_bp, lineage, owed)
    offer = Offer(parse_coins(budget), int(own.price) if price is None else _parse_price(price), last_height)
    with end_in_exit_codes():
        terms, sidecar = make_post_task(wanted, find_blob(root), registered, model, offer)
    task = to_hex(compute_posted_task_id(get_chain_id(client), signer.public_key, terms))
    record: Fields = {"task": task, "last_height": last_height}
    sender.send(signer, terms, record, f"task {task}, until height {last_height}", sidecar)


@click.command()
@click.argument("task")
@click.argument("amount")
@sending_options
def fund(sender: Sender, task: str, amount: str) -> None:
    """Add AMOUNT coins to the pot of a posted TASK; your part of what is left comes back when it closes."""
    from chain.transaction import FundTask
    from node.rpc.views import from_hex

    name = parse_name(task)
    action = FundTask(from_hex(name), parse_coins(amount))
    sender.send(sender.open_key(), action, {"task": name}, f"for task {name}")


@click.command("list")
@rpc_option
@json_option
def list_tasks(url: str, is_json: bool) -> None:
    """List the live tasks, the network's own first."""
    from node.rpc.client import RpcClient
    from node.rpc.registry import Params
    from node.rpc.task_methods import LIST_TASKS

    for found in RpcClient(url).call(LIST_TASKS, Params()):
        score, coins = found.checkpoint, format_coins(int(found.pot))
        record: Fields = {"task": found.task, "name": found.name, "round": found.round, "pot_coins": coins}
        record |= {"price": found.price, "correct": score.correct, "heldout": score.total}
        record |= {"last_height": found.last_height}
        until = "for ever" if found.last_height is None else f"until height {found.last_height}"
        text = f"{found.task}  {clean_line(found.name)}  {score.correct}/{score.total} right  {coins} coins  {until}"
        print_record(record, is_json, text)


def _parse_price(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and 0 < int(text) < 2**64):
        raise click.BadParameter(f"found {text!r:.40}, expected a whole number of atoms")
    return int(text)
