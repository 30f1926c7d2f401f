"""`python -m benchmarks.determinism [--steps 1000] [--spec plays-tiny]`: one training run, computed in every way.

Threads, ranges of odd sizes run last first, op by op or with attention as one call, the library's products or only our
own, and the reference for the first hundred steps: the state's digest every hundred steps must not differ. Writes
`benchmarks/results/determinism.md`; exits 1 at the first divergence.
"""

import hashlib
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

from benchmarks.lab.tables import describe_run, format_table
from ml.backends import Backend, get_backend
from ml.backends.cpu import backend as cpu
from ml.backends.cpu import matmul
from ml.backends.cpu.backend import CpuBackend, Work
from ml.checkpoint import compute_initial_checkpoint
from ml.models import build_program
from ml.segment import Runner, compute_initial_state
from ml.spec import Spec
from ml.training import run_training_step
from node.datasets.registry import load_dataset
from node.models.specs import find_spec
from node.threads import spread_over_threads

INTERVAL = 100
PAGE = Path(__file__).parent / "results" / "determinism.md"


@dataclass(frozen=True, slots=True)
class Way:
    """One way to compute the run."""

    name: str
    backend: Backend
    is_op_by_op: bool = False
    change: Callable[[], AbstractContextManager[object]] = nullcontext
    """Forces a path that sizes or the machine would not choose."""
    steps_max: int = 1 << 16


def cut_unevenly(work: Work, n: int) -> None:
    """Run ranges of 7, the last first."""
    for start in reversed(range(0, n, 7)):
        work(start, min(start + 7, n))


def get_ways() -> tuple[Way, ...]:
    """Return all ways; the first is what the others are held against."""
    return (
        Way("one thread", CpuBackend()),
        Way("two threads", CpuBackend(spread_over_threads(2))),
        Way("three threads", CpuBackend(spread_over_threads(3))),
        Way(
            "ranges of 7 rows, last first",
            CpuBackend(cut_unevenly),
            change=lambda: patch.object(cpu, "SPREAD_ELEMENTS", 1),
        ),
        Way("op by op", CpuBackend(), is_op_by_op=True),
        Way("own products only", CpuBackend(), change=lambda: patch.object(matmul, "is_library_exact", lambda: False)),
        Way("library's products only", CpuBackend(), change=lambda: patch.object(matmul, "LARGE_MACS", 1)),
        Way("reference", get_backend("reference"), steps_max=INTERVAL),
    )


def iterate_digests(spec: Spec, way: Way, data: str) -> Iterator[tuple[int, str]]:
    """Yield (steps done, hex digest of weights and moments) every INTERVAL steps."""
    program = build_program(spec)
    checkpoint = compute_initial_checkpoint(program)
    # A step whose products are lent is not fused.
    multiply = (lambda _matmul, a, b: way.backend.multiply(a, b)) if way.is_op_by_op else None
    runner = Runner(program, way.backend, load_dataset(data, spec.heldout), bytes(32), checkpoint, multiply)
    state = compute_initial_state(program, checkpoint)
    for step in range(min(spec.segment_steps, way.steps_max)):
        state = run_training_step(runner, step, state).state
        if (step + 1) % INTERVAL == 0:
            yield step + 1, hashlib.sha256(b"".join(part.tobytes() for part in state)).hexdigest()


def main() -> int:
    """Run all ways and write the page; return the exit code."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--spec", default="plays-tiny")
    arguments = parser.parse_args()
    named = find_spec(arguments.spec)
    steps = arguments.steps
    spec = replace(named.spec, segment_steps=steps, warmup_steps=min(50, steps), decay_steps=steps // 2)
    expected: dict[int, str] = {}
    rows = []
    for way in get_ways():
        start = time.monotonic()
        with way.change():
            found = dict(iterate_digests(spec, way, named.data or arguments.spec))
        expected = expected or found
        diverged = [step for step, digest in found.items() if expected[step] != digest]
        rows.append(
            (way.name, str(max(found)), str(diverged[0]) if diverged else "never", f"{time.monotonic() - start:.0f} s")
        )
        print(*rows[-1], sep="  ", flush=True)
        if diverged:
            return 1
    table = format_table(("computed by", "steps", "diverged at step", "time"), rows)
    digests = format_table(("steps", "SHA-256 of weights and moments"), [(str(s), d) for s, d in expected.items()])
    title = f"# One run of `{arguments.spec}`, computed in every way"
    PAGE.write_text(f"{title}\n\n`python -m benchmarks.determinism` on {describe_run()}\n\n{table}\n{digests}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
