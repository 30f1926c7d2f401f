"""`mathesis dataset`: which data there is, where it comes from, and getting it.

The registry is `node.datasets`; here its records are printed and its errors turned into exit codes.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.output import Fields, json_option, print_record
from node.exit_codes import CommandError, ExitCode

if TYPE_CHECKING:
    from ml.manifest import Manifest
    from node.datasets import DatasetError


@click.group()
def dataset() -> None:
    """List, show and get the data that tasks train on."""


@dataset.command("list")
@json_option
def list_datasets(is_json: bool) -> None:
    """List the data sets that this version knows by name."""
    from ml.manifest import read_builtin_manifests

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
@json_option
def show(name: str, is_json: bool) -> None:
    """Show what is known of NAME: a data set, a manifest (.json) or a text file."""
    from node.datasets import DatasetError, find_manifest

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
