"""Each fact that speaks against a node does so by itself, in words, and in the right verdict."""

from dataclasses import replace

import pytest

from node.observability.health import Facts, judge_life, judge_readiness

GOOD = Facts(
    is_importer_running=True,
    import_age_ms=0,
    is_store_writable=True,
    free_bytes=10**10,
    loop_lag_ms=3,
    head_age_ms=2_000,
    future_ms_max=120_000,
    block_interval_ms=2_000,
    is_syncing=False,
    peers=3,
    is_alone=False,
)


def test_a_good_node_is_alive_and_ready() -> None:
    assert judge_life(GOOD).is_good
    assert judge_readiness(GOOD).is_good


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"is_importer_running": False}, "the importer has stopped"),
        ({"import_age_ms": 61_000}, "an import has taken 61 s, at most 60 s are expected"),
        ({"is_store_writable": False}, "an earlier write failed"),
        ({"free_bytes": 1}, "1 bytes are free"),
    ],
)
def test_what_ends_a_life_ends_readiness_too(change: dict[str, int | bool], reason: str) -> None:
    facts = replace(GOOD, **change)  # type: ignore[arg-type]  # fields by name
    for verdict in (judge_life(facts), judge_readiness(facts)):
        assert not verdict.is_good
        (found,) = verdict.reasons
        assert reason in found


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"peers": 0}, "no peer is connected"),
        ({"is_syncing": True}, "heavier headers are known than blocks"),
        ({"head_age_ms": 60_001}, "the head is 60 s old"),
        ({"head_age_ms": -130_000}, "the head is 130 s ahead of this machine's clock"),
        ({"loop_lag_ms": 5_001}, "the event loop is 5001 ms late"),
    ],
)
def test_a_node_may_live_and_not_be_ready(change: dict[str, int | bool], reason: str) -> None:
    facts = replace(GOOD, **change)  # type: ignore[arg-type]  # fields by name
    assert judge_life(facts).is_good
    (found,) = judge_readiness(facts).reasons
    assert reason in found


def test_a_node_that_was_told_of_nobody_is_ready_alone() -> None:
    assert judge_readiness(replace(GOOD, peers=0, is_alone=True)).is_good
