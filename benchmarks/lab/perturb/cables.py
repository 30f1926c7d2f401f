"""How nodes of a test network are wired: one network namespace each on a bridge, or all on loopback.

With namespaces a node's cable can be pulled; they take root and `ip`. Loopback works everywhere. It knows addresses and
commands, no node.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from node.options import LOOPBACK, Endpoint

PREFIX = "10.213.0"
P2P_PORT, RPC_PORT = 4610, 4611


class Cables(Protocol):
    """Where node `number` (from 1) listens, and how its programs are started."""

    def get_p2p(self, number: int) -> Endpoint:
        """Return where it listens for peers."""

    def get_rpc(self, number: int) -> Endpoint:
        """Return where it listens for callers; reachable from here."""

    def wrap(self, number: int, command: Sequence[str], /) -> list[str]:
        """Return the command that runs `command` at its place."""

    def set_plugged(self, number: int, is_plugged: bool, /) -> None:
        """Pull its cable, or put it back."""

    def remove(self) -> None:
        """Leave nothing behind."""


class LoopbackCables:
    """All nodes on one address, by ports from `base_port`."""

    def __init__(self, base_port: int) -> None:
        """Take two ports a node."""
        self._base_port = base_port

    def get_p2p(self, number: int) -> Endpoint:
        """Return where it listens for peers."""
        return Endpoint(LOOPBACK, self._base_port + 2 * (number - 1))

    def get_rpc(self, number: int) -> Endpoint:
        """Return where it listens for callers."""
        return Endpoint(LOOPBACK, self._base_port + 2 * (number - 1) + 1)

    def wrap(self, _number: int, command: Sequence[str], /) -> list[str]:
        """Return the command itself."""
        return list(command)

    def set_plugged(self, _number: int, _is_plugged: bool, /) -> None:
        """Refuse: there is no cable."""
        raise AssertionError("loopback has no cables; the manifest was checked for that")

    def remove(self) -> None:
        """Leave nothing behind."""


class NamespaceCables:
    """A namespace a node, joined by a bridge that this process can reach too."""

    def __init__(self, nodes: int) -> None:
        """Make them; raises CalledProcessError."""
        self._nodes = nodes
        self._name = f"mth{os.getpid() % 100_000}"
        try:
            self._make()
        except subprocess.CalledProcessError:
            self.remove()
            raise

    def get_p2p(self, number: int) -> Endpoint:
        """Return where it listens for peers."""
        return Endpoint(f"{PREFIX}.{number + 1}", P2P_PORT)

    def get_rpc(self, number: int) -> Endpoint:
        """Return where it listens for callers; the bridge reaches it."""
        return Endpoint(f"{PREFIX}.{number + 1}", RPC_PORT)

    def wrap(self, number: int, command: Sequence[str], /) -> list[str]:
        """Return the command that runs in the node's namespace."""
        return ["ip", "netns", "exec", self._get_name(number), *command]

    def set_plugged(self, number: int, is_plugged: bool, /) -> None:
        """Pull its cable, or put it back."""
        _run("ip", "link", "set", self._get_cable(number), "up" if is_plugged else "down")

    def remove(self) -> None:
        """Leave nothing behind."""
        for number in range(1, self._nodes + 1):
            with suppress(subprocess.CalledProcessError):
                _run("ip", "netns", "del", self._get_name(number))
        with suppress(subprocess.CalledProcessError):
            _run("ip", "link", "del", self._name)

    def _make(self) -> None:
        _run("ip", "link", "add", self._name, "type", "bridge")
        _run("ip", "addr", "add", f"{PREFIX}.1/24", "dev", self._name)
        _run("ip", "link", "set", self._name, "up")
        for number in range(1, self._nodes + 1):
            name, cable = self._get_name(number), self._get_cable(number)
            _run("ip", "netns", "add", name)
            _run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name)
            _run("ip", "link", "set", cable, "master", self._name, "up")
            _run("ip", "-n", name, "addr", "add", f"{self.get_p2p(number).host}/24", "dev", "eth0")
            for device in ("eth0", "lo"):
                _run("ip", "-n", name, "link", "set", device, "up")

    def _get_name(self, number: int) -> str:
        return f"{self._name}-{number}"

    def _get_cable(self, number: int) -> str:
        return f"{self._name}v{number}"


def can_use_namespaces() -> bool:
    """Say whether this machine lets us make network namespaces."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"mthprobe{os.getpid()}"
    try:
        _run("ip", "netns", "add", name)
        _run("ip", "netns", "del", name)
    except (subprocess.CalledProcessError, OSError):
        return False
    return True


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
