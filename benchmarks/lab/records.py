"""Results of training runs as lines of JSON: one is appended when its run has finished, and never changed.

A campaign that is cut goes on where it was: what stands in the file is not run again. A last line that was cut short is
dropped, a damaged one inside the file is an error. It knows no training.
"""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from chain.errors import MathesisError


class LabError(MathesisError):
    """A results file is damaged, or results that are needed are missing."""


@dataclass(frozen=True, slots=True)
class RunKey:
    """What names a run within a results file."""

    case: str
    side: str
    """"integer" or "float32"."""
    steps: int
    rate_ppm: int
    seed: int


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One finished run."""

    key: RunKey
    curve: tuple[float, ...]
    """Mean training loss of each ten steps, bits a row."""
    final_loss: float
    """Mean training loss of the last hundred steps (or of all, when there are fewer)."""
    heldout_loss: float
    heldout_accuracy: float
    heldout_rows: int
    seconds: float
    threads: int
    backend: str
    machine: str
    versions: str
    finished: str


def read_records(path: Path) -> list[RunRecord]:
    """Return the records of a results file, none when there is no file; raises LabError on a damaged line."""
    return [_parse(path, number, line) for number, line in enumerate(read_whole_lines(path), start=1)]


def append_record(path: Path, record: RunRecord) -> None:
    """Append the line of a run that has finished."""
    append_line(path, json.dumps(asdict(record)).encode())


def read_whole_lines(path: Path) -> list[str]:
    """Return the lines of a results file, none when there is no file."""
    # Whatever follows the last line feed is the line of a run that was cut while it was written.
    return path.read_text().split("\n")[:-1] if path.exists() else []


def append_line(path: Path, line: bytes) -> None:
    """Append one line, whole and on disk, after whatever whole lines are there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        whole = file.read().rfind(b"\n") + 1
        if whole < size:
            file.truncate(whole)
        file.write(line + b"\n")
        file.flush()
        os.fsync(file.fileno())


def find_record(records: Sequence[RunRecord], key: RunKey) -> RunRecord | None:
    """Return the record of a run, or None while it has not finished."""
    return next((record for record in records if record.key == key), None)


def describe_machine() -> str:
    """Return the processors of this machine, in words."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.machine()


def describe_versions() -> str:
    """Return the versions of what computes."""
    import numpy as np  # noqa: PLC0415 - reading results needs neither library
    import torch  # noqa: PLC0415

    return f"Python {platform.python_version()}, NumPy {np.__version__}, PyTorch {torch.__version__}"


def describe_now() -> str:
    """Return date and time, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _parse(path: Path, number: int, line: str) -> RunRecord:
    try:
        fields = json.loads(line)
        return RunRecord(**(fields | {"key": RunKey(**fields["key"]), "curve": tuple(fields["curve"])}))
    except (ValueError, TypeError, KeyError) as error:
        raise LabError(
            f"{path}:{number}: found a line that is no result ({error}), expected one; remove the line to run it again",
        ) from None
