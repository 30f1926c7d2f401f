"""The program of a byte-level language model: pre-norm blocks of causal attention and ReLU-squared layers.

Attention is written as ops of its own, grouped by (sequence, head): scores, softmax, weighted values, and their
gradients. It writes ops down and computes nothing. Sources: RMSNorm (Zhang and Sennrich 2019), ReLU-squared
(So et al. 2021), rotary positions (Su et al. 2021).
"""

from dataclasses import dataclass
from math import isqrt

from ml import arithmetic
from ml.arithmetic import WEIGHT_BITS
from ml.graph import GraphBuilder, Linear, Pair
from ml.program import Op, OpKind, Parameter, Program, TensorId
from ml.spec import Decoder, Positions, Spec

EMBEDDING = 0
QUERY, KEY, VALUE = 0, 1, 2
PARTS = 3

_SCORES_SHIFT = arithmetic.ACTIVATION_BITS
"""Activations F16 x activations F16 -> F16; gradients F24 x activations F16 -> F24."""
_VALUES_SHIFT = arithmetic.PROBABILITY_BITS
"""Probabilities F24 x activations F16 -> F16; probabilities F24 x gradients F24 -> F24."""
_QUERIES_SHIFT = arithmetic.SCORE_GRADIENT_BITS + arithmetic.ACTIVATION_BITS - arithmetic.GRADIENT_BITS


@dataclass(frozen=True, slots=True)
class _Attention:
    """What the backward pass of one block's attention reads."""

    queries_columns: Pair
    keys_columns: Pair
    values_rows: Pair
    probabilities: TensorId
    probabilities_columns: Pair


@dataclass(frozen=True, slots=True)
class _Block:
    """One block as its backward pass needs it."""

    x: TensorId
    middle: TensorId
    hidden: TensorId
    attention: _Attention
    linears: tuple[Linear, Linear, Linear, Linear]


def build_decoder(spec: Spec, model: Decoder) -> Program:
    """Return the program of one training step of `model`."""
    return _DecoderGraph(spec, model).build()


