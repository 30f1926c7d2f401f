"""Threat 11: trees and encodings that say two things. Inner nodes as leaves, odd leaves twice, lies about shapes, and
second encodings of one record, each tried on the real trees and the real codec.
"""

import random
from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.lab.attacks.case import Attack, Effort, Ending, Outcome
from benchmarks.lab.attacks.commitment_network import ALICE, Network
from benchmarks.lab.attacks.trajectory_bench import get_bench, make_seed, make_segment
from benchmarks.lab.attacks.trajectory_odds import answer_challenge
from chain.codec import decode, encode
from chain.errors import DecodeError, InvalidProof
from chain.hashing import tagged_hash
from chain.merkle import blake3_node, compute_path, compute_root, verify_path
from chain.transaction import TRANSACTION_BYTES_MAX, Transaction
from ml.openings import decode_opening
from ml.program import Dtype
from ml.tensor_tree import IntArray, TensorShape, build_tree, compute_tensor_root, open_piece, verify_piece

LEAVES_MAX = 64


def is_refused(attempt: Callable[[], object]) -> bool:
    """Say whether an attempt ends in a typed refusal."""
    try:
        attempt()
    except (InvalidProof, DecodeError):
        return True
    return False


def show_inner_node(effort: Effort) -> Outcome:
    """Show the two children of an inner node as a leaf one level up, under the true count and under the halved one."""
    rng, tried, detected = random.Random(effort.seed), 0, 0
    for _ in range(effort.trials):
        leaves = [rng.randbytes(32) for _ in range(rng.randrange(2, LEAVES_MAX))]
        root, index = compute_root(leaves, blake3_node), 2 * rng.randrange(len(leaves) // 2)
        pair = [blake3_node(b"\x00" + leaf) for leaf in leaves[index : index + 2]]
        path = compute_path(leaves, index, blake3_node)[1:]
        for leaf in (b"".join(pair), b"\x01" + b"".join(pair), blake3_node(b"\x01" + b"".join(pair))):
            for count in (len(leaves), (len(leaves) + 1) // 2):
                tried += 1
                detected += is_refused(partial(verify_path, root, leaf, index // 2, count, path, blake3_node))
    return Outcome(tried, detected, None, None, "leaves and inner nodes are hashed under different prefixes")


def show_odd_leaf_twice(effort: Effort) -> Outcome:
    """Show the last of an odd number of leaves twice, and pass a list for the one with its last leaf doubled."""
    rng, tried, detected = random.Random(effort.seed), 0, 0
    for _ in range(effort.trials):
        leaves = [rng.randbytes(32) for _ in range(2 * rng.randrange(1, LEAVES_MAX // 2) + 1)]
        root, doubled = compute_root(leaves, blake3_node), [*leaves, leaves[-1]]
        path = compute_path(doubled, len(leaves), blake3_node)
        for count in (len(leaves), len(doubled)):
            tried += 1
            detected += is_refused(partial(verify_path, root, leaves[-1], len(leaves), count, path, blake3_node))
        tried += 1
        detected += compute_root(doubled, blake3_node) != root
    return Outcome(tried, detected, None, None, "an odd node goes up unpaired, and an index stays below the count")


def lie_about_shape(effort: Effort) -> Outcome:
    """Give the same bytes another shape or element type, as a root and as an opening of the true root."""
    rng, tried, detected = np.random.default_rng(effort.seed), 0, 0
    for _ in range(effort.trials // 4):
        rows, columns = 2 * int(rng.integers(1, 40)) + 1, 4 * int(rng.integers(1, 100))
        # An odd number of rows is never that of columns: turned around, it is another shape.
        array = rng.integers(-(2**31), 2**31, (rows, columns)).astype(np.int32)
        tree = build_tree(array)
        lies: tuple[IntArray, ...] = (
            array.view(np.int8),
            array.reshape(2 * rows, columns // 2),
            np.ascontiguousarray(array.T),
            array.view(np.int64),
            array.reshape(1, -1),
        )
        shapes = (
            TensorShape(rows, 4 * columns, Dtype.INT8),
            TensorShape(2 * rows, columns // 2, Dtype.INT32),
            TensorShape(columns, rows, Dtype.INT32),
            TensorShape(rows, columns // 2, Dtype.INT64),
            TensorShape(rows + 1, columns, Dtype.INT32),
        )
        opening = open_piece(tree, 0, 0)
        for lie, shape in zip(lies, shapes, strict=True):
            tried += 2
            detected += compute_tensor_root(lie) != tree.root
            detected += is_refused(partial(verify_piece, tree.root, shape, 0, 0, opening))
    return Outcome(tried, detected, None, None, "rows, columns and element type are in the root")


def encode_otherwise(effort: Effort) -> Outcome:
    """Write openings and transactions with longer headers, other number forms, more bytes or fewer."""
    rng, tried, detected = random.Random(effort.seed), 0, 0
    segment = make_segment(get_bench().make_runner(make_seed(effort.seed)))
    network = Network()
    transaction = encode(network.sign(ALICE, network.make_commit(segment)))
    openings = answer_challenge(segment, tagged_hash("challenge", b"encodings"))
    for _ in range(effort.trials // 4):
        for other in _iter_encodings(rng, rng.choice(openings)):
            tried += 1
            detected += is_refused(partial(decode_opening, other))
        for other in _iter_encodings(rng, transaction):
            tried += 1
            detected += is_refused(partial(decode, Transaction, other, TRANSACTION_BYTES_MAX))
    return Outcome(tried, detected, None, None, "what is decoded is encoded again and compared")


def _iter_encodings(rng: random.Random, data: bytes) -> list[bytes]:
    """Return other msgpack encodings of the same record, where one of its headers could be longer."""
    others = [data + b"\x00", data[:-1], b"\x91" + data, b"\xdc\x00" + bytes([data[0] & 0x0F]) + data[1:]]
    places = [place for place in range(len(data) - 1) if data[place] == 0xC4]
    place = rng.choice(places)
    others.append(data[:place] + b"\xc5\x00" + data[place + 1 :])
    others.append(data[:place] + b"\xc6\x00\x00\x00" + data[place + 1 :])
    return others


ATTACKS = tuple(
    Attack((11,), name, run.__doc__ or name, "always refused", (Ending.DETECTED,), run)
    for name, run in (
        ("inner node as a leaf", show_inner_node),
        ("odd leaf twice", show_odd_leaf_twice),
        ("lies about shapes", lie_about_shape),
        ("second encodings", encode_otherwise),
    )
)
