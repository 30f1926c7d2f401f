"""`mathesis status` beside a real node with a real peer: the peers in one line, in a table and in JSON."""

import asyncio
import json
from pathlib import Path

import pytest

from chain.signature import SigningKey
from node.addresses import format_address
from node.cli import main
from node.exit_codes import ExitCode
from node.network import Endpoint, Network
from p2p.handshake import NetworkId
from tests.support.live_node import run_live_node
from tests.support.scripted_chain import ScriptedChain

PEER = SigningKey(b"\x61" * 32)


async def test_status_shows_a_peer_in_one_line_and_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with run_live_node(tmp_path) as live:
        headers, network = live.node.parts.chain, live.node.network
        peer = Network(ScriptedChain(), PEER, NetworkId(headers.header_context.chain_id, headers.headers.genesis.hash))
        await peer.start("127.0.0.1", 0, (Endpoint("127.0.0.1", network._port),))
        try:
            async with asyncio.timeout(15):
                while not network.get_peers() or network.get_peers()[0].latency_ms is None:
                    await asyncio.sleep(0.02)
            url = live.node.rpc.endpoint.url
            assert await asyncio.to_thread(main, ["status", "--rpc", url]) == ExitCode.OK
            line, header, row = capsys.readouterr().out.splitlines()[-3:]
            assert line == "1 inbound"
            assert " ".join(header.split()) == "peer address kind found by height score ms received sent minutes"
            assert row.split()[:3] == [format_address(PEER.public_key)[:14], "127.0.0.1", "inbound"]
            assert await asyncio.to_thread(main, ["status", "--rpc", url, "--json"]) == ExitCode.OK
            record = json.loads(capsys.readouterr().out)
            assert (record["peers"], record["coins_of_bond"], record["bond_free_at_height"]) == (1, "50", None)
            (connection,) = record["connections"]
            assert connection["key"] == format_address(PEER.public_key)
            assert (connection["kind"], connection["origin"], connection["score"]) == ("inbound", "inbound", 0)
            assert min(connection["received_bytes"], connection["sent_bytes"], connection["listen_port"]) > 0
        finally:
            await peer.stop()


async def test_status_of_a_node_alone_has_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with run_live_node(tmp_path) as live:
        assert await asyncio.to_thread(main, ["status", "--rpc", live.node.rpc.endpoint.url]) == ExitCode.OK
        assert "found by" not in capsys.readouterr().out
