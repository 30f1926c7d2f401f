"""One committed step of a model with all that its verifiers read, and errors planted in it.

A planted error is that of a liar who goes on from it: every op but one is right for the inputs that it had. So of the
claims that a check makes only those of the one op can fail, and only those are decided here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from chain.errors import InvalidProof
from chain.hashing import tagged_hash
from ml.backends import Backend, get_backend
from ml.backends.cpu.freivalds import compute_residues
from ml.backends.cpu.tensor_hash import compute_tensor_roots
from ml.checkpoint import compute_initial_checkpoint
from ml.checks import BLOCK_COLUMNS, CheckContext, read_claims, validate_claim
from ml.dataset import Dataset
from ml.freivalds import Verifier, verify_step
from ml.models import build_program
from ml.openings import Place, draw_places
from ml.program import Op, OpKind, Program, TensorId
from ml.segment import Runner, StepTensors, compute_initial_state, run_step
from ml.spec import Decoder, Spec
from ml.tensor_tree import IntArray, compute_tensor_root
from ml.trace import Trace, compute_step_roots
from ml.transcript import make_transcript

PLACES = 8
"""Places that a challenge draws."""
DIGEST_BYTES = 32

_BLOCKS = {
    *(OpKind.RELU, OpKind.RELU_BACKWARD, OpKind.RELU_SQUARED, OpKind.RELU_SQUARED_BACKWARD, OpKind.ADD),
    *(OpKind.ADAM, OpKind.EMBED),
}
_ELEMENTS = {
    *(OpKind.LINEAR, OpKind.TRANSPOSE, OpKind.QUANTISE_TRANSPOSED),
    *(OpKind.EMBEDDING_GRADIENT, OpKind.POSITION_GRADIENT),
}


@dataclass(frozen=True, slots=True)
class StepCase:
    """The only step of a segment, run and committed."""

    runner: Runner
    context: CheckContext
    trace: Trace
    tensors: StepTensors
    transcript: bytes

    @property
    def program(self) -> Program:
        """Return the step's program, delta ops included."""
        return self.runner.program

    @property
    def ops(self) -> tuple[Op, ...]:
        """Return all ops of the step."""
        return self.program.get_step_ops(0)


@dataclass(frozen=True, slots=True)
class ArrayReader:
    """Reads tensors as they are: what a check reads once paths are verified."""

    tensors: Mapping[TensorId, IntArray]

    def read(self, tensor: TensorId, row: int, start: int, stop: int) -> IntArray:
        """Return the columns [start, stop) of a row."""
        part: IntArray = self.tensors[tensor][row, start:stop]
        return part

    def find_tallest(self, tensor: TensorId, column: int, rows: tuple[int, int]) -> int:
        """Return the first of these rows with the largest magnitude of a column."""
        values = self.tensors[tensor][rows[0] : rows[1], column].astype(np.int64)
        return rows[0] + int(np.abs(values).argmax())


def make_verifier() -> Verifier:
    """Return the compiled verifier of transcripts."""
    return Verifier(get_backend("cpu"), compute_residues, compute_tensor_roots)


def make_case(spec: Spec, dataset: Dataset) -> StepCase:
    """Return the first step of a spec, as the one step of a segment."""
    program = build_program(replace(spec, segment_steps=1, warmup_steps=0, decay_steps=0))
    backend: Backend = get_backend("cpu")
    checkpoint = compute_initial_checkpoint(program)
    runner = Runner(program, backend, dataset, tagged_hash("benchmark", b"verifiers"), checkpoint)
    tensors = run_step(runner, 0, compute_initial_state(program, checkpoint))
    roots = compute_step_roots(program, 0, tensors, compute_tensor_roots)
    trace = Trace(program, tuple(map(compute_tensor_root, checkpoint.weights)), roots)
    context = CheckContext(program, dataset, runner.segment_seed)
    return StepCase(runner, context, trace, tensors, make_transcript(program, backend, 0, tensors))


def reexecute(case: StepCase) -> bool:
    """Say whether the step, run again from its state, has the committed roots."""
    tensors = run_step(case.runner, 0, compute_initial_state(case.program, case.runner.checkpoint))
    return compute_step_roots(case.program, 0, tensors, compute_tensor_roots) == case.trace.output_roots


