"""Verifying a whole step from its transcript: products by Freivalds, every other op by computing it again.

The walk is that of re-execution, with every product taken from the transcript and held against random vectors. The
vectors come from a coin that is drawn after the transcript is fixed, and from the transcript itself: no caller hands in
a vector and no prover an evaluation. A wrong step passes with a chance of p**-2. It draws no coin and asks no network.
Source: Freivalds 1977; the bound by Schwartz and Zippel.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from blake3 import blake3

from chain.errors import InvalidProof
from chain.hashing import tagged_hash, tagged_key
from chain.primitives import Hash
from ml.arithmetic import I32, I64, IntArray
from ml.backends import Backend
from ml.backends.reference_freivalds import MODULUS, OUT_OF_RANGE, VECTORS, ComputeResidues, Product
from ml.checkpoint import Checkpoint
from ml.checks import CheckContext
from ml.program import Op, OpKind, Program, TensorId
from ml.segment import Runner, StepTensors, as_i8, as_i32, run_op
from ml.trace import RootHasher, Trace, compute_step_root, validate_output_roots
from ml.transcript import Transcript, decode_transcript

COIN_BYTES = 32
WORD_BYTES = 8
"""Of the stream, for one entry: a word modulo p has no value more often than once in 1 / p + 2**-64."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """What computes: all backends give the same answers."""

    backend: Backend
    compute_residues: ComputeResidues
    hash_tensors: RootHasher


def verify_step(
    verifier: Verifier, context: CheckContext, trace: Trace, step: int, transcript: bytes, coin: bytes
) -> None:
    """Check every output of `step` under `trace` by its transcript; raises InvalidProof.

    coin: 32 bytes that nobody could foresee when the transcript was fixed: the verifier's own randomness, drawn after
    the transcript is in hand. A beacon of later than a commitment to the transcript serves too, with the weaker bound
    that a prover who tries `g` transcripts against one beacon passes with a chance of g p**-2.
    """
    program = context.program
    if len(coin) != COIN_BYTES:
        raise InvalidProof("coin-size", f"found {len(coin)} bytes, expected {COIN_BYTES}")
    validate_output_roots(program, trace.output_roots)
    parts = decode_transcript(program, step, transcript)
    seed = compute_seed(trace, step, transcript, coin)
    walk = _Walk(verifier, trace, step, parts, draw_vectors(seed, max(matmul.N for matmul in program.matmuls)))
    walk.validate_roots(parts.inputs)
    tensors: StepTensors = dict(parts.inputs)
    runner = _make_runner(verifier, context, parts)
    last_uses = _list_last_uses(program, step)
    for op in program.get_step_ops(step):
        inputs = [tensors[tensor] for tensor in op.inputs]
        outputs = (walk.check_product(op, inputs),) if op.kind is OpKind.LINEAR else run_op(runner, step, op, inputs)
        made: StepTensors = dict(zip(op.outputs, outputs, strict=True))
        walk.validate_roots(made)
        tensors.update(made)
        for tensor in last_uses[op.index]:
            del tensors[tensor]


def compute_seed(trace: Trace, step: int, transcript: bytes, coin: bytes) -> Hash:
    """Return the seed of a step's vectors: it depends on the coin, on what is committed and on what is served."""
    served = blake3(transcript).digest()
    return tagged_hash("freivalds", coin, step.to_bytes(4, "little"), compute_step_root(trace, step), served)


def draw_vectors(seed: Hash, length: int) -> I64:
    """Return two vectors (2, length) int64 of entries in [0, p), uniform but for 2**-64 an entry."""
    stream = blake3(seed, key=tagged_key("freivalds-vectors")).digest(length=VECTORS * length * WORD_BYTES)
    words = np.frombuffer(stream, "<u8") % np.uint64(MODULUS)
    vectors: I64 = words.astype(np.int64).reshape(VECTORS, length)
    return vectors


def validate_product(product: Product, residues: I64, name: str) -> None:
    """Check that every residue of a product is zero; raises InvalidProof and names the first row that is wrong."""
    wrong = np.flatnonzero(residues.any(axis=1))
    if not len(wrong):
        return
    row = int(wrong[0])
    if residues[row, 0] == OUT_OF_RANGE:
        found = int(np.abs(product.c[row].astype(np.int64)).max())
        raise InvalidProof("product-range", f"{name}: found {found} in row {row}, expected at most {product.bound}")
    raise InvalidProof("product", f"{name}: found residues {residues[row].tolist()} in row {row}, expected zeros")


@dataclass(frozen=True, slots=True)
class _Walk:
    """One step on its way through the program."""

    verifier: Verifier
    trace: Trace
    step: int
    parts: Transcript
    vectors: I64

    def validate_roots(self, tensors: StepTensors) -> None:
        """Hold tensors against the roots that the trace gives them; raises InvalidProof."""
        names = list(tensors)
        for tensor, root in zip(names, self.verifier.hash_tensors([tensors[n] for n in names]), strict=True):
            expected = self.trace.get_root(self.step, tensor)
            if root != expected:
                name = self.trace.program.tensors[tensor].name
                raise InvalidProof("tensor-root", f"{name}: found root {root.hex()}, expected {expected.hex()}")

    def check_product(self, op: Op, inputs: Sequence[IntArray]) -> I32:
        """Return the output of a LINEAR op by its served product; raises InvalidProof when that is not the product."""
        a, a_exponents, b, b_exponents = as_i8(inputs[0]), as_i32(inputs[1]), as_i8(inputs[2]), as_i32(inputs[3])
        product = Product(a, b, self.parts.products[op.index], op.groups)
        residues = self.verifier.compute_residues(product, np.ascontiguousarray(self.vectors[:, : product.c.shape[1]]))
        validate_product(product, residues, self.trace.program.tensors[op.outputs[0]].name)
        parts = (np.split(part, op.groups) for part in (product.c, a_exponents, b_exponents))
        rescale = self.verifier.backend.rescale
        groups = [rescale(c, rows, columns, op.shift) for c, rows, columns in zip(*parts, strict=True)]
        return np.concatenate([np.tril(group) for group in groups] if op.is_causal else groups)


def _make_runner(verifier: Verifier, context: CheckContext, parts: Transcript) -> Runner:
    """Return what runs the other ops; the weights that it starts from are the transcript's."""
    count = len(context.program.parameters)
    weights = tuple(as_i32(parts.inputs[tensor]) for tensor in context.program.state_inputs[:count])
    checkpoint = Checkpoint(weights, ())
    return Runner(
        context.program,
        verifier.backend,
        context.dataset,
        context.segment_seed,
        checkpoint,
        task_round=context.task_round,
    )


def _list_last_uses(program: Program, step: int) -> dict[int, list[TensorId]]:
    """Return by op the tensors that no later op reads, so that a verifier need not keep them."""
    last = {tensor: op.index for op in program.get_step_ops(step) for tensor in (*op.inputs, *op.outputs)}
    uses: dict[int, list[TensorId]] = {op.index: [] for op in program.get_step_ops(step)}
    for tensor, op in sorted(last.items()):
        uses[op].append(tensor)
    return uses
