"""What a miner computes with, and which posted tasks it trains beside that of genesis.

A record and nothing more, made once when the miner starts. It knows neither the node nor the round.
"""

from dataclasses import dataclass

from chain.genesis import Genesis
from ml.backends import Backend
from ml.lottery import Lottery
from node.learning import Task
from node.options import BEST_TASK


@dataclass(frozen=True, slots=True)
class Tools:
    """What a miner computes with. `posted` is the posted task it trains: `best`, `none`, or the hex name of one."""

    genesis: Genesis
    task: Task
    backend: Backend
    lottery: Lottery
    is_sabotaging: bool = False
    posted: str = BEST_TASK
