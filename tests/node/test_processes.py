"""Real processes on real sockets: nodes killed, nodes that join late, and a directory, port or disk not theirs."""

import asyncio
import os
import shutil
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from chain.primitives import Hash
from node.devnet.members import make_members
from node.exit_codes import ExitCode
from node.keystore import make_key, read_address, write_key
from node.options import DevnetOptions
from tests.node.test_light_client import (
    ACCOUNT,
    HEADERS,
    TICKET,
    alter_opening,
    alter_proof,
    change_foliage,
    flip,
    inflate,
)
from tests.support.processes import (
    QUICK,
    Program,
    find_ports,
    find_processes,
    get_header,
    get_height,
    get_status,
    run_command,
    wait_until,
)
from tests.support.tampering import Tamper, serve_tampered

pytestmark = pytest.mark.slow

NODES = 3
MINERS = 2
STOP_TIMEOUT_S = 10
ANY_PORTS = ["--p2p", "127.0.0.1:0", "--rpc", "127.0.0.1:0"]


@dataclass
class Network:
    """A development network of three nodes, two of them mining, and what tests started beside it."""

    root: Path
    base_port: int
    program: Program
    others: list[Program] = field(default_factory=list)

    def get_url(self, number: int) -> str:
        return f"http://127.0.0.1:{self.base_port + 2 * number + 1}"

    def get_height(self) -> int:
        return max(get_height(self.get_url(number)) for number in range(NODES))

    def is_common(self, url: str, height: int) -> bool:
        """Say whether the node at `url` and all others have reached `height` on one branch."""
        urls = [url, *map(self.get_url, range(NODES))]
        if min(map(get_height, urls)) < height:
            return False
        # The youngest blocks may yet be reorganised; a header names the state, so equal headers are equal states.
        return len({get_header(each, height - 2).hash for each in urls}) == 1

    def set_mining(self, is_mining: bool) -> None:
        """Let miners go on, or pause them: they take all that processors have left, and much needs no new block."""
        for process, command in find_processes(str(self.root)).items():
            if "mine" in command:
                os.kill(process, signal.SIGCONT if is_mining else signal.SIGSTOP)


def start_devnet(root: Path, base_port: int, *flags: str) -> Network:
    arguments = ["devnet", "--plain", "--dir", str(root), "--base-port", str(base_port), *flags]
    return Network(root, base_port, Program.start(arguments, root.with_suffix(".log")))


def make_directory(root: Path) -> Path:
    """Return a fresh data directory that holds a key and nothing else."""
    root.mkdir()
    write_key(root / "node-key.json", make_key(), "", is_development=True)
    return root


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    root, base_port = tmp_path_factory.mktemp("processes") / "net", find_ports(2 * NODES + 2)
    # The network starts from the genesis that it finds there.
    make_members(DevnetOptions(root, NODES, MINERS, base_port=base_port), parameters=QUICK)
    network = start_devnet(root, base_port)
    try:
        wait_until("the third block", lambda: network.get_height() >= 3, 180)
        yield network
    finally:
        for other in network.others:
            other.kill()
        network.set_mining(True)
        network.program.process.terminate()
        network.program.process.wait(2 * STOP_TIMEOUT_S)


@pytest.fixture
def mining(network: Network) -> Network:
    network.set_mining(True)
    return network


@pytest.fixture
def still(network: Network) -> Network:
    network.set_mining(False)
    return network


@pytest.mark.parametrize("number", [0, 2], ids=["mining", "not-mining"])
def test_a_killed_node_comes_back_to_the_common_tip(mining: Network, number: int) -> None:
    directory = mining.root / f"node{number + 1}"
    [(process, command)] = [item for item in find_processes(str(directory)).items() if "node" in item[1]]
    os.kill(process, signal.SIGKILL)
    wait_until("the kill", lambda: process not in find_processes(str(directory)))
    height = mining.get_height()
    wait_until("blocks without it", lambda: mining.get_height() >= height + 2)
    restarted = Program.start(command[command.index("node.cli") + 1 :], directory / "restarted.log")
    mining.others.append(restarted)
    goal = mining.get_height() + 2
    wait_until("the common tip", lambda: mining.is_common(mining.get_url(number), goal))
    assert "Traceback" not in restarted.read()
    # Its miner (or forger) has waited for the node to come back.
    assert [1 for found in find_processes(str(directory)).values() if "mine" in found] == [1]


