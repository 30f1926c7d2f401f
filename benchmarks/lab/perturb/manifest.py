"""A manifest of disturbances: how large the network is, and what happens to which node at which height.

TOML, read strictly: an unknown word, a type or a number out of range is an error that names its place. It starts
nothing.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from chain.errors import MathesisError

NODES_MAX = 8
HEIGHT_MAX = 10_000
SECONDS_MAX = 600


class ManifestError(MathesisError):
    """A manifest that says what cannot be done."""


class Action(Enum):
    """What may happen to a node, for as long as its step says."""

    KILL = "kill"
    """SIGKILL, and a start from what is on disk."""
    RESTART = "restart"
    """SIGTERM, and a start."""
    PAUSE = "pause"
    """SIGSTOP and SIGCONT: connections stay, nothing answers."""
    DISCONNECT = "disconnect"
    """Its cable is pulled: needs network namespaces."""


@dataclass(frozen=True, slots=True)
class Step:
    """When any node has reached `height`, disturb `node` (from 1) for `seconds`."""

    height: int
    node: int
    action: Action
    seconds: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """A network of `nodes`, of which the first `miners` mine, that must agree at height `blocks`."""

    nodes: int
    miners: int
    blocks: int
    steps: tuple[Step, ...]

    @property
    def needs_namespaces(self) -> bool:
        """Whether a cable is pulled."""
        return any(step.action is Action.DISCONNECT for step in self.steps)


def read_manifest(path: Path) -> Manifest:
    """Return what a file says; raises ManifestError, OSError."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: {error}") from None
    return make_manifest(table)


def make_manifest(table: Mapping[str, object]) -> Manifest:
    """Return the manifest of a parsed table; raises ManifestError."""
    _expect_words("the manifest", table, {"nodes", "miners", "blocks", "steps"})
    nodes = _take_int("nodes", table, 2, NODES_MAX)
    miners = _take_int("miners", table, 1, nodes)
    blocks = _take_int("blocks", table, 1, HEIGHT_MAX)
    listed = table.get("steps", [])
    if not isinstance(listed, list):
        raise ManifestError(f"steps: found {listed!r:.60}, expected a list of tables")
    steps = tuple(_make_step(number, step, nodes, blocks) for number, step in enumerate(listed, 1))
    return Manifest(nodes, miners, blocks, tuple(sorted(steps, key=lambda step: step.height)))


def _make_step(number: int, step: object, nodes: int, blocks: int) -> Step:
    place = f"step {number}"
    if not isinstance(step, dict):
        raise ManifestError(f"{place}: found {step!r:.60}, expected a table")
    _expect_words(place, step, {"height", "node", "action", "seconds"})
    name = step.get("action")
    if name not in {action.value for action in Action}:
        raise ManifestError(f"{place}: found action {name!r:.40}, expected one of {[a.value for a in Action]}")
    return Step(
        _take_int(f"{place}: height", step, 1, blocks),
        _take_int(f"{place}: node", step, 1, nodes),
        Action(name),
        _take_int(f"{place}: seconds", step, 0, SECONDS_MAX),
    )


def _expect_words(place: str, table: Mapping[str, object], words: set[str]) -> None:
    unknown = sorted(set(table) - words)
    if unknown:
        raise ManifestError(f"{place}: found {unknown[0]!r}, expected {sorted(words)}")


def _take_int(place: str, table: Mapping[str, object], least: int, most: int) -> int:
    value = table.get(place.rpartition(" ")[2])
    if type(value) is not int or not least <= value <= most:
        raise ManifestError(f"{place}: found {value!r:.40}, expected an integer from {least} to {most}")
    return value
