"""The commands that stay: `devnet`, `node` and `mine`.

They turn flags into the records of `node.options` and hand over; what runs is loaded only then.
"""

from pathlib import Path

import click

from node.cli.output import EndpointType, directory_option, json_option, make_output, rpc_option
from node.options import (
    BEST_TASK,
    LOOPBACK,
    MINER_NICENESS,
    NO_TASK,
    P2P_PORT,
    RPC_PORT,
    DevnetOptions,
    Endpoint,
    MineOptions,
    NodeOptions,
)

_ENDPOINT = EndpointType()

_log_level_option = click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="Least level of events on standard error; with --json they are lines of JSON.",
)


@click.command()
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".devnet"),
    envvar="MATHESIS_DEVNET_DIR",
    show_default=True,
    help="Where the network keeps its files.",
)
@click.option("--nodes", type=click.IntRange(1, 16), default=3, show_default=True, help="Number of nodes.")
@click.option("--miners", type=click.IntRange(1, 16), default=2, show_default=True, help="How many of them mine.")
@click.option("--blocks", type=click.IntRange(1), help="Stop at this height; run until Ctrl-C otherwise.")
@click.option("--fresh", is_flag=True, help="Start from genesis, deleting what an earlier run left.")
@click.option("--plain", is_flag=True, help="Print lines, no live view.")
@json_option
@click.option(
    "--base-port",
    type=click.IntRange(1024, 65_000),
    default=P2P_PORT,
    show_default=True,
    help="Node i takes this port + 2i for peers and the next one for RPC.",
)
def devnet(directory: Path, blocks: int | None, is_json: bool, *, plain: bool, **flags: int) -> int:
    """Run a development network that trains and mines on this machine."""
    from node.devnet.run import run

    if flags["miners"] > flags["nodes"]:
        raise click.UsageError(f"found --miners {flags['miners']}, expected at most --nodes {flags['nodes']}")
    options = DevnetOptions(
        directory=directory.expanduser(),
        nodes=flags["nodes"],
        miners=flags["miners"],
        blocks=blocks,
        fresh=bool(flags["fresh"]),
        base_port=flags["base_port"],
        output=make_output(is_json, plain),
    )
    return run(options)


@click.command()
@directory_option
@click.option("--p2p", type=_ENDPOINT, default=f"{LOOPBACK}:{P2P_PORT}", show_default=True, help="Listen for peers.")
@click.option("--rpc", type=_ENDPOINT, default=f"{LOOPBACK}:{RPC_PORT}", show_default=True, help="Listen for RPC.")
@click.option("--peer", "peers", type=_ENDPOINT, multiple=True, help="A peer to stay connected to; may be repeated.")
@click.option("--seed", "seeds", type=_ENDPOINT, multiple=True, help="A node to ask for peers; may be repeated.")
@click.option("--advertise", "advertised", type=_ENDPOINT, help="Where others reach this node; found out by default.")
@click.option(
    "--genesis",
    "genesis_path",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Genesis record for an empty directory.",
)
@click.option("--rpc-host", "rpc_hosts", multiple=True, help="A further name that RPC requests may use.")
@click.option("--rpc-origin", "rpc_origins", multiple=True, help="An origin of web pages that may call the RPC.")
@click.option(
    "--passphrase", envvar="MATHESIS_PASSPHRASE", help="Opens the node's key, or seals a new one (MATHESIS_PASSPHRASE)."
)
@click.option(
    "--development", "is_development", is_flag=True, help="A new key has no passphrase: for development networks only."
)
@click.option(
    "--sync",
    type=click.Choice(["full", "snapshot"]),
    default="full",
    show_default=True,
    help="How an empty directory is filled: every block replayed, or a recent state taken from peers.",
)
@click.option("--archive", "is_archive", is_flag=True, help="Keep every state; otherwise the last 288.")
@_log_level_option
@json_option
def node(
    directory: Path,
    p2p: Endpoint,
    rpc: Endpoint,
    peers: tuple[Endpoint, ...],
    seeds: tuple[Endpoint, ...],
    advertised: Endpoint | None,
    genesis_path: Path | None,
    rpc_hosts: tuple[str, ...],
    rpc_origins: tuple[str, ...],
    passphrase: str | None,
    is_development: bool,
    log_level: str,
    sync: str,
    is_archive: bool,
    is_json: bool,
) -> int:
    """Run a validator node.

    An empty directory needs the network's genesis record; the node's key is made there when it first starts.
    """
    from node.cli.keys import ask_node_passphrase
    from node.run import run
    from p2p.addresses import pack_ip

    if advertised is not None and pack_ip(advertised.host) is None:
        raise click.UsageError(f"found --advertise {advertised.text}, expected a numeric address")
    options = NodeOptions(
        directory=directory.expanduser(),
        p2p=p2p,
        rpc=rpc,
        peers=peers,
        seeds=seeds,
        advertised=advertised,
        genesis_path=genesis_path,
        rpc_hosts=rpc_hosts,
        rpc_origins=rpc_origins,
        passphrase=ask_node_passphrase(directory, passphrase, is_development=is_development),
        makes_development_key=is_development,
        is_snapshot_sync=sync == "snapshot",
        is_archive=is_archive,
        output=make_output(is_json),
        log_level=log_level,
    )
    return run(options)


@click.command()
@directory_option
@rpc_option
@click.option(
    "--backend",
    type=click.Choice(["cpu", "reference", "cuda"]),
    default="cpu",
    show_default=True,
    help="Kernels that train and mine; cuda takes an NVIDIA GPU and mathesis[cuda].",
)
@click.option(
    "--task",
    "posted",
    default="best",
    show_default=True,
    metavar="TASK",
    help="Posted task to train beside the network's own: its name, best (pays most), or none.",
)
@click.option(
    "--niceness",
    type=click.IntRange(0, 19),
    default=MINER_NICENESS,
    show_default=True,
    help="How far to yield to others on this machine; 19 takes only what nobody wants.",
)
@click.option("--sabotage", is_flag=True, hidden=True, help="Forge every segment, to show what becomes of it.")
@_log_level_option
@json_option
def mine(
    directory: Path,
    url: str,
    backend: str,
    log_level: str,
    posted: str,
    niceness: int,
    *,
    sabotage: bool,
    is_json: bool,
) -> int:
    """Train and mine for a running node.

    Posted tasks too, once what the round asks of the network's own is committed.
    """
    from node.cli.failures import end_in_exit_codes
    from node.cli.registered import parse_name
    from node.miner.run import run

    options = MineOptions(
        directory=directory.expanduser(),
        rpc_url=url,
        backend=backend,
        is_sabotaging=sabotage,
        posted=posted if posted in (BEST_TASK, NO_TASK) else parse_name(posted),
        niceness=niceness,
        output=make_output(is_json),
        log_level=log_level,
    )
    with end_in_exit_codes():
        return run(options)
