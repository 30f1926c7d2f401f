"""A run by several processes: one leads, writes the files and says when to step; the others follow with their shards.

The leader's `run_step` goes into `node.training.loop.train`, which knows of no other process. Every process ends up
with the same state, and this is checked as the run goes on. It starts no process and opens no connection.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from blake3 import blake3

from chain.errors import MathesisError
from chain.hashing import tagged_hash
from ml.arithmetic import IntArray
from ml.segment import Runner, compute_initial_state
from ml.sharded_step import make_shard_runner, run_sharded_step
from ml.sharding import Exchange
from ml.spec import compute_spec_hash
from ml.training import StepResult
from node.backends import place_arrays, refuse_what_does_not_fit
from node.training.exchange import Disagreement, LostProcess, check_agreement
from node.training.plan import Plan

VERIFY_EVERY = 64
"""Steps between two comparisons of the processes' states: a hash of 16 bytes a weight, against broken hardware."""
LEADER = 0
_STOP = -1
_ABORT = -2
_LISTEN = -3

State = tuple[IntArray, ...]


@dataclass(slots=True)
class Leader:
    """The process that decides: its `run_step` is that of the run."""

    exchange: Exchange
    on_warm: Callable[[], None]
    """Called after the first step, which loads kernels and opens connections; costs count from there."""
    state: State | None = None
    """After the last step; None before the first."""
    is_warm: bool = False
    steps: int = 0
    """After the first."""
    busy_ns: int = 0
    """Nanoseconds of these steps, exchanges included."""
    parent: int = field(default_factory=os.getppid)
    is_stepping: bool = False
    """Whether the others are inside a step, where they do not listen."""

    def run_step(self, runner: Runner, step: int, state: Sequence[IntArray]) -> StepResult:
        """Return state and loss after one step of all processes; raises LostProcess, Disagreement."""
        check_parent(self.parent)
        _say(self.exchange, step)
        self.is_stepping = True
        if self.state is None:
            self.state = share_state(self.exchange, tuple(state))
        start_ns = time.monotonic_ns()
        result = run_sharded_step(make_shard_runner(runner, self.exchange), step, state)
        self.state = result.state
        if self.is_warm:
            self.busy_ns += time.monotonic_ns() - start_ns
            self.steps += 1
        else:
            self.is_warm = True
            self.on_warm()
        _verify_at(self.exchange, step, self.state)
        self.is_stepping = False
        return result

    def stop(self) -> None:
        """Let the others go, once all have the same state; raises LostProcess, Disagreement."""
        _say(self.exchange, _STOP)
        if self.state is not None:
            check_agreement(self.exchange, "the state", compute_state_digest(self.state))


@contextmanager
def lead(exchange: Exchange, on_warm: Callable[[], None] = lambda: None) -> Iterator[Leader]:
    """Yield the leader, and let the others go at the end, also when its files cannot be read or written.

    Raises LostProcess, Disagreement.
    """
    leader = Leader(exchange, on_warm)
    try:
        yield leader
    except (LostProcess, Disagreement):
        raise
    except (MathesisError, OSError):
        # Inside a step, where memory may run out, the others find this process gone instead.
        if not leader.is_stepping:
            _say(exchange, _ABORT)
        raise
    leader.stop()


@refuse_what_does_not_fit("this run")
def follow(plan: Plan, exchange: Exchange) -> int:
    """Compute this process's shard of each step until the leader stops; return the number of steps.

    Raises LostProcess, Disagreement, and ModelError when a step does not fit in memory.
    """
    runner, parent, steps = plan.make_runner(), os.getppid(), 0
    shard_runner = make_shard_runner(runner, exchange)
    state: State | None = None
    while (step := _say(exchange, _LISTEN)) >= 0:
        check_parent(parent)
        if state is None:
            blank = compute_initial_state(runner.program, runner.checkpoint)
            shared = share_state(exchange, tuple(np.zeros_like(part) for part in blank))
            state = place_arrays(runner.backend, shared)
        state = run_sharded_step(shard_runner, step, state).state
        steps += 1
        _verify_at(exchange, step, state)
    if step == _ABORT:
        raise LostProcess(f"process {exchange.rank} stops, since the first process has; its message says why")
    if state is not None:
        check_agreement(exchange, "the state", compute_state_digest(state))
    return steps


def check_plan(plan: Plan, exchange: Exchange) -> None:
    """Compare what decides the bits of a run: spec, data, seed; raises Disagreement in all processes, LostProcess."""
    digest = tagged_hash("processes", compute_spec_hash(plan.spec), plan.dataset.root, plan.seed)
    check_agreement(exchange, "spec, data and seed", digest)


def share_state(exchange: Exchange, state: State) -> State:
    """Return the leader's state, to which all others have added zeros; raises LostProcess."""
    return tuple(exchange.start_sum(_copy(part))() for part in state)


def compute_state_digest(state: State) -> bytes:
    """Return 32 bytes that name a state."""
    hasher = blake3()
    for part in state:
        hasher.update(np.ascontiguousarray(_copy(part)).reshape(-1).view(np.uint8).data)
    return hasher.digest()


def _copy(part: IntArray) -> IntArray:
    """Return a copy in NumPy, also of what a backend keeps on its device."""
    return cast(IntArray, part.astype(part.dtype))


def check_parent(parent: int) -> None:
    """Raise LostProcess when what started this process is gone, and nobody would end it."""
    if os.getppid() != parent:
        raise LostProcess("found torchrun gone, expected it to wait for this process: the training stops")


def _say(exchange: Exchange, word: int) -> int:
    """Return what the leader says, a step, _STOP or _ABORT; a follower says _LISTEN, which is less than any."""
    return int(exchange.start_max(np.array([word], np.int64))()[0])


def _verify_at(exchange: Exchange, step: int, state: State) -> None:
    if (step + 1) % VERIFY_EVERY == 0:
        check_agreement(exchange, f"after step {step + 1} the state", compute_state_digest(state))
