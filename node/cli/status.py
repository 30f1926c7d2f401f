"""`mathesis status`: a running node at a glance, once or again and again.

It shows what the node says of itself; nothing here is verified.
"""

import time
from collections import Counter
from typing import TYPE_CHECKING

import click
import msgspec

from node.cli.output import Fields, format_coins, json_option, print_record, rpc_option
from node.terminal import clean

if TYPE_CHECKING:
    from node.rpc.client import RpcClient
    from node.rpc.views import PeerView


@click.command()
@rpc_option
@click.option("--watch", is_flag=True, help="Repeat until Ctrl-C.")
@click.option("--every", "every_s", type=click.FloatRange(0.1, 3600), default=2.0, show_default=True, help="Seconds.")
@json_option
def status(url: str, watch: bool, every_s: float, is_json: bool) -> None:
    """Show a running node at a glance."""
    from node.rpc.client import RpcClient

    client = RpcClient(url)
    while True:
        record, peers = _get_record(client), _get_peers(client)
        if watch and not is_json:
            click.clear()
        if is_json:
            record["connections"] = [msgspec.to_builtins(peer) for peer in peers]
        print_record(record, is_json)
        if peers and not is_json:
            click.echo(f"\n{clean(_format_peers(peers))}")
        if not watch:
            return
        time.sleep(every_s)


def _get_record(client: "RpcClient") -> Fields:
    from node.rpc.methods import GET_MINER, GET_STATUS, AccountParams
    from node.rpc.registry import Params

    found = client.call(GET_STATUS, Params())
    bonded = client.call(GET_MINER, AccountParams(found.node))
    checkpoint, rates = found.task.checkpoint, found.rates
    return {
        "network": found.network,
        "version": found.version,
        "node": found.node,
        "genesis": found.genesis_hash,
        "height": found.head.height,
        "head": found.head.hash,
        "blocks_from_height": found.first_block,
        "is_syncing": found.is_syncing,
        "expected_macs": found.head.total_work,
        "peers": found.peers,
        "waiting_transactions": found.pool_transactions,
        "task": found.task.name,
        "round": found.task.round,
        "round_ends_at_height": found.task.end_height,
        "heldout_correct": f"{checkpoint.correct} of {checkpoint.total}" if checkpoint.total else None,
        "posted_tasks": found.posted_tasks,
        "coins_of_bond": format_coins(int(bonded.bond)),
        "bond_free_at_height": bonded.release_height,
        "tickets_per_second": rates.tickets if rates else None,
        "macs_per_second": rates.macs if rates else None,
        "coins_issued": format_coins(int(found.supply.issued)),
        "coins_burned": format_coins(int(found.supply.burned)),
        "coins_of_stake": format_coins(int(found.supply.stakes)),
        "coins_in_treasury": format_coins(int(found.supply.treasury)),
        "coins_of_income": format_coins(int(found.supply.income)),
        "coins_in_pots": format_coins(int(found.supply.pot)),
    }


def _get_peers(client: "RpcClient") -> "list[PeerView]":
    from node.rpc.methods import GET_PEERS
    from node.rpc.registry import Params

    return client.call(GET_PEERS, Params())


def _format_peers(peers: "list[PeerView]") -> str:
    """Return the peers by kind in one line, and a table with a line each."""
    kinds = Counter(peer.kind for peer in peers)
    rows = [("peer", "address", "kind", "found by", "height", "score", "ms", "received", "sent", "minutes")]
    for peer in peers:
        latency = "-" if peer.latency_ms is None else str(peer.latency_ms)
        sizes = (f"{peer.received_bytes:,}", f"{peer.sent_bytes:,}")
        row = (peer.key[:14], peer.address, peer.kind, peer.origin, str(peer.height), str(peer.score), latency)
        rows.append((*row, *sizes, str(peer.connected_ms // 60_000)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())), *lines])
