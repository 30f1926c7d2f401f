"""Tensor roots on the device: the tensors of a step are hashed where they lie and only their roots come back.

The twin of `ml.tensor_tree.compute_tensor_root`, for the trace of every mined step. Strips are hashed tensor by tensor,
the levels of all trees together. It makes roots only; trees that are to be opened are built by the authority.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise

import numpy as np
import torch
import triton.language as tl
from torch import Tensor

from chain.hashing import tagged_key
from chain.primitives import Hash
from ml.backends.cuda.blake3 import (
    DIGEST_WORDS,
    END,
    KEYED,
    ROOT,
    START,
    THREADS,
    WHOLE,
    Words,
    compress,
    hash_rows,
    load_digest,
    store_words,
    upload_key,
)
from ml.backends.cuda.device import Block, Kernel, divide_up, function, get_device, kernel, new, upload
from ml.backends.cuda.resident import get_tensor
from ml.program import Dtype
from ml.tensor_tree import DIGEST_BYTES, IntArray, TensorShape

_PLANS_MAX = 8
_DTYPES = {torch.int8: Dtype.INT8, torch.int32: Dtype.INT32, torch.int64: Dtype.INT64}
_BOUND_BYTES = tl.constexpr(57)
"""Four u32 lengths, dtype, rows, columns, tree root."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Where the digests of some tensors' trees lie in one array, leaves first, and which are hashed together."""

    first_leaves: tuple[int, ...]
    """Of each tensor, and the number of all leaves behind them."""
    levels: tuple[Tensor, ...]
    """Left and right child of each node made in a level, (nodes, 2) int32; nodes are numbered as they are made."""
    nodes: int
    roots: Tensor
    """The top node of each tree, (tensors,) int32."""
    headers: Tensor
    """What is bound to each tree root, (8 * tensors,) int32."""


@function
def _make_node(prefix: tl.constexpr, left: Words, right: Words) -> tuple[Words, Block]:
    """Return the first 16 words of a prefix byte, `left` and `right`, and the byte that is left over."""
    return (
        prefix | left[0] << 8,
        left[0] >> 24 | left[1] << 8, left[1] >> 24 | left[2] << 8, left[2] >> 24 | left[3] << 8,
        left[3] >> 24 | left[4] << 8, left[4] >> 24 | left[5] << 8, left[5] >> 24 | left[6] << 8,
        left[6] >> 24 | left[7] << 8, left[7] >> 24 | right[0] << 8,
        right[0] >> 24 | right[1] << 8, right[1] >> 24 | right[2] << 8, right[2] >> 24 | right[3] << 8,
        right[3] >> 24 | right[4] << 8, right[4] >> 24 | right[5] << 8, right[5] >> 24 | right[6] << 8,
        right[6] >> 24 | right[7] << 8,
    ), right[7] >> 24  # fmt: skip


@kernel(varying=("count",))
def _hash_leaves(nodes: Block, initial: Block, count: Block, threads: tl.constexpr) -> None:
    """Replace each strip's digest by its leaf's."""
    leaf = tl.program_id(0) * threads + tl.arange(0, threads)
    strip = load_digest(nodes, tl.minimum(leaf, count - 1).to(tl.int64) * 8)
    none = strip[0] ^ strip[0]
    message, _ = _make_node(0, strip, (none, none, none, none, none, none, none, none))
    digest, _ = compress(load_digest(initial, leaf * 0), message, 0, 33, WHOLE)
    store_words(nodes + leaf.to(tl.int64) * 8, digest, leaf < count)


@kernel(varying=("first_node", "count"))
def _hash_level(
    nodes: Block, initial: Block, children: Block, first_node: Block, count: Block, threads: tl.constexpr
) -> None:
    """Write the nodes from `first_node` on from their children."""
    node = tl.program_id(0) * threads + tl.arange(0, threads)
    pair = children + 2 * tl.minimum(node, count - 1)
    left = load_digest(nodes, tl.load(pair).to(tl.int64) * 8)
    right = load_digest(nodes, tl.load(pair + 1).to(tl.int64) * 8)
    message, last = _make_node(1, left, right)
    chain, _ = compress(load_digest(initial, node * 0), message, 0, 64, START)
    none = last ^ last
    message = (last, none, none, none, none, none, none, none, none, none, none, none, none, none, none, none)
    digest, _ = compress(chain, message, 0, 1, END | ROOT)
    store_words(nodes + (first_node + node).to(tl.int64) * 8, digest, node < count)


