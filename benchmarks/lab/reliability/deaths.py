"""A life in a process of its own, ended by SIGKILL at a chosen time if it does not end itself before.

The processes are forked from a server that has everything loaded: a start is a start of the node, not of Python.
"""

import multiprocessing
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

from benchmarks.lab.reliability.lives import Life, Opened, live

START_TIMEOUT_S = 60.0
"""A node that has not opened its directory by then is taken for stuck."""


@dataclass(frozen=True, slots=True)
class Death:
    """When a life ends: so many seconds after the process began, or after the node opened its directory."""

    after_s: float
    is_early: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """What a process said before it ended, and its exit code; minus the signal's number when one ended it."""

    opened: Opened | None
    blocks: tuple[bytes, ...]
    exit_code: int


def run_life(life: Life, death: Death) -> Ended:
    """Run a life to its end; every message that was whole before the end counts."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.lab.reliability.warm"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=live, args=(life, sender), daemon=True)
    process.start()
    sender.close()
    said = _listen(receiver, death)
    process.kill()
    said += _drain(receiver)
    process.join()
    assert process.exitcode is not None
    opened = next((message for message in said if isinstance(message, Opened)), None)
    return Ended(opened, tuple(message for message in said if isinstance(message, bytes)), process.exitcode)


def _listen(receiver: Connection, death: Death) -> list[object]:
    """Return what is said until it is time to kill, or the process has ended."""
    said = list[object]()
    until_s = time.monotonic() + (death.after_s if death.is_early else START_TIMEOUT_S)
    while receiver.poll(max(0.0, until_s - time.monotonic())):
        try:
            said.append(receiver.recv())
        except (EOFError, OSError):
            break
        if isinstance(said[-1], Opened) and not death.is_early:
            until_s = time.monotonic() + death.after_s
    return said


def _drain(receiver: Connection) -> list[object]:
    said = list[object]()
    while True:
        try:
            said.append(receiver.recv())
        except (EOFError, OSError):
            return said
