"""Signing and sending from the command line: the options that every such command has, and what they stand for.

A command hands its action to a `Sender`, which opens the key, signs, sends and, when it is told to, waits until a block
holds the transaction. It knows no action.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.keys import (
    find_keystore,
    get_node_key,
    get_wallet_path,
    open_key,
    parse_fee,
    passphrase_option,
    resolve_address,
)
from node.cli.output import Fields, directory_option, json_option, print_record, rpc_option

if TYPE_CHECKING:
    from chain.signature import SigningKey
    from chain.transaction import Action, Sidecar

DEFAULT_FEE = "0.001"


@dataclass(frozen=True, slots=True)
class Sender:
    """Whose key signs, the fee in atoms, through which node, and whether to wait for the block."""

    directory: Path
    url: str
    key: str
    fee: int
    passphrase: str | None
    wait_s: float | None
    is_json: bool

    def open_key(self) -> "SigningKey":
        """Return the key that signs; raises KeystoreError."""
        return open_key(find_keystore(self.key, self.directory), self.passphrase)

    def get_address(self) -> str:
        """Return the address of the key that signs, unopened; raises KeystoreError."""
        return resolve_address(self.key, self.directory)

    def send(
        self, signer: "SigningKey", action: "Action", record: Fields, text: str, sidecar: "Sidecar | None" = None
    ) -> None:
        """Send an action and print its hash beside `record`, with its height once a block holds it.

        Raises what `RpcClient.call` does, and CommandError when waiting was in vain.
        """
        from node.wallet import send_action

        transaction_hash = send_action(self.url, signer, action, self.fee, sidecar)
        report_sent(transaction_hash, self.url, self.wait_s, (record, text), self.is_json)


def report_sent(
    transaction_hash: str, url: str, wait_s: float | None, result: tuple[Fields, str], is_json: bool
) -> None:
    """Print a sent transaction beside its (fields, text), with its height once a block holds it.

    Raises what `RpcClient.call` does, and CommandError when waiting was in vain.
    """
    from node.wallet import wait_for_block

    fields, text = result
    record: Fields = {"transaction": transaction_hash}
    place = "sent"
    if wait_s is not None:
        record["height"] = wait_for_block(url, transaction_hash, wait_s)
        place = f"in block {record['height']}"
    print_record(record | fields, is_json, f"{place}: {transaction_hash}  {text}".rstrip())


def find_default_key(directory: Path) -> str:
    """Return the wallet key called default where there is one, else the node's own."""
    wallet_key = get_wallet_path(directory, "default")
    return str(wallet_key if wallet_key.exists() else get_node_key(directory))


def sending_options(command: Callable[..., object]) -> Callable[..., object]:
    """Add all that signing and sending takes and hand it over as `sender`, by default with a person's key."""
    return _add_options(command, find_default_key, "the wallet key `default`, else the node's own")


def node_sending_options(command: Callable[..., object]) -> Callable[..., object]:
    """Add all that signing and sending takes and hand it over as `sender`, by default with the node's own key."""
    return _add_options(command, get_node_key, "the node's own key")


def _add_options(
    command: Callable[..., object], find_key: Callable[[Path], str], default: str
) -> Callable[..., object]:
    @wraps(command)
    def run(
        directory: Path,
        url: str,
        key: str | None,
        fee: str,
        passphrase: str | None,
        timeout_s: float,
        *,
        is_waiting: bool,
        is_json: bool,
        **own: object,
    ) -> object:
        wait_s = timeout_s if is_waiting else None
        name = key or find_key(directory)
        return command(sender=Sender(directory, url, name, parse_fee(fee), passphrase, wait_s, is_json), **own)

    key_option = click.option("--key", help=f"A wallet key's name or a keystore file.  [default: {default}]")
    return directory_option(rpc_option(key_option(fee_option(passphrase_option(wait_options(json_option(run)))))))


def fee_option(command: Callable[..., object]) -> Callable[..., object]:
    """Add `--fee`."""
    return click.option("--fee", default=DEFAULT_FEE, show_default=True, help="Coins.")(command)


def wait_options(command: Callable[..., object]) -> Callable[..., object]:
    """Add `--wait` and `--timeout`."""
    waiting = click.option("--wait", "is_waiting", is_flag=True, help="Until a block holds the transaction.")
    seconds = click.FloatRange(0.1, 86_400)
    timeout = click.option(
        "--timeout", "timeout_s", type=seconds, default=60.0, show_default=True, help="Seconds that --wait waits."
    )
    return waiting(timeout(command))