def test_a_node_that_joins_late_validates_from_genesis(still: Network, tmp_path: Path) -> None:
    late_directory = make_directory(tmp_path / "late")
    port, goal = still.base_port + 2 * NODES, still.get_height()
    arguments = ["node", "--dir", str(late_directory), "--p2p", f"127.0.0.1:{port}", "--rpc", f"127.0.0.1:{port + 1}"]
    arguments += ["--genesis", str(still.root / "node1" / "genesis.bin")]
    for number in range(NODES):
        arguments += ["--peer", f"127.0.0.1:{still.base_port + 2 * number}"]
    late = Program.start(arguments, late_directory.with_suffix(".log"))
    still.others.append(late)
    wait_until("the common tip", lambda: still.is_common(f"http://127.0.0.1:{port + 1}", goal))
    code, took_s = late.stop(signal.SIGTERM)
    assert code == ExitCode.OK
    assert took_s < STOP_TIMEOUT_S
    assert "Traceback" not in late.read()


LIES: dict[str, tuple[str, Tamper]] = {
    "header": (HEADERS, change_foliage(state_root=Hash(b"\x09" * 32))),
    "difficulty": (HEADERS, change_foliage(target=2**255)),
    "strip": (TICKET, alter_opening(lambda strip: replace(strip, rows=flip(strip.rows)))),
    "path": (TICKET, alter_opening(lambda strip: replace(strip, path=(Hash(flip(strip.path[0])), *strip.path[1:])))),
    "balance": (ACCOUNT, inflate),
    "proof": (ACCOUNT, alter_proof(lambda p: replace(p, siblings=(Hash(flip(p.siblings[0])), *p.siblings[1:])))),
}


async def verify(network: Network, tampers: dict[str, Tamper]) -> tuple[int, str]:
    """Run `mathesis light verify` against a node of the network through a proxy that alters answers."""
    url = network.get_url(1)
    status = await asyncio.to_thread(get_status, url)
    assert status is not None
    account = read_address(network.root / "node1" / "node-key.json")
    async with serve_tampered(url, tampers) as server:
        arguments = ["light", "verify", "--rpc", server.url, "--genesis", status.genesis_hash, "--account", account]
        code, message = await asyncio.to_thread(run_command, arguments)
        assert bool(server.altered) == bool(tampers)
    return code, message


async def test_a_light_client_accepts_the_network(still: Network) -> None:
    assert await verify(still, {}) == (ExitCode.OK, "")


@pytest.mark.parametrize("what", LIES)
async def test_a_light_client_refuses_a_lie(still: Network, what: str) -> None:
    method, tamper = LIES[what]
    code, message = await verify(still, {method: tamper})
    assert code == ExitCode.VERIFICATION_REFUSED
    assert message.startswith("mathesis: refused: ")
    assert len(message.splitlines()) == 1


def test_a_directory_has_one_node(still: Network) -> None:
    directory = still.root / "node2"
    code, message = run_command(["node", "--dir", str(directory), *ANY_PORTS])
    assert code == ExitCode.DIRECTORY_IN_USE
    assert str(directory) in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("flags", [[], ["--fresh"]], ids=["again", "fresh"])
def test_a_running_network_is_left_alone(still: Network, flags: list[str]) -> None:
    code, message = run_command(["devnet", "--plain", "--dir", str(still.root), *flags])
    assert code == ExitCode.DIRECTORY_IN_USE
    assert f"{still.root}/node1 is in use" in message
    assert len(message.splitlines()) == 1
    assert (still.root / "node1" / "genesis.bin").exists()


