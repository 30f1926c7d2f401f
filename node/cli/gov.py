"""`mathesis gov`: decide together what the network's numbers are and what its treasury pays.

A key is the node's own unless another is named. The ledger's rules stand in `chain/ledger/stakes.py`, `proposals.py`
and `bounds.py`; what they refuse is told in one line.
"""

from pathlib import Path

import click

from node.cli.gov_text import (
    describe_proposal,
    find_proposal,
    format_number,
    format_value,
    parse_change,
    summarise_proposal,
)
from node.cli.keys import get_node_key, resolve_address
from node.cli.output import Fields, directory_option, format_coins, json_option, parse_coins, print_record, rpc_option
from node.cli.sending import Sender, node_sending_options, report_sent


@click.group()
def gov() -> None:
    """Decide together: lock stake, propose changes, vote."""


@gov.command()
@click.argument("amount")
@node_sending_options
def lock(sender: Sender, amount: str) -> None:
    """Lock AMOUNT coins; all that the key has locked votes on what is proposed in later blocks."""
    from chain.transaction import LockStake

    action = LockStake(parse_coins(amount))
    sender.send(sender.open_key(), action, {}, "")


@gov.command()
@click.argument("amount", required=False)
@node_sending_options
def unlock(sender: Sender, amount: str | None) -> None:
    """Give notice for AMOUNT coins of stake, all by default; once they are free (`gov stake`), take them back by it."""
    from chain.transaction import UnlockStake
    from node.addresses import format_address
    from node.rpc.client import RpcClient
    from node.rpc.governance_methods import GET_STAKE, StakeParams

    signer = sender.open_key()
    found = RpcClient(sender.url).call(GET_STAKE, StakeParams(format_address(signer.public_key)))
    is_leaving = found.release_height is not None
    atoms = parse_coins(amount) if amount else int(found.leaving if is_leaving else found.amount)
    step = "withdrawal" if is_leaving else "notice"
    sender.send(signer, UnlockStake(atoms), {"step": step}, step)


@gov.command()
@click.argument("account", required=False)
@directory_option
@rpc_option
@json_option
def stake(account: str | None, directory: Path, url: str, is_json: bool) -> None:
    """Show what ACCOUNT has locked: an address, a key's name or a keystore file; the node's own key by default."""
    from node.rpc.client import RpcClient
    from node.rpc.governance_methods import GET_STAKE, StakeParams

    address = resolve_address(account or get_node_key(directory), directory)
    found = RpcClient(url).call(GET_STAKE, StakeParams(address))
    amount, leaving = format_coins(int(found.amount)), format_coins(int(found.leaving))
    record: Fields = {
        "address": address,
        "coins": amount,
        "since_height": found.since_height,
        "leaving": leaving,
        "release_height": found.release_height,
        "height": found.entry.height,
    }
    parts = [f"{amount} coins since height {found.since_height}" if int(found.amount) else "no stake that votes"]
    if found.release_height is not None:
        parts.append(f"{leaving} coins free at height {found.release_height}")
    print_record(record, is_json, f"{', '.join(parts)}, at height {found.entry.height}")


