"""Altered contributions and state proofs: commits, block data, openings and proofs of a real segment, none accepted.

The openings' roots are the attacker's to choose only before the challenge; here the trace is committed, and what is
shown of it afterwards is altered. Every refusal has to be a typed error, and its rule is counted.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import TypeVar

import pytest

from chain.codec import decode, encode
from chain.errors import DecodeError, InvalidBlock, InvalidProof, InvalidTransaction, MissingData
from chain.genesis import Genesis, TaskSpec, compute_chain_id
from chain.hashing import tagged_hash
from chain.ledger.genesis_state import make_genesis_state
from chain.ledger.keys import account_key
from chain.ledger.learning import SegmentContext
from chain.primitives import Hash, PublicKey
from chain.state.proof import STATE_PROOF_BYTES_MAX, StateProof, verify_exclusion, verify_inclusion
from chain.state.tree import MemoryNodes
from chain.state.view import StateView
from chain.storage.blob_store import BlobStore
from chain.transaction import Action, CommitContribution, Sidecar, Transfer, compute_sidecar_hash
from ml.backends import get_backend
from ml.checkpoint import compute_checkpoint_root, compute_initial_checkpoint
from ml.dataset import load_digits
from ml.models import build_program
from ml.segment import Runner
from ml.spec import DIGITS, encode_spec
from node.learning import Learning, Task
from node.miner.plan import SegmentPlan
from node.miner.segment import TrainedSegment, open_segment, train_segment
from tests.support.ledger import BOB, LedgerChain
from tests.support.live_node import HOLDER, make_genesis

T = TypeVar("T")
PLACES = 8
SEED, CHALLENGE = tagged_hash("test", b"segment"), tagged_hash("test", b"challenge")
SPEC = replace(DIGITS, segment_steps=4, warmup_steps=1, decay_steps=1)


class Bench:
    """One trained segment, its commit and its openings, and the engine that judges them."""

    def __init__(self, root: Path) -> None:
        program, dataset, backend = build_program(SPEC), load_digits(SPEC.heldout), get_backend("cpu")
        self.task = Task(program, dataset)
        checkpoint = compute_initial_checkpoint(program)
        self.learning = Learning(self.task, backend, BlobStore(root), PLACES)
        self.context = SegmentContext(SEED, compute_checkpoint_root(checkpoint), 0)
        self.spec = TaskSpec("digits", encode_spec(SPEC), dataset.root, self.context.checkpoint_root)
        self.segment: TrainedSegment = train_segment(
            Runner(self.task.program, backend, self.task.dataset, SEED, checkpoint), SegmentPlan(0, 0, 0)
        )
        self.openings = open_segment(self.task, backend, self.segment, (CHALLENGE, PLACES))
        sidecar_hash = compute_sidecar_hash(self.segment.sidecar)
        self.commit = CommitContribution(
            Hash(bytes(32)), 0, 0, 0, SEED, self.segment.trace_root, self.segment.delta_root, sidecar_hash
        )

    def validate(self, commit: CommitContribution, sidecar: Sidecar) -> None:
        """Judge a commit and its block data as a block's import does."""
        self.learning.validate_sidecar(self.spec, self.context.checkpoint_root, commit, sidecar)

    def verify(self, openings: tuple[bytes, ...], challenge: Hash = CHALLENGE) -> None:
        """Judge openings as a block's import does."""
        self.learning.verify_openings(self.spec, self.context, self.segment.sidecar, challenge, openings)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("blobs"))


def flip(rng: random.Random, data: bytes) -> bytes:
    """Return `data` with one bit turned."""
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


def with_field(record: T, name: str, value: object) -> T:
    """Return `record` with one field set."""
    changed: T = replace(record, **{name: value})  # type: ignore[type-var]  # any record
    return changed


def count_refusals(attempts: int, attempt: Callable[[], object]) -> Counter[str]:
    """Return the rules that refused every one of `attempts`; fails when one is accepted."""
    refusals: Counter[str] = Counter()
    for _ in range(attempts):
        with pytest.raises((InvalidProof, InvalidTransaction, InvalidBlock, MissingData, DecodeError)) as refused:
            attempt()
        refusals[getattr(refused.value, "rule", type(refused.value).__name__)] += 1
    return refusals


