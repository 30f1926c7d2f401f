"""Proofs of audits: what is drawn, what proves it, and what does not."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from chain import audit
from chain.errors import InvalidProof
from chain.hashing import tagged_hash
from chain.primitives import Hash
from ml.auditing import (
    DIGESTS_BYTES_MAX,
    OUTPUTS_DRAWN,
    draw_outputs,
    list_telling_outputs,
    prove_audit,
    verify_audit,
)
from ml.backends import get_backend
from ml.checkpoint import compute_initial_checkpoint
from ml.dataset import load_digits
from ml.disputing import open_digests
from ml.models import build_program
from ml.program import OpKind, Program
from ml.proving import Snapshots
from ml.segment import Runner, StepTensors, run_steps
from ml.spec import DIGITS, Decoder
from ml.tensor_tree import DIGEST_BYTES, compute_tensor_root
from ml.trace import Trace, compute_step_roots

SPEC = replace(DIGITS, segment_steps=4, warmup_steps=1, decay_steps=1)
SEED = tagged_hash("test", b"segment")


def make_challenge(number: int) -> Hash:
    return tagged_hash("test", number.to_bytes(4, "little"))


class Segment:
    """A segment of four steps with its trace, its states and the tensors of every step."""

    def __init__(self) -> None:
        dataset = load_digits(SPEC.heldout)
        program = build_program(SPEC)
        checkpoint = compute_initial_checkpoint(program)
        self.runner = Runner(program, get_backend("cpu"), dataset, SEED, checkpoint)
        self.steps: list[StepTensors] = []
        snapshots, roots = Snapshots(program, 2), []

        def on_step(step: int, tensors: StepTensors) -> None:
            snapshots.on_step(step, tensors)
            self.steps.append(tensors)
            roots.append(compute_step_roots(program, step, tensors))

        run_steps(self.runner, on_step)
        self.states = snapshots.states
        self.trace = Trace(program, tuple(map(compute_tensor_root, checkpoint.weights)), b"".join(roots))


@pytest.fixture(scope="module")
def segment() -> Segment:
    return Segment()


def refuse(trace: Trace, challenge: Hash, digests: tuple[bytes, ...]) -> str:
    with pytest.raises(InvalidProof) as refused:
        verify_audit(trace, challenge, digests)
    return refused.value.rule


def name(program: Program, tensor: int) -> str:
    return program.tensors[tensor].name


def test_whoever_executed_the_segment_proves_it(segment: Segment) -> None:
    for number in range(20):
        challenge = make_challenge(number)
        digests = prove_audit(segment.runner, challenge)
        verify_audit(segment.trace, challenge, digests)
        assert prove_audit(segment.runner, challenge, segment.states) == digests


def test_a_proof_is_for_one_challenge_alone(segment: Segment) -> None:
    digests = prove_audit(segment.runner, make_challenge(0))
    for number in range(1, 50):
        assert refuse(segment.trace, make_challenge(number), digests) in {"digests-size", "digests-root"}


def test_what_a_proof_has_to_be(segment: Segment) -> None:
    challenge = make_challenge(1)
    digests = prove_audit(segment.runner, challenge)
    assert refuse(segment.trace, challenge, digests[:-1]) == "audit-count"
    assert refuse(segment.trace, challenge, (*digests, digests[0])) == "audit-count"
    for place in range(OUTPUTS_DRAWN):
        changed = bytearray(digests[place])
        changed[0] ^= 1
        altered = (*digests[:place], bytes(changed), *digests[place + 1 :])
        assert refuse(segment.trace, challenge, altered) == "digests-root"
        longer = (*digests[:place], digests[place] + bytes(DIGEST_BYTES), *digests[place + 1 :])
        assert refuse(segment.trace, challenge, longer) == "digests-size"
    short = replace(segment.trace, output_roots=segment.trace.output_roots[:-DIGEST_BYTES])
    assert refuse(short, challenge, digests) == "sidecar-size"


def test_threat_28_a_proof_needs_the_last_step(segment: Segment) -> None:
    """Whoever stops one step early, and shows the state that it has instead, is refused for every challenge."""
    program, last = segment.runner.program, SPEC.segment_steps - 1
    for number in range(50):
        challenge = make_challenge(number)
        drawn = draw_outputs(program, challenge)
        assert [output.step for output in drawn[::2]] == [last] * (OUTPUTS_DRAWN // 2)
        shown = tuple(open_digests(segment.steps[min(each.step, last - 1)][each.tensor]) for each in drawn)
        assert refuse(segment.trace, challenge, shown) == "digests-root"


def test_draws_reach_every_step_and_everything_that_tells(segment: Segment) -> None:
    program = segment.runner.program
    drawn = [output for number in range(3_000) for output in draw_outputs(program, make_challenge(number))]
    telling = list_telling_outputs(program)
    assert Counter(output.step for output in drawn[1::2]).keys() == set(range(SPEC.segment_steps))
    assert {output.tensor for output in drawn} == set(telling)
    state = {output.tensor for output in drawn[::2]}
    assert state == set(program.state_outputs) & set(telling)


def test_nothing_is_drawn_that_takes_no_training(segment: Segment) -> None:
    """Batches follow from the seed, deltas stand in the block data, exponents can be guessed."""
    program = segment.runner.program
    telling = set(list_telling_outputs(program))
    by_kind: dict[OpKind, set[int]] = {}
    for op in (*program.ops, *program.delta_ops):
        by_kind.setdefault(op.kind, set()).update(op.outputs)
    assert telling.isdisjoint(by_kind[OpKind.BATCH] | by_kind[OpKind.DELTA])
    assert all(program.tensors[output].columns > 1 for output in telling)
    quantised_input = program.ops[1]
    assert quantised_input.kind in {OpKind.QUANTISE_ROWS, OpKind.QUANTISE_TRANSPOSED}
    assert telling.isdisjoint(quantised_input.outputs), "what follows from the batch alone"
    assert by_kind[OpKind.ADAM] <= telling
    assert by_kind[OpKind.LINEAR] <= telling
    # With other weights everything that tells is another tensor; only then does its root tell nothing beforehand.
    checkpoint = segment.runner.checkpoint
    moved = replace(checkpoint, weights=tuple(weights + np.int32(1 << 20) for weights in checkpoint.weights))
    other: list[StepTensors] = []
    run_steps(replace(segment.runner, checkpoint=moved), lambda _, tensors: other.append(tensors))
    for output in telling:
        same = np.array_equal(segment.steps[-1][output], other[-1][output])
        assert not same, name(program, output)


def test_what_is_too_large_is_not_drawn() -> None:
    model = Decoder(256, 1024, 64, 2, 4, 256, 0, 1)
    program = build_program(replace(DIGITS, model=model, batch=8, heldout=0))
    large = [tensor for tensor in program.tensors if tensor.size_bytes > 64 << 20]
    assert large, "attention's scores of 8 sequences"
    telling = set(list_telling_outputs(program))
    assert telling.isdisjoint(tensor.id for tensor in large)
    assert set(program.state_outputs) <= telling | {
        output for output in program.state_outputs if program.tensors[output].columns == 1
    }


def test_a_proof_fits_its_transaction() -> None:
    assert DIGESTS_BYTES_MAX == audit.DIGESTS_BYTES_MAX
    assert OUTPUTS_DRAWN <= audit.OUTPUTS_DRAWN_MAX
