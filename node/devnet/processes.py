"""Child processes of the development network: started with a log of their own, stopped in order, never left behind.

It knows command lines and signals, nothing of what the programs do.
"""

import asyncio
import ctypes
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

STOP_TIMEOUT_S = 8
"""After this a child that ignores SIGTERM is killed; the whole network stops within ten seconds."""

_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    # A supervisor that is killed outright cannot stop its children; on Linux the kernel does it then.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass(slots=True)
class Child:
    """One running program and the file that holds what it prints."""

    name: str
    process: asyncio.subprocess.Process
    log_path: Path

    @property
    def is_running(self) -> bool:
        """Say whether the program has not ended."""
        return self.process.returncode is None

    def read_log_end(self, lines: int = 5) -> str:
        """Return the last lines the program printed."""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])


async def start_child(name: str, arguments: Sequence[str], log_path: Path) -> Child:
    """Start `mathesis` with these arguments in a process group of its own, its output appended to `log_path`."""
    return await start_program(name, [sys.executable, "-m", "node.cli", *arguments], log_path)


async def start_program(name: str, command: Sequence[str], log_path: Path) -> Child:
    """Start any command in a process group of its own, its output appended to `log_path`."""
    with log_path.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
    return Child(name, process, log_path)


async def stop_children(children: Sequence[Child]) -> None:
    """Ask every child to stop, and kill those that have not within STOP_TIMEOUT_S."""
    running = [child for child in children if child.is_running]
    for child in running:
        child.process.send_signal(signal.SIGTERM)
    waits = [asyncio.create_task(child.process.wait()) for child in running]
    if not waits:
        return
    await asyncio.wait(waits, timeout=STOP_TIMEOUT_S)
    for child in running:
        if child.is_running:
            child.process.kill()
    await asyncio.gather(*waits)
