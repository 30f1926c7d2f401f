"""Files and folders that appear whole or not at all.

Bytes go to a temporary name beside the target, are brought to disk, and are renamed; so a reader, or a machine that
lost its power, sees the old state or the new one. It knows nothing of what the bytes mean.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from chain.storage.files import sync_directory
from node.models.errors import ModelError

_TEMPORARY = ".writing-"


def write_whole(path: Path, data: bytes) -> None:
    """Put `data` at `path`, on disk before this returns, in place of what was there; raises OSError."""
    temporary = path.with_name(f"{_TEMPORARY}{os.getpid()}-{path.name}")
    try:
        _write_through(temporary, data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def write_new(path: Path, data: bytes) -> None:
    """Put `data` at `path`, which must not exist; raises ModelError or OSError."""
    refuse_existing(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, data)


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Make the folder `path` with `files` by relative name, all or nothing; raises ModelError or OSError."""
    refuse_existing(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{_TEMPORARY}{os.getpid()}-{path.name}")
    try:
        for name, data in sorted(files.items()):
            target = temporary / name
            target.parent.mkdir(parents=True, exist_ok=True)
            _write_through(target, data)
        for folder in sorted({(temporary / name).parent for name in files}):
            sync_directory(folder)
        # An empty folder gives way; a full one that has come into being since raises.
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    sync_directory(path.parent)


def refuse_existing(path: Path) -> None:
    """Raise ModelError when there is something at `path` but an empty folder, which gives way if it has a name."""
    # The current folder has none: nothing can be made beside it, and whoever stands in it would lose it.
    if path.name and path.is_dir() and not any(path.iterdir()):
        return
    if path.exists() or path.is_symlink():
        raise ModelError(
            "exists", f"found {path}, expected nothing there; nothing is overwritten, choose another place"
        )


def sweep_temporary(directory: Path) -> None:
    """Delete what a killed writer left in `directory`, which nobody else writes to."""
    for leftover in directory.glob(f"{_TEMPORARY}*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _write_through(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
