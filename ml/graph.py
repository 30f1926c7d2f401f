"""Writing a program down: tensors and ops are added in the order in which they are computed.

It holds what all models share (linear layers forward and backward, the optimizer, the delta) and knows no model;
`ml.mlp` and `ml.decoder` are the models. Both quantised views of a layer's input are made in the forward pass, so that
the int8 copy is what waits for the backward pass, and not the int32 tensor.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ml import arithmetic
from ml.program import Dtype, Matmul, Op, OpKind, Parameter, Program, Tensor, TensorId, TensorKind
from ml.spec import Spec, count_rows

FORWARD_SHIFT = arithmetic.WEIGHT_BITS
"""Activations F16 x weights F24 -> F16; gradients F24 x weights F24 -> F24."""
WEIGHT_GRADIENT_SHIFT = arithmetic.GRADIENT_BITS + arithmetic.ACTIVATION_BITS - arithmetic.WEIGHT_GRADIENT_BITS
FULL_SCALE_ROWS_BITS = 10
ROWS_SHIFT_MIN = -8
"""A weight gradient is a sum over rows; it is scaled to what 1,024 of them would give, from batches of 4 on."""

_STATE = (("w", Dtype.INT32), ("m", Dtype.INT32), ("v", Dtype.INT64))

Pair = tuple[TensorId, TensorId]
"""Mantissas and exponents."""


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear layer whose forward pass is written down; its backward pass needs these."""

    name: str
    layer: int
    parameter: int
    x_columns: Pair