def get_parameters(model: Decoder) -> list[Parameter]:
    """Return the trained matrices: embedding, learned positions, four a block, head unless it is tied.

    Layers that write to the residual stream start smaller by the root of twice their number (GPT-2).
    """
    width, hidden, outputs = model.width, model.hidden, 2 * model.layers
    parts = [("embedding", model.vocabulary, width, 4 * width if model.tied else 100)]
    if model.positions == Positions.LEARNED:
        parts.append(("positions", model.context, width, 4 * width if model.tied else 100))
    for layer in range(model.layers):
        parts += [
            (f"block{layer}.qkv", PARTS * width, width, width),
            (f"block{layer}.out", width, width, width * outputs),
            (f"block{layer}.up", hidden, width, width),
            (f"block{layer}.down", width, hidden, hidden * outputs),
        ]
    if not model.tied:
        parts.append(("head", model.vocabulary, width, 4 * width))
    # The last number is one over the variance.
    return [Parameter(*part[:3], isqrt((1 << 2 * WEIGHT_BITS) // part[3])) for part in parts]


class _DecoderGraph:
    """Writes a decoder's step down: forward, then backward in reverse."""

    def __init__(self, spec: Spec, model: Decoder) -> None:
        self.model = model
        self.graph = GraphBuilder(spec, get_parameters(model))
        self.groups = spec.batch * model.heads
        self.rows = spec.batch * model.context
        self.has_positions = model.positions == Positions.LEARNED

    def build(self) -> Program:
        graph, model = self.graph, self.model
        tokens, targets = graph.add_op(Op(0, OpKind.WINDOWS, 0, (), ()), ("tokens", "targets"), (self.rows, 1))
        tables = [graph.get_weights(place) for place in range(1 + self.has_positions)]
        op = Op(0, OpKind.EMBED, 0, (tokens, *tables), ())
        x = graph.add_op(op, ("x",), (self.rows, model.width))[0]
        blocks = []
        for layer in range(model.layers):
            block, x = self._add_block(layer, x)
            blocks.append(block)
        y = graph.apply(OpKind.NORMALISE, model.layers, (x,), "head.y")
        head = EMBEDDING if model.tied else len(graph.parameters) - 1
        logits, linear = graph.add_linear(model.layers, y, head, "head")
        dz, loss = graph.add_loss(model.layers, logits, targets)
        graph.add_weight_gradient(linear, dz)
        dx = self._add_normalise_backward(graph.add_input_gradient(linear, dz), x, "head", model.layers)
        for layer in range(model.layers - 1, -1, -1):
            dx = self._add_block_backward(layer, blocks[layer], dx)
        self._add_embedding_backward(dx, tokens)
        return graph.build(loss)

    def _add_block(self, layer: int, x: TensorId) -> tuple[_Block, TensorId]:
        graph, name = self.graph, f"block{layer}"
        first = 1 + self.has_positions + 4 * layer
        y = graph.apply(OpKind.NORMALISE, layer, (x,), f"{name}.attention.y")
        qkv, qkv_linear = graph.add_linear(layer, y, first, f"{name}.qkv")
        heads, attention = self._add_attention(layer, qkv)
        out, out_linear = graph.add_linear(layer, heads, first + 1, f"{name}.out")
        middle = graph.apply(OpKind.ADD, layer, (x, out), f"{name}.middle")
        y = graph.apply(OpKind.NORMALISE, layer, (middle,), f"{name}.inner.y")
        hidden, up_linear = graph.add_linear(layer, y, first + 2, f"{name}.up")
        a = graph.apply(OpKind.RELU_SQUARED, layer, (hidden,), f"{name}.a")
        down, down_linear = graph.add_linear(layer, a, first + 3, f"{name}.down")
        after = graph.apply(OpKind.ADD, layer, (middle, down), f"{name}.after")
        linears = (qkv_linear, out_linear, up_linear, down_linear)
        return _Block(x, middle, hidden, attention, linears), after

    def _add_block_backward(self, layer: int, block: _Block, dx: TensorId) -> TensorId:
        """Return the gradient of the block's input from that of its output."""
        graph, name = self.graph, f"block{layer}"
        qkv, out, up, down = block.linears
        graph.add_weight_gradient(down, dx)
        da = graph.add_input_gradient(down, dx)
        dh = graph.apply(OpKind.RELU_SQUARED_BACKWARD, layer, (da, block.hidden), f"{name}.dh")
        graph.add_weight_gradient(up, dh)
        inner = self._add_normalise_backward(graph.add_input_gradient(up, dh), block.middle, f"{name}.inner", layer)
        dx = graph.apply(OpKind.ADD, layer, (dx, inner), f"{name}.middle.dx")
        graph.add_weight_gradient(out, dx)
        dqkv = self._add_attention_backward(layer, block.attention, graph.add_input_gradient(out, dx))
        graph.add_weight_gradient(qkv, dqkv)
        outer = self._add_normalise_backward(graph.add_input_gradient(qkv, dqkv), block.x, f"{name}.attention", layer)
        return graph.apply(OpKind.ADD, layer, (dx, outer), f"{name}.dx")

    def _add_attention(self, layer: int, qkv: TensorId) -> tuple[TensorId, _Attention]:
        graph, name = self.graph, f"block{layer}"
        queries, keys, values = (self._add_split(layer, qkv, part, f"{name}.{label}") for part, label in _LABELS)
        if not self.has_positions:
            queries = self._add_rotation(layer, queries, f"{name}.q.rotated")
            keys = self._add_rotation(layer, keys, f"{name}.k.rotated")
        views = {}
        for label, source in (("q", queries), ("k", keys), ("v", values)):
            rows = graph.quantise_rows(layer, source, f"{name}.{label}")
            views[label] = rows, graph.quantise_columns(layer, source, f"{name}.{label}", groups=self.groups)
        scores = self._add_product(layer, views["q"][0], views["k"][0], f"{name}.scores", _SCORES_SHIFT, is_causal=True)
        p = graph.apply(OpKind.CAUSAL_SOFTMAX, layer, (scores,), f"{name}.p")
        p_rows = graph.quantise_rows(layer, p, f"{name}.p")
        p_columns = graph.quantise_columns(layer, p, f"{name}.p", groups=self.groups)
        out = self._add_product(layer, p_rows, views["v"][1], f"{name}.o", _VALUES_SHIFT)
        heads = self._add_merge(layer, (out,), f"{name}.heads")
        return heads, _Attention(views["q"][1], views["k"][1], views["v"][0], p, p_columns)

    def _add_attention_backward(self, layer: int, attention: _Attention, dheads: TensorId) -> TensorId:
        """Return the gradient of queries, keys and values side by side from that of the merged heads."""
        graph, name = self.graph, f"block{layer}"
        do = self._add_split(layer, dheads, 0, f"{name}.do")
        do_rows = graph.quantise_rows(layer, do, f"{name}.do", is_stochastic=True)
        do_columns = graph.quantise_columns(layer, do, f"{name}.do", is_stochastic=True, groups=self.groups)
        dv = self._add_product(layer, attention.probabilities_columns, do_columns, f"{name}.dv", _VALUES_SHIFT)
        dp = self._add_product(layer, do_rows, attention.values_rows, f"{name}.dp", _SCORES_SHIFT, is_causal=True)
        pair = (attention.probabilities, dp)
        ds = graph.apply(OpKind.CAUSAL_SOFTMAX_BACKWARD, layer, pair, f"{name}.ds")
        ds_rows = graph.quantise_rows(layer, ds, f"{name}.ds", is_stochastic=True)
        ds_columns = graph.quantise_columns(layer, ds, f"{name}.ds", is_stochastic=True, groups=self.groups)
        dq = self._add_product(layer, ds_rows, attention.keys_columns, f"{name}.dq", _QUERIES_SHIFT)
        dk = self._add_product(layer, ds_columns, attention.queries_columns, f"{name}.dk", _QUERIES_SHIFT)
        if not self.has_positions:
            dq = self._add_rotation(layer, dq, f"{name}.dq.turned", is_inverse=True)
            dk = self._add_rotation(layer, dk, f"{name}.dk.turned", is_inverse=True)
        return self._add_merge(layer, (dq, dk, dv), f"{name}.dqkv")

    def _add_embedding_backward(self, dx: TensorId, tokens: TensorId) -> None:
        graph, model = self.graph, self.model
        op = Op(0, OpKind.TRANSPOSE, 0, (dx,), ())
        transposed = graph.add_op(op, ("dx.transposed",), (model.width, self.rows))[0]
        shift = arithmetic.GRADIENT_BITS - arithmetic.WEIGHT_GRADIENT_BITS + graph.rows_shift
        op = Op(0, OpKind.EMBEDDING_GRADIENT, 0, (transposed, tokens), (), shift=shift)
        gradient = graph.add_op(op, ("embedding.g",), (model.vocabulary, model.width))
        graph.add_gradient(0, EMBEDDING, gradient[0])
        if self.has_positions:
            op = Op(0, OpKind.POSITION_GRADIENT, 0, (transposed,), (), shift=shift)
            graph.add_gradient(0, 1, graph.add_op(op, ("positions.g",), (model.context, model.width))[0])

    def _add_normalise_backward(self, dy: TensorId, x: TensorId, name: str, layer: int) -> TensorId:
        return self.graph.apply(OpKind.NORMALISE_BACKWARD, layer, (dy, x), f"{name}.dn")

    def _add_split(self, layer: int, source: TensorId, part: int, name: str) -> TensorId:
        op = Op(0, OpKind.SPLIT_HEADS, layer, (source,), (), part=part)
        return self.graph.add_op(op, (name,), (self.model.heads * self.rows, self.model.head_width))[0]

    def _add_merge(self, layer: int, sources: tuple[TensorId, ...], name: str) -> TensorId:
        op = Op(0, OpKind.MERGE_HEADS, layer, sources, ())
        return self.graph.add_op(op, (name,), (self.rows, len(sources) * self.model.width))[0]

    def _add_rotation(self, layer: int, source: TensorId, name: str, *, is_inverse: bool = False) -> TensorId:
        tensor = self.graph.tensors[source]
        op = Op(0, OpKind.ROTATE, layer, (source,), (), is_inverse=is_inverse)
        return self.graph.add_op(op, (name,), (tensor.rows, tensor.columns))[0]

    def _add_product(self, layer: int, a: Pair, b: Pair, name: str, shift: int, *, is_causal: bool = False) -> TensorId:
        op = Op(0, OpKind.LINEAR, layer, (*a, *b), (), shift=shift, groups=self.groups, is_causal=is_causal)
        return self.graph.multiply_causal(op, name)


_LABELS = ((QUERY, "q"), (KEY, "k"), (VALUE, "v"))
