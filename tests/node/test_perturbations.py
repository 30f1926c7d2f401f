"""Manifests are read strictly; a small network that is disturbed as one says ends on one chain, or is said not to."""

import asyncio
from pathlib import Path

import pytest

from benchmarks.lab.perturb import cables
from benchmarks.lab.perturb.cables import LoopbackCables
from benchmarks.lab.perturb.manifest import Action, Manifest, ManifestError, Step, make_manifest, read_manifest
from benchmarks.lab.perturb.run import DisturbedNetwork, Verdict
from node.cli.lab_perturb import MANIFESTS
from node.cli.main import main
from node.exit_codes import ExitCode
from tests.support.processes import QUICK, find_ports, find_processes

STEP = {"height": 2, "node": 1, "action": "kill", "seconds": 3}
GOOD = {"nodes": 3, "miners": 1, "blocks": 9, "steps": [STEP]}


def test_a_manifest_is_read_in_order_of_heights() -> None:
    later = {**STEP, "height": 7, "action": "disconnect"}
    found = make_manifest({**GOOD, "steps": [later, STEP]})
    assert found == Manifest(3, 1, 9, (Step(2, 1, Action.KILL, 3), Step(7, 1, Action.DISCONNECT, 3)))
    assert found.needs_namespaces
    assert not make_manifest({"nodes": 2, "miners": 2, "blocks": 1}).steps


@pytest.mark.parametrize("path", sorted(MANIFESTS.glob("*.toml")), ids=lambda path: path.name)
def test_the_manifests_of_the_lab_are_read(path: Path) -> None:
    assert read_manifest(path).steps


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodes": 1}, "nodes: found 1, expected an integer from 2 to 8"),
        ({"nodes": "3"}, "nodes: found '3'"),
        ({"nodes": True}, "nodes: found True"),
        ({"miners": 4}, "miners: found 4, expected an integer from 1 to 3"),
        ({"blocks": 10**9}, "blocks"),
        ({"block": 3}, "found 'block'"),
        ({"steps": 5}, "steps: found 5, expected a list of tables"),
        ({"steps": [5]}, "step 1: found 5, expected a table"),
        ({"steps": [STEP, {**STEP, "action": "explode"}]}, "step 2: found action 'explode'"),
        ({"steps": [{**STEP, "node": 4}]}, "step 1: node: found 4, expected an integer from 1 to 3"),
        ({"steps": [{**STEP, "height": 10}]}, "step 1: height: found 10"),
        ({"steps": [{**STEP, "seconds": -1}]}, "step 1: seconds: found -1"),
        ({"steps": [{**STEP, "seconds": None}]}, "step 1: seconds: found None"),
        ({"steps": [{**STEP, "when": 3}]}, "step 1: found 'when'"),
    ],
)
def test_what_cannot_be_done_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ManifestError, match=message.replace("(", r"\(")):
        make_manifest({**GOOD, **change})


def test_the_command_refuses_what_is_no_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plan.toml"
    path.write_text("nodes = [")
    assert main(["lab", "perturb", str(path)]) == ExitCode.USAGE
    path.write_text('nodes=2\nminers=1\nblocks=3\n[[steps]]\nheight=1\nnode=1\naction="disconnect"\nseconds=1\n')
    monkeypatch.setattr(cables, "can_use_namespaces", lambda: False)
    assert main(["lab", "perturb", str(path)]) == ExitCode.USAGE
    assert "needs network namespaces" in capsys.readouterr().err


def run_network(root: Path, steps: tuple[Step, ...], timeout_s: float) -> tuple[Verdict, list[str]]:
    lines: list[str] = []
    manifest = Manifest(nodes=2, miners=1, blocks=5, steps=steps)
    cables = LoopbackCables(find_ports(4))
    network = DisturbedNetwork(manifest, cables, root, timeout_s, lines.append, QUICK)
    verdict = asyncio.run(network.run())
    assert not find_processes(str(root)), "no process is left"
    return verdict, lines


@pytest.mark.slow
def test_a_disturbed_network_ends_on_one_chain(tmp_path: Path) -> None:
    steps = (Step(2, 2, Action.KILL, 1), Step(4, 1, Action.PAUSE, 1))
    verdict, lines = run_network(tmp_path / "net", steps, timeout_s=240)
    assert verdict.problems == ()
    assert verdict.restarts == 1
    assert verdict.height >= 7
    assert lines == ["height 2: kill node 2 for 1 s", "height 4: pause node 1 for 1 s"]


@pytest.mark.slow
def test_a_network_that_does_not_agree_is_said_not_to(tmp_path: Path) -> None:
    verdict, _ = run_network(tmp_path / "net", (Step(5, 1, Action.KILL, 600),), timeout_s=1)
    (problem,) = verdict.problems
    assert "no agreement at height 7 within 1 s" in problem
