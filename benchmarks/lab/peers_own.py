"""Our half of the comparison of proofs: one step is trained, committed and opened, and verified in three ways.

It is the path of a miner and of its verifiers. The step is the only one of its segment, so that its delta is in it; the
verifier's process reads what the prover's has left in the folder, and nothing else of it.
Run as a module it measures one phase: `python -m benchmarks.lab.peers_own CASE PHASE REPEATS FOLDER`.
"""

import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.lab.peers_case import Finding, PeerCase, answer, measure_in_turn
from benchmarks.lab.records import LabError
from benchmarks.verifier_cases import PLACES, StepCase, compute_chance, make_verifier, reexecute
from chain.errors import InvalidProof
from chain.hashing import tagged_hash
from ml.backends import get_backend
from ml.backends.cpu.tensor_hash import compute_tensor_roots
from ml.checkpoint import compute_initial_checkpoint
from ml.checks import CheckContext
from ml.dataset import BYTE_SCALE, Examples, build_dataset, encode_examples
from ml.freivalds import COIN_BYTES, verify_step
from ml.mlp import build_mlp
from ml.models import build_program
from ml.proving import prove_segment, verify_openings
from ml.segment import Runner, StepTensors, compute_initial_state, run_step
from ml.spec import DIGITS, Mlp, Spec
from ml.tensor_tree import compute_tensor_root
from ml.trace import Trace, compute_step_roots, compute_trace_root
from ml.transcript import make_transcript

EXAMPLES = 64
SEGMENT_SEED = tagged_hash("benchmark", b"peers")
PROOF_FILE = "proof"
CHALLENGE = tagged_hash("benchmark", b"challenge")
Check = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Proof:
    """What a prover sends of a step: roots to all, openings or a transcript to whoever asks for them."""

    roots: bytes
    openings: tuple[bytes, ...]
    transcript: bytes


def make_spec(case: PeerCase) -> Spec:
    """Return the spec of a classifier of one layer with as many classes as inputs, one step a segment."""
    model, steps = Mlp((case.width, case.width)), {"segment_steps": 1, "warmup_steps": 0, "decay_steps": 0}
    return replace(DIGITS, model=model, batch=case.batch, heldout=1, **steps)


def make_runner(case: PeerCase) -> Runner:
    """Return what trains the case, from its first checkpoint, on examples of evenly drawn pixels and labels."""
    program, rng = build_program(make_spec(case)), np.random.default_rng(case.width)
    pixels = rng.integers(0, 256, (EXAMPLES, case.width), np.uint8)
    labels = rng.integers(0, case.width, EXAMPLES, np.uint8)
    dataset = build_dataset(encode_examples(pixels, labels, BYTE_SCALE.centre, BYTE_SCALE.shift), 1)
    assert isinstance(dataset, Examples)
    return Runner(program, get_backend("cpu"), dataset, SEGMENT_SEED, compute_initial_checkpoint(program))


def train(runner: Runner) -> StepTensors:
    """Return every tensor of the step."""
    return run_step(runner, 0, compute_initial_state(runner.program, runner.checkpoint))


def commit(runner: Runner, tensors: StepTensors) -> Trace:
    """Return the trace of the step, its root computed too: what a contribution commits to."""
    roots = compute_step_roots(runner.program, 0, tensors, compute_tensor_roots)
    trace = Trace(runner.program, tuple(map(compute_tensor_root, runner.checkpoint.weights)), roots)
    compute_trace_root(trace)
    return trace


def set_up(case: PeerCase, repeats: int, folder: Path) -> Finding:
    """Measure writing the program down and drawing the first weights: there is no key to generate."""
    spec, _ = make_spec(case), folder
    assert isinstance(spec.model, Mlp)
    program = build_program(spec)
    prepare: dict[str, Callable[[], object]] = {
        "program": partial(build_mlp, spec, spec.model),
        "weights": partial(compute_initial_checkpoint, program),
    }
    measure_in_turn(prepare, 1)
    return Finding(measure_in_turn(prepare, repeats))


