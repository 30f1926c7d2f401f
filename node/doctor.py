"""Checks of a machine before it takes part: bit-exact arithmetic, clock, ports and disk.

A machine whose kernels differ from the reference in one bit mines blocks that everybody refuses, so this runs both on
the same inputs. It changes nothing and needs no network.
"""

import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from chain.hashing import tagged_hash
from ml.backends import get_backend
from ml.backends.cpu.units import UNIT_NAMES, get_units
from ml.checkpoint import compute_initial_checkpoint
from ml.dataset import load_digits
from ml.lottery import get_lottery
from ml.models import build_program
from ml.noise import MatmulShape
from ml.segment import Runner, compute_initial_state, run_step
from ml.spec import DIGITS
from node.options import LOOPBACK, P2P_PORT, RPC_PORT

FREE_BYTES_MIN = 1 << 30
CLOCK_MS_MIN = 1_767_225_600_000
"""The start of 2026: earlier than that a clock was never set."""
STEPS = 4
SEED = tagged_hash("doctor")


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    check: str
    is_ok: bool
    detail: str


def examine(directory: Path) -> Iterator[Finding]:
    """Yield the findings, each as soon as it is known."""
    checks: tuple[tuple[str, Callable[[], str]], ...] = (
        ("training", lambda: _check_training("cpu")),
        ("tickets", lambda: f"{_check_tickets('cpu')}, by {UNIT_NAMES[get_units()[0]]}"),
        ("int8 matmul", _check_matmul),
        ("gpu", _check_gpu),
        ("clock", _check_clock),
        ("ports", _check_ports),
        ("disk", lambda: _check_disk(directory)),
    )
    for name, check in checks:
        try:
            yield Finding(name, True, check())
        except (AssertionError, ImportError, OSError, ValueError, RuntimeError) as error:
            yield Finding(name, False, str(error) or type(error).__name__)


def _check_training(backend: str) -> str:
    program, dataset = build_program(DIGITS), load_digits(DIGITS.heldout)
    checkpoint = compute_initial_checkpoint(program)
    runners = [Runner(program, get_backend(name), dataset, SEED, checkpoint) for name in ("reference", backend)]
    states = [compute_initial_state(program, checkpoint) for _ in runners]
    for step in range(STEPS):
        tensors = [run_step(runner, step, state) for runner, state in zip(runners, states, strict=True)]
        differing = [program.tensors[name].name for name in tensors[0] if _differs(tensors[0][name], tensors[1][name])]
        if differing:
            raise AssertionError(f"step {step}: the kernels' {differing[0]} differs from the reference")
        states = [tuple(found[output] for output in program.state_outputs) for found in tensors]
    return f"{STEPS} steps of the digits model equal to the reference in every tensor"


def _check_tickets(lottery: str) -> str:
    values = np.random.default_rng(1).integers(-63, 64, (224, 256), np.int8)
    a, bt = np.ascontiguousarray(values[:128]), np.ascontiguousarray(values[128:])
    thresholds = (1 << 255,) * MatmulShape(128, 96, 256).windows
    expected, _ = get_lottery("reference").mine_matmul(SEED, a, bt, thresholds)
    found, product = get_lottery(lottery).mine_matmul(SEED, a, bt, thresholds)
    if found != expected:
        raise AssertionError("the kernels' tickets differ from the reference")
    if _differs(product, a.astype(np.int32) @ bt.astype(np.int32).T):
        raise AssertionError("the product is not exact once the noise is taken out")
    return f"{len(found)} tickets of a 128x96x256 product equal to the reference"


def _check_matmul() -> str:
    a = np.full((64, 256), -63, np.int8)
    a[::2] = 63
    found = torch._int_mm(torch.from_numpy(a), torch.from_numpy(np.ascontiguousarray(a.T))).numpy()
    if _differs(found, a.astype(np.int32) @ a.astype(np.int32).T):
        raise AssertionError(f"torch {torch.__version__} multiplies int8 wrongly on this machine")
    return f"torch {torch.__version__} exact at the operands' bounds"


def _check_gpu() -> str:
    if not torch.cuda.is_available():
        return "no CUDA device for torch: train and mine with --backend cpu"
    return f"{torch.cuda.get_device_name()}: {_check_training('cuda')}; {_check_tickets('cuda')}"


def _check_clock() -> str:
    now_ms = time.time_ns() // 1_000_000
    if now_ms < CLOCK_MS_MIN:
        raise ValueError(f"found {now_ms} ms since 1970, expected a time after 2025; set the clock")
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())


def _check_ports() -> str:
    for port in (P2P_PORT, RPC_PORT):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError as error:
                raise OSError(f"port {port}: {error.strerror}; a node may be running already") from None
    return f"{P2P_PORT} and {RPC_PORT} are free"


def _check_disk(directory: Path) -> str:
    existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    free_bytes = shutil.disk_usage(existing).free
    if free_bytes < FREE_BYTES_MIN:
        raise OSError(f"found {free_bytes >> 20} MiB free at {existing}, expected at least {FREE_BYTES_MIN >> 20}")
    return f"{free_bytes >> 30} GiB free at {existing}"


def _differs(left: npt.NDArray[np.generic], right: npt.NDArray[np.generic]) -> bool:
    return left.dtype != right.dtype or left.shape != right.shape or left.tobytes() != right.tobytes()
