"""`mathesis dataset`: which data there is, where it comes from, getting it, and entering it on the network.

Names and manifests are `node.datasets`' business; here its records are printed and its errors turned into exit codes.
What the network has registered goes by 0x-hex names and is `node.cli.registered`'s.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli import registered
from node.cli.output import Fields, json_option, print_record, rpc_option
from node.cli.sending import Sender, sending_options
from node.exit_codes import CommandError, ExitCode

if TYPE_CHECKING:
    from chain.primitives import Hash
    from chain.signature import SigningKey
    from chain.transaction import RegisterDataset
    from ml.manifest import Manifest
    from node.datasets import DatasetError

UNKNOWN_LICENCE = "NOASSERTION"
"""What the manifest of a lone text file says; nobody's terms."""

PARTS_WAIT_S = 120.0
"""Without --wait, how long the next block with a part may take: some blocks of any network may be full."""


@click.group()
def dataset() -> None:
    """List, show, get, register and send the data that models train on."""


@dataset.command("list")
@click.option("--registered", "is_registered", is_flag=True, help="Those that are registered on the network instead.")
@rpc_option
@json_option
def list_datasets(url: str, is_json: bool, *, is_registered: bool) -> None:
    """List the data sets that this version knows by name, or those of the network's registry."""
    from ml.manifest import read_builtin_manifests

    if is_registered:
        registered.list_datasets(url, is_json)
        return

    for manifest in read_builtin_manifests():
        record = _make_record(manifest)
        place = "cached" if record["cached"] else "not fetched"
        text = (
            f"{manifest.name:<10} {record['kind']:<8}  {_make_origin(manifest):<18} {manifest.blob_bytes:>10} bytes  "
            f"{manifest.licence:<12}  {manifest.root[:16]}  {place}"
        )
        print_record(record, is_json, text)


@dataset.command()
@click.argument("name")
@rpc_option
@json_option
def show(name: str, url: str, is_json: bool) -> None:
    """Show what is known of NAME: a data set, a manifest (.json), a text file, or 0x... of the network's registry."""
    from node.datasets import DatasetError, find_manifest

    if registered.is_name(name):
        registered.show_dataset(url, registered.parse_name(name), is_json)
        return
    try:
        manifest, _ = find_manifest(name)
    except DatasetError as error:
        raise _make_command_error(error) from None
    record = _make_record(manifest)
    if not is_json:
        record = {field: value for field, value in record.items() if value not in ("", [], None)}
        record["members"] = ", ".join(manifest.members) or None
    print_record(record, is_json)


@dataset.command("fetch")
@click.argument("name")
@json_option
def fetch_dataset(name: str, is_json: bool) -> None:
    """Get NAME: a data set, a manifest (.json) or a text file.

    The result is kept in MATHESIS_DATASETS, or in mathesis/datasets in the user's cache folder.
    """
    from ml.dataset import compute_dataset_root, count_records
    from ml.manifest import Source
    from node.datasets import DatasetError, fetch, find_manifest
    from node.datasets.cache import Cache, get_cache_directory
    from node.datasets.progress import show_progress

    try:
        manifest, base = find_manifest(name)
        with show_progress(is_silent=is_json) as on_progress:
            blob = fetch(manifest, on_progress=on_progress, base=base)
    except DatasetError as error:
        raise _make_command_error(error) from None
    root = compute_dataset_root(blob)
    is_builtin = manifest.source is Source.BUILTIN
    record: Fields = {
        "name": manifest.name,
        "kind": manifest.parser.kind,
        "root": f"0x{root.hex()}",
        "records": count_records(blob),
        "blob_bytes": len(blob),
        "source_sha256": manifest.sha256 or _compute_sha256(base / manifest.path),
        "licence": manifest.licence,
        "file": None if is_builtin else str(Cache(get_cache_directory()).get_blob_path(root)),
    }
    print_record(record, is_json)


@dataset.command()
@click.argument("content")
@click.option("--licence", help="SPDX expression; that of the manifest by default.")
@click.option(
    "--royalty-bp",
    type=click.IntRange(0, 10_000),
    default=0,
    show_default=True,
    help="What models that use it owe its owner of their income, in 1/10,000.",
)
@sending_options
def register(sender: Sender, content: str, licence: str | None, royalty_bp: int) -> None:
    """Enter CONTENT for life: a data set's name, a manifest (.json), a text file, or the 0x... root of a blob.

    Prints the name that the ledger gives it. Up to 448 KiB travel with the first task that trains on them. More, up to
    8 MiB, are sent in parts, each for a coin and the fee, as soon as a block holds the registration; where that was
    interrupted, the same command sends what is missing. Still larger ones are entered by their root, and no task can
    train on them.
    """
    from chain.ledger.registry import compute_dataset_id
    from chain.transaction import RegisterDataset
    from node.rpc.client import RpcClient
    from node.rpc.views import to_hex
    from node.wallet import get_chain_id

    found = _find_content(content)
    if licence is None and found.licence is None:
        raise click.UsageError("found no --licence, expected an SPDX expression; nothing else says one of this content")
    terms = RegisterDataset(found.root, licence or found.licence or "", royalty_bp)
    signer = sender.open_key()
    name = compute_dataset_id(get_chain_id(RpcClient(sender.url)), signer.public_key, terms)
    if found.blob is not None:
        _register_in_parts(sender, signer, terms, name, found.blob)
        return
    record: Fields = {"dataset": to_hex(name), "content_root": to_hex(found.root)}
    sender.send(signer, terms, record, f"data set {to_hex(name)}")