@kernel(varying=("count",))
def _bind_roots(
    nodes: Block, key: Block, roots: Block, headers: Block, bound: Block, count: Block, threads: tl.constexpr
) -> None:
    """Write each tensor's root from its tree's and from its header, the first eight words of `headers`."""
    tensor = tl.program_id(0) * threads + tl.arange(0, threads)
    chosen = tl.minimum(tensor, count - 1)
    root = load_digest(nodes, tl.load(roots + chosen).to(tl.int64) * 8)
    h = load_digest(headers, chosen * 8)
    message = (
        h[0], h[1], h[2], h[3], h[4], h[5], h[6] | root[0] << 8,
        root[0] >> 24 | root[1] << 8, root[1] >> 24 | root[2] << 8, root[2] >> 24 | root[3] << 8,
        root[3] >> 24 | root[4] << 8, root[4] >> 24 | root[5] << 8, root[5] >> 24 | root[6] << 8,
        root[6] >> 24 | root[7] << 8, root[7] >> 24, h[7],
    )  # fmt: skip
    digest, _ = compress(load_digest(key, tensor * 0), message, 0, _BOUND_BYTES, KEYED | WHOLE)
    store_words(bound + tensor * 8, digest, tensor < count)


def _make_header(shape: TensorShape) -> bytes:
    """Return what `ml.tensor_tree.bind_root` hashes before a tree root, filled up to eight words."""
    parts = bytes([shape.dtype]), shape.rows.to_bytes(4, "little"), shape.columns.to_bytes(4, "little")
    framed = b"".join(len(part).to_bytes(4, "little") + part for part in parts)
    return (framed + DIGEST_BYTES.to_bytes(4, "little")).ljust(DIGEST_BYTES, b"\x00")


def _pair_up(trees: list[list[int]], first: int) -> tuple[list[list[int]], list[tuple[int, int]]]:
    """Return the next level of `trees` and the pairs that its nodes, numbered from `first` on, are made of."""
    above: list[list[int]] = []
    pairs: list[tuple[int, int]] = []
    for level in trees:
        halves = list(zip(level[::2], level[1::2], strict=False))
        above.append([*range(first + len(pairs), first + len(pairs) + len(halves)), *level[2 * len(halves) :]])
        pairs += halves
    return above, pairs


@lru_cache(maxsize=_PLANS_MAX)
def _plan(shapes: tuple[TensorShape, ...]) -> Plan:
    first_leaves = [0]
    for shape in shapes:
        first_leaves.append(first_leaves[-1] + shape.strips)
    trees = [list(range(first, end)) for first, end in pairwise(first_leaves)]
    nodes, levels = first_leaves[-1], []
    while any(len(level) > 1 for level in trees):
        trees, pairs = _pair_up(trees, nodes)
        levels.append(upload(np.array(pairs, np.int32)))
        nodes += len(pairs)
    headers = np.frombuffer(b"".join(map(_make_header, shapes)), "<i4")
    roots = np.array([level[0] for level in trees], np.int32)
    return Plan(tuple(first_leaves), tuple(levels), nodes, upload(roots), upload(headers))


@cache
def _get_key(tag: str | None) -> Tensor:
    return upload_key(None if tag is None else tagged_key(tag))


def _hash_strips(tensor: Tensor, shape: TensorShape, digests: Tensor) -> None:
    """Write the strip digests of one tensor, (strips, 8) int32, by row block and then by column window.

    The pieces' digests lie window by window, so that the strips of a window are the chunks of one row of digests.
    """
    pieces = new(digests, (shape.rows * shape.windows, DIGEST_WORDS))
    hash_rows(tensor.contiguous().view(-1).view(torch.uint8), shape.rows, _get_key("piece"), pieces)
    hash_rows(pieces.view(-1).view(torch.uint8), shape.windows, _get_key("strip"), digests)


def compute_roots(tensors: Sequence[Tensor]) -> Tensor:
    """Return the roots of one or more (rows, columns) int8, int32 or int64 on the device, as (tensors, 8) int32."""
    shapes = tuple(TensorShape(len(tensor), tensor.shape[1], _DTYPES[tensor.dtype]) for tensor in tensors)
    plan = _plan(shapes)
    nodes = torch.empty((plan.nodes, DIGEST_WORDS), dtype=torch.int32, device=get_device())
    for tensor, shape, (first, end) in zip(tensors, shapes, pairwise(plan.first_leaves), strict=True):
        _hash_strips(tensor, shape, nodes[first:end])
    made = plan.first_leaves[-1]
    _launch(_hash_leaves, made, nodes, _get_key(None))
    for pairs in plan.levels:
        _launch(_hash_level, len(pairs), nodes, _get_key(None), pairs, made)
        made += len(pairs)
    bound = new(nodes, (len(shapes), DIGEST_WORDS))
    _launch(_bind_roots, len(shapes), nodes, _get_key("tensor"), plan.roots, plan.headers, bound)
    return bound


def _launch(hashing: Kernel, count: int, *arguments: Tensor | int) -> None:
    hashing[(divide_up(count, THREADS),)](*arguments, count, THREADS, num_warps=THREADS // 32)


def compute_tensor_roots(arrays: Sequence[IntArray]) -> tuple[Hash, ...]:
    """Return the root of each of `arrays`, (rows, columns) int8, int32 or int64, resident or on the host."""
    if not arrays:
        return ()
    data = compute_roots([get_tensor(array) for array in arrays]).cpu().numpy().tobytes()
    return tuple(Hash(data[start : start + DIGEST_BYTES]) for start in range(0, len(data), DIGEST_BYTES))
