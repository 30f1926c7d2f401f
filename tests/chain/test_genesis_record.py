"""Every number of genesis is part of the network's name, and every input of a segment part of its seed.

Covers threat 14 (replay across task, round, height, miner) as far as names go.
"""

from dataclasses import fields, replace

import pytest

from chain.codec import decode, encode
from chain.genesis import (
    GENESIS_BYTES_MAX,
    Allocation,
    Genesis,
    Parameters,
    TaskSpec,
    compute_chain_id,
    compute_segment_seed,
    compute_task_id,
)
from chain.primitives import Hash, PublicKey

ALICE = PublicKey(b"\x01" * 32)
TASK = TaskSpec("digits", b"program", Hash(b"\x02" * 32), Hash(b"\x03" * 32))
GENESIS = Genesis("test", 1_700_000_000_000, 2**240, Parameters(), (Allocation(ALICE, 5),), (ALICE,), TASK)
ONE, TWO = Hash(b"\x01" * 32), Hash(b"\x02" * 32)


@pytest.mark.parametrize("name", [field.name for field in fields(Parameters)])
def test_each_parameter_moves_the_chain_id(name: str) -> None:
    value = getattr(GENESIS.parameters, name)
    changed = replace(GENESIS.parameters, **{name: value + 1})
    assert compute_chain_id(replace(GENESIS, parameters=changed)) != compute_chain_id(GENESIS)


@pytest.mark.parametrize(
    "other",
    [
        replace(GENESIS, network="tesu"),
        replace(GENESIS, timestamp_ms=1),
        replace(GENESIS, target=2**240 - 1),
        replace(GENESIS, allocations=(Allocation(ALICE, 6),)),
        replace(GENESIS, allocations=()),
        replace(GENESIS, miners=()),
        replace(GENESIS, task=replace(TASK, program=b"other")),
        replace(GENESIS, task=replace(TASK, dataset_root=ONE)),
        replace(GENESIS, task=replace(TASK, checkpoint_root=ONE)),
    ],
)
def test_each_part_of_genesis_moves_the_chain_id(other: Genesis) -> None:
    assert compute_chain_id(other) != compute_chain_id(GENESIS)
    assert decode(Genesis, encode(other), GENESIS_BYTES_MAX) == other


def test_a_task_has_another_name_on_another_chain() -> None:
    assert compute_task_id(ONE, TASK) != compute_task_id(TWO, TASK)
    assert compute_task_id(ONE, TASK) != compute_task_id(ONE, replace(TASK, name="digit"))


def test_each_input_moves_the_segment_seed() -> None:
    base = compute_segment_seed(ONE, ONE, 1, ONE, ALICE, 1)
    others = {
        compute_segment_seed(TWO, ONE, 1, ONE, ALICE, 1),
        compute_segment_seed(ONE, TWO, 1, ONE, ALICE, 1),
        compute_segment_seed(ONE, ONE, 2, ONE, ALICE, 1),
        compute_segment_seed(ONE, ONE, 1, TWO, ALICE, 1),
        compute_segment_seed(ONE, ONE, 1, ONE, TWO, 1),
        compute_segment_seed(ONE, ONE, 1, ONE, ALICE, 2),
    }
    assert len(others) == 6
    assert base not in others


def test_a_round_holds_all_its_windows() -> None:
    parameters = Parameters()
    assert parameters.round_blocks == 9
    assert parameters.round_blocks > parameters.commit_blocks + parameters.challenge_delay + parameters.proof_window