def test_sigint_stops_the_whole_network(network: Network) -> None:
    stop_network(network)
    logs = [path.read_text() for path in network.root.glob("node*/*.log")]
    assert not [log for log in logs if "Traceback" in log]


def stop_network(network: Network) -> None:
    """Stop all that still runs, as Ctrl-C does."""
    network.set_mining(True)
    for other in network.others:
        if other.process.poll() is None:
            assert other.stop(signal.SIGTERM)[0] == ExitCode.OK
    if network.program.process.poll() is None:
        check_stop(network, signal.SIGINT, ExitCode.OK)


def damage(database: Path) -> None:
    """Overwrite bytes in the middle of what LevelDB has written last."""
    newest = max(
        (path for path in database.iterdir() if path.suffix in (".log", ".ldb") and path.stat().st_size > 4096),
        key=lambda path: path.stat().st_mtime_ns,
    )
    with newest.open("r+b") as file:
        file.seek(newest.stat().st_size // 2)
        file.write(b"\xa5" * 64)


def test_a_damaged_database_is_refused(network: Network, tmp_path: Path) -> None:
    stop_network(network)
    copy = tmp_path / "copy"
    shutil.copytree(network.root / "node2", copy)
    damage(copy / "database")
    code, message = run_command(["node", "--dir", str(copy), *ANY_PORTS])
    assert code == ExitCode.CORRUPT_DATABASE
    assert message.startswith(f"mathesis: {copy}/database")
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("which", ["p2p", "rpc"])
def test_a_busy_port_is_named(network: Network, tmp_path: Path, which: str) -> None:
    directory = make_directory(tmp_path / "node")
    shutil.copy(network.root / "node1" / "genesis.bin", directory)
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = f"127.0.0.1:{server.getsockname()[1]}"
        code, message = run_command(["node", "--dir", str(directory), *ANY_PORTS, f"--{which}", taken])
    assert code == ExitCode.PORT_BUSY
    assert taken in message.splitlines()[-1]
    assert "Traceback" not in message


def test_what_is_no_genesis_is_not_taken(network: Network, tmp_path: Path) -> None:
    directory, garbage = make_directory(tmp_path / "node"), tmp_path / "garbage.bin"
    garbage.write_bytes(b"\x93garbage")
    code, message = run_command(["node", "--dir", str(directory), *ANY_PORTS, "--genesis", str(garbage)])
    assert code == ExitCode.USAGE
    assert message.startswith(f"mathesis: {garbage} is no genesis record: ")
    assert len(message.splitlines()) == 1
    assert not (directory / "genesis.bin").exists()


def test_a_genesis_is_not_exchanged_for_another(network: Network, tmp_path: Path) -> None:
    directory, other = make_directory(tmp_path / "node"), tmp_path / "other.bin"
    genesis = (network.root / "node1" / "genesis.bin").read_bytes()
    (directory / "genesis.bin").write_bytes(genesis)
    other.write_bytes(genesis.replace(b"devnet", b"othnet", 1))
    code, message = run_command(["node", "--dir", str(directory), *ANY_PORTS, "--genesis", str(other)])
    assert code == ExitCode.CORRUPT_DATABASE
    assert "another network" in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)])
def test_nothing_outlives_the_supervisor(tmp_path: Path, number: signal.Signals, code: int) -> None:
    flags = ("--fresh", "--nodes", "1", "--miners", "1")
    network = start_devnet(tmp_path / "net", find_ports(2), *flags)
    try:
        wait_until("the miner", lambda: "1 mining" in network.program.read())
        assert len(find_processes(str(network.root))) == 3
        check_stop(network, number, code)
    finally:
        network.program.kill()


def check_stop(network: Network, number: signal.Signals, code: int) -> None:
    found, took_s = network.program.stop(number)
    assert found == code, network.program.read()
    # Who is killed outright cannot wait for its children; the kernel tells them.
    took_s += wait_until("the end of every process", lambda: find_processes(str(network.root)) == {}, STOP_TIMEOUT_S)
    assert took_s < STOP_TIMEOUT_S
    assert "Traceback" not in network.program.read()
