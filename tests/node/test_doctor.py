"""The doctor's findings: a good machine passes, and each thing that is wrong with one is named by its check."""

import json
import socket
from pathlib import Path

import numpy as np
import pytest

from ml.backends.cpu import ticket
from ml.backends.cpu.backend import CpuBackend
from ml.noise import I32
from node import doctor
from node.cli import main
from node.doctor import Finding, examine
from node.exit_codes import ExitCode


def find(directory: Path, check: str) -> Finding:
    return next(finding for finding in examine(directory) if finding.check == check)


def test_a_good_machine_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str], free: None) -> None:
    assert main(["doctor", "--dir", str(tmp_path), "--json"]) == ExitCode.OK
    findings = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [finding["check"] for finding in findings] == [
        *("training", "tickets", "int8 matmul", "gpu", "clock", "ports", "disk")
    ]
    assert all(finding["ok"] for finding in findings)
    # Half of twelve tiles win: a comparison of nothing with nothing would show nothing.
    assert 1 <= int(findings[1]["detail"].split()[0]) <= 11


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ports be asked for that nobody else has: a node may run on this machine."""
    monkeypatch.setattr(doctor, "P2P_PORT", 0)
    monkeypatch.setattr(doctor, "RPC_PORT", 0)


def test_a_wrong_product_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    multiply = CpuBackend.multiply
    monkeypatch.setattr(CpuBackend, "multiply", lambda backend, a, b: multiply(backend, a, b) + np.int32(1))
    assert not find(tmp_path, "training").is_ok


def test_a_wrong_ticket_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = ticket.mine_matmul

    def lose_one(*arguments: object) -> tuple[object, I32]:
        found, product = mine(*arguments)  # type: ignore[arg-type]
        return found[1:], product

    monkeypatch.setattr(ticket, "mine_matmul", lose_one)
    assert find(tmp_path, "tickets") == Finding("tickets", False, "the kernels' tickets differ from the reference")


def test_a_taken_port_and_a_full_disk_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], free: None
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(doctor, "RPC_PORT", port)
        monkeypatch.setattr(doctor, "FREE_BYTES_MIN", 1 << 60)
        assert main(["doctor", "--dir", str(tmp_path)]) == ExitCode.FAILURE
    shown = capsys.readouterr().out
    assert f"FAIL  ports        port {port}: Address already in use" in shown
    assert "FAIL  disk         found " in shown
