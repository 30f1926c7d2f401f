"""The CUDA backend: the ops of training by Triton kernels, byte for byte like the reference.

By default it takes and returns NumPy arrays, as every backend does. A resident one keeps its results on the device
(`ml.backends.cuda.resident`) and takes them back: training then moves no tensor but the losses. It holds no state.
"""

from dataclasses import dataclass
from typing import cast

from torch import Tensor

from ml.arithmetic import I8, I32, I64
from ml.backends import U8, AdamState, Groups, Heads, Quantised, Rounding
from ml.backends.cuda import attention as fused
from ml.backends.cuda import elementwise, layout, matmul, norm, optimizer, quantise, softmax
from ml.backends.cuda.device import get_device, upload_constant
from ml.backends.cuda.elementwise import Rule
from ml.backends.cuda.resident import DeviceArray
from ml.backends.cuda.resident import get_tensor as _take
from ml.fusion import Attention


@dataclass(frozen=True, slots=True)
class CudaBackend:
    """`ml.backends.Backend` and `ml.fusion.FusedBackend` on a GPU; raises DeviceMissing where there is none."""

    is_resident: bool = False
    """Whether results stay on the device."""

    def __post_init__(self) -> None:
        get_device()

    @property
    def name(self) -> str:
        """Return "cuda"."""
        return "cuda"

    def _give(self, tensor: Tensor) -> I32:
        return cast(I32, DeviceArray(tensor) if self.is_resident else tensor.cpu().numpy())

    def _give_pair(self, pair: tuple[Tensor, Tensor]) -> Quantised:
        return cast(Quantised, tuple(map(self._give, pair)))

    def draw_batch(self, x: I32, labels: I32, key: int, batch: int) -> tuple[I32, I32]:
        """Return the rows whose indexes are (prf * n) >> 64."""
        drawn = layout.draw_batch(upload_constant(x), upload_constant(labels), key, batch)
        return self._give(drawn[0]), self._give(drawn[1])

    def draw_windows(self, stream: U8, key: int, batch: int, context: int) -> tuple[I32, I32]:
        """Return stretches that start at (prf * (n - context)) >> 64."""
        drawn = layout.draw_windows(upload_constant(stream), key, batch, context)
        return self._give(drawn[0]), self._give(drawn[1])

    def quantise_rows(self, x: I32, rounding: Rounding | None = None) -> Quantised:
        """Return mantissas in [-63, 63] and exponents of the rows."""
        return self._give_pair(quantise.quantise_rows(_take(x), rounding))

    def quantise_transposed(
        self, x: I32, rounding: Rounding | None = None, groups: int = 1, exponents: I32 | None = None
    ) -> Quantised:
        """Return `quantise_rows` of the groups' transposes."""
        given = None if exponents is None else _take(exponents)
        return self._give_pair(quantise.quantise_transposed(_take(x), rounding, groups, given))

    def compute_column_exponents(self, x: I32) -> I32:
        """Return max(0, bits - 6) of each column."""
        return self._give(quantise.compute_column_exponents(_take(x)))

    def quantise_delta(self, after: I32, before: I32, bits: int) -> Quantised:
        """Return mantissas of so many bits and exponents of the rows of after - before."""
        return self._give_pair(quantise.quantise_delta(_take(after), _take(before), bits))

    def multiply(self, a: I8, b: I8) -> I32:
        """Return a (M, K) times b (N, K) transposed, exact."""
        return self._give(matmul.multiply(_take(a), _take(b)))

    def rescale(self, product: I32, a_exponents: I32, b_exponents: I32, shift: int) -> I32:
        """Return the product shifted by both exponents."""
        return self._give(matmul.rescale(_take(product), _take(a_exponents), _take(b_exponents), shift))

    def multiply_groups(self, a: Quantised, b: Quantised, groups: Groups) -> I32:
        """Return the rescaled product of each group."""
        left, right = ((_take(part[0]), _take(part[1])) for part in (a, b))
        return self._give(matmul.multiply_groups(left, right, groups))

    def relu(self, z: I32) -> I32:
        """Return max(z, 0)."""
        return self._give(elementwise.apply(Rule.RELU, _take(z)))

    def relu_backward(self, gradient: I32, z: I32) -> I32:
        """Return gradient where z > 0, else 0."""
        return self._give(elementwise.apply(Rule.RELU_BACKWARD, _take(gradient), _take(z)))

    def relu_squared(self, h: I32) -> I32:
        """Return max(h, 0)**2, F16."""
        return self._give(elementwise.apply(Rule.RELU_SQUARED, _take(h)))

    def relu_squared_backward(self, gradient: I32, h: I32) -> I32:
        """Return 2 max(h, 0) gradient, F24."""
        return self._give(elementwise.apply(Rule.RELU_SQUARED_BACKWARD, _take(gradient), _take(h)))

    def add(self, a: I32, b: I32) -> I32:
        """Return a + b, saturated."""
        return self._give(elementwise.apply(Rule.ADD, _take(a), _take(b)))

    def normalise(self, x: I32) -> I32:
        """Return x over the root of its row's mean square, F16."""
        return self._give(norm.normalise(_take(x)))

    def normalise_backward(self, gradient: I32, x: I32) -> I32:
        """Return the gradient of `normalise`'s input."""
        return self._give(norm.normalise_backward(_take(gradient), _take(x)))

    def embed(self, tokens: I32, tables: tuple[I32, ...]) -> I32:
        """Return the sum of both tables' rows, F24 to F16."""
        return self._give(elementwise.embed(_take(tokens), tuple(map(_take, tables))))

    def transpose(self, x: I32) -> I32:
        """Return x transposed, laid out by rows."""
        return self._give(layout.transpose(_take(x)))

    def compute_embedding_gradient(self, transposed: I32, tokens: I32, vocabulary: int, shift: int) -> I32:
        """Return for each token the sum of its columns, shifted."""
        return self._give(elementwise.sum_columns(_take(transposed), _take(tokens), vocabulary, shift))

    def compute_position_gradient(self, transposed: I32, context: int, shift: int) -> I32:
        """Return for each position the sum of its columns, shifted."""
        places = layout.get_positions(transposed.shape[1], context)
        return self._give(elementwise.sum_columns(_take(transposed), places, context, shift))

    def split_heads(self, x: I32, part: int, heads: Heads) -> I32:
        """Return one part of the columns, by (sequence, head, position)."""
        return self._give(layout.split_heads(_take(x), part, heads))

    def merge_heads(self, parts: tuple[I32, ...], heads: Heads) -> I32:
        """Return the parts side by side, by (sequence, position)."""
        return self._give(layout.merge_heads(tuple(map(_take, parts)), heads))

    def rotate(self, x: I32, table: tuple[I32, I32], is_inverse: bool) -> I32:
        """Return x with columns j and j + half turned by (cosines, sines) F30."""
        cosines, sines = (upload_constant(part) for part in table)
        return self._give(elementwise.rotate(_take(x), cosines, sines, is_inverse))

    def causal_softmax(self, scores: I32, head_width: int) -> I32:
        """Return the base-2 softmax of each row up to its own position, F24."""
        return self._give(softmax.causal_softmax(_take(scores), head_width))

    def causal_softmax_backward(self, probabilities: I32, gradient: I32, head_width: int) -> I32:
        """Return the gradient of the scores, F28."""
        return self._give(softmax.causal_softmax_backward(_take(probabilities), _take(gradient), head_width))

    def compute_loss_gradient(self, z: I32, labels: I32) -> tuple[I32, I32]:
        """Return softmax(z) - onehot F24 and the loss F16 in bits."""
        gradient, loss = softmax.compute_loss_gradient(_take(z), _take(labels))
        return self._give(gradient), self._give(loss)

    def update_adam(self, state: AdamState, gradient: I32, step: int, rate: int, decay: int) -> AdamState:
        """Return weights and moments after one step."""
        before = _take(state[0]), _take(state[1]), _take(state[2])
        after = optimizer.update_adam(before, _take(gradient), step, rate, decay)
        return self._give(after[0]), self._give(after[1]), cast(I64, self._give(after[2]))

    def multiply_rescaled(self, a: Quantised, b: Quantised, shift: int) -> I32:
        """Return `rescale(multiply(a, b))` of one group."""
        return self.multiply_groups(a, b, Groups(1, shift, is_causal=False))

    def attend(self, qkv: I32, attention: Attention) -> I32:
        """Return the weighted values of queries, keys and values side by side."""
        return self._give(fused.attend(_take(qkv), attention))

    def attend_backward(self, qkv: I32, gradient: I32, attention: Attention, keys: tuple[int, ...]) -> I32:
        """Return the gradient of qkv from that of the weighted values."""
        return self._give(fused.attend_backward(_take(qkv), _take(gradient), attention, keys))
