"""The lottery's attacks: digests as the protocol has them, costs as computed, and the flip when the rank is lowered."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from benchmarks.lab.attacks import lottery
from benchmarks.lab.attacks.case import QUICK, is_as_expected
from benchmarks.lab.attacks.lottery_arithmetic import (
    PERMUTED_B,
    Lattice,
    Meter,
    Scene,
    compute_digests,
    compute_honest_prefixes,
    get_protocol_lattice,
    get_reference_digests,
    make_lap_seed,
    make_operands,
    make_scene,
)
from benchmarks.lab.attacks.lottery_cached import (
    Prefixes,
    add_changes_of_noise,
    compare,
    compute_cached_products,
    subtract_first_group,
)
from benchmarks.lab.attacks.lottery_pairs import (
    Split,
    compute_names,
    find_shared,
    is_narrow,
    list_combinations,
    match_folds,
    share_pairs,
    split_pair,
)
from benchmarks.lab.attacks.lottery_structure import (
    Relation,
    compute_edges,
    compute_edges_of_any,
    factor_difference,
    list_matrices,
    list_relations,
    share_increments,
)
from benchmarks.lab.records import LabError
from chain.primitives import ZERO_HASH, Hash
from consensus.ticket import Draw, Operands, compute_ticket_seed
from ml.noise import OPERAND_MAX, ROLE_B, Role

RULES = "benchmarks.lab.attacks.lottery_rules"


@pytest.mark.parametrize("shape", [(32, 64, 96), (64, 32, 2048), (32, 32, 4096 + 128)])
def test_own_arithmetic_is_the_protocols(shape: tuple[int, int, int]) -> None:
    scene = make_scene(get_protocol_lattice(*shape), make_lap_seed(1), *make_operands(*shape, seed=2))
    digests = compute_digests(scene, compute_honest_prefixes(Meter(), scene))
    assert digests == get_reference_digests(scene)


@pytest.mark.parametrize("attack", [add_changes_of_noise, subtract_first_group])
def test_threat_45_digests_are_those_of_honest_work(attack: Prefixes) -> None:
    shape = (64, 32, 4096)
    found = compare(get_protocol_lattice(*shape), attack, 2, make_operands(*shape, seed=3))
    assert found.digests == 2 * 2 * 2
    assert found.cost_ratio > 1.9


def test_a_wrong_digest_is_no_attack() -> None:
    lattice = get_protocol_lattice(32, 32, 64)
    with pytest.raises(LabError, match="found 1 wrong digests of 1"):
        compare(lattice, lambda _meter, _scene, cached: iter(cached), 1, make_operands(32, 32, 64, seed=1))


@pytest.mark.parametrize(("rank", "is_cheaper"), [(8, True), (16, True), (32, False), (64, False)])
def test_threat_45_pays_when_the_rank_is_less_than_half_of_the_fold(rank: int, is_cheaper: bool) -> None:
    lattice = Lattice(128, 128, 512, rank, 64)
    found = compare(lattice, add_changes_of_noise, 1, make_operands(128, 128, 512, seed=4))
    assert (found.cost_ratio < 1) == is_cheaper
    assert found.cost_ratio == pytest.approx(2 * rank / 64, rel=0.2)


def test_every_mac_of_honest_work_is_counted() -> None:
    meter = Meter()
    scene = make_scene(get_protocol_lattice(32, 64, 96), make_lap_seed(1), *make_operands(32, 64, 96, seed=1))
    assert len(list(compute_honest_prefixes(meter, scene))) == 3
    assert (meter.macs, meter.adds) == (32 * 64 * 96, 32 * 96 + 3 * 64 * 96)
    assert len(compute_cached_products(scene)) == 3


def ignore_parent(draw: Draw, operands: Operands) -> Hash:
    return compute_ticket_seed(replace(draw, parent_hash=ZERO_HASH), operands)


def ignore_roots(_draw: Draw, _operands: Operands) -> Hash:
    return make_lap_seed(0)


@pytest.mark.parametrize(
    ("name", "function", "modules", "replacement"),
    [
        ("stockpiled and re-signed", "compute_ticket_seed", ("consensus.ticket", RULES), ignore_parent),
        ("operands for a foreseen seed", "compute_ticket_seed", ("consensus.ticket",), ignore_roots),
        ("one ticket, two contents", "apply_report", ("chain.ledger.transactions",), lambda *_: ()),
        ("short windows only", "compute_thresholds", (RULES,), lambda target, shape: (target << 30,) * shape.windows),
    ],
)
def test_a_broken_rule_flips_its_case(
    name: str,
    function: str,
    modules: tuple[str, ...],
    replacement: Callable[..., object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (attack,) = [attack for attack in lottery.ATTACKS if attack.name == name]
    for module in modules:
        monkeypatch.setattr(f"{module}.{function}", replacement)
    outcome = attack.run(QUICK)
    assert not is_as_expected(attack, outcome), outcome


def make_matrix(relation: Relation) -> np.ndarray:
    matrix = np.zeros((len(relation.signs),) * 2, np.int64)
    matrix[np.arange(len(matrix)), relation.columns] = relation.signs
    return matrix


def make_zero_scene(K: int, role_b: Role = ROLE_B) -> Scene:
    zeros = np.zeros((32, K), np.int8)
    return make_scene(get_protocol_lattice(32, 32, K), make_lap_seed(5), zeros, zeros, role_b)


def test_differences_of_permutations_are_factored_exactly() -> None:
    scene = make_zero_scene(512, PERMUTED_B)
    relations = list_relations(scene.noise, 32)
    matrices = np.array([make_matrix(relation) for relation in relations])
    for one, other in pairwise(relations):
        for sign in (1, -1):
            left, right = factor_difference(one, other, sign)
            difference = make_matrix(one) - sign * make_matrix(other)
            assert np.array_equal(left @ right, difference)
            assert left.shape[1] == np.linalg.matrix_rank(difference)
    assert np.array_equal(compute_edges(relations)[0], compute_edges_of_any(matrices))


@pytest.mark.parametrize("attack", [share_increments, share_pairs])
def test_threat_47_zeros_of_both_sides_are_needed(attack: Prefixes) -> None:
    """What folds share is right for zeros alone: with an operand that is not zero the digests are wrong."""
    lattice = get_protocol_lattice(32, 32, 128)
    a, bt = make_operands(32, 32, 128, seed=6)
    found = compare(lattice, attack, 1, (0 * a, 0 * bt), PERMUTED_B)
    assert found.digests == 1
    assert found.cost_ratio < 1
    for operands in ((a, 0 * bt), (0 * a, bt)):
        with pytest.raises(LabError, match="wrong digests"):
            compare(lattice, attack, 1, operands, PERMUTED_B)


def multiply_out(split: Split) -> tuple[np.ndarray, np.ndarray]:
    shared, one, other = (thin.left @ thin.right for thin in (split.shared, split.one, split.other))
    return shared + one, shared + other


@pytest.mark.parametrize("rank", [32, 64])
def test_threat_47_two_permutations_take_three_halves_of_one(rank: int) -> None:
    """Split exactly, into factors that fit int8, of three quarters of the rank but for odd cycles."""
    one, other = list_matrices(make_zero_scene(2 * rank if rank == 32 else 2048, PERMUTED_B).noise, rank)[:2]
    coefficients = list_combinations(rank, 1)
    names = compute_names(one, coefficients), compute_names(other, coefficients)
    split = split_pair(one, other, find_shared((one, other), coefficients, names, OPERAND_MAX))
    assert all(map(np.array_equal, multiply_out(split), (one, other)))
    assert is_narrow(split, OPERAND_MAX)
    width = sum(thin.left.shape[1] for thin in (split.shared, split.one, split.other))
    assert 3 * rank // 2 <= width <= 7 * rank // 4


def test_threat_47_what_chains_share_is_split_exactly_and_no_pair_pays() -> None:
    matrices = list_matrices(make_zero_scene(1024).noise, 32)
    coefficients = list_combinations(32, 2)
    names = [compute_names(matrix, coefficients) for matrix in matrices]
    found = 0
    for g, h in pairwise(range(len(matrices))):
        shared = find_shared((matrices[g], matrices[h]), coefficients, (names[g], names[h]), None)
        split = split_pair(matrices[g], matrices[h], shared)
        assert all(map(np.array_equal, multiply_out(split), (matrices[g], matrices[h])))
        found += len(shared)
    assert 0 < found < len(matrices)
    assert match_folds(matrices, ROLE_B.bound) == {}
    zeros = np.zeros((32, 1024), np.int8)
    assert compare(get_protocol_lattice(32, 32, 1024), share_pairs, 1, (zeros, zeros)).cost_ratio == 1


@pytest.mark.parametrize(("K", "rank"), [(2016, 32), (2048, 64), (4096, 128)])
def test_threat_63_every_fold_has_full_rank(K: int, rank: int) -> None:
    matrices = list_matrices(make_zero_scene(K).noise, rank)
    assert np.linalg.matrix_rank(matrices.astype(np.float64)).tolist() == [rank] * (K // rank)
    # Pairs of 128 take half a minute; a dozen folds are 66 of them, drawn like all others.
    edges = compute_edges_of_any(matrices[:12] if rank == 128 else matrices)
    assert (edges == rank).all()
