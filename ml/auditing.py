"""Proving an audit: which outputs of a segment an auditor is asked about, and the digests of their strips.

Strip digests lead to the roots that stand in the block data, and roots do not lead back to them; so nobody has those
of a tensor who has not computed the tensor, or was told. Half of the draws are of weights and moments after the last
step, which no earlier step gives; the others are of any step. It knows neither auditors nor pay.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from chain.errors import DecodeError, InvalidProof
from chain.primitives import Hash
from ml.disputing import open_digests, verify_digests
from ml.models import build_program
from ml.prf import derive_key, draw_below
from ml.program import Program, TensorId, TensorKind
from ml.proving import State, rerun_steps
from ml.segment import Runner
from ml.spec import Spec
from ml.tensor_tree import DIGEST_BYTES
from ml.trace import Trace, get_tensor_shape, validate_output_roots

OUTPUTS_DRAWN = 4
"""By turns of the state after the last step and of any step; with two of each, copying from another's proof or from
openings that happen to show what is drawn fails but for one time in millions."""

DIGESTS_BYTES_MAX = 64 * 1024
"""Of one output; those with more are not drawn. Of 2,048 strips, each covering up to 32 KiB of a tensor."""


@dataclass(frozen=True, slots=True)
class DrawnOutput:
    """An output of a step whose digests are to be shown."""

    step: int
    tensor: TensorId


def draw_outputs(program: Program, challenge: Hash) -> tuple[DrawnOutput, ...]:
    """Return the outputs that an auditor with this challenge has to show, in order."""
    return tuple(_draw(program, challenge, number) for number in range(OUTPUTS_DRAWN))


def prove_audit(runner: Runner, challenge: Hash, states: Mapping[int, State] | None = None) -> tuple[bytes, ...]:
    """Return what proves that the runner's segment was executed; `states` before some steps save running others."""
    drawn = draw_outputs(runner.program, challenge)
    steps = rerun_steps(runner, [output.step for output in drawn], states)
    return tuple(open_digests(steps[output.step][output.tensor]) for output in drawn)


def verify_audit(trace: Trace, challenge: Hash, digests: tuple[bytes, ...]) -> None:
    """Check that `digests` are of the outputs that `challenge` draws, under their roots; raises InvalidProof."""
    validate_output_roots(trace.program, trace.output_roots)
    drawn = draw_outputs(trace.program, challenge)
    if len(digests) != len(drawn):
        raise InvalidProof("audit-count", f"found {len(digests)} outputs, expected {len(drawn)}")
    for output, data in zip(drawn, digests, strict=True):
        verify_digests(trace, output.step, output.tensor, data)


def validate_auditable(program: Program) -> None:
    """Check that there is something that an audit can draw; raises DecodeError."""
    if not _list_final(program, list_telling_outputs(program)):
        raise DecodeError("task: found weights of one column alone, expected a matrix that an audit can draw")


def list_telling_outputs(program: Program) -> tuple[TensorId, ...]:
    """Return the outputs of a step that only its execution gives, and whose digests fit a proof.

    What follows from seed and data alone takes no training; deltas stand in the block data; vectors, as exponents are,
    hold so little that a root lets them be guessed.
    """
    trained = {tensor.id for tensor in program.tensors if tensor.kind is not TensorKind.OUTPUT}
    telling: list[TensorId] = []
    for op in program.ops:
        if trained.isdisjoint(op.inputs):
            continue
        trained.update(op.outputs)
        telling += [output for output in op.outputs if program.tensors[output].columns > 1]
    return tuple(output for output in telling if _compute_digests_size(program, output) <= DIGESTS_BYTES_MAX)


def _compute_digests_size(program: Program, tensor: TensorId) -> int:
    return get_tensor_shape(program.tensors[tensor]).strips * DIGEST_BYTES


def _draw(program: Program, challenge: Hash, number: int) -> DrawnOutput:
    key = derive_key("audit.output", challenge, number.to_bytes(4, "little"))
    telling, final = _get_candidates(program.spec)
    if number % 2 == 0:
        return DrawnOutput(program.steps - 1, final[draw_below(key, 1, len(final))])
    return DrawnOutput(draw_below(key, 0, program.steps), telling[draw_below(key, 1, len(telling))])


@cache
def _get_candidates(spec: Spec) -> tuple[tuple[TensorId, ...], tuple[TensorId, ...]]:
    """Return what may be drawn of any step, and of those the weights and moments after it."""
    program = build_program(spec)
    telling = list_telling_outputs(program)
    final = _list_final(program, telling)
    assert final, "what is audited was found auditable"
    return telling, final


def _list_final(program: Program, telling: tuple[TensorId, ...]) -> tuple[TensorId, ...]:
    return tuple(output for output in program.state_outputs if output in telling)
