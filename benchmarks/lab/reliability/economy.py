"""Random histories of the economy on the real ledger, with real segments, beside books in fractions.

After every block all atoms, accounts, units and dues are compared; what the rules refuse must be refused by name; a
fork takes blocks back; at the end of a history all of it is replayed from genesis. A case is one action; `ROUND`
actions are one history, and its seed brings it back.
"""

import shutil
from collections import Counter
from pathlib import Path

from benchmarks.lab.economy.actions import ACTIONS, act
from benchmarks.lab.economy.history import REFUSED, make_history
from benchmarks.lab.economy.world import Broken
from benchmarks.lab.reliability.part import Result, Setup, tell
from chain.errors import InvalidBlock

ROUND = 1_000
ACTIONS_PER_BLOCK_MAX = 16
FORK_ODDS = 0.06
"""How often a block is followed by a fork."""
VOTED = (
    *(f"proposals {status}" for status in ("accepted", "rejected", "expired", "enacted", "lapsed")),
    *("parameters changed", "payments voted", "shares voted", "stakes given back"),
)
"""What is counted of votes."""


def run_economy(setup: Setup) -> Result:
    """Play histories until enough actions are done."""
    result, counts = Result(), Counter[str]()
    seed = setup.seed
    while result.reached < setup.count and (seed == setup.seed or not setup.is_over):
        root = setup.root / "history"
        try:
            play_history(root, seed, min(ROUND, setup.count - result.reached), counts)
        except (Broken, InvalidBlock) as error:
            result.fail(seed, str(error))
        shutil.rmtree(root, ignore_errors=True)
        result.reached = min(setup.count, result.reached + ROUND)
        tell(setup, result, "actions")
        seed += 1
    result.next_seed = seed
    refused = {name: count for name, count in sorted(counts.items()) if name.startswith(REFUSED)}
    shown = (*ACTIONS, "blocks", "blocks in another order", "reorganisations")
    segments = ("segments committed", "segments settled", "segments expired", "segments slashed")
    audits = ("audits assigned", "audits proven", "audits missed", "audit bonds fallen", "audit bonds given back")
    seats = ("seats taken", "bonds posted", "bonds given back", "bonds burned", "segments of newcomers")
    posted = ("posted segments settled", "tasks closed")
    result.figures = {name: f"{counts[name]:,}" for name in (*shown, *segments, *posted, *audits, *seats, *VOTED)}
    result.figures |= {"actions refused, as expected": f"{sum(refused.values()):,}"}
    result.figures |= {
        f"of them by `{name.removeprefix('refused: ')}`": f"{count:,}" for name, count in refused.items()
    }
    result.figures |= {"histories": f"{seed - setup.seed:,}"}
    return result


def play_history(root: Path, seed: int, actions: int, counts: Counter[str]) -> None:
    """Play one history of so many actions and replay it; raises Broken, InvalidBlock."""
    run = make_history(root / "played", seed, counts)
    while actions > 0:
        run.begin_block()
        for _ in range(min(actions, run.random.randrange(ACTIONS_PER_BLOCK_MAX + 1))):
            act(run)
            actions -= 1
        run.end_block()
        counts["blocks"] += 1
        if run.random.random() < FORK_ODDS:
            run.go_back()
    run.replay(root / "replayed")
