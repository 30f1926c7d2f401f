"""A segment whose matmuls were mined while it trained is the segment that training alone gives."""

from dataclasses import replace

from chain.hashing import tagged_hash
from consensus.ticket import Draw, compute_thresholds, compute_ticket_seed
from ml.backends import get_backend
from ml.checkpoint import compute_initial_checkpoint
from ml.dataset import load_digits
from ml.lottery import get_lottery
from ml.models import build_program
from ml.noise import I32, FoundTicket
from ml.segment import Runner
from ml.spec import DIGITS
from node.miner.plan import SegmentPlan
from node.miner.segment import MatmulOperands, train_segment

SEED = tagged_hash("test", b"segment")
PLAN = SegmentPlan(0, 0, 0)
DRAW = Draw(SEED, SEED, SEED, (1 << 256) - 1 >> 18)


def make_runner() -> Runner:
    program = build_program(replace(DIGITS, segment_steps=3, warmup_steps=0, decay_steps=0))
    checkpoint = compute_initial_checkpoint(program)
    return Runner(program, get_backend("cpu"), load_digits(DIGITS.heldout), SEED, checkpoint)


def test_mining_while_training_changes_no_byte_and_finds_what_laps_find() -> None:
    runner, lottery = make_runner(), get_lottery("cpu")
    mined: list[MatmulOperands] = []
    found: list[tuple[FoundTicket, ...]] = []

    def mine(matmul: MatmulOperands) -> I32 | None:
        thresholds = compute_thresholds(DRAW.target, matmul.place.shape)
        tickets, product_i32 = lottery.mine_matmul(
            compute_ticket_seed(DRAW, matmul.place), matmul.a, matmul.bt, thresholds
        )
        mined.append(matmul)
        found.append(tickets)
        # Every other product is left to the backend, as when no ticket would count.
        return product_i32 if len(mined) % 2 else None

    plain, segment = train_segment(runner, PLAN), train_segment(runner, PLAN, mine)
    assert segment.sidecar == plain.sidecar
    assert (segment.trace_root, segment.delta_root) == (plain.trace_root, plain.delta_root)
    assert [matmul.place for matmul in mined] == [matmul.place for matmul in plain.matmuls]
    assert any(found)
    for matmul, tickets in zip(plain.matmuls, found, strict=True):
        thresholds = compute_thresholds(DRAW.target, matmul.place.shape)
        seed = compute_ticket_seed(DRAW, matmul.place)
        assert lottery.find_tickets(seed, matmul.a, matmul.bt, thresholds) == tickets


def test_a_wrong_product_changes_the_trace() -> None:
    runner = make_runner()
    plain = train_segment(runner, PLAN)
    forged = train_segment(
        runner, PLAN, lambda matmul: runner.backend.multiply(matmul.a, matmul.bt) + (matmul.place.step == 2)
    )
    assert forged.trace_root != plain.trace_root
