"""How commands name keys: a wallet key by its name, a keystore by its path, an account by its address.

Shared by the commands that sign or ask about accounts. It reads keystores and knows no node.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.output import parse_coins

if TYPE_CHECKING:
    from chain.signature import SigningKey

passphrase_option = click.option(
    "--passphrase", envvar="MATHESIS_PASSPHRASE", help="Of the key (or MATHESIS_PASSPHRASE); asked for otherwise."
)


def parse_fee(fee: str) -> int:
    """Return the atoms of a fee in coins, which may be none; raises BadParameter."""
    return 0 if fee == "0" else parse_coins(fee)


def get_node_key(directory: Path) -> str:
    """Return the keystore of the node that a data directory belongs to."""
    from node.data_directory import DataDirectory

    return str(DataDirectory(directory.expanduser()).key_path)


def ask_node_passphrase(directory: Path, given: str | None, *, is_development: bool) -> str:
    """Return what opens or seals the key of a node: as given, or as asked for where somebody can answer."""
    import sys

    from node.keystore import is_development_key

    path = Path(get_node_key(directory))
    if given is not None or is_development or not sys.stdin.isatty():
        return given or ""
    if path.exists():
        return "" if is_development_key(path) else str(click.prompt("Passphrase", hide_input=True))
    return str(click.prompt("Passphrase for the node's new key", hide_input=True, confirmation_prompt=True))


def get_wallet_path(directory: Path, name: str) -> Path:
    """Return where the wallet key called `name` stands; raises BadParameter."""
    if not name.replace("-", "").replace("_", "").isalnum():
        raise click.BadParameter(f"found the name {name!r}, expected letters, digits, - and _")
    return directory.expanduser() / "wallet" / f"{name}.json"


def find_keystore(key: str, directory: Path) -> Path:
    """Return the keystore that a name or a path ending in .json names; raises BadParameter."""
    return Path(key).expanduser() if key.endswith(".json") else get_wallet_path(directory, key)


def resolve_address(account: str, directory: Path) -> str:
    """Return the address that an address, a name or a keystore names; raises DecodeError, KeystoreError."""
    from node.addresses import parse_address
    from node.keystore import read_address

    if account.lower().startswith("mth1"):
        parse_address(account)
        return account.lower()
    return read_address(find_keystore(account, directory))


def open_key(path: Path, passphrase: str | None) -> "SigningKey":
    """Return the key of a keystore, asking for its passphrase where it needs one; raises KeystoreError."""
    from node import keystore

    if passphrase is None:
        passphrase = "" if keystore.is_development_key(path) else click.prompt("Passphrase", hide_input=True)
    return keystore.load_key(path, passphrase)
