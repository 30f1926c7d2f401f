"""The fixed program of one training step: its tensors, its ops in order, its matmuls, and a segment's last ops.

Everything here follows from the spec alone, so that miner, checker and verifier name the same tensor by the same id.
It holds no array and imports none of the libraries that would: it is read by light clients too.
Every tensor is two-dimensional; both operands of a matmul lie by rows along the contraction (C = A x B transposed).
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import NewType

from ml.spec import MlpSpec

TensorId = NewType("TensorId", int)


class Dtype(IntEnum):
    """The element types of tensors, by the code that enters a tensor's root; bytes are little-endian."""

    INT8 = 1
    INT32 = 2
    INT64 = 3

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return {Dtype.INT8: 1, Dtype.INT32: 4, Dtype.INT64: 8}[self]


class TensorKind(IntEnum):
    """Where a tensor comes from."""

    STATE = 1
    """Carried into the step: weights and moments (the checkpoint's weights and zero moments at step 0)."""
    CHECKPOINT = 2
    """Weights that the segment started from; read by the delta ops alone."""
    OUTPUT = 3
    """Output of an op."""


class OpKind(IntEnum):
    """What an op computes; `ml.backends.reference` is the definition."""

    BATCH = 1
    """() -> x (batch, in) int32 F16, labels (batch, 1) int32: rows of the training split drawn by the PRF."""
    QUANTISE_ROWS = 2
    """t (rows, columns) int32 -> mantissas (rows, columns) int8 in [-63, 63], exponents (rows, 1) int32."""
    QUANTISE_TRANSPOSED = 3
    """t (rows, columns) int32 -> the transpose quantised by its rows: (columns, rows) int8, (columns, 1) int32."""
    LINEAR = 4
    """a (M, K) int8, its exponents, b (N, K) int8, its exponents -> (M, N) int32."""
    RELU = 5
    """z -> max(z, 0), int32."""
    SOFTMAX_XENT_GRADIENT = 6
    """z (batch, classes) int32 F16, labels -> gradient int32 F20, loss (batch, 1) int32 F16 in bits."""
    RELU_BACKWARD = 7
    """da, z -> da where z > 0, else 0."""
    ADAM = 8
    """w int32 F24, m int64, v int64, g int32 F16 -> w, m, v after the step."""
    DELTA = 9
    """w after, w before -> their difference quantised by rows to 8 bits: int8 in [-127, 127], exponents int32."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A two-dimensional tensor of the program."""

    id: TensorId
    name: str
    rows: int
    columns: int
    dtype: Dtype
    kind: TensorKind

    @property
    def size_bytes(self) -> int:
        """Bytes of all elements."""
        return self.rows * self.columns * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Op:
    """One op of the program. `inputs` and `outputs` stand in the order of its kind's description."""

    index: int
    kind: OpKind
    layer: int
    inputs: tuple[TensorId, ...]
    outputs: tuple[TensorId, ...]
    stochastic: bool = False
    """Quantise ops: round by the PRF of (segment seed, step, op, destination element), not to nearest."""
    shift: int = 0
    """LINEAR: bits that the accumulator is shifted right by, less the two exponents."""


