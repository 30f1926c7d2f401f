"""Real processes of the command line for tests: started with a log each, found by their command lines, never left."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from chain.genesis import Parameters
from node.rpc.client import NodeUnreachable, RpcClient
from node.rpc.methods import GET_BLOCK, GET_STATUS, BlockParams
from node.rpc.registry import Params
from node.rpc.views import HeaderView, StatusView

POLL_S = 0.1
QUICK = Parameters(interval_ms=1_000, half_life_ms=8_000)
"""Half the time between blocks, in which miners fill all processors; still eight times what a segment takes."""


def wait_until(what: str, is_reached: Callable[[], bool], timeout_s: float = 120) -> float:
    """Poll until a condition holds; return the seconds that took, or fail with `what` was waited for."""
    start_s = time.monotonic()
    while not is_reached():
        if time.monotonic() - start_s > timeout_s:
            raise AssertionError(f"waited {timeout_s} s in vain for {what}")
        time.sleep(POLL_S)
    return time.monotonic() - start_s


def find_ports(count: int) -> int:
    """Return the first of `count` adjacent ports of loopback, below the ephemeral ones, that nobody listens on."""
    for base in range(20_000 + os.getpid() % 1_000 * 8, 32_000, count):
        sockets = [socket.socket() for _ in range(count)]
        try:
            for offset, probe in enumerate(sockets):
                probe.bind(("127.0.0.1", base + offset))
            return base
        except OSError:
            continue
        finally:
            for probe in sockets:
                probe.close()
    raise AssertionError("no free ports")


def find_processes(text: str) -> dict[int, list[str]]:
    """Return the command lines by process of all that run `node.cli` with `text` in an argument, zombies left out."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (path / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
        except OSError:
            continue
        if "node.cli" in arguments and any(text in argument for argument in arguments):
            found[int(path.name)] = arguments
    return found


def run_command(arguments: Sequence[str], timeout_s: float = 60) -> tuple[int, str]:
    """Run `mathesis` to its end; return the exit code and what it wrote to standard error."""
    command = [sys.executable, "-m", "node.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    return done.returncode, done.stderr


@dataclass
class Program:
    """A running `mathesis` and the file that holds what it prints."""

    process: subprocess.Popen[bytes]
    log_path: Path

    @classmethod
    def start(cls, arguments: Sequence[str], log_path: Path) -> "Program":
        return cls.start_command([sys.executable, "-m", "node.cli", *arguments], log_path)

    @classmethod
    def start_command(cls, command: Sequence[str], log_path: Path) -> "Program":
        with log_path.open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        return cls(process, log_path)

    def stop(self, number: signal.Signals, timeout_s: float = 10) -> tuple[int, float]:
        """Send a signal; return the exit code and how many seconds the end took."""
        start_s = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(timeout_s), time.monotonic() - start_s

    def kill(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.wait()

    def read(self) -> str:
        return self.log_path.read_text(errors="replace")


def get_status(url: str) -> StatusView | None:
    """Return what a node says of itself, or None when nobody answers."""
    client = RpcClient(url)
    try:
        return client.call(GET_STATUS, Params())
    except NodeUnreachable:
        return None
    finally:
        client.close()


def get_height(url: str) -> int:
    """Return the height of a node's head; -1 when nobody answers."""
    status = get_status(url)
    return -1 if status is None else status.head.height


def get_header(url: str, height: int) -> HeaderView:
    """Return the header on a node's branch at `height`."""
    client = RpcClient(url)
    try:
        return client.call(GET_BLOCK, BlockParams(height)).header
    finally:
        client.close()
