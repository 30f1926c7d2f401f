"""The program of a classifier: stacked linear layers with ReLU between them, and softmax cross-entropy at the end.

It writes ops down and computes nothing.
"""

from math import isqrt

from ml.arithmetic import WEIGHT_BITS
from ml.graph import GraphBuilder
from ml.program import OpKind, Parameter, Program, TensorId
from ml.spec import Mlp, Spec


def build_mlp(spec: Spec, model: Mlp) -> Program:
    """Return the program of one training step of `model`."""
    graph = GraphBuilder(spec, _get_parameters(model))
    last = len(graph.parameters) - 1
    x, labels = graph.add_batch(model.widths[0])
    linears, logits = [], []
    for layer in range(last + 1):
        z, linear = graph.add_linear(layer, x, layer, f"layer{layer}")
        linears.append(linear)
        logits.append(z)
        x = graph.apply(OpKind.RELU, layer, (z,), f"layer{layer}.a") if layer < last else z
    dz, loss = graph.add_loss(last, logits[last], labels)
    for layer in range(last, -1, -1):
        graph.add_weight_gradient(linears[layer], dz)
        if layer > 0:
            da = graph.add_input_gradient(linears[layer], dz)
            dz = _add_relu_backward(graph, layer - 1, da, logits[layer - 1])
    return graph.build(loss)


def _add_relu_backward(graph: GraphBuilder, layer: int, da: TensorId, z: TensorId) -> TensorId:
    return graph.apply(OpKind.RELU_BACKWARD, layer, (da, z), f"layer{layer}.dz")


def _get_parameters(model: Mlp) -> list[Parameter]:
    """Weights start near normal with variance 2 / inputs (He et al. 2015)."""
    shapes = zip(model.widths[1:], model.widths[:-1], strict=True)
    return [
        Parameter(f"layer{layer}", rows, columns, isqrt((2 << 2 * WEIGHT_BITS) // columns))
        for layer, (rows, columns) in enumerate(shapes)
    ]
