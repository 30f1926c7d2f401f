"""Our proof of a training step and of a layer beside EZKL's, in one run: `mathesis lab peers`.

Each phase of each side runs in a process of its own, one after another. Where EZKL is not installed, our half is
measured alone. What the sides compute is theirs to know (`peers_own`, `peers_ezkl`), what is said of it `peers_page`'s.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from benchmarks.lab.peers_case import PHASES, Finding, PeerCase, Plan, read_finding
from benchmarks.lab.peers_page import Comparison, render_page
from benchmarks.lab.records import LabError
from benchmarks.lab.tables import describe_run

OWN, PEER = "benchmarks.lab.peers_own", "benchmarks.lab.peers_ezkl"
PEER_PACKAGES = ("ezkl", "onnx")
STDERR_CHARACTERS = 2000


def run_peers(cases: Sequence[PeerCase], plan: Plan, say: Callable[[str], None]) -> str:
    """Return the page of the cases, telling `say` what is under way; raises LabError when a process fails."""
    machine, version = describe_run(), get_peer_version()
    comparisons = [compare(case, plan, say, is_alone=version is None) for case in cases]
    machine += f" Load average {os.getloadavg()[0]:.1f} at the end."
    return render_page(comparisons, plan, machine, version)


def get_peer_version() -> str | None:
    """Return the versions of what EZKL's half needs, or None where a part is not installed."""
    if not all(find_spec(name) for name in PEER_PACKAGES):
        return None
    return ", ".join(f"{name} {metadata.version(name)}" for name in PEER_PACKAGES)


def compare(case: PeerCase, plan: Plan, say: Callable[[str], None], *, is_alone: bool) -> Comparison:
    """Return what both sides, or ours alone, take for a case."""
    own = measure_side(OWN, case, dict.fromkeys(PHASES, plan.repeats), say)
    if is_alone:
        return Comparison(case, own, None)
    counts = {"set-up": plan.proofs, "prove": plan.proofs, "verify": plan.repeats}
    return Comparison(case, own, measure_side(PEER, case, counts, say))


def measure_side(module: str, case: PeerCase, counts: dict[str, int], say: Callable[[str], None]) -> dict[str, Finding]:
    """Return the finding of each phase, in order, of processes that share one folder."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for phase, repeats in counts.items():
            say(f"{case.name}: {phase}, {module.rpartition('_')[2]}")
            run_process([sys.executable, "-m", module, case.name, phase, str(repeats), folder])
            found[phase] = read_finding(Path(folder))
    return found


def run_process(command: Sequence[str]) -> None:
    """Run a command to its end; raises LabError with the end of what it said when it fails."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        said = result.stderr[-STDERR_CHARACTERS:].strip()
        raise LabError(f"found exit {result.returncode} of {' '.join(command[1:])}, expected 0; it said: {said}")
