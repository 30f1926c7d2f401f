"""The directory of one run: its lock, its checkpoints by step, its metrics.

Nothing in it is overwritten: a new run wants an empty place, a resumed one the same spec, data and seed. What cannot be
gone on with is refused before the first write. Checkpoints of earlier steps are deleted only beyond the number to keep.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from node.data_directory import DataDirectory, DirectoryLock
from node.models.errors import ModelError
from node.models.files import sweep_temporary
from node.models.specs import make_form
from node.models.state_file import SUFFIX, ModelState, read_state, write_state
from node.training.metrics import (
    CheckpointRecord,
    MetricsFile,
    RunRecord,
    make_run_record,
    open_metrics,
    read_run_record,
)
from node.training.plan import Plan

METRICS_NAME = "metrics.jsonl"
_STEP_FILE = re.compile(rf"step-(\d{{6}}){re.escape(SUFFIX)}")


@dataclass(frozen=True, slots=True)
class Run:
    """A run whose directory is held."""

    path: Path
    metrics: MetricsFile
    state: ModelState | None
    """What it goes on from, or None at its start."""

    def write_checkpoint(self, state: ModelState, keep: int) -> CheckpointRecord:
        """Write a checkpoint beside the metrics that led to it, then delete all but the last `keep` (0: none).

        Raises OSError.
        """
        self.metrics.sync()
        path = get_checkpoint_path(self.path, state.step)
        digest = write_state(path, state)
        if keep:
            for earlier in list_checkpoints(self.path)[:-keep]:
                earlier.unlink(missing_ok=True)
        return CheckpointRecord(state.step, str(path), digest)


def get_checkpoint_path(directory: Path, step: int) -> Path:
    """Return where the checkpoint after so many steps lies, or would lie."""
    return directory / f"step-{step:06d}{SUFFIX}"


def list_checkpoints(directory: Path) -> list[Path]:
    """Return the checkpoints in a directory by step."""
    return sorted(path for path in directory.glob(f"step-*{SUFFIX}") if _STEP_FILE.fullmatch(path.name))


@contextmanager
def open_run(path: Path, plan: Plan, is_resuming: bool) -> Iterator[Run]:
    """Yield the run of `plan` in a directory; raises ModelError, OSError, or StorageError when another holds it."""
    if not is_resuming:
        _refuse_used(path)
    path.mkdir(parents=True, exist_ok=True)
    lock = DirectoryLock(DataDirectory(path))
    try:
        record, state = make_run_record(plan), None
        if is_resuming:
            state = _find_state(path, record)
        else:
            _refuse_used(path)
        sweep_temporary(path)
        metrics = open_metrics(path / METRICS_NAME, record, state.step if state else 0)
        try:
            yield Run(path, metrics, state)
        finally:
            metrics.file.close()
    finally:
        lock.release()


def _refuse_used(path: Path) -> None:
    used = [path / METRICS_NAME] if (path / METRICS_NAME).exists() else list_checkpoints(path)
    if used:
        raise ModelError("exists", f"found {used[0]}, expected no run there; add --resume or choose another directory")


def _find_state(path: Path, record: RunRecord) -> ModelState | None:
    metrics = path / METRICS_NAME
    written = read_run_record(metrics) if metrics.exists() else None
    if written is not None:
        _validate_same(str(metrics), written, record)
    checkpoints = list_checkpoints(path)
    if not checkpoints:
        return None
    state = read_state(checkpoints[-1])
    root, seed, begun = (part.hex() for part in (state.data_root, state.seed, state.start))
    _validate_same(str(checkpoints[-1]), RunRecord("", root, seed, 0, "", make_form(state.spec), begun), record)
    if not state.moments:
        raise ModelError("incomplete", f"{checkpoints[-1]}: found no moments, expected those of the optimizer")
    return state


def _validate_same(name: str, found: RunRecord, expected: RunRecord) -> None:
    pairs = [("data root", found.data_root, expected.data_root), ("start", found.start, expected.start)]
    for field in found.spec.__struct_fields__:
        pairs.append((field.replace("_", " "), getattr(found.spec, field), getattr(expected.spec, field)))
    # A seed that nobody named follows from the rest, so it differs wherever something else does.
    pairs.append(("seed", found.seed, expected.seed))
    for label, one, other in pairs:
        if one != other:
            raise ModelError(
                "wrong-run",
                f"{name}: found {label} {one!r:.90}, expected {other!r:.90};"
                " resume with what the run was started with, or choose another directory",
            )
