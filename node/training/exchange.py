"""Exchanges between the processes that torchrun starts, over torch.distributed: gloo between CPUs, NCCL between GPUs.

It moves integers and knows no training. A process that is gone, or silent for longer than the timeout, is an error in
every other. Source: the environment that torchrun sets (RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT).
"""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist

from chain.errors import MathesisError
from ml.arithmetic import IntArray
from ml.sharding import Exchange, Pending
from node.exit_codes import CommandError, ExitCode

TRANSPORTS = ("gloo", "nccl")
ENVIRONMENT = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
POLL_S = 0.5
START = "torchrun --standalone --nproc-per-node 2 -m node.training.distributed ..."


class LostProcess(MathesisError):
    """Another process of the same training is gone, or has not answered in time."""


class Disagreement(MathesisError):
    """Processes of one training hold different bytes where all must hold the same."""


@dataclass(slots=True)
class Traffic:
    """What one process has given to exchanges since it started, and how long it waited for their results."""

    sum_bytes: int = 0
    max_bytes: int = 0
    exchanges: int = 0
    starting_ns: int = 0
    """Handing arrays over; copies to a GPU included."""
    waiting_ns: int = 0


@dataclass(slots=True)
class TorchExchange:
    """An `ml.sharding.Exchange` over the default group of torch.distributed."""

    rank: int
    size: int
    device: torch.device
    timeout_s: float
    """How long one exchange may take."""
    traffic: Traffic = field(default_factory=Traffic)
    under_way: list[dist.Work] = field(default_factory=list)

    def reset_traffic(self) -> None:
        """Count from here."""
        self.traffic = Traffic()

    def hurry(self, timeout_s: float) -> None:
        """Let no exchange take longer than this from now on."""
        self.timeout_s = min(self.timeout_s, timeout_s)

    def start_sum(self, x: IntArray) -> Pending:
        """Start adding up; raises LostProcess."""
        self.traffic.sum_bytes += x.nbytes
        return self._start(x, dist.ReduceOp.SUM)

    def start_max(self, x: IntArray) -> Pending:
        """Start finding the largest; raises LostProcess."""
        self.traffic.max_bytes += x.nbytes
        return self._start(x, dist.ReduceOp.MAX)

    def _start(self, x: IntArray, reduce_op: dist.ReduceOp.RedOpType) -> Pending:
        start_ns = time.monotonic_ns()
        # Where the tensor lies on the right device already, it is worked in, since it is given away.
        tensor = _get_tensor(x).to(self.device)
        try:
            work = dist.all_reduce(tensor, op=reduce_op, async_op=True)
        except RuntimeError as error:
            raise _make_lost(self.rank, error) from None
        assert work is not None
        self.under_way.append(work)
        self.traffic.exchanges += 1
        self.traffic.starting_ns += time.monotonic_ns() - start_ns
        return lambda: self._finish(work, tensor, x)

    def _finish(self, work: dist.Work, tensor: torch.Tensor, given: IntArray) -> IntArray:
        start_ns = time.monotonic_ns()
        try:
            if self.device.type == "cpu":
                self._watch(work)
            work.wait()
            result = _make_like(given, tensor)
        except RuntimeError as error:
            raise _make_lost(self.rank, error) from None
        self.under_way.remove(work)
        self.traffic.waiting_ns += time.monotonic_ns() - start_ns
        return result

    def _watch(self, work: dist.Work) -> None:
        """Return when the work is done, well or not; raises RuntimeError when it will not be.

        gloo alone may wait for its whole timeout: an exchange that meets a connection just as it breaks can miss that,
        while another that was under way has noticed. Nor does a signal get through while gloo waits.
        """
        start_s = time.monotonic()
        while not _is_done(work):
            if any(other.is_completed() and other.exception() for other in self.under_way):
                raise RuntimeError("an exchange before this one failed")
            if time.monotonic() - start_s > self.timeout_s:
                raise RuntimeError(f"no answer for {self.timeout_s:.0f} seconds")


def _get_tensor(x: IntArray) -> torch.Tensor:
    """Return the tensor of an array that a backend keeps on its device, or that of a NumPy array's own memory."""
    resident: object = getattr(x, "tensor", None)
    if isinstance(resident, torch.Tensor):
        return resident
    return torch.from_numpy(np.require(x, requirements=("C", "W")))


def _make_like(given: IntArray, tensor: torch.Tensor) -> IntArray:
    """Return a result as what was given: on the backend's device, or in NumPy."""
    resident: object = getattr(given, "tensor", None)
    if isinstance(resident, torch.Tensor):
        make: Callable[[torch.Tensor], IntArray] = type(given)
        return make(tensor.to(resident.device))
    result: IntArray = tensor.cpu().numpy()
    return result


def _is_done(work: dist.Work) -> bool:
    try:
        work.wait(timedelta(seconds=POLL_S))
    except RuntimeError:
        # Its time is over, or it has failed.
        return work.is_completed()
    return True


@contextmanager
def open_exchange(transport: str, timeout_s: int) -> Iterator[TorchExchange]:
    """Join the processes that torchrun started with this one, over "gloo" or "nccl", and leave them at the end.

    A process that is silent for `timeout_s` seconds counts as lost. Raises CommandError when torchrun did not start
    this process or it has no GPU for NCCL, and LostProcess.
    """
    missing = [name for name in ENVIRONMENT if name not in os.environ]
    if missing:
        raise CommandError(ExitCode.USAGE, f"found no {missing[0]} in the environment, expected a start by {START}")
    device = _get_device(transport, int(os.environ["LOCAL_RANK"]))
    is_gpu = device.type == "cuda"
    try:
        dist.init_process_group(transport, timeout=timedelta(seconds=timeout_s), device_id=device if is_gpu else None)
    except RuntimeError as error:
        raise _make_lost(int(os.environ["RANK"]), error) from None
    yield TorchExchange(dist.get_rank(), dist.get_world_size(), device, timeout_s)
    # Only when all is well: with a process lost there is nobody to say goodbye to, and NCCL would wait for it.
    dist.destroy_process_group()


def check_agreement(exchange: Exchange, label: str, digest: bytes) -> None:
    """Compare 32 bytes that must be the same in every process; raises Disagreement in all of them, and LostProcess."""
    words = np.frombuffer(digest, "<u4").astype(np.int64)
    assert len(words) == 8
    highest, lowest = exchange.start_max(words.copy())(), -exchange.start_max(-words)()
    if not np.array_equal(highest, lowest):
        raise Disagreement(f"process {exchange.rank} holds {label} {digest.hex()[:16]}, another process holds another")


def _get_device(transport: str, local_rank: int) -> torch.device:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if local_rank < count:
        # A backend on GPUs takes the current one, whatever the transport.
        torch.cuda.set_device(local_rank)
    if transport == "gloo":
        return torch.device("cpu")
    if local_rank >= count:
        advice = "start as many processes as there are GPUs, or choose gloo"
        found = f"found {count} GPUs for process {local_rank} of this machine"
        raise CommandError(ExitCode.USAGE, f"{found}, expected one for each with nccl: {advice}")
    return torch.device("cuda", local_rank)


def _make_lost(rank: int, error: RuntimeError) -> LostProcess:
    # Without the place in the library's source, and its advice to its own users.
    reason = re.sub(r"^\[[^\]]*\] ", "", str(error).partition("\n")[0]).partition(". ")[0]
    return LostProcess(f"process {rank} lost another process of this training and stops: {reason:.120}")