class GraphBuilder:
    """Collects tensors and ops while a step is written down in order."""

    def __init__(self, spec: Spec, parameters: Sequence[Parameter]) -> None:
        """Start a program with these parameters; their state tensors have the first ids."""
        self.spec = spec
        self.parameters = tuple(parameters)
        self.tensors: list[Tensor] = []
        self._ops: list[Op] = []
        self._matmuls: list[Matmul] = []
        self._gradients: dict[int, TensorId] = {}
        self._state = [self._add_parameters(name, dtype, TensorKind.STATE) for name, dtype in _STATE]
        self._checkpoint = self._add_parameters("w.checkpoint", Dtype.INT32, TensorKind.CHECKPOINT)
        rows_bits = (count_rows(spec) - 1).bit_length()
        self.rows_shift = max(ROWS_SHIFT_MIN, rows_bits - FULL_SCALE_ROWS_BITS)
        """Bits that every weight gradient is scaled down by, or up by where negative."""

    def get_weights(self, parameter: int) -> TensorId:
        """Return the weights of a parameter, by its place in `parameters`."""
        return self._state[0][parameter]

    def add_op(
        self, op: Op, names: Sequence[str], shape: tuple[int, int], dtype: Dtype = Dtype.INT32
    ) -> tuple[TensorId, ...]:
        """Add `op` (its index and outputs are set here) with outputs of one shape; return them."""
        outputs = tuple(self._add_tensor(name, *shape, dtype, TensorKind.OUTPUT) for name in names)
        return self._append(op, outputs)

    def apply(self, kind: OpKind, layer: int, inputs: Sequence[TensorId], name: str) -> TensorId:
        """Add an op of one output that has the shape of its first input."""
        first = self.tensors[inputs[0]]
        return self.add_op(Op(0, kind, layer, tuple(inputs), ()), (name,), (first.rows, first.columns))[0]

    def add_loss(self, layer: int, logits: TensorId, labels: TensorId) -> tuple[TensorId, TensorId]:
        """Add softmax cross-entropy; return the gradient of the logits and the loss of each row."""
        tensor = self.tensors[logits]
        gradient = self._add_tensor("dlogits", tensor.rows, tensor.columns, Dtype.INT32, TensorKind.OUTPUT)
        loss = self._add_tensor("loss", tensor.rows, 1, Dtype.INT32, TensorKind.OUTPUT)
        self._append(Op(0, OpKind.SOFTMAX_XENT_GRADIENT, layer, (logits, labels), ()), (gradient, loss))
        return gradient, loss

    def add_batch(self, width: int) -> tuple[TensorId, TensorId]:
        """Add the drawing of labelled examples; return x and labels."""
        x = self._add_tensor("x", self.spec.batch, width, Dtype.INT32, TensorKind.OUTPUT)
        labels = self._add_tensor("labels", self.spec.batch, 1, Dtype.INT32, TensorKind.OUTPUT)
        self._append(Op(0, OpKind.BATCH, 0, (), ()), (x, labels))
        return x, labels

    def quantise_rows(self, layer: int, source: TensorId, name: str, *, is_stochastic: bool = False) -> Pair:
        """Quantise a tensor by its rows."""
        tensor = self.tensors[source]
        op = Op(0, OpKind.QUANTISE_ROWS, layer, (source,), (), is_stochastic)
        return self._add_quantised(op, f"{name}.rows", tensor.rows, tensor.columns)

    def quantise_columns(
        self, layer: int, source: TensorId, name: str, *, is_stochastic: bool = False, groups: int = 1
    ) -> Pair:
        """Quantise a tensor by its columns, and lay it out transposed, each group of rows by itself."""
        tensor = self.tensors[source]
        op = Op(0, OpKind.QUANTISE_TRANSPOSED, layer, (source,), (), is_stochastic, groups=groups)
        return self._add_quantised(op, f"{name}.columns", groups * tensor.columns, tensor.rows // groups)

    def multiply(self, layer: int, a: Pair, b: Pair, name: str, shift: int) -> TensorId:
        """Multiply two quantised tensors of one group."""
        left, right = self.tensors[a[0]], self.tensors[b[0]]
        macs = left.rows * right.rows * left.columns
        op = Op(0, OpKind.LINEAR, layer, (*a, *b), (), shift=shift)
        return self._add_product(op, name, macs, is_attention=False)

    def multiply_causal(self, op: Op, name: str) -> TensorId:
        """Multiply by groups inside attention, where a row sees its own position and those before it."""
        left, right = (self.tensors[op.inputs[i]] for i in (0, 2))
        # Two of the three dimensions are the context, so the positions seen are context (context + 1) / 2.
        dimensions = (left.rows // op.groups, right.rows // op.groups, left.columns)
        context = self.tensors[op.inputs[0]].rows // op.groups
        assert dimensions.count(context) >= 2
        macs = op.groups * dimensions[0] * dimensions[1] * dimensions[2] * (context + 1) // (2 * context)
        return self._add_product(op, name, macs, is_attention=True)

    def add_linear(self, layer: int, x: TensorId, parameter: int, name: str) -> tuple[TensorId, Linear]:
        """Add the forward pass of a linear layer: z = x W transposed."""
        rows = self.quantise_rows(layer, x, f"{name}.x")
        columns = self.quantise_columns(layer, x, f"{name}.x")
        weights = self.quantise_rows(layer, self.get_weights(parameter), f"{name}.w")
        return self.multiply(layer, rows, weights, f"{name}.z", FORWARD_SHIFT), Linear(name, layer, parameter, columns)

    def add_weight_gradient(self, linear: Linear, dz: TensorId) -> None:
        """Add the gradient of a linear layer's weights from that of its output."""
        columns = self.quantise_columns(linear.layer, dz, f"{linear.name}.dz", is_stochastic=True)
        shift = WEIGHT_GRADIENT_SHIFT + self.rows_shift
        gradient = self.multiply(linear.layer, columns, linear.x_columns, f"{linear.name}.g", shift)
        self.add_gradient(linear.layer, linear.parameter, gradient)

    def add_input_gradient(self, linear: Linear, dz: TensorId) -> TensorId:
        """Add and return the gradient of a linear layer's input from that of its output."""
        rows = self.quantise_rows(linear.layer, dz, f"{linear.name}.dz", is_stochastic=True)
        weights = self.quantise_columns(linear.layer, self.get_weights(linear.parameter), f"{linear.name}.w")
        return self.multiply(linear.layer, rows, weights, f"{linear.name}.dx", FORWARD_SHIFT)

    def add_gradient(self, layer: int, parameter: int, gradient: TensorId) -> None:
        """Say what the gradient of a parameter is; a second one is added to the first."""
        if parameter in self._gradients:
            name = f"{self.parameters[parameter].name}.g.sum"
            gradient = self.apply(OpKind.ADD, layer, (self._gradients[parameter], gradient), name)
        self._gradients[parameter] = gradient

    def build(self, loss: TensorId) -> Program:
        """Add the optimizer and the delta of every parameter, and return the program."""
        assert sorted(self._gradients) == list(range(len(self.parameters)))
        after = [self._add_adam(place) for place in range(len(self.parameters))]
        count = len(self._ops)
        for place, parameter in enumerate(self.parameters):
            op = Op(0, OpKind.DELTA, place, (after[place][0], self._checkpoint[place]), ())
            self._add_quantised(op, f"{parameter.name}.delta", parameter.rows, parameter.columns)
        return Program(
            spec=self.spec,
            parameters=self.parameters,
            tensors=tuple(self.tensors),
            ops=tuple(self._ops[:count]),
            delta_ops=tuple(self._ops[count:]),
            matmuls=tuple(self._matmuls),
            state_inputs=tuple(tensor for group in self._state for tensor in group),
            state_outputs=tuple(state[part] for part in range(len(_STATE)) for state in after),
            checkpoint_weights=self._checkpoint,
            loss=loss,
        )

    def _add_parameters(self, prefix: str, dtype: Dtype, kind: TensorKind) -> tuple[TensorId, ...]:
        shapes = [(f"{part.name}.{prefix}", part.rows, part.columns) for part in self.parameters]
        return tuple(self._add_tensor(*shape, dtype, kind) for shape in shapes)

    def _add_adam(self, place: int) -> tuple[TensorId, ...]:
        parameter = self.parameters[place]
        name, rows, columns = parameter.name, parameter.rows, parameter.columns
        outputs = tuple(
            self._add_tensor(f"{name}.{part}.after", rows, columns, dtype, TensorKind.OUTPUT) for part, dtype in _STATE
        )
        inputs = (*(group[place] for group in self._state), self._gradients[place])
        return self._append(Op(0, OpKind.ADAM, place, inputs, ()), outputs)

    def _add_quantised(self, op: Op, name: str, rows: int, columns: int) -> Pair:
        mantissas = self._add_tensor(name, rows, columns, Dtype.INT8, TensorKind.OUTPUT)
        exponents = self._add_tensor(f"{name}.exponents", rows, 1, Dtype.INT32, TensorKind.OUTPUT)
        self._append(op, (mantissas, exponents))
        return mantissas, exponents

    def _add_product(self, op: Op, name: str, macs: int, *, is_attention: bool) -> TensorId:
        left, right = (self.tensors[op.inputs[i]] for i in (0, 2))
        assert left.columns == right.columns
        rows, columns = left.rows // op.groups, right.rows // op.groups
        ids = op.inputs[0], op.inputs[2]
        self._matmuls.append(Matmul(len(self._ops), rows, columns, left.columns, *ids, macs, op.groups, is_attention))
        return self.add_op(op, (name,), (left.rows, columns))[0]

    def _append(self, op: Op, outputs: tuple[TensorId, ...]) -> tuple[TensorId, ...]:
        self._ops.append(replace(op, index=len(self._ops), outputs=outputs))
        return outputs

    def _add_tensor(self, name: str, rows: int, columns: int, dtype: Dtype, kind: TensorKind) -> TensorId:
        tensor = TensorId(len(self.tensors))
        self.tensors.append(Tensor(tensor, name, rows, columns, dtype, kind))
        return tensor
