"""Giving way: the process always, its session when it leads one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
AUTOGROUP = Path("/proc/self/autogroup")
SCRIPT = """
import os, pathlib
from node.priority import give_way
give_way({niceness})
autogroup = pathlib.Path("/proc/self/autogroup")
print(os.nice(0), autogroup.read_text() if autogroup.exists() else "")
"""


def read_session_niceness() -> str | None:
    """Where sessions are not grouped the file is missing, or stands there empty (containers, the root group)."""
    words = AUTOGROUP.read_text().split() if AUTOGROUP.exists() else []
    return words[-1] if words else None


def run_script(niceness: int, *, leads: bool) -> list[str]:
    command = [sys.executable, "-c", SCRIPT.format(niceness=niceness)]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60, start_new_session=leads
    )
    words = result.stdout.split()
    return [words[0], words[-1]]


@pytest.mark.skipif(read_session_niceness() is None, reason=f"found no session in {AUTOGROUP}, expected autogroups")
def test_a_session_of_its_own_gives_way_and_another_s_does_not() -> None:
    own, shared = os.nice(0), read_session_niceness()
    niceness = min(own + 7, 19)
    assert run_script(niceness, leads=True) == [str(niceness), str(niceness)]
    assert run_script(niceness, leads=False) == [str(niceness), shared]


def test_it_never_asks_for_more_than_it_has() -> None:
    assert run_script(0, leads=False)[0] == str(os.nice(0))
