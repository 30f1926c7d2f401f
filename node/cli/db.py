"""`mathesis db`: verify, prune, export and import what a node keeps, while no node runs on it.

The work is `node.database`'s; here its findings are printed and its errors turned into exit codes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.output import EndpointType, Fields, directory_option, json_option, print_record
from node.exit_codes import CommandError, ExitCode
from node.options import Endpoint

if TYPE_CHECKING:
    from chain.primitives import Hash
    from node.database.export_folder import Manifest


@click.group()
def db() -> None:
    """Verify, prune, export and import what a node keeps.

    No node may run on the directory meanwhile.
    """


@db.command()
@directory_option
@click.option("--quick", is_flag=True, help="The last 288 blocks only, as a node does when it starts.")
@json_option
def verify(directory: Path, *, quick: bool, is_json: bool) -> None:
    """Read everything and check it: headers, blocks, indexes, the state's nodes, blobs."""
    from dataclasses import asdict

    from node.data_directory import DataDirectory
    from node.database.checking import verify_database
    from node.database.opening import hold_directory, open_chain
    from node.datasets.progress import show_progress

    data = DataDirectory(directory.expanduser())
    with _end_in_exit_codes(), hold_directory(data), open_chain(data) as opened:
        if quick:
            # Opening has checked them.
            record: Fields = {"height": opened.chain.head.height}
        else:
            with show_progress(is_silent=is_json) as on_progress:
                record = dict(asdict(verify_database(opened, on_progress)))
        record["head"] = f"0x{opened.chain.head.hash.hex()}"
    print_record(record, is_json)


@db.command()
@directory_option
@click.option("--keep", type=click.IntRange(288), default=10_000, show_default=True, help="How many blocks to keep.")
@json_option
def prune(directory: Path, keep: int, *, is_json: bool) -> None:
    """Forget old blocks and their data, of which a node's disk fills.

    Headers and the state stay: a node goes on as before, and shows others no block that is forgotten.
    """
    from dataclasses import asdict

    from node.data_directory import DataDirectory
    from node.database.opening import hold_directory, open_chain
    from node.database.pruning import prune_blocks, release_room
    from node.datasets.progress import show_progress

    data = DataDirectory(directory.expanduser())
    with _end_in_exit_codes(), hold_directory(data):
        with open_chain(data) as opened, show_progress(is_silent=is_json) as on_progress:
            pruned = prune_blocks(opened.chain, keep, on_progress)
        release_room(data)
    print_record(asdict(pruned), is_json)


@db.command("export")
@click.argument("folder", type=click.Path(path_type=Path))
@directory_option
@click.option("--state", "is_state", is_flag=True, help="One state with headers and blobs; otherwise every block.")
@click.option("--height", type=click.IntRange(0), help="With --state: after this block instead of the last.")
@json_option
def export_database(folder: Path, directory: Path, height: int | None, *, is_state: bool, is_json: bool) -> None:
    """Write the chain, or one state, into FOLDER, every file with its digest."""
    from node.data_directory import DataDirectory
    from node.database.exporting import export_chain, export_state
    from node.database.opening import hold_directory, open_chain
    from node.datasets.progress import show_progress

    if height is not None and not is_state:
        raise click.UsageError("found --height without --state, expected both or none")
    data = DataDirectory(directory.expanduser())
    with _end_in_exit_codes(), hold_directory(data), open_chain(data) as opened:
        if height is not None and height > opened.chain.head.height:
            raise click.UsageError(f"found --height {height}, expected at most {opened.chain.head.height}")
        with show_progress(is_silent=is_json) as on_progress:
            if is_state:
                manifest = export_state(opened.chain, folder, height, on_progress)
            else:
                manifest = export_chain(opened.chain, folder, on_progress)
    print_record(_make_record(manifest), is_json)