def test_the_honest_contribution_is_accepted(bench: Bench) -> None:
    bench.validate(bench.commit, bench.segment.sidecar)
    bench.verify(bench.openings)
    assert bench.learning.is_segment_honest(bench.spec, bench.context, bench.segment.sidecar)


@pytest.mark.parametrize("name", ["trace_root", "delta_root"])
def test_no_altered_commit_is_accepted(bench: Bench, name: str) -> None:
    rng = random.Random(name)
    value = getattr(bench.commit, name)
    refusals = count_refusals(
        100, lambda: bench.validate(with_field(bench.commit, name, flip(rng, value)), bench.segment.sidecar)
    )
    assert set(refusals) == {name.replace("_", "-")}


@pytest.mark.parametrize("name", ["output_roots", "delta"])
def test_no_altered_block_data_is_accepted(bench: Bench, name: str) -> None:
    rng, sidecar = random.Random(name), bench.segment.sidecar
    altered = [with_field(sidecar, name, flip(rng, getattr(sidecar, name))) for _ in range(100)]
    assert all(compute_sidecar_hash(other) != bench.commit.sidecar_hash for other in altered)
    remaining = iter(altered)
    refusals = count_refusals(100, lambda: bench.validate(bench.commit, next(remaining)))
    assert set(refusals) <= {"trace-root", "delta-root", "delta-range"}
    print(name, refusals.most_common())


@pytest.mark.parametrize("size", [-1, 1])
def test_block_data_of_another_size_is_refused(bench: Bench, size: int) -> None:
    sidecar = bench.segment.sidecar
    for name in ("output_roots", "delta"):
        value = getattr(sidecar, name)
        other = with_field(sidecar, name, value[:size] if size < 0 else value + bytes(size))
        with pytest.raises(InvalidTransaction):
            bench.validate(bench.commit, other)


@pytest.mark.parametrize("place", range(PLACES))
def test_no_altered_opening_is_accepted(bench: Bench, place: int) -> None:
    rng = random.Random(place)

    def attempt() -> None:
        altered = flip(rng, bench.openings[place])
        bench.verify((*bench.openings[:place], altered, *bench.openings[place + 1 :]))

    print(place, count_refusals(120, attempt).most_common())


def test_openings_of_another_challenge_order_or_number_are_refused(bench: Bench) -> None:
    rng = random.Random(5)
    refusals = count_refusals(100, lambda: bench.verify(bench.openings, Hash(flip(rng, CHALLENGE))))
    assert refusals
    for openings in (bench.openings[::-1], bench.openings[:-1], (*bench.openings, bench.openings[0]), ()):
        with pytest.raises(InvalidProof):
            bench.verify(openings)


def test_no_altered_state_proof_is_accepted() -> None:
    genesis = make_genesis()
    root, nodes = make_genesis_state(genesis)
    view, key = StateView(root, MemoryNodes(nodes)), account_key(HOLDER.public_key)
    proof, value, rng = view.prove(key), encode(view.get_existing(key)), random.Random(7)
    verify_inclusion(root, key.name, value, proof)

    def alter_sibling() -> StateProof:
        place = rng.randrange(len(proof.siblings))
        changed = Hash(flip(rng, proof.siblings[place]))
        return replace(proof, siblings=(*proof.siblings[:place], changed, *proof.siblings[place + 1 :]))

    count_refusals(150, lambda: verify_inclusion(Hash(flip(rng, root)), key.name, value, proof))
    count_refusals(150, lambda: verify_inclusion(root, flip(rng, key.name), value, proof))
    count_refusals(150, lambda: verify_inclusion(root, key.name, flip(rng, value), proof))
    count_refusals(150, lambda: verify_inclusion(root, key.name, value, alter_sibling()))
    count_refusals(1, lambda: verify_inclusion(root, key.name, value, replace(proof, siblings=proof.siblings[:-1])))


def test_no_altered_proof_of_absence_is_accepted() -> None:
    root, nodes = make_genesis_state(make_genesis())
    view, key, rng = StateView(root, MemoryNodes(nodes)), account_key(PublicKey(bytes(32))), random.Random(12)
    proof = view.prove(key)
    verify_exclusion(root, key.name, proof)
    encoded = encode(proof)

    def attempt() -> None:
        verify_exclusion(root, key.name, decode(StateProof, flip(rng, encoded), STATE_PROOF_BYTES_MAX))

    count_refusals(300, attempt)


