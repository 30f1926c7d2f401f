"""`mathesis rpc`: any method of a node by name, from the registry that the server is made of.

Results are printed as the node sent them.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.output import directory_option, rpc_option

if TYPE_CHECKING:
    from node.rpc.jsontext import Json


@click.command()
@click.argument("method", required=False)
@click.argument("params", nargs=-1, metavar="[NAME=VALUE]...")
@rpc_option
@directory_option
@click.option("--admin", is_flag=True, help="Present the cookie of the data directory's node.")
@click.option("--list", "is_list", is_flag=True, help="List the methods and their parameters.")
def rpc(method: str | None, params: tuple[str, ...], url: str, directory: Path, *, admin: bool, is_list: bool) -> None:
    """Call any method of a node.

    Prints the result as JSON. A VALUE is JSON where it reads as JSON, text otherwise: block=5.
    """
    from node.data_directory import DataDirectory
    from node.rpc.client import RpcClient, read_token
    from node.rpc.methods import make_registry
    from node.rpc.registry import make_docs_table

    if is_list:
        click.echo(make_docs_table(make_registry()), nl=False)
        return
    names = [known.name for known in make_registry()]
    if method not in names:
        raise click.UsageError(f"found {method or 'no method'}, expected one of: {', '.join(names)}")
    token = read_token(DataDirectory(directory.expanduser()).cookie_path) if admin else ""
    fields = dict(parse_field(text) for text in params)
    click.echo(json.dumps(RpcClient(url, token).call_raw(method, fields), indent=2))


def parse_field(text: str) -> tuple[str, "Json"]:
    """Return the name and the value of NAME=VALUE; raises UsageError."""
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise click.UsageError(f"found {text!r}, expected NAME=VALUE")
    try:
        parsed: Json = json.loads(value)
    except (ValueError, RecursionError):
        return name, value
    return name, parsed
