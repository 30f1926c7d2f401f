"""The report on verifiers computes the chances that it measures, and its complete verifiers miss nothing planted."""

from functools import cache

import numpy as np

from benchmarks.verifier_cases import (
    StepCase,
    commit_to,
    compute_chance,
    is_caught_by_freivalds,
    is_caught_by_places,
    make_case,
    make_verifier,
    plant,
    reexecute,
)
from benchmarks.verifiers import QUICK, report_case
from tests.support import models


@cache
def make(name: str) -> StepCase:
    case = models.make_case(name)
    return make_case(case.spec, case.dataset)


def test_the_computed_chance_is_the_measured_one() -> None:
    for name in ("mlp", "decoder", "decoder-rotary-tied"):
        case, rng, trials, caught = make(name), np.random.default_rng(3), 3000, 0
        for trial in range(trials):
            op, tensors = plant(case, rng)
            caught += is_caught_by_places(case, op, tensors, trial.to_bytes(4, "little"))
        chance = compute_chance(case)
        assert 0 < chance < 1
        assert abs(caught - chance * trials) < 5 * (chance * trials) ** 0.5


def test_complete_verifiers_refuse_a_planted_error_and_pass_an_honest_step() -> None:
    verifier = make_verifier()
    for name in ("mlp", "decoder-rotary"):
        case, rng = make(name), np.random.default_rng(4)
        assert reexecute(case)
        assert not is_caught_by_freivalds(verifier, case, case.trace, case.transcript)
        for _ in range(5):
            op, tensors = plant(case, rng)
            trace = commit_to(case, op, tensors)
            assert trace != case.trace
            assert is_caught_by_freivalds(verifier, case, trace, case.transcript)


def test_a_case_is_reported_in_four_rows() -> None:
    table = report_case(make("mlp"), QUICK).splitlines()
    assert [line.split(" | ")[0] for line in table[2:]] == [
        "| 8 spot checks", "| 8 spot checks, of 64 in a batch", "| Freivalds", "| re-execution",
    ]  # fmt: skip