def plant(case: StepCase, rng: np.random.Generator) -> tuple[Op, StepTensors]:
    """Return an op and the tensors with one element of one output of it changed; every tensor has the same chance."""
    outputs = [(op, output) for op in case.ops for output in op.outputs]
    op, output = outputs[int(rng.integers(len(outputs)))]
    forged = case.tensors[output].copy()
    forged[int(rng.integers(forged.shape[0])), int(rng.integers(forged.shape[1]))] ^= 1
    return op, {**case.tensors, output: forged}


def is_caught_by_places(case: StepCase, forged: Op, tensors: StepTensors, challenge: bytes) -> bool:
    """Say whether one of the places that a challenge draws shows the op's error."""
    drawn = draw_places(case.program, tagged_hash("benchmark", challenge), PLACES)
    return any(
        _is_caught_at(case, forged, tensors, place) for place in drawn if forged.index in _list_checked(case, place)
    )


def _is_caught_at(case: StepCase, forged: Op, tensors: StepTensors, place: Place) -> bool:
    try:
        for claim in read_claims(case.context, place, ArrayReader(tensors)):
            if claim.place.op == forged.index:
                validate_claim(claim)
    except InvalidProof:
        return True
    return False


def _list_checked(case: StepCase, place: Place) -> list[int]:
    return [place.op, *(op.index for op in _list_producers(case.program, case.program.get_op(place.op)))]


def _list_producers(program: Program, op: Op) -> list[Op]:
    """Return the ops that a check of a product checks too."""
    operands = (op.inputs[0], op.inputs[2]) if op.kind is OpKind.LINEAR else ()
    producers = [program.get_producer(operand) for operand in operands]
    return [producer for producer in producers if producer is not None]


def compute_chance(case: StepCase) -> float:
    """Return the chance that a challenge's places show an error planted as by `plant`."""
    program = case.program
    by_macs, by_record = dict.fromkeys(range(len(case.ops)), 0.0), dict.fromkeys(range(len(case.ops)), 0.0)
    for op in case.ops:
        matmul = program.get_matmul(op.index)
        for checked in (op, *_list_producers(program, op)):
            by_macs[checked.index] += matmul.macs / program.step_macs if matmul is not None else 0.0
            by_record[checked.index] += 1 / len(case.ops)
    chances = []
    for op in case.ops:
        for output in op.outputs:
            seen = [covered / program.tensors[output].columns for covered in _list_covered(program, op, output)]
            rows = program.tensors[output].rows
            missed = [
                ((1 - by_macs[op.index] * s / rows) * (1 - by_record[op.index] * s / rows)) ** (PLACES // 2)
                for s in seen
            ]
            chances.append(1 - sum(missed) / len(missed))
    return sum(chances) / len(chances)


def _list_covered(program: Program, op: Op, output: TensorId) -> Iterator[int]:
    """Yield for each column of an output how many of the row's columns, if drawn, have it compared."""
    columns = program.tensors[output].columns
    if op.kind in _ELEMENTS:
        yield from [1] * columns
    elif op.kind in _BLOCKS:
        for start in range(0, columns, BLOCK_COLUMNS):
            width = min(BLOCK_COLUMNS, columns - start)
            yield from [width] * width
    elif op.kind is OpKind.MERGE_HEADS:
        model = program.spec.model
        assert isinstance(model, Decoder)
        yield from [model.head_width] * columns
    else:
        yield from [columns] * columns


def is_caught_by_freivalds(verifier: Verifier, case: StepCase, trace: Trace, transcript: bytes) -> bool:
    """Say whether the verifier of transcripts refuses."""
    try:
        verify_step(verifier, case.context, trace, 0, transcript, tagged_hash("benchmark", b"coin"))
    except InvalidProof:
        return True
    return False


def commit_to(case: StepCase, op: Op, tensors: StepTensors) -> Trace:
    """Return the trace with the roots of an op's outputs taken from `tensors`."""
    roots = bytearray(case.trace.output_roots)
    places = {output: place for place, output in enumerate(case.program.get_step_outputs(0))}
    for output in op.outputs:
        start = DIGEST_BYTES * places[output]
        roots[start : start + DIGEST_BYTES] = compute_tensor_roots([tensors[output]])[0]
    return replace(case.trace, output_roots=bytes(roots))
