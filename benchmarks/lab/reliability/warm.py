"""What every process of the campaign needs, loaded and compiled once: child processes are forked from it.

Importing this module does the work, so that a fork server can be told to. It starts no thread and opens no database.
"""

from random import Random

import node.rpc.server  # noqa: F401 - what a node imports
from benchmarks.lab.reliability.chains import make_past_setting
from benchmarks.lab.simulator.mining import find_ticket
from chain.ledger.genesis_state import make_genesis_state
from consensus.header_chain import make_first_entry, make_genesis_header
from consensus.history import History

SETTING = make_past_setting()


def _win_a_ticket() -> None:
    root, _ = make_genesis_state(SETTING.genesis)
    first = make_first_entry(make_genesis_header(SETTING.genesis, root), History())
    won = find_ticket(SETTING, first, SETTING.miners[0], Random(0))
    assert won is not None


_win_a_ticket()
