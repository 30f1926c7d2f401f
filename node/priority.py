"""Giving way: a process that asks to be run after others on its machine.

Whoever mines yields to the node that it mines for. It knows nothing of what the process does.
"""

import os
from pathlib import Path

_AUTOGROUP = Path("/proc/self/autogroup")


def give_way(niceness: int) -> None:
    """Take `niceness`, from 0 to 19, for this process, and for its session if it leads one.

    Where Linux shares cores between sessions first (autogroups), the niceness of a process ranks it in its own session
    alone. A session that another process leads, as a shell's, is left as it is. Source: sched(7), nice(2).
    """
    os.nice(max(0, niceness - os.nice(0)))
    if os.getsid(0) != os.getpid():
        return
    try:
        _AUTOGROUP.write_text(str(niceness))
    except OSError:
        # No autogroups here, or the kernel is asked too often: the process alone gives way.
        return
