"""The genesis of a development network: funded keys, registered miners, a target from one measurement of this machine.

It decides no rule: the parameters are the defaults of `chain.genesis` unless others are given.
"""

import time
from dataclasses import dataclass, replace

from chain.genesis import Allocation, Genesis, Parameters, TaskSpec
from chain.primitives import ATOMS_PER_COIN, U256_MAX, Hash, PublicKey
from consensus.ticket import Draw, compute_thresholds, compute_ticket_seed
from ml.backends import get_backend
from ml.checkpoint import compute_checkpoint_root, compute_initial_checkpoint
from ml.dataset import load_digits
from ml.lottery import get_lottery
from ml.models import build_program
from ml.segment import Runner
from ml.spec import DIGITS, encode_spec
from node.learning import Task
from node.miner.plan import SegmentPlan
from node.miner.segment import train_segment

ALLOCATION_ATOMS = 1_000 * ATOMS_PER_COIN
SHARE_PERCENT = 60
"""Of a lone process's speed, what a miner keeps beside nodes that share its cores."""


@dataclass(frozen=True, slots=True)
class Members:
    """Who takes part: all accounts are funded and may contribute; `mining` of them run at a time."""

    accounts: tuple[PublicKey, ...]
    mining: int


DEFAULTS = Parameters()


def make_devnet_genesis(members: Members, timestamp_ms: int, parameters: Parameters = DEFAULTS) -> Genesis:
    """Return a genesis whose blocks come about every `interval_ms` on this machine."""
    program, dataset = build_program(DIGITS), load_digits(DIGITS.heldout)
    checkpoint = compute_initial_checkpoint(program)
    task = TaskSpec("digits", encode_spec(DIGITS), dataset.root, compute_checkpoint_root(checkpoint))
    rate = measure_macs_per_s(Task(program, dataset)) * SHARE_PERCENT // 100
    macs_a_block = max(1, rate * max(1, members.mining) * parameters.interval_ms // 1000)
    return Genesis(
        network="devnet",
        timestamp_ms=timestamp_ms,
        target=U256_MAX // macs_a_block,
        parameters=parameters,
        allocations=tuple(Allocation(account, ALLOCATION_ATOMS) for account in members.accounts),
        miners=members.accounts,
        task=task,
    )


def measure_macs_per_s(task: Task) -> int:
    """Return the multiply-accumulates a second that one process mines at: the second of two laps over one segment."""
    backend, lottery, zero = get_backend("cpu"), get_lottery("cpu"), Hash(bytes(32))
    checkpoint = compute_initial_checkpoint(task.program)
    runner = Runner(task.program, backend, task.dataset, zero, checkpoint)
    segment = train_segment(runner, SegmentPlan(0, 0, 0))
    draw = Draw(zero, zero, zero, 0)
    macs, took_ns = 0, 1
    for lap in range(2):
        start_ns, macs = time.monotonic_ns(), 0
        for matmul in segment.matmuls:
            shape = matmul.place.shape
            seed = compute_ticket_seed(draw, replace(matmul.place, lap=lap))
            lottery.find_tickets(seed, matmul.a, matmul.bt, compute_thresholds(0, shape))
            macs += shape.tile_rows * shape.tile_columns * sum(map(shape.get_ticket_macs, range(shape.windows)))
        took_ns = time.monotonic_ns() - start_ns
    return macs * 1_000_000_000 // took_ns
