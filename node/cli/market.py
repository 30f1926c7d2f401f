"""`mathesis model register|buy|pay|licence|list`: models of the network's registry, by transactions signed here.

What the ledger refuses is told in one line that names the rule; the rules stand in `chain/ledger/registry.py` and
`income.py`.
"""

from pathlib import Path

import click

from node.cli.failures import end_in_exit_codes
from node.cli.output import Fields, directory_option, format_coins, json_option, parse_coins, print_record, rpc_option
from node.cli.registered import NETWORK, find_model, list_models, parse_model, parse_name
from node.cli.sending import Sender, find_default_key, sending_options

BasisPoints = click.IntRange(0, 10_000)


@click.command("list")
@rpc_option
@json_option
def list_(url: str, is_json: bool) -> None:
    """List the models that are registered on the network, the network's own among them."""
    list_models(url, is_json)


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--name", required=True, help="What people call it, up to 64 bytes.")
@click.option("--licence", required=True, help="SPDX expression, such as Apache-2.0.")
@click.option("--price", default="0", show_default=True, help="Coins for a licence; 0 sells none.")
@click.option("--royalty-bp", type=BasisPoints, default=0, show_default=True, help="What children owe, in 1/10,000.")
@click.option("--author-bp", type=BasisPoints, default=0, show_default=True, help="The author's part, in 1/10,000.")
@click.option("--parent", help="The model that it descends from: a name, or `network`.")
@click.option("--dataset", "datasets", multiple=True, help="A registered data set that it uses; may be repeated.")
@sending_options
def register(
    sender: Sender,
    checkpoint: Path,
    name: str,
    licence: str,
    price: str,
    royalty_bp: int,
    author_bp: int,
    parent: str | None,
    datasets: tuple[str, ...],
) -> None:
    """Enter the model in a CHECKPOINT file for life: licence, price, royalties, lineage.

    Prints the name that the ledger gives it. All of it is fixed: what was entered is never changed.
    """
    from chain.ledger.registry import compute_model_id
    from chain.primitives import Hash
    from chain.transaction import RegisterModel
    from node.rpc.client import RpcClient
    from node.rpc.views import from_hex, to_hex
    from node.wallet import get_chain_id

    parent_name = None if parent is None else parse_model(parent)
    used = sorted(from_hex(parse_name(dataset)) for dataset in datasets)
    price_atoms = 0 if price == "0" else parse_coins(price)
    (spec_hash, root), signer = _read_roots(checkpoint), sender.open_key()
    client = RpcClient(sender.url)
    parents = () if parent is None else (from_hex(find_model(client, parent_name)),)
    terms = RegisterModel(
        name, Hash(spec_hash), Hash(root), licence, price_atoms, royalty_bp, author_bp, parents, tuple(used)
    )
    model = to_hex(compute_model_id(get_chain_id(client), signer.public_key, terms))
    sender.send(signer, terms, {"model": model, "checkpoint_root": to_hex(root)}, f"model {model}")


@click.command()
@click.argument("model")
@sending_options
def buy(sender: Sender, model: str) -> None:
    """Buy a licence of MODEL at the price that it was registered with, once an account."""
    from chain.transaction import BuyLicence
    from node.exit_codes import CommandError, ExitCode
    from node.rpc.client import RpcClient
    from node.rpc.economy_methods import GET_MODEL, ModelParams
    from node.rpc.views import from_hex

    client, wanted, signer = RpcClient(sender.url), parse_model(model), sender.open_key()
    name = find_model(client, wanted)
    terms = client.call(GET_MODEL, ModelParams(name)).terms
    if terms is None:
        raise CommandError(ExitCode.FAILURE, f"found no model {name}; `mathesis model list` shows all")
    coins = format_coins(int(terms.licence_price))
    action = BuyLicence(from_hex(name), int(terms.licence_price))
    record: Fields = {"model": name, "price": terms.licence_price}
    sender.send(signer, action, record, f"a licence for {coins} coins")


@click.command()
@click.argument("model")
@click.argument("amount")
@sending_options
def pay(sender: Sender, model: str, amount: str) -> None:
    """Pay AMOUNT coins to whoever the income of MODEL (a name, or `network`) belongs to."""
    from chain.transaction import PayModel
    from node.rpc.client import RpcClient
    from node.rpc.views import from_hex

    atoms, wanted, signer = parse_coins(amount), parse_model(model), sender.open_key()
    name = find_model(RpcClient(sender.url), wanted)
    sender.send(signer, PayModel(from_hex(name), atoms), {"model": name, "amount": str(atoms)}, f"to {name}")


@click.command()
@click.argument("model")
@click.argument("account", required=False)
@directory_option
@rpc_option
@json_option
def licence(model: str, account: str | None, directory: Path, url: str, is_json: bool) -> None:
    """Show whether ACCOUNT (an address, a key's name or a keystore file) has bought a licence of MODEL."""
    from node.cli.keys import resolve_address
    from node.rpc.client import RpcClient
    from node.rpc.economy_methods import GET_LICENCE, HolderParams

    address, wanted = resolve_address(account or find_default_key(directory), directory), parse_model(model)
    client = RpcClient(url)
    found = client.call(GET_LICENCE, HolderParams(find_model(client, wanted), address))
    record: Fields = {"model": found.model, "account": found.account, "bought_height": found.bought_height}
    record |= {"price": found.price, "height": found.entry.height}
    bought = f"bought in block {found.bought_height} for {format_coins(int(found.price or 0))} coins"
    print_record(record, is_json, bought if found.price else f"no licence at height {found.entry.height}")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--task", default=NETWORK, show_default=True, help="A posted task's name, or that of the network's own.")
@click.option("--round", "number", type=click.IntRange(0), help="Whose first weights; the running round by default.")
@rpc_option
@json_option
def pull(file: Path, task: str, number: int | None, url: str, is_json: bool) -> None:
    """Get a model that the network trains from a node, hold it to its root, and write it as the checkpoint FILE.

    The file has neither the optimizer's moments nor the rounds' momentum: one to sample, export and train on from.
    """
    with end_in_exit_codes():
        from node.models.pull import pull_checkpoint

        pulled = pull_checkpoint(url, parse_model(task), number, file.expanduser())
    record: Fields = {"file": str(file), "round": pulled.round, "checkpoint_root": pulled.root}
    score = f"{pulled.correct} of {pulled.total} held out" if pulled.total else "not measured yet"
    record |= {"heldout_correct": pulled.correct, "heldout_total": pulled.total}
    print_record(record, is_json, f"round {pulled.round}, {score}: {file}")


def _read_roots(checkpoint: Path) -> tuple[bytes, bytes]:
    """Return the hash of a checkpoint's spec and the root of its weights; raises CommandError."""
    with end_in_exit_codes():
        from ml.checkpoint import compute_checkpoint_root
        from ml.spec import compute_spec_hash
        from node.models.state_file import read_state

        state = read_state(checkpoint)
        return compute_spec_hash(state.spec), compute_checkpoint_root(state.checkpoint)
