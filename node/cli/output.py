"""What commands share: how they print, where they keep things, which node they talk to.

`--json` prints one object a line on standard output. A live view is for a terminal without NO_COLOR. Messages for
people that are no result go to standard error.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from node.options import Endpoint, OutputOptions
from node.terminal import clean

F = TypeVar("F", bound=Callable[..., object])

DEFAULT_DIRECTORY = Path("~/.mathesis")
DEFAULT_URL = Endpoint("127.0.0.1", 4611).url

COIN_DIGITS_MAX = 32
"""Digits before the point, leading zeros among them."""

Fields = dict[str, object]


class EndpointType(click.ParamType[Endpoint]):
    """`HOST:PORT`, `[IPv6]:PORT` or a bare port on loopback."""

    name = "host:port"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Endpoint:
        """Return the endpoint, or fail with what was found and expected."""
        if isinstance(value, Endpoint):
            return value
        host, _, port = str(value).rpartition(":")
        if not (port.isascii() and port.isdigit() and len(port) <= 5) or int(port) > 65_535:
            self.fail(f"found {value!r}, expected HOST:PORT with a port of at most 65535", param, ctx)
        return Endpoint(host.strip("[]") or "127.0.0.1", int(port))


def directory_option(command: F) -> F:
    """Add `--dir`: the data directory."""
    return click.option(
        "--dir",
        "directory",
        type=click.Path(path_type=Path, file_okay=False),
        default=DEFAULT_DIRECTORY,
        envvar="MATHESIS_DIR",
        show_default=True,
        help="Data directory of one network (or MATHESIS_DIR).",
    )(command)


def json_option(command: F) -> F:
    """Add `--json`."""
    return click.option("--json", "is_json", is_flag=True, help="Print JSON, one object a line.")(command)


def rpc_option(command: F) -> F:
    """Add `--rpc`: the address of a node."""
    return click.option(
        "--rpc", "url", default=DEFAULT_URL, envvar="MATHESIS_RPC", show_default=True, help="Address of a node's RPC."
    )(command)


def make_output(is_json: bool, is_plain: bool = False) -> OutputOptions:
    """Return how to speak, plain when nobody watches or colour is unwanted."""
    return OutputOptions(json=is_json, plain=is_plain or not is_live_terminal())


def is_live_terminal() -> bool:
    """Say whether standard output is a terminal that wants colour."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def print_record(record: Fields, is_json: bool, text: str | None = None) -> None:
    """Print one result: JSON, or `text`, or one aligned line a field; nothing of it steers the terminal."""
    if is_json:
        click.echo(json.dumps(record))
    elif text is not None:
        click.echo(clean(text))
    else:
        width = max((len(name) for name in record), default=0)
        for name, value in record.items():
            # Lines within a value stand under it, so that none passes for a field of its own.
            shown = "-" if value is None else clean(str(value)).replace("\n", "\n" + " " * (width + 2))
            click.echo(f"{name.replace('_', ' '):<{width}}  {shown}")


def format_coins(atoms: int) -> str:
    """Return an amount of atoms in coins, exact."""
    whole, rest = divmod(atoms, 10**9)
    return f"{whole}.{rest:09d}".rstrip("0").rstrip(".")


def parse_coins(text: str) -> int:
    """Return the atoms of a decimal amount of coins; raises BadParameter."""
    whole, point, fraction = text.partition(".")
    digits = whole + fraction
    is_bounded = len(whole) <= COIN_DIGITS_MAX and len(fraction) <= 9
    if not (digits.isascii() and digits.isdigit() and whole and is_bounded and (fraction or not point)):
        raise click.BadParameter(f"found {text!r}, expected coins such as 2.5 with at most nine decimals")
    atoms = int(whole) * 10**9 + int(fraction.ljust(9, "0"))
    if not 0 < atoms < 2**64:
        raise click.BadParameter(f"found {text!r}, expected more than 0 and less than 18446744073.709551616 coins")
    return atoms