@dataset.command("send")
@click.argument("name")
@sending_options
def send_dataset(sender: Sender, name: str) -> None:
    """Send the parts that the network lacks of NAME, 0x... or `network`, whoever has registered it.

    Its content has to be at hand on this machine (`dataset fetch`). Each part costs a coin and the fee.
    """
    from chain.ledger.dataset_parts import DATASET_BYTES_MAX
    from node.datasets import DatasetError, find_blob
    from node.rpc.client import RpcClient

    dataset_name, root = registered.find_dataset(RpcClient(sender.url), name)
    try:
        blob = find_blob(root)
    except DatasetError as error:
        raise _make_command_error(error) from None
    if len(blob) > DATASET_BYTES_MAX:
        message = f"found a content of {len(blob)} bytes, expected at most {DATASET_BYTES_MAX} for tasks to train on"
        raise CommandError(ExitCode.FAILURE, message)
    _send_parts(sender, sender.open_key(), dataset_name, blob)


def _register_in_parts(
    sender: Sender, signer: "SigningKey", terms: "RegisterDataset", name: "Hash", blob: bytes
) -> None:
    """Enter a data set unless it stands already, and send the parts that the network lacks; raises CommandError."""
    from node.rpc.client import RpcClient
    from node.rpc.economy_methods import GET_DATASET, DatasetParams
    from node.rpc.views import to_hex
    from node.wallet import send_action, wait_for_block

    known = RpcClient(sender.url).call(GET_DATASET, DatasetParams(to_hex(name))).terms
    if known is None:
        wait_s = PARTS_WAIT_S if sender.wait_s is None else sender.wait_s
        wait_for_block(sender.url, send_action(sender.url, signer, terms, sender.fee), wait_s)
    _send_parts(sender, signer, name, blob)


def _send_parts(sender: Sender, signer: "SigningKey", name: "Hash", blob: bytes) -> None:
    """Send the parts that the network lacks of a registered data set, and say when it has all; raises CommandError."""
    from node.dataset_parts import Upload
    from node.datasets.progress import show_progress
    from node.rpc.views import to_hex

    wait_s = PARTS_WAIT_S if sender.wait_s is None else sender.wait_s
    with show_progress(is_silent=sender.is_json) as on_progress:
        shown = Upload(sender.url, signer, sender.fee, name, blob, wait_s).send(on_progress)
    assert shown.content is not None
    assert shown.terms is not None
    record: Fields = {"dataset": to_hex(name), "content_root": shown.terms.content_root}
    record |= {"size_bytes": shown.content.size_bytes, "parts": shown.content.parts_total}
    record["height"] = shown.entry.height
    text = f"complete: data set {to_hex(name)}, {shown.content.parts_total} parts, {shown.content.size_bytes} bytes"
    print_record(record, sender.is_json, text)


@dataclass(frozen=True, slots=True)
class _Content:
    """What is to be registered; the blob where it has to be sent in parts, and the licence as far as it is known."""

    root: "Hash"
    licence: str | None
    blob: bytes | None


def _find_content(content: str) -> _Content:
    """Return the content that a name, file or root stands for; raises CommandError."""
    from chain.ledger.dataset_parts import DATASET_BYTES_MAX, PART_BYTES
    from ml.dataset import compute_dataset_root
    from node.datasets import DatasetError, fetch, find_manifest
    from node.rpc.views import from_hex

    if registered.is_name(content):
        return _Content(from_hex(registered.parse_name(content)), None, None)
    try:
        manifest, base = find_manifest(content)
        is_fetched = not manifest.root or PART_BYTES < manifest.blob_bytes <= DATASET_BYTES_MAX
        blob = fetch(manifest, base=base) if is_fetched else b""
    except DatasetError as error:
        raise _make_command_error(error) from None
    root = from_hex(f"0x{manifest.root}") if manifest.root else compute_dataset_root(blob)
    licence = None if manifest.licence == UNKNOWN_LICENCE else manifest.licence
    return _Content(root, licence, blob if PART_BYTES < len(blob) <= DATASET_BYTES_MAX else None)


def _make_record(manifest: "Manifest") -> Fields:
    from chain.primitives import Hash
    from ml.manifest import Source
    from node.datasets.cache import Cache, get_cache_directory

    cache, root = Cache(get_cache_directory()), manifest.root
    is_cached = bool(root) and cache.has_blob(Hash(bytes.fromhex(root)))
    return {
        "name": manifest.name,
        "kind": manifest.parser.kind,
        "source": manifest.source.value,
        "origin": _make_origin(manifest),
        "members": list(manifest.members),
        "source_bytes": manifest.source_bytes or None,
        "source_sha256": manifest.sha256 or None,
        "blob_bytes": manifest.blob_bytes or None,
        "licence": manifest.licence,
        "attribution": manifest.attribution,
        "root": f"0x{root}" if root else None,
        "cached": is_cached or manifest.source is Source.BUILTIN,
    }


def _make_origin(manifest: "Manifest") -> str:
    if manifest.package:
        return f"{manifest.package} {manifest.version}"
    return manifest.url or manifest.path


def _make_command_error(error: "DatasetError") -> CommandError:
    codes = {
        "unknown-dataset": ExitCode.USAGE,
        "wrong-hash": ExitCode.VERIFICATION_REFUSED,
        "wrong-root": ExitCode.VERIFICATION_REFUSED,
    }
    return CommandError(codes.get(error.rule, ExitCode.FAILURE), str(error))


def _compute_sha256(path: Path) -> str:
    from hashlib import sha256

    return sha256(path.read_bytes()).hexdigest()