@dataclass(frozen=True, slots=True)
class Matmul:
    """C (M, N) = A (M, K) x B (N, K) transposed: a LINEAR op as the lottery sees it."""

    op: int
    M: int
    N: int
    K: int
    a: TensorId
    b: TensorId

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the product."""
        return self.M * self.N * self.K


@dataclass(frozen=True, slots=True)
class Program:
    """The ops of one step, and of a segment's end, with every tensor they name."""

    spec: MlpSpec
    tensors: tuple[Tensor, ...]
    """By id: `tensors[id].id == id`."""
    ops: tuple[Op, ...]
    """Ops of every step, in order: `ops[index].index == index`."""
    delta_ops: tuple[Op, ...]
    """One per layer, after the last step's ops; their indexes follow on."""
    matmuls: tuple[Matmul, ...]
    state_inputs: tuple[TensorId, ...]
    """Weights of all layers, then first moments, then second moments."""
    state_outputs: tuple[TensorId, ...]
    """The same after the step: input i of step s + 1 is output i of step s."""
    checkpoint_weights: tuple[TensorId, ...]
    """Weights of the checkpoint per layer, as the delta ops name them."""

    @property
    def layers(self) -> int:
        """Number of linear layers."""
        return len(self.spec.widths) - 1

    @property
    def steps(self) -> int:
        """H: steps of a segment."""
        return self.spec.segment_steps

    @property
    def step_macs(self) -> int:
        """Multiply-accumulates of one step's matmuls."""
        return sum(matmul.macs for matmul in self.matmuls)

    @property
    def segment_macs(self) -> int:
        """Multiply-accumulates of a whole segment."""
        return self.steps * self.step_macs

    def get_step_ops(self, step: int) -> tuple[Op, ...]:
        """Return the ops of `step` in order; the last step of a segment ends with the delta ops."""
        assert 0 <= step < self.steps
        return self.ops + self.delta_ops if step == self.steps - 1 else self.ops

    def get_step_outputs(self, step: int) -> tuple[TensorId, ...]:
        """Return the ids of all tensors that `step` commits, in program order."""
        return tuple(output for op in self.get_step_ops(step) for output in op.outputs)

    def get_op(self, index: int) -> Op:
        """Return the op with this index, delta ops included; raises IndexError."""
        return (self.ops + self.delta_ops)[index]

    def get_matmul(self, op: int) -> Matmul | None:
        """Return the matmul of the op with this index, or None when it is no LINEAR op."""
        return next((matmul for matmul in self.matmuls if matmul.op == op), None)

    def get_producer(self, tensor: TensorId) -> Op | None:
        """Return the op that makes `tensor`, or None for state and checkpoint tensors."""
        return next((op for op in self.ops + self.delta_ops if tensor in op.outputs), None)


@cache
def build_program(spec: MlpSpec) -> Program:
    """Return the program of `spec`, which must be valid."""
    return _Builder(spec).build()