def test_every_field_of_genesis_names_another_network() -> None:
    genesis, rng = make_genesis(), random.Random(8)
    seen = {compute_chain_id(genesis)}
    others: list[Genesis] = [replace(genesis, network=f"test{number}") for number in range(100)]
    others += [replace(genesis, timestamp_ms=genesis.timestamp_ms + 1 + number) for number in range(100)]
    others += [replace(genesis, target=genesis.target ^ 1 << number) for number in range(100)]
    for field in fields(genesis.parameters):
        value = getattr(genesis.parameters, field.name)
        changed = [with_field(genesis.parameters, field.name, value + 1 + number) for number in range(100)]
        others += [replace(genesis, parameters=parameters) for parameters in changed]
    for name in ("program", "dataset_root", "checkpoint_root"):
        value = getattr(genesis.task, name)
        flips = {flip(rng, value) for _ in range(150)}
        others += [replace(genesis, task=with_field(genesis.task, name, other)) for other in sorted(flips)]
    names = {compute_chain_id(other) for other in others}
    assert len(names) == len(others)
    assert not names & seen


def refuse_resigned(chain: LedgerChain, action: Action, values: dict[str, Callable[[], object]]) -> Counter[str]:
    """Return the rules that refused `action` with each field set to 100 values, signed again by its own sender."""
    refusals: Counter[str] = Counter()
    root = chain.root
    for name, draw in values.items():

        def attempt(name: str = name, draw: Callable[[], object] = draw) -> None:
            chain.execute(chain.draft(), chain.sign(BOB, with_field(action, name, draw())))

        refusals += count_refusals(100, attempt)
    assert chain.root == root
    return refusals


def test_no_altered_commit_signed_by_its_miner_is_applied() -> None:
    chain, rng = LedgerChain(), random.Random(9)
    commit = chain.commit(BOB)
    values: dict[str, Callable[[], object]] = {
        "task": lambda: Hash(flip(rng, commit.task)),
        "round": lambda: rng.randrange(1, 2**32),
        # Below the cap another index is another segment, which its openings decide about.
        "index": lambda: rng.randrange(2, 2**16),
        "anchor_height": lambda: rng.randrange(1, 2**64),
        "trace_root": lambda: Hash(flip(rng, commit.trace_root)),
        "delta_root": lambda: Hash(flip(rng, commit.delta_root)),
        "sidecar_hash": lambda: Hash(flip(rng, commit.sidecar_hash)),
    }
    refusals = refuse_resigned(chain, commit, values)
    print(refusals.most_common())
    assert set(refusals) == {"task", "round", "segment-index", "segment-anchor", "sidecar-roots", "MissingData"}


def test_no_altered_proof_signed_by_its_miner_is_applied() -> None:
    chain, rng = LedgerChain(), random.Random(10)
    chain.mine(chain.sign(BOB, chain.commit(BOB)))
    chain.mine_to(3)
    prove = chain.prove(BOB)
    values: dict[str, Callable[[], object]] = {
        "task": lambda: Hash(flip(rng, prove.task)),
        "round": lambda: rng.randrange(1, 2**32),
        "index": lambda: rng.randrange(1, 2**16),
        "openings": lambda: (flip(rng, prove.openings[0]),),
    }
    refusals = refuse_resigned(chain, prove, values)
    print(refusals.most_common())
    assert set(refusals) == {"task", "round", "prove-unknown", "opening-place"}


def test_no_transfer_beyond_its_sender_is_applied() -> None:
    chain, rng = LedgerChain(), random.Random(11)
    account = chain.account(BOB)
    transfer = Transfer(HOLDER.public_key, 5)
    # Another amount or recipient within the balance, signed by the owner, is another valid transfer.
    refusals = refuse_resigned(chain, transfer, {"amount": lambda: rng.randrange(account.balance + 1, 2**64)})
    refusals += count_refusals(
        100, lambda: chain.execute(chain.draft(), chain.sign(BOB, transfer, fee=rng.randrange(account.balance, 2**64)))
    )
    refusals += count_refusals(
        100, lambda: chain.execute(chain.draft(), chain.sign(BOB, transfer, nonce=rng.randrange(1, 2**64)))
    )
    assert set(refusals) == {"balance", "nonce"}
