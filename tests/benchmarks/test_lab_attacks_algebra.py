"""The attacks on algebra and determinism see what they look for: rules taken away, and floats and orders planted."""

from collections.abc import Callable

import numba
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.lab.attacks import algebra, determinism
from benchmarks.lab.attacks.algebra_backends import OPS, judge_ops
from benchmarks.lab.attacks.algebra_products import draw, find_invisible
from benchmarks.lab.attacks.case import QUICK, Attack, Effort, is_as_expected
from benchmarks.lab.attacks.determinism_kernels import find_arithmetic, read_kernel
from benchmarks.lab.attacks.determinism_shards import SharedExchange
from ml.arithmetic import I32, I64, IntArray
from ml.backends.reference import ReferenceBackend
from ml.backends.reference_freivalds import MODULUS, Product, compute_residues

PRODUCTS = "benchmarks.lab.attacks.algebra_products"


def get_attack(attacks: tuple[Attack, ...], name: str) -> Attack:
    (attack,) = [attack for attack in attacks if attack.name == name]
    return attack


@pytest.mark.parametrize("number", range(5))
def test_threat_23_invisible_differences_are_short_and_unseen(number: int) -> None:
    vectors = draw(number)
    short = find_invisible(vectors)
    assert 0 < np.abs(short).max() < 1 << 18
    assert not (vectors.astype(object) @ short.astype(object) % MODULUS).any()


def add_up(product: Product, vectors: I64) -> I64:
    """Give every row the sum of all residues, as a batch with one verdict would."""
    residues = compute_residues(product, vectors)
    total: I64 = np.broadcast_to(residues.sum(axis=0) % MODULUS, residues.shape)
    return total


def look_away(product: Product, vectors: I64) -> I64:
    """Let every product be in range."""
    residues = compute_residues(product, vectors)
    residues[residues < 0] = 0
    return residues


@pytest.mark.parametrize(
    ("name", "function", "replacement"),
    [
        ("errors that cancel: our residues", "compute_residues", add_up),
        ("wraparound: range-checked", "compute_residues", look_away),
        ("vectors known before: a coin of later", "draw", lambda number: draw(number & 0xFFFF)),
    ],
)
def test_a_rule_taken_away_flips_its_case(
    name: str, function: str, replacement: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{PRODUCTS}.{function}", replacement)
    attack = get_attack(algebra.ATTACKS, name)
    outcome = attack.run(QUICK)
    assert not is_as_expected(attack, outcome), outcome


def test_threat_25_a_backend_that_floors_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def rescale(_self: ReferenceBackend, product: I32, a: I32, b: I32, shift: int) -> I32:
        floored: I32 = np.clip(product.astype(np.int64) >> np.maximum(shift - a - b.T, 0), -99, 99).astype(np.int32)
        return floored

    monkeypatch.setattr(ReferenceBackend, "rescale", rescale)
    assert judge_ops(Effort(8, 1), OPS["products"]).detected < 8


def test_threat_32_a_shard_that_is_left_out_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def start_sum(self: SharedExchange, x: IntArray) -> Callable[[], IntArray]:
        return self.start_max(x)

    monkeypatch.setattr(SharedExchange, "start_sum", start_sum)
    attack = get_attack(determinism.ATTACKS, "a batch cut between processes")
    outcome = attack.run(QUICK)
    assert outcome.detected < outcome.tried


def halve(x: NDArray[np.int64]) -> int:
    total = 0.0
    for value in x:
        total += value / 2
    return int(total)


def double(x: NDArray[np.int64]) -> int:
    total = 0
    for value in x:
        total += value * 2
    return total


@pytest.mark.parametrize(("function", "is_clean"), [(halve, False), (double, True)])
def test_threat_33_a_float_in_a_kernel_is_seen(function: Callable[..., int], is_clean: bool) -> None:
    compiled = numba.njit(function)
    compiled(np.arange(3))
    finding = read_kernel("planted", compiled)
    assert finding.lines > 0
    assert (not finding.types) is is_clean
    assert (not finding.arithmetic) is is_clean


@pytest.mark.parametrize(
    ("line", "is_found"),
    [
        ("  %.5 = fadd double %.3, %.4", True),
        ("  %.5 = fmul fast float %.3, %.4", True),
        ("  %.5 = tail call double @llvm.sqrt.f64(double %.3)", True),
        ("  %.5 = call i64 @lround(double %.3)", True),
        ("  %.5 = tail call double @llvm.floor.f64(double %.3)", False),
        ("  %.5 = add i64 %.3, %.4", False),
        ("  %.5 = call i64 @double_it(i64 %.3)", False),
    ],
)
def test_which_code_computes_with_floats(line: str, is_found: bool) -> None:
    assert bool(find_arithmetic(line)) is is_found