class _Builder:
    """Collects tensors and ops while the step is written down in order."""

    def __init__(self, spec: MlpSpec) -> None:
        self.spec = spec
        self.layers = len(spec.widths) - 1
        self.tensors: list[Tensor] = []
        self.ops: list[Op] = []
        self.matmuls: list[Matmul] = []
        self.updated: list[tuple[TensorId, ...]] = []

    def build(self) -> Program:
        state = [self._add_weights(name, dtype, TensorKind.STATE) for name, dtype in _STATE]
        weights, means, variances = state
        checkpoint = self._add_weights("w.checkpoint.", Dtype.INT32, TensorKind.CHECKPOINT)
        activations, logits, labels = self._add_forward(weights)
        gradients = self._add_backward(weights, activations, logits, labels)
        after = [
            self._add_adam(layer, (*moments, gradients[layer]))
            for layer, moments in enumerate(zip(weights, means, variances, strict=True))
        ]
        count = len(self.ops)
        for layer in range(self.layers):
            self._add_quantise(OpKind.DELTA, layer, (after[layer][0], checkpoint[layer]), f"delta{layer}")
        return Program(
            spec=self.spec,
            tensors=tuple(self.tensors),
            ops=tuple(self.ops[:count]),
            delta_ops=tuple(self.ops[count:]),
            matmuls=tuple(self.matmuls),
            state_inputs=tuple(tensor for group in state for tensor in group),
            state_outputs=tuple(layer[part] for part in range(len(_STATE)) for layer in after),
            checkpoint_weights=checkpoint,
        )

    def _add_weights(self, prefix: str, dtype: Dtype, kind: TensorKind) -> tuple[TensorId, ...]:
        shapes = zip(self.spec.widths[1:], self.spec.widths[:-1], strict=True)
        return tuple(self._add_tensor(f"{prefix}{layer}", *shape, dtype, kind) for layer, shape in enumerate(shapes))

    def _add_forward(self, weights: tuple[TensorId, ...]) -> tuple[list[TensorId], list[TensorId], TensorId]:
        batch, widths = self.spec.batch, self.spec.widths
        x, labels = self._output("x", batch, widths[0]), self._output("labels", batch, 1)
        self._add_op(OpKind.BATCH, 0, (), (x, labels))
        activations, logits = [x], []
        for layer in range(self.layers):
            a = self._add_quantise(OpKind.QUANTISE_ROWS, layer, (activations[layer],), f"x{layer}.rows")
            b = self._add_quantise(OpKind.QUANTISE_ROWS, layer, (weights[layer],), f"w{layer}.rows")
            logits.append(self._add_linear(layer, a, b, f"z{layer}", shift=24))
            if layer + 1 < self.layers:
                activations.append(self._output(f"a{layer + 1}", batch, widths[layer + 1]))
                self._add_op(OpKind.RELU, layer, (logits[layer],), (activations[-1],))
        return activations, logits, labels

    def _add_backward(
        self, weights: tuple[TensorId, ...], activations: list[TensorId], logits: list[TensorId], labels: TensorId
    ) -> dict[int, TensorId]:
        last, gradients = self.layers - 1, {}
        dz = self._output(f"dz{last}", self.spec.batch, self.spec.widths[-1])
        loss = self._output("loss", self.spec.batch, 1)
        self._add_op(OpKind.SOFTMAX_XENT_GRADIENT, last, (logits[last], labels), (dz, loss))
        for layer in range(last, -1, -1):
            columns_dz = self._add_quantise(
                OpKind.QUANTISE_TRANSPOSED, layer, (dz,), f"dz{layer}.columns", stochastic=True
            )
            columns_x = self._add_quantise(
                OpKind.QUANTISE_TRANSPOSED, layer, (activations[layer],), f"x{layer}.columns"
            )
            gradients[layer] = self._add_linear(layer, columns_dz, columns_x, f"g{layer}", shift=20)
            if layer > 0:
                dz = self._add_input_gradient(layer, dz, weights[layer], logits[layer - 1])
        return gradients

    def _add_input_gradient(self, layer: int, dz: TensorId, weights: TensorId, z: TensorId) -> TensorId:
        a = self._add_quantise(OpKind.QUANTISE_ROWS, layer, (dz,), f"dz{layer}.rows", stochastic=True)
        b = self._add_quantise(OpKind.QUANTISE_TRANSPOSED, layer, (weights,), f"w{layer}.columns")
        da = self._add_linear(layer, a, b, f"da{layer}", shift=24)
        below = self._output(f"dz{layer - 1}", self.tensors[da].rows, self.tensors[da].columns)
        self._add_op(OpKind.RELU_BACKWARD, layer - 1, (da, z), (below,))
        return below

    def _add_adam(self, layer: int, inputs: tuple[TensorId, ...]) -> tuple[TensorId, ...]:
        rows, columns = self.tensors[inputs[0]].rows, self.tensors[inputs[0]].columns
        outputs = tuple(self._output(f"{name}{layer}.after", rows, columns, dtype) for name, dtype in _STATE)
        self._add_op(OpKind.ADAM, layer, inputs, outputs)
        return outputs

    def _add_quantise(
        self, kind: OpKind, layer: int, inputs: tuple[TensorId, ...], name: str, stochastic: bool = False
    ) -> tuple[TensorId, TensorId]:
        rows, columns = self.tensors[inputs[0]].rows, self.tensors[inputs[0]].columns
        if kind is OpKind.QUANTISE_TRANSPOSED:
            rows, columns = columns, rows
        outputs = (self._output(name, rows, columns, Dtype.INT8), self._output(f"{name}.exponents", rows, 1))
        self._add_op(kind, layer, inputs, outputs, stochastic=stochastic)
        return outputs

    def _add_linear(
        self, layer: int, a: tuple[TensorId, TensorId], b: tuple[TensorId, TensorId], name: str, shift: int
    ) -> TensorId:
        left, right = self.tensors[a[0]], self.tensors[b[0]]
        assert left.columns == right.columns
        output = self._output(name, left.rows, right.rows)
        self.matmuls.append(Matmul(len(self.ops), left.rows, right.rows, left.columns, a[0], b[0]))
        self._add_op(OpKind.LINEAR, layer, (*a, *b), (output,), shift=shift)
        return output

    def _output(self, name: str, rows: int, columns: int, dtype: Dtype = Dtype.INT32) -> TensorId:
        return self._add_tensor(name, rows, columns, dtype, TensorKind.OUTPUT)

    def _add_tensor(self, name: str, rows: int, columns: int, dtype: Dtype, kind: TensorKind) -> TensorId:
        tensor = TensorId(len(self.tensors))
        self.tensors.append(Tensor(tensor, name, rows, columns, dtype, kind))
        return tensor

    def _add_op(
        self,
        kind: OpKind,
        layer: int,
        inputs: tuple[TensorId, ...],
        outputs: tuple[TensorId, ...],
        *,
        stochastic: bool = False,
        shift: int = 0,
    ) -> None:
        self.ops.append(Op(len(self.ops), kind, layer, inputs, outputs, stochastic, shift))


_STATE = (("w", Dtype.INT32), ("m", Dtype.INT64), ("v", Dtype.INT64))
