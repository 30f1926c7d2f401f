"""What both sides of a comparison of proofs are asked to prove, and what a measuring process has to say.

Each side measures each phase in a process of its own, so that its peak memory is its own; a finding is the file that
such a process leaves. It knows neither side.
"""

import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import msgspec

PHASES = ("set-up", "prove", "verify")
FINDING_FILE = "finding.json"

Times: TypeAlias = tuple[float, float]
"""Milliseconds on the wall, and of all processors."""


@dataclass(frozen=True, slots=True)
class PeerCase:
    """A computation that both sides prove."""

    name: str
    title: str
    width: int
    """Inputs and outputs of the one layer."""
    batch: int
    is_step: bool
    """Whether EZKL proves a training step, and not only the layer."""


CASES = {
    case.name: case
    for case in (
        PeerCase("step", "A training step of a layer 32 × 32, batch 8", 32, 8, is_step=True),
        PeerCase("layer", "A linear layer 64 × 64, one example", 64, 1, is_step=False),
    )
}


@dataclass(frozen=True, slots=True)
class Plan:
    """How often each side is measured."""

    repeats: int = 101
    """Of ours, and of EZKL's verification."""
    proofs: int = 3
    """Of EZKL: proofs, and generations of its keys."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one phase of one side was measured to take."""

    samples: dict[str, tuple[Times, ...]]
    """By what was done; sample i of one belongs to sample i of another."""
    sizes_bytes: dict[str, int] = field(default_factory=dict)
    facts: dict[str, float] = field(default_factory=dict)
    base_bytes: int = 0
    """Peak memory of the process once its libraries were loaded."""
    peak_bytes: int = 0
    """Peak memory of the process at its end, libraries included."""


Phase: TypeAlias = Callable[[PeerCase, int, Path], Finding]
"""Measures a case a number of times; the folder is what the phases of one side share."""


def measure(function: Callable[[], object]) -> Times:
    """Return the milliseconds that a call took."""
    start_ns, start_cpu_ns = time.perf_counter_ns(), time.process_time_ns()
    function()
    return (time.perf_counter_ns() - start_ns) / 1e6, (time.process_time_ns() - start_cpu_ns) / 1e6


def measure_in_turn(functions: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, tuple[Times, ...]]:
    """Return `repeats` samples of each function, which take turns so that a busy moment meets all of them."""
    rounds = [{name: measure(function) for name, function in functions.items()} for _ in range(repeats)]
    return {name: tuple(each[name] for each in rounds) for name in functions}


def get_peak_bytes() -> int:
    """Return the most memory that this process has had resident.

    Linux hands a program's rusage the peak of whoever started it, so there its own counter is read.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


def answer(phases: Mapping[str, Phase], arguments: Sequence[str]) -> None:
    """Measure as the arguments of a process say (case, phase, repeats, folder) and leave the finding in the folder."""
    name, phase, repeats, folder = arguments
    base = get_peak_bytes()
    found = phases[phase](CASES[name], int(repeats), Path(folder))
    # The counter is kept by processor and may be a few pages behind.
    found = replace(found, base_bytes=base, peak_bytes=max(base, get_peak_bytes()))
    (Path(folder) / FINDING_FILE).write_bytes(msgspec.json.encode(found))


def read_finding(folder: Path) -> Finding:
    """Return what the last process has left in a folder, and take it away."""
    path = folder / FINDING_FILE
    found = msgspec.json.decode(path.read_bytes(), type=Finding)
    path.unlink()
    return found