def prove(case: PeerCase, repeats: int, folder: Path) -> Finding:
    """Measure training, commitment, openings (which train the step again, as a miner does) and transcript."""
    runner = make_runner(case)
    program = runner.program
    tensors = train(runner)
    trace = commit(runner, tensors)
    work: dict[str, Callable[[], object]] = {
        "compute": partial(train, runner),
        "commit": partial(commit, runner, tensors),
        "open": partial(prove_segment, runner, CHALLENGE, PLACES),
        "transcript": partial(make_transcript, program, runner.backend, 0, tensors),
    }
    measure_in_turn(work, 1)
    samples = measure_in_turn(work, repeats)
    openings = prove_segment(runner, CHALLENGE, PLACES)
    transcript = make_transcript(program, runner.backend, 0, tensors)
    proof = Proof(trace.output_roots, openings, transcript)
    (folder / PROOF_FILE).write_bytes(msgspec.msgpack.encode(proof))
    context = CheckContext(program, runner.dataset, runner.segment_seed)
    chance = compute_chance(StepCase(runner, context, trace, tensors, transcript))
    sizes = {"roots": len(trace.output_roots), "openings": sum(map(len, openings)), "transcript": len(transcript)}
    return Finding(samples, sizes, {"chance": chance, "macs": float(program.step_macs)})


def verify(case: PeerCase, repeats: int, folder: Path) -> Finding:
    """Measure the three verifiers on what the prover has left.

    Raises InvalidProof when one refuses it, LabError when one accepts it changed.
    """
    proof = msgspec.msgpack.decode((folder / PROOF_FILE).read_bytes(), type=Proof)
    runner = make_runner(case)
    checks = make_checks(runner, proof)
    measure_in_turn(checks, 1)
    samples = measure_in_turn(checks, repeats)
    for name, changed in list_changed(proof).items():
        expect_refusal(name, make_checks(runner, changed)[name])
    return Finding(samples)


def make_checks(runner: Runner, proof: Proof) -> dict[str, Check]:
    """Return the verifiers of a proof by name; each raises InvalidProof."""
    program = runner.program
    trace = Trace(program, tuple(map(compute_tensor_root, runner.checkpoint.weights)), proof.roots)
    context = CheckContext(program, runner.dataset, runner.segment_seed)
    verifier = make_verifier()

    def check_transcript() -> None:
        verify_step(verifier, context, trace, 0, proof.transcript, secrets.token_bytes(COIN_BYTES))

    def run_again() -> None:
        if not reexecute(StepCase(runner, context, trace, {}, proof.transcript)):
            raise InvalidProof("step-roots", "found other roots, expected those of the step run again")

    return {
        "spot checks": partial(verify_openings, context, trace, CHALLENGE, PLACES, proof.openings),
        "Freivalds": check_transcript,
        "re-execution": run_again,
    }


def list_changed(proof: Proof) -> dict[str, Proof]:
    """Return the proof with one bit changed of what each verifier alone reads, by its name; roots all of them read."""
    return {
        "spot checks": replace(proof, openings=(flip_bit(proof.openings[0]), *proof.openings[1:])),
        "Freivalds": replace(proof, transcript=flip_bit(proof.transcript)),
        "re-execution": replace(proof, roots=flip_bit(proof.roots)),
    }


def flip_bit(data: bytes) -> bytes:
    """Return the bytes with one bit in their middle changed."""
    changed = bytearray(data)
    changed[len(data) // 2] ^= 1
    return bytes(changed)


def expect_refusal(name: str, check: Check) -> None:
    """Run a check that must fail; raises LabError when it passes."""
    try:
        check()
    except InvalidProof:
        return
    raise LabError(f"{name}: found a changed proof accepted, expected it refused")


if __name__ == "__main__":
    answer({"set-up": set_up, "prove": prove, "verify": verify}, sys.argv[1:])