@gov.command()
@click.argument("title")
@click.option("--set", "setting", nargs=2, metavar="NAME VALUE", help="Set a parameter (`gov parameters`).")
@click.option("--pay", "payment", nargs=2, metavar="ACCOUNT COINS", help="Pay an account from the treasury.")
@click.option(
    "--subsidise",
    "subsidy",
    type=(str, click.IntRange(0, 10_000)),
    metavar="TASK PARTS",
    help="Give a posted task so many basis points of what blocks issue for contributions.",
)
@node_sending_options
def propose(
    sender: Sender,
    title: str,
    setting: tuple[str, str] | None,
    payment: tuple[str, str] | None,
    subsidy: tuple[str, int] | None,
) -> None:
    """Propose one change under TITLE, for a deposit that burns when too few vote. VALUE is coins where it is atoms."""
    from chain.ledger.proposals import compute_proposal_id
    from chain.transaction import ProposeChange
    from node.rpc.client import RpcClient
    from node.rpc.views import to_hex
    from node.wallet import get_chain_id, send_signed, sign_next

    terms = ProposeChange(title, parse_change(setting, payment, subsidy, sender.directory))
    client, signer = RpcClient(sender.url), sender.open_key()
    chain_id = get_chain_id(client)
    # The name follows from the nonce, so that it is known only once it is signed.
    transaction = sign_next(client, chain_id, signer, terms, sender.fee)
    sent = send_signed(client, transaction)
    name = to_hex(compute_proposal_id(chain_id, signer.public_key, transaction.body.nonce, terms))
    report_sent(sent, sender.url, sender.wait_s, ({"proposal": name}, f"proposal {name}"), sender.is_json)


@gov.command()
@click.argument("proposal")
@click.argument("choice", type=click.Choice(["yes", "no", "abstain"]))
@node_sending_options
def vote(sender: Sender, proposal: str, choice: str) -> None:
    """Vote on PROPOSAL (its name or how it starts) with all stake that was locked before it; again, to change it."""
    from chain.ledger.governance_records import Choice
    from chain.transaction import CastVote
    from node.rpc.client import RpcClient
    from node.rpc.views import from_hex

    name = find_proposal(RpcClient(sender.url), proposal)
    action = CastVote(from_hex(name), int(Choice[choice.upper()]))
    sender.send(sender.open_key(), action, {"proposal": name}, "")


@gov.command(name="list")
@rpc_option
@json_option
def list_proposals(url: str, is_json: bool) -> None:
    """List the live proposals and those decided last."""
    from node.rpc.client import RpcClient
    from node.rpc.governance_methods import LIST_PROPOSALS
    from node.rpc.registry import Params

    found = RpcClient(url).call(LIST_PROPOSALS, Params())
    for proposal in (*found.live, *found.decided):
        print_record(describe_proposal(proposal), is_json, summarise_proposal(proposal))
    if not is_json and not (found.live or found.decided):
        click.echo("no proposals")


@gov.command()
@click.argument("proposal")
@click.option("--account", help="Also show the vote of an address, a key's name or a keystore file.")
@directory_option
@rpc_option
@json_option
def show(proposal: str, account: str | None, directory: Path, url: str, is_json: bool) -> None:
    """Show PROPOSAL: its name or how it starts."""
    from node.rpc.client import RpcClient
    from node.rpc.governance_methods import GET_PROPOSAL, GET_VOTE, ProposalParams, VoteParams

    client = RpcClient(url)
    name = find_proposal(client, proposal)
    found = client.call(GET_PROPOSAL, ProposalParams(name))
    if found.status is None:
        raise click.ClickException(f"found no proposal {name}, expected one that `gov list` or an earlier reply names")
    record = describe_proposal(found) | {"height": found.entry.height}
    if account is not None:
        cast = client.call(GET_VOTE, VoteParams(name, resolve_address(account, directory)))
        record |= {"account": cast.account, "choice": cast.choice, "votes": format_coins(int(cast.weight))}
    print_record(record, is_json)


@gov.command()
@rpc_option
@json_option
def parameters(url: str, is_json: bool) -> None:
    """List the parameters that votes may change: values in force, bounds, and the most that one vote changes."""
    import msgspec

    from node.rpc.client import RpcClient
    from node.rpc.governance_methods import GET_PARAMETERS
    from node.rpc.registry import Params

    for each in RpcClient(url).call(GET_PARAMETERS, Params()).parameters:
        value = format_value(each.unit, int(each.value))
        lowest, highest, step = (format_number(each.unit, int(n)) for n in (each.lowest, each.highest, each.step))
        bounds = f"from {lowest} to {highest}, by {step} a vote"
        print_record(msgspec.to_builtins(each), is_json, f"{each.name}: {value}, {bounds}; {each.reason}")
