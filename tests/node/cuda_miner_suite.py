"""A miner on the CUDA backend makes the reference's segment: its roots, its tickets and its openings.

`tests/node/test_miner_cuda.py` runs this file in a process of its own, because Triton decides at import whether it
interprets. On a machine with a GPU it also runs by itself: `pytest tests/node/cuda_miner_suite.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from chain.hashing import tagged_hash
from chain.primitives import Hash
from consensus.ticket import Draw, compute_thresholds, compute_ticket_seed
from ml.arithmetic import IntArray
from ml.backends import Backend, get_backend
from ml.backends.cpu.tensor_hash import compute_tensor_roots
from ml.backends.cuda import tensor_hash
from ml.backends.cuda.device import IS_INTERPRETED
from ml.backends.cuda.resident import DeviceArray, fetch
from ml.checkpoint import compute_initial_checkpoint
from ml.dataset import Text, load_digits
from ml.lottery import get_lottery
from ml.models import build_program
from ml.noise import I32, FoundTicket
from ml.segment import Runner
from ml.spec import DIGITS, Decoder, Mlp, Positions, Spec
from node.backends import get_root_hasher, make_backend
from node.learning import Task
from node.miner import segment
from node.miner.plan import SegmentPlan
from node.miner.segment import MatmulOperands, TrainedSegment, open_segment, train_segment

SEED = tagged_hash("test", b"cuda miner")
PLAN = SegmentPlan(0, 0, 0)
DRAW = Draw(SEED, SEED, SEED, (1 << 256) - 1 >> 13)
TINY = replace(DIGITS, model=Mlp((64, 32, 10)), batch=32, segment_steps=1, warmup_steps=0, decay_steps=0)
_STEPS = 3
REAL: Spec = replace(
    TINY, model=Decoder(256, 64, 128, 2, 2, 512, int(Positions.ROTARY), 0), batch=4, segment_steps=_STEPS
)


@dataclass(slots=True)
class Miner:
    """Trains one segment and mines products of it; every third is left to the backend."""

    runner: Runner
    found: list[tuple[FoundTicket, ...]] = field(default_factory=list)
    kinds: set[type] = field(default_factory=set)

    def mine(self, matmul: MatmulOperands) -> I32 | None:
        thresholds = compute_thresholds(DRAW.target, matmul.place.shape)
        seed, lottery = compute_ticket_seed(DRAW, matmul.place), get_lottery(self.runner.backend.name)
        tickets, product_i32 = lottery.mine_matmul(seed, matmul.a, matmul.bt, thresholds)
        if not IS_INTERPRETED:
            assert lottery.find_tickets(seed, matmul.a, matmul.bt, thresholds) == tickets
        self.found.append(tickets)
        self.kinds |= {type(matmul.a), type(product_i32)}
        return product_i32 if len(self.found) % 3 else None


def make_runner(spec: Spec, backend: Backend) -> Runner:
    program = build_program(spec)
    text = np.random.default_rng(1).integers(0, 256, 4096).astype(np.uint8)
    text.setflags(write=False)
    dataset = load_digits(spec.heldout) if isinstance(spec.model, Mlp) else Text(text, text[:512], SEED)
    return Runner(program, backend, dataset, SEED, compute_initial_checkpoint(program))


def train(miner: Miner) -> tuple[TrainedSegment, tuple[bytes, ...]]:
    runner = miner.runner
    trained = train_segment(runner, PLAN, miner.mine)
    task = Task(runner.program, runner.dataset)
    return trained, open_segment(task, runner.backend, trained, (SEED, 3))


def hash_on_the_host(arrays: Sequence[IntArray]) -> tuple[Hash, ...]:
    return compute_tensor_roots(fetch(tuple(arrays)))


def compare(spec: Spec, twin: Backend) -> None:
    expected, found = Miner(make_runner(spec, twin)), Miner(make_runner(spec, make_backend("cuda")))
    (one, one_openings), (other, other_openings) = train(expected), train(found)
    assert found.kinds == {DeviceArray}
    assert any(expected.found)
    assert found.found == expected.found
    assert other.sidecar == one.sidecar
    assert (other.trace_root, other.delta_root) == (one.trace_root, one.delta_root)
    assert [matmul.place for matmul in other.matmuls] == [matmul.place for matmul in one.matmuls]
    assert other_openings == one_openings
    for step, state in one.snapshots.states.items():
        assert all(map(np.array_equal, other.snapshots.states[step], state))


def test_a_segment_is_the_twin_s_down_to_its_openings(monkeypatch: pytest.MonkeyPatch) -> None:
    if IS_INTERPRETED:
        # The interpreter takes minutes to hash a step; `cuda_lottery_suite` compares the roots it makes.
        monkeypatch.setattr(segment, "get_root_hasher", lambda _backend: hash_on_the_host)
    compare(TINY, get_backend("reference"))


@pytest.mark.skipif(IS_INTERPRETED, reason="takes a GPU: the interpreter needs hours")
def test_a_decoder_s_segment_is_the_cpu_s() -> None:
    compare(REAL, get_backend("cpu"))


def test_tensors_of_a_device_are_hashed_there() -> None:
    assert get_root_hasher(make_backend("cuda")) is tensor_hash.compute_tensor_roots
