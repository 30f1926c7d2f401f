"""Tensor roots on the device: the tensors of a step are hashed where they lie and only their roots come back.

The twin of `ml.tensor_tree.compute_tensor_root`, for the trace of every mined step. All tensors are hashed together, a
launch for their pieces, one for their strips and one for each level of their trees, the last levels in one: what a step
costs is the hashing, not the launches. It makes roots only; trees that are to be opened are built by the authority.
"""

from collections.abc import Iterator, Sequence
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
    RowPlan,
    Words,
    compress,
    hash_rows,
    load_digest,
    plan_rows,
    store_words,
    upload_key,
)
from ml.backends.cuda.device import Block, Kernel, divide_up, function, get_device, kernel, new, upload
from ml.backends.cuda.resident import get_tensor
from ml.program import Dtype
from ml.tensor_tree import DIGEST_BYTES, IntArray, TensorShape

_PLANS_MAX = 64
"""Of a step's tensors, and of the operands of each of its products that have a shape of their own."""
_TOP_NODES = 512
"""A level of so many nodes or fewer is hashed by one program, together with all above it."""
_DTYPES = {torch.int8: Dtype.INT8, torch.int32: Dtype.INT32, torch.int64: Dtype.INT64}
_BOUND_BYTES = tl.constexpr(57)
"""Four u32 lengths, dtype, rows, columns, tree root."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Where the digests of some tensors' trees lie in one array, leaves first, and which are hashed together."""

    groups: tuple[tuple[tuple[int, ...], RowPlan], ...]
    """Tensors whose rows are whole words, and the others: their indexes, and how they are cut into pieces."""
    pieces: int
    first_pieces: IntArray
    """Of each tensor, (tensors,) int64."""
    strips: RowPlan
    leaves: int
    children: Tensor
    """Left and right child of each node above the leaves, (nodes, 2) int32; nodes are numbered as they are made."""
    levels: tuple[int, ...]
    """The nodes made in each level that has a launch of its own."""
    top: Tensor
    """The nodes made in each of the levels above those, (levels,) int32."""
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


@function
def _hash_nodes(nodes: Block, initial: Block, children: Block, leaves: Block, node: Block, stop: Block) -> None:
    """Write the nodes `node` that are below `stop` from their children."""
    pair = children + 2 * (tl.minimum(node, stop - 1) - leaves)
    left = load_digest(nodes, tl.load(pair).to(tl.int64) * 8)
    right = load_digest(nodes, tl.load(pair + 1).to(tl.int64) * 8)
    message, last = _make_node(1, left, right)
    chain, _ = compress(load_digest(initial, node * 0), message, 0, 64, START)
    none = last ^ last
    message = (last, none, none, none, none, none, none, none, none, none, none, none, none, none, none, none)
    digest, _ = compress(chain, message, 0, 1, END | ROOT)
    store_words(nodes + node.to(tl.int64) * 8, digest, node < stop)


@kernel(varying=("leaves", "first_node", "stop"))
def _hash_level(
    nodes: Block, initial: Block, children: Block, leaves: Block, first_node: Block, stop: Block, threads: tl.constexpr
) -> None:
    """Write the nodes from `first_node` on, all of one level."""
    _hash_nodes(nodes, initial, children, leaves, first_node + tl.program_id(0) * threads + tl.arange(0, threads), stop)


@kernel(varying=("leaves", "first_node", "levels"))
def _hash_top(
    nodes: Block,
    initial: Block,
    children: Block,
    counts: Block,
    leaves: Block,
    first_node: Block,
    levels: Block,
    threads: tl.constexpr,
) -> None:
    """Write the nodes from `first_node` on, level by level, `threads` or fewer in each: one program sees them all."""
    for level in range(levels):
        stop = first_node + tl.load(counts + level)
        _hash_nodes(nodes, initial, children, leaves, first_node + tl.arange(0, threads), stop)
        first_node = stop
        # The next level reads what other threads have written.
        tl.debug_barrier()


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


def _pair_up(trees: list[IntArray], first: int) -> tuple[list[IntArray], list[IntArray]]:
    """Return the next level of `trees` and, by tree, what its nodes, numbered from `first` on, are made of."""
    above, pairs = [], []
    for level in trees:
        halves = len(level) // 2
        above.append(np.concatenate([np.arange(first, first + halves), level[2 * halves :]]))
        pairs.append(level[: 2 * halves].reshape(-1, 2))
        first += halves
    return above, pairs


