"""A ticket must verify exactly when it was mined on the operands and under the parent it names."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from chain.codec import decode, encode
from chain.errors import InvalidProof
from chain.primitives import U256_MAX, Hash
from chain.ticket import EMPTY_TICKET, Ticket, TicketOpening
from consensus.asert import compute_threshold, compute_work
from consensus.ticket import (
    Draw,
    Operands,
    compute_thresholds,
    compute_ticket_seed,
    compute_ticket_shape,
    open_ticket,
    verify_ticket,
)
from ml.backends import reference_ticket
from ml.lottery import get_lottery
from ml.models import build_program
from ml.noise import I8, ROLE_A, MatmulShape, compute_operand_noise
from ml.spec import DIGITS
from ml.tensor_tree import compute_tensor_root

VECTORS = Path(__file__).parent.parent / "vectors" / "ticket.json"
DRAW = Draw(Hash(b"c" * 32), Hash(b"p" * 32), Hash(b"s" * 32), target=U256_MAX // 32**3 // 4)
Case = tuple[Ticket, TicketOpening, MatmulShape, I8, I8]


def make_operands(shape: MatmulShape, key: int = 0) -> tuple[I8, I8]:
    rng = np.random.default_rng(key)
    a = rng.integers(-63, 63, (shape.M, shape.K), np.int8, endpoint=True)
    return a, rng.integers(-63, 63, (shape.N, shape.K), np.int8, endpoint=True)


def mine(shape: MatmulShape, a: I8, bt: I8, draw: Draw = DRAW, skip: int = 0) -> tuple[Ticket, TicketOpening]:
    root_a, root_b = compute_tensor_root(a), compute_tensor_root(bt)
    for lap in range(100):
        operands = Operands(step=3, op=7, lap=lap, shape=shape, root_a=root_a, root_b=root_b)
        seed = compute_ticket_seed(draw, operands)
        found, _ = reference_ticket.mine_matmul(seed, a, bt, compute_thresholds(draw.target, shape))
        if len(found) > skip:
            place, digest = found[skip].place, found[skip].digest
            ticket = replace(EMPTY_TICKET, step=3, op=7, lap=lap, root_a=root_a, root_b=root_b, digest=digest)
            ticket = replace(
                ticket, tile_row=place.tile_row, tile_column=place.tile_column, window=place.window, round=1
            )
            return ticket, open_ticket(ticket, a, bt)
    raise AssertionError("no ticket found")


@pytest.fixture(scope="module")
def case() -> Case:
    shape = MatmulShape(96, 70, 100)
    a, bt = make_operands(shape)
    return *mine(shape, a, bt), shape, a, bt


def get_rule(check: Callable[[], None]) -> str:
    with pytest.raises(InvalidProof) as caught:
        check()
    return caught.value.rule


@pytest.mark.parametrize("name", ["reference", "cpu"])
@pytest.mark.parametrize("shape", [(32, 32, 32), (96, 70, 100), (33, 64, 1500), (64, 32, 2112), (32, 64, 4400)])
def test_honest_tickets_verify(name: str, shape: tuple[int, int, int]) -> None:
    dimensions = MatmulShape(*shape)
    ticket, opening = mine(dimensions, *make_operands(dimensions))
    verify_ticket(ticket, opening, dimensions, DRAW, get_lottery(name))
    assert decode(TicketOpening, encode(opening), 256 * 1024) == opening


def test_every_field_that_enters_the_seed_or_the_place_is_bound(case: Case) -> None:
    ticket, opening, shape, _, _ = case
    other = Hash(b"x" * 32)
    mutants: list[tuple[Ticket, str]] = [
        (replace(ticket, step=4), "ticket-digest"),
        (replace(ticket, op=8), "ticket-digest"),
        (replace(ticket, lap=ticket.lap + 1), "ticket-digest"),
        (replace(ticket, tile_row=3), "ticket-tile-row"),
        (replace(ticket, tile_row=(ticket.tile_row + 1) % 3), "tensor-root"),
        (replace(ticket, tile_column=2), "ticket-tile-column"),
        (replace(ticket, tile_column=(ticket.tile_column + 1) % 2), "tensor-root"),
        (replace(ticket, window=1), "ticket-window"),
        (replace(ticket, root_a=other), "tensor-root"),
        (replace(ticket, root_b=other), "tensor-root"),
        (replace(ticket, digest=Hash(b"\xff" * 32)), "ticket-threshold"),
        (replace(ticket, digest=Hash(bytes(32))), "ticket-digest"),
    ]
    for mutant, rule in mutants:
        assert get_rule(partial(verify_ticket, mutant, opening, shape, DRAW)) == rule, mutant


def test_a_ticket_holds_for_one_draw_only(case: Case) -> None:
    ticket, opening, shape, _, _ = case
    other = Hash(b"o" * 32)
    draws = replace(DRAW, chain_id=other), replace(DRAW, parent_hash=other), replace(DRAW, segment_seed=other)
    for draw in draws:
        assert get_rule(partial(verify_ticket, ticket, opening, shape, draw)) == "ticket-digest"


def test_a_harder_target_refuses_before_any_hashing(case: Case) -> None:
    ticket, _, shape, _, _ = case
    empty = TicketOpening((), ())
    assert get_rule(lambda: verify_ticket(ticket, empty, shape, replace(DRAW, target=0))) == "ticket-threshold"


def test_every_part_of_an_opening_is_bound(case: Case) -> None:
    ticket, opening, shape, _, _ = case
    for name in ("strips_a", "strips_b"):
        (strip,) = getattr(opening, name)
        flipped = bytes([strip.rows[5] ^ 1])
        mutants = [
            ((), "ticket-strips"),
            ((strip, strip), "ticket-strips"),
            ((replace(strip, rows=strip.rows[:-1]),), "strip-size"),
            ((replace(strip, rows=strip.rows[:5] + flipped + strip.rows[6:]),), "tensor-root"),
            ((replace(strip, path=strip.path[:-1]),), "merkle-length"),
            ((replace(strip, path=(*strip.path, Hash(bytes(32)))),), "merkle-length"),
            ((replace(strip, path=(Hash(bytes(32)), *strip.path[1:])),), "tensor-root"),
        ]
        for strips, rule in mutants:
            mutant = replace(opening, **{name: strips})
            assert get_rule(partial(verify_ticket, ticket, mutant, shape, DRAW)) == rule, (name, rule)


@pytest.mark.parametrize("rows", [32, 64, 1024])
def test_an_opening_depends_on_rows_of_k_and_a_path_alone(rows: int) -> None:
    """At K = 1,024 it takes 72 KiB at most, for operands of any height."""
    shape = MatmulShape(rows, 2 * rows, 1024)
    a, bt = make_operands(shape)
    roots = compute_tensor_root(a), compute_tensor_root(bt)
    ticket = replace(EMPTY_TICKET, root_a=roots[0], root_b=roots[1])
    opening = open_ticket(ticket, a, bt)
    digests = (rows // 32 - 1).bit_length() + (2 * rows // 32 - 1).bit_length()
    fixed = 2 * 32 * 1024 + 34 * digests
    assert fixed < len(encode(opening)) <= fixed + 24
    longest = [replace(strip, path=(Hash(bytes(32)),) * 40) for strip in (opening.strips_a[0], opening.strips_b[0])]
    assert len(encode(TicketOpening((longest[0],), (longest[1],)))) <= 72 * 1024


def test_wrong_dimensions_are_refused(case: Case) -> None:
    ticket, opening, shape, _, _ = case
    for mutant in (replace(shape, M=97), replace(shape, N=69), replace(shape, K=99), replace(shape, K=101)):
        assert get_rule(partial(verify_ticket, ticket, opening, mutant, DRAW)) in {
            "tensor-root",
            "strip-size",
        }


def test_operands_outside_their_range_are_refused() -> None:
    """With -128 in an operand, noise would wrap around int8 and two implementations might part."""
    shape = MatmulShape(32, 32, 32)
    a, bt = make_operands(shape)
    a[3, 3] = -64
    ticket, opening = mine(shape, a, bt)
    assert get_rule(lambda: verify_ticket(ticket, opening, shape, DRAW)) == "ticket-range"


def test_threat_50_the_seed_follows_the_operands() -> None:
    """Operands made to cancel the noise (A = -E) change the roots, hence the seed, hence the noise."""
    shape = MatmulShape(32, 32, 32)
    a, bt = make_operands(shape)
    root_b = compute_tensor_root(bt)
    seed = compute_ticket_seed(DRAW, Operands(0, 0, 0, shape, compute_tensor_root(a), root_b))
    cancelling = -compute_operand_noise(seed, ROLE_A, 32, shape)
    again = compute_ticket_seed(DRAW, Operands(0, 0, 0, shape, compute_tensor_root(cancelling), root_b))
    assert np.count_nonzero(cancelling + compute_operand_noise(again, ROLE_A, 32, shape)) > 900


def test_thresholds_grow_with_work_and_stop_at_the_top() -> None:
    assert compute_threshold(5, 1000) == 5000
    assert compute_threshold(U256_MAX, 2) == U256_MAX
    assert compute_thresholds(1, MatmulShape(32, 32, 2048 + 100)) == (1024 * 2048, 1024 * 64)
    assert compute_work(0) == 1 << 256
    assert compute_work(U256_MAX) == 1
    assert compute_work((1 << 255) - 1) == 2


def test_dimensions_come_from_the_program() -> None:
    program = build_program(DIGITS)
    matmul = program.matmuls[0]
    assert compute_ticket_shape(program, 0, matmul.op) == MatmulShape(matmul.M, matmul.N, matmul.K)
    assert get_rule(lambda: void(compute_ticket_shape(program, program.steps, matmul.op))) == "ticket-step"
    assert get_rule(lambda: void(compute_ticket_shape(program, 0, 0))) == "ticket-op"


def void(_: object) -> None:
    """Take a result that nobody needs."""


def test_a_light_client_verifies_without_compiled_kernels() -> None:
    program = "import sys, consensus.ticket; assert not {'numba', 'torch', 'llvmlite'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("index", range(3))
def test_golden_vectors(index: int) -> None:
    vector = json.loads(VECTORS.read_text())[index]
    ticket = decode(Ticket, bytes.fromhex(vector["ticket"]), 1024)
    opening = decode(TicketOpening, bytes.fromhex(vector["opening"]), 256 * 1024)
    shape, draw = MatmulShape(*vector["shape"]), read_draw(vector)
    operands = Operands(ticket.step, ticket.op, ticket.lap, shape, ticket.root_a, ticket.root_b)
    assert compute_ticket_seed(draw, operands).hex() == vector["seed"]
    assert ticket.digest.hex() == vector["digest"]
    for name in ("reference", "cpu"):
        verify_ticket(ticket, opening, shape, draw, get_lottery(name))


def read_draw(vector: dict[str, str]) -> Draw:
    chain_id, parent_hash, segment_seed = (
        Hash(bytes.fromhex(vector[name])) for name in ("chain_id", "parent_hash", "segment_seed")
    )
    return Draw(chain_id, parent_hash, segment_seed, int(vector["target"], 16))