@db.command("import")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@directory_option
@click.option("--trust", "trusted", metavar="HASH", help="For a state: the hash of its block, from a source you trust.")
@json_option
def import_database(folder: Path, directory: Path, trusted: str | None, *, is_json: bool) -> None:
    """Read the export in FOLDER into an empty data directory, checking all of it.

    A chain is validated block by block. A state is bound to the hash of its block alone, so that hash must be given.
    """
    from node.data_directory import DataDirectory
    from node.database.export_folder import ExportKind, ExportReader
    from node.database.importing import import_chain, import_state, take_genesis
    from node.database.opening import hold_directory
    from node.datasets.progress import show_progress

    with _end_in_exit_codes(), show_progress(is_silent=is_json) as on_progress:
        reader = ExportReader(folder)
        is_state = reader.manifest.kind is ExportKind.STATE
        trusted_hash = _parse_hash(trusted, reader.manifest) if is_state else None
        reader.validate_files(on_progress)
        data = DataDirectory(directory.expanduser())
        data.create()
        with hold_directory(data):
            take_genesis(reader, data)
            if trusted_hash is not None:
                import_state(reader, data, trusted_hash, on_progress)
            else:
                import_chain(reader, data, on_progress)
    print_record(_make_record(reader.manifest), is_json)


@db.command()
@directory_option
@click.option(
    "--peer", "peers", type=EndpointType(), multiple=True, required=True, help="Who has blocks; may be repeated."
)
@json_option
def replay(directory: Path, peers: tuple[Endpoint, ...], *, is_json: bool) -> None:
    """Replay all blocks below a state that was taken from peers, to see that it is what the rules lead to."""
    import asyncio

    from node.bootstrap.replay import ReplayRefused, ReplayStuck
    from node.bootstrap.replay import replay as replay_blocks
    from node.bootstrap.run import BootstrapFailed, Listener, Origin
    from node.data_directory import DataDirectory
    from node.database.opening import hold_directory, open_chain
    from node.datasets.progress import show_progress
    from node.keystore import make_key
    from node.surroundings import make_surroundings
    from p2p.dialling import Endpoint as PeerEndpoint
    from p2p.limits import Limits

    data = DataDirectory(directory.expanduser())
    endpoints = tuple(PeerEndpoint(peer.host, peer.port) for peer in peers)
    with _end_in_exit_codes(), hold_directory(data), open_chain(data) as opened:
        if opened.chain.base.height:
            origin = Origin(endpoints, make_key(), make_surroundings(Limits()))
            try:
                with show_progress(is_silent=is_json) as on_progress:
                    warn = Listener(on_progress, lambda reason: click.echo(f"left out: {reason}", err=True))
                    asyncio.run(replay_blocks(opened, data, origin, warn))
            except ReplayRefused as error:
                raise CommandError(ExitCode.VERIFICATION_REFUSED, str(error)) from None
            except (ReplayStuck, BootstrapFailed) as error:
                raise CommandError(ExitCode.NODE_UNREACHABLE, str(error)) from None
        base = opened.chain.base
        record: Fields = {"replayed_to": base.height, "block": f"0x{base.hash.hex()}"}
    print_record(record, is_json)


def _parse_hash(text: str | None, manifest: "Manifest") -> "Hash":
    """Return the trusted hash; raises CommandError when there is none or it is not one."""
    from chain.primitives import Hash

    if text is None:
        found = f"0x{manifest.head.hex()} at height {manifest.height}"
        raise CommandError(ExitCode.USAGE, f"found the state after block {found}; if you trust it, give it as --trust")
    try:
        data = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        data = b""
    if len(data) != 32:
        raise CommandError(ExitCode.USAGE, f"found --trust {text!r}, expected 64 hexadecimal digits")
    return Hash(data)


def _make_record(manifest: "Manifest") -> Fields:
    return {
        "kind": manifest.kind.name.lower(),
        "height": manifest.height,
        "head": f"0x{manifest.head.hex()}",
        "state_root": f"0x{manifest.state_root.hex()}",
        "files": len(manifest.files),
        "bytes": manifest.size_bytes,
    }


@contextmanager
def _end_in_exit_codes() -> Iterator[None]:
    from chain.errors import DecodeError, InvalidProof
    from chain.storage.block_store import PrunedState
    from chain.storage.engine import CorruptDatabase
    from node.database.export_folder import ExportRefused

    try:
        yield
    except (ExportRefused, InvalidProof) as error:
        raise CommandError(ExitCode.VERIFICATION_REFUSED, str(error)) from None
    except PrunedState as error:
        raise CommandError(ExitCode.USAGE, str(error)) from None
    except (CorruptDatabase, DecodeError) as error:
        raise CommandError(ExitCode.CORRUPT_DATABASE, str(error)) from None
