"""A development network that is stopped before its nodes answer."""

import asyncio
import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from node.data_directory import DataDirectory
from node.devnet import run
from node.devnet.members import Member
from node.devnet.processes import Child, start_program
from node.devnet.run import Devnet
from node.devnet.view import NetworkView
from node.exit_codes import ExitCode
from node.options import DevnetOptions, Endpoint, OutputOptions


async def test_a_signal_before_the_nodes_answer_stops_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is asked for anything then: a node that is not up yet would be an error of its own."""
    nobody = Endpoint("127.0.0.1", 9)
    member, stopping, started = Member(0, DataDirectory(tmp_path), nobody, nobody), asyncio.Event(), list[Child]()

    async def start_node(member: Member, _members: tuple[Member, ...]) -> Child:
        command = [sys.executable, "-c", "import time; time.sleep(60)"]
        started.append(await start_program(member.name, command, tmp_path / "log"))
        asyncio.get_running_loop().call_later(0.05, stopping.set)
        return started[0]

    monkeypatch.setattr(run, "start_node", start_node)
    monkeypatch.setattr(run, "start_miner", start_node)
    options = DevnetOptions(tmp_path, nodes=1, miners=1)
    view = NetworkView(OutputOptions(plain=True), Console(file=io.StringIO()))
    assert await Devnet(options, (member,), view, stopping).run() == ExitCode.OK
    assert len(started) == 1
    assert not started[0].is_running
