"""Threats 31 to 33: one run computed in every way that there is, to the same bytes, and no float on the way.

Threads, ranges of odd sizes, ops alone or as one, the library's products or our own, the reference, shards of a batch,
both lotteries; and the code that kernels become. Longer runs are those of `benchmarks.determinism`, the published
digests are held by the tests, and a GPU's kernels by the suites of the CUDA backend.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.determinism import Way, get_ways
from benchmarks.lab.attacks.case import Attack, Effort, Ending, Outcome
from benchmarks.lab.attacks.determinism_shards import run_shards
from benchmarks.lab.attacks.lottery_arithmetic import CERTAIN, make_lap_seed, make_operands
from ml.arithmetic import IntArray
from ml.backends import Backend, get_backend
from ml.backends.cpu.backend import CpuBackend
from ml.backends.cpu.freivalds import compute_residues
from ml.backends.cpu.tensor_hash import compute_tensor_roots
from ml.backends.reference_freivalds import Product
from ml.checkpoint import compute_initial_checkpoint
from ml.dataset import Dataset, build_dataset, encode_text, load_digits
from ml.lottery import get_lottery
from ml.models import build_program
from ml.noise import MatmulShape
from ml.segment import Runner, compute_initial_state
from ml.sharded_step import make_shard_runner, run_sharded_step
from ml.sharding import Exchange
from ml.spec import DIGITS, Decoder, Mlp, Positions, Spec
from ml.training import run_training_step

ROOT = Path(__file__).resolve().parents[3]

CLASSIFIER = replace(DIGITS, model=Mlp((64, 21, 10)), batch=9)
TIED = Decoder(128, 11, 24, 2, 3, 40, int(Positions.ROTARY), 1)
UNTIED = replace(TIED, positions=int(Positions.LEARNED), tied=0)
DECODER = replace(DIGITS, model=TIED, batch=7, learning_rate=16 << 20, weight_decay=1 << 29, heldout=1)
WORDS = b"to be or not to be that is the question whether tis nobler in the mind to suffer "

LOTTERY_SHAPES = ((32, 32, 32), (65, 97, 130), (96, 64, 1500), (64, 64, 2112), (33, 70, 4250))


def judge_ways(effort: Effort, spec: Spec) -> Outcome:
    """Compare the state after every tenth of a run between all ways to compute it."""
    steps = 1000 if effort.trials >= 1024 else 20
    expected: dict[int, str] = {}
    tried = equal = 0
    ways = get_ways()
    for way in ways:
        with way.change():
            found = dict(iterate_digests(spec, way, steps))
        expected = expected or found
        tried += len(found)
        equal += sum(expected[step] == digest for step, digest in found.items())
    verdict = f"{steps} steps in {len(ways)} ways, the reference {min(steps, ways[-1].steps_max)}: not a byte apart"
    return Outcome(tried, equal, None, None, verdict)


def iterate_digests(spec: Spec, way: Way, steps: int) -> Iterator[tuple[int, str]]:
    """Yield (steps done, digest of weights and moments) ten times in a run."""
    runner = make_runner(replace(spec, segment_steps=steps, warmup_steps=2, decay_steps=steps // 2), way.backend)
    if way.is_op_by_op:
        # A step whose products are lent is not fused.
        runner = replace(runner, multiply=lambda _matmul, a, b: way.backend.multiply(a, b))
    state = compute_initial_state(runner.program, runner.checkpoint)
    for step in range(min(steps, way.steps_max)):
        state = run_training_step(runner, step, state).state
        if (step + 1) % (steps // 10) == 0:
            yield step + 1, hash_state(state)


def make_runner(spec: Spec, backend: Backend) -> Runner:
    """Return what runs a spec on data that every machine has."""
    program = build_program(spec)
    return Runner(program, backend, load_data(spec), bytes(32), compute_initial_checkpoint(program))


def load_data(spec: Spec) -> Dataset:
    """Return the digits, or a text for a decoder."""
    if isinstance(spec.model, Mlp):
        return load_digits(spec.heldout)
    return build_dataset(encode_text(WORDS * 200), spec.heldout)


def hash_state(state: Sequence[IntArray]) -> str:
    """Return the digest of weights and moments."""
    return hashlib.sha256(b"".join(part.tobytes() for part in state)).hexdigest()


def judge_shards(effort: Effort) -> Outcome:
    """Cut the batch between two, three and five, and compare the state with that of one."""
    steps = 100 if effort.trials >= 1024 else 4
    tried = equal = 0
    for spec in (CLASSIFIER, DECODER):
        runner = make_runner(replace(spec, segment_steps=steps, warmup_steps=1, decay_steps=1), CpuBackend())
        state = compute_initial_state(runner.program, runner.checkpoint)
        for step in range(steps):
            state = run_training_step(runner, step, state).state
        for size in (2, 3, 5):
            found = run_shards(size, partial(train_shard, runner, steps))
            tried += size
            equal += found.count(hash_state(state))
    return Outcome(tried, equal, None, None, f"{steps} steps, cut in 2, 3 and 5 uneven parts: not a byte apart")


def train_shard(runner: Runner, steps: int, exchange: Exchange) -> str:
    """Return the digest of the state after some steps on one shard."""
    shard = make_shard_runner(runner, exchange)
    state = compute_initial_state(runner.program, runner.checkpoint)
    for step in range(steps):
        state = run_sharded_step(shard, step, state).state
    return hash_state(state)


def judge_lotteries(effort: Effort) -> Outcome:
    """Compare every digest between the reference's tiles and the compiled kernels'."""
    tried = equal = 0
    for shape in LOTTERY_SHAPES:
        a, bt = make_operands(*shape, seed=effort.seed)
        thresholds, seed = [CERTAIN] * MatmulShape(*shape).windows, make_lap_seed(effort.seed)
        (expected, product), (found, compiled) = (
            get_lottery(name).mine_matmul(seed, a, bt, thresholds) for name in ("reference", "cpu")
        )
        tried += len(expected) + 1
        equal += sum(one == other for one, other in zip(expected, found, strict=True))
        equal += np.array_equal(product, compiled)
    return Outcome(tried, equal, None, None, "every digest and every product alike, tails and two windows included")


def judge_kernels(effort: Effort) -> Outcome:
    """Read the code of every compiled kernel in a process without a cache."""
    size = () if effort.trials >= 1024 else ("small",)
    command = [sys.executable, "-m", f"{__package__}.determinism_kernels", *size]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = json.loads(result.stdout.splitlines()[-1])
    clean = sum(not kernel["types"] and not kernel["arithmetic"] for kernel in found)
    lines, of_shapes = (sum(kernel[name] for kernel in found) for name in ("lines", "of_shapes"))
    verdict = f"no float in any expression, none computed with in {lines} lines of code; {of_shapes} convert lengths"
    return Outcome(len(found), clean, None, None, verdict)


def exercise_everything() -> None:
    """Run what compiles every kernel: both models, their hashes, residues and the lottery."""
    effort = Effort(1, 1)
    for spec in (CLASSIFIER, replace(DECODER, model=UNTIED)):
        way = Way("one thread", CpuBackend())
        tuple(iterate_digests(spec, way, 10))
        tuple(iterate_digests(spec, replace(way, is_op_by_op=True), 10))
    judge_shards(effort)
    judge_lotteries(effort)
    a, bt = make_operands(40, 70, 130, 1)
    compute_tensor_roots([a, a.astype(np.int32), a.astype(np.int64)])
    product = get_backend("cpu").multiply(a, bt)
    compute_residues(Product(a, bt, product), np.ones((2, 70), np.int64))


EVERY_WAY = (
    "Train with one, two and three threads, ranges of 7 rows, op by op, each kind of products, and the reference"
)

ATTACKS: tuple[Attack, ...] = (
    *(
        Attack(
            (31, 32), f"a run computed in every way: {name}", EVERY_WAY, "not a byte apart", (Ending.DETECTED,),
            partial(judge_ways, spec=spec),
        )
        for name, spec in (("classifier", CLASSIFIER), ("decoder", DECODER))
    ),
    Attack(
        (32,), "a batch cut between processes", "Train on shards that exchange integers", "not a byte apart",
        (Ending.DETECTED,), judge_shards,
    ),
    Attack(
        (32,), "tiles of other sizes", "Draw all tickets with the reference and with compiled kernels",
        "not a byte apart", (Ending.DETECTED,), judge_lotteries,
    ),
    Attack(
        (33,), "floats below the source", "Compile the kernels anew; read the types of all expressions and the code",
        "none", (Ending.DETECTED,), judge_kernels,
    ),
)  # fmt: skip