@lru_cache(maxsize=_PLANS_MAX)
def _plan(shapes: tuple[TensorShape, ...]) -> Plan:
    first_pieces, first_leaves = (
        np.cumsum([0, *counts])
        for counts in ([shape.rows * shape.windows for shape in shapes], [shape.strips for shape in shapes])
    )
    trees = [np.arange(first, end) for first, end in pairwise(first_leaves.tolist())]
    leaves = nodes = int(first_leaves[-1])
    children: list[IntArray] = [np.zeros((0, 2), np.int64)]
    counts: list[int] = []
    while any(len(level) > 1 for level in trees):
        trees, pairs = _pair_up(trees, nodes)
        children += pairs
        counts.append(sum(map(len, pairs)))
        nodes += counts[-1]
    low = [count for count in counts if count > _TOP_NODES]
    return Plan(
        tuple(_group(shapes, first_pieces)),
        int(first_pieces[-1]),
        first_pieces[:-1],
        plan_rows([(shape.windows, DIGEST_BYTES * shape.rows) for shape in shapes], first_leaves[:-1].tolist()),
        leaves,
        upload(np.concatenate(children).astype(np.int32)),
        tuple(low),
        upload(np.array(counts[len(low) :], np.int32)),
        nodes,
        upload(np.array([level[0] for level in trees], np.int32)),
        upload(np.frombuffer(b"".join(map(_make_header, shapes)), "<i4")),
    )


def _group(shapes: tuple[TensorShape, ...], first_pieces: IntArray) -> Iterator[tuple[tuple[int, ...], RowPlan]]:
    for is_aligned in (True, False):
        members = tuple(at for at, shape in enumerate(shapes) if (shape.row_bytes % 4 == 0) == is_aligned)
        if members:
            sizes = [(shapes[at].rows, shapes[at].row_bytes) for at in members]
            yield members, plan_rows(sizes, [int(first_pieces[at]) for at in members])


@cache
def _get_key(tag: str | None) -> Tensor:
    return upload_key(None if tag is None else tagged_key(tag))


def _align(tensor: Tensor) -> Tensor:
    """Return `tensor` laid out by rows from a whole word on, where a view of another may not begin."""
    laid = tensor.contiguous()
    return laid.clone() if laid.data_ptr() % 4 else laid


def _hash_strips(tensors: Sequence[Tensor], plan: Plan, nodes: Tensor) -> None:
    """Write the strip digests of all tensors, by tensor, row block and column window, to the first rows of `nodes`.

    The pieces' digests lie window by window, so that the strips of a window are the chunks of one row of digests.
    """
    laid = [_align(tensor) for tensor in tensors]
    pieces = new(nodes, (plan.pieces, DIGEST_WORDS))
    starts = pieces.data_ptr() + DIGEST_BYTES * plan.first_pieces
    addresses = [laid[at].data_ptr() for members, _ in plan.groups for at in members]
    sources = upload(np.concatenate([np.array(addresses, np.int64), starts]))
    for members, group in plan.groups:
        hash_rows(sources[: len(members)], group, _get_key("piece"), pieces)
        sources = sources[len(members) :]
    hash_rows(sources, plan.strips, _get_key("strip"), nodes)


def compute_roots(tensors: Sequence[Tensor]) -> Tensor:
    """Return the roots of one or more (rows, columns) int8, int32 or int64 on the device, as (tensors, 8) int32."""
    shapes = tuple(TensorShape(len(tensor), tensor.shape[1], _DTYPES[tensor.dtype]) for tensor in tensors)
    plan, key = _plan(shapes), _get_key(None)
    nodes = torch.empty((plan.nodes, DIGEST_WORDS), dtype=torch.int32, device=get_device())
    _hash_strips(tensors, plan, nodes)
    _launch(_hash_leaves, plan.leaves, nodes, key, plan.leaves)
    made = plan.leaves
    for count in plan.levels:
        _launch(_hash_level, count, nodes, key, plan.children, plan.leaves, made, made + count)
        made += count
    if len(plan.top):
        arguments = nodes, key, plan.children, plan.top, plan.leaves, made, len(plan.top)
        _hash_top[(1,)](*arguments, _TOP_NODES, num_warps=_TOP_NODES // 32)
    bound = new(nodes, (len(shapes), DIGEST_WORDS))
    _launch(_bind_roots, len(shapes), nodes, _get_key("tensor"), plan.roots, plan.headers, bound, len(shapes))
    return bound


def _launch(hashing: Kernel, count: int, *arguments: Tensor | int) -> None:
    hashing[(divide_up(count, THREADS),)](*arguments, THREADS, num_warps=THREADS // 32)


def compute_tensor_roots(arrays: Sequence[IntArray]) -> tuple[Hash, ...]:
    """Return the root of each of `arrays`, (rows, columns) int8, int32 or int64, resident or on the host."""
    if not arrays:
        return ()
    data = compute_roots([get_tensor(array) for array in arrays]).cpu().numpy().tobytes()
    return tuple(Hash(data[start : start + DIGEST_BYTES]) for start in range(0, len(data), DIGEST_BYTES))
