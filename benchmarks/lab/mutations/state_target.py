"""Proofs that an account stands in the state, or that none does: what a light client takes from a node.

The attacker holds the whole tree, and an older one; it chooses value, siblings and the leaf that ends the way.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Annotated

from benchmarks.lab.mutations.byte_mutators import BYTE_MUTATORS
from benchmarks.lab.mutations.signed_headers import alter_bytes
from benchmarks.lab.mutations.target import Attempt, Forgery, Sample, Target
from benchmarks.lab.mutations.wire_mutators import WIRE_MUTATORS
from benchmarks.synthetic_chain import make_context
from chain.codec import Bytes, Many, decode, encode
from chain.genesis import Allocation, Genesis
from chain.hashing import sha256, tagged_hash
from chain.ledger.genesis_state import make_genesis_state
from chain.ledger.keys import account_key
from chain.ledger.records import Account
from chain.primitives import Hash, PublicKey
from chain.state.proof import (
    DEPTH_MAX,
    STATE_PROOF_BYTES_MAX,
    OtherLeaf,
    StateProof,
    verify_exclusion,
    verify_inclusion,
)
from chain.state.tree import EMPTY_ROOT, Inner, MemoryNodes, get_bit, load_node
from chain.state.view import VALUE_BYTES_MAX, StateKey, StateView

ACCOUNTS = 300
PRESENT = 4
"""Samples of accounts that are there."""


@dataclass(frozen=True, slots=True)
class ShownAccount:
    """A node's answer: the account's bytes, if there is one, and the proof."""

    value: Annotated[tuple[Annotated[bytes, Bytes(0, STATE_PROOF_BYTES_MAX)], ...], Many(1)]
    proof: StateProof


@dataclass(frozen=True, slots=True)
class Scene:
    """A key under a root that the client knows, and what the attacker holds."""

    key: StateKey[Account]
    nodes: MemoryNodes
    view: StateView
    older: StateView
    keys: tuple[StateKey[Account], ...]

    def judge(self, data: bytes) -> None:
        """Check bytes as the answer for the key; raises as a judge does."""
        shown = decode(ShownAccount, data, STATE_PROOF_BYTES_MAX)
        if not shown.value:
            verify_exclusion(self.view.root, self.key.name, shown.proof)
            return
        verify_inclusion(self.view.root, self.key.name, shown.value[0], shown.proof)
        decode(Account, shown.value[0], VALUE_BYTES_MAX)

    def show(self, value: bytes | None, proof: StateProof) -> Attempt:
        """Return the attempt to show a value, or none, with a proof."""
        return Attempt(encode(ShownAccount(() if value is None else (value,), proof)), self.judge)

    def answer(self, view: StateView, key: StateKey[Account]) -> Attempt:
        """Return the attempt to show what truly stands under a key of a state."""
        return self.show(_get_value(view, key), view.prove(key))

    def list_inner(self) -> tuple[Inner, ...]:
        """Return the inner nodes on the key's way, from the root down."""
        inner, node_hash, depth = list[Inner](), self.view.root, 0
        while node_hash != EMPTY_ROOT and isinstance(node := load_node(self.nodes, node_hash), Inner):
            inner.append(node)
            node_hash = node.right if get_bit(sha256(self.key.name), depth) else node.left
            depth += 1
        return tuple(inner)


def _get_value(view: StateView, key: StateKey[Account]) -> bytes | None:
    account = view.get(key)
    return None if account is None else encode(account)


def make_samples() -> tuple[Sample, ...]:
    """Return proofs of accounts that are there, and of two that are not: behind another's leaf, and before nothing."""
    present = tuple(_make_key(number) for number in range(ACCOUNTS))
    (nodes, view), (_, older) = (_make_state(amount) for amount in (10**9, 10**8))
    absent = [_make_key(number) for number in range(ACCOUNTS, 2 * ACCOUNTS)]
    behind_leaf = next(key for key in absent if view.prove(key).other_leaf)
    before_nothing = next(key for key in absent if not view.prove(key).other_leaf)
    scenes = [Scene(key, nodes, view, older, present) for key in (*present[:PRESENT], behind_leaf, before_nothing)]
    return tuple(Sample(scene.answer(view, scene.key), _make_forgeries(scene)) for scene in scenes)


def _make_key(number: int) -> StateKey[Account]:
    return account_key(_make_account(number))


def _make_account(number: int) -> PublicKey:
    return PublicKey(tagged_hash("mutations.account", number.to_bytes(4, "little")))


def _make_state(amount: int) -> tuple[MemoryNodes, StateView]:
    accounts = tuple(Allocation(_make_account(number), amount + number) for number in range(ACCOUNTS))
    genesis: Genesis = replace(make_context().genesis, allocations=accounts, miners=())
    root, stored = make_genesis_state(genesis)
    nodes = MemoryNodes(stored)
    return nodes, StateView(root, nodes)


def _make_forgeries(scene: Scene) -> Mapping[str, Forgery]:
    forgeries = {
        "another value": show_value,
        "another key's answer": answer_for_another,
        "an older state's answer": answer_from_older,
        "the other way": deny,
        "an inner node as a leaf": show_inner,
        "path cut or grown": resize_path,
    }
    return {name: partial(forge, scene) for name, forge in forgeries.items()}


def show_value(scene: Scene, rng: Random) -> Attempt:
    """Show an account that would be richer, or poorer, on the true way."""
    account = Account(rng.randrange(2**16), 1 << rng.randrange(64))
    return scene.show(encode(account), scene.view.prove(scene.key))


def answer_for_another(scene: Scene, rng: Random) -> Attempt:
    """Show what stands under another key."""
    return scene.answer(scene.view, rng.choice([key for key in scene.keys if key != scene.key]))


def answer_from_older(scene: Scene, rng: Random) -> Attempt:
    """Show what stood there in another state, or its proof with today's value."""
    value = _get_value(rng.choice((scene.older, scene.view)), scene.key)
    return scene.show(value, scene.older.prove(scene.key))


def deny(scene: Scene, rng: Random) -> Attempt:
    """Say that what is there is not, or the other way: by nothing, by the key's own leaf, or by another's."""
    proof, value = scene.view.prove(scene.key), _get_value(scene.view, scene.key)
    other = rng.choice([key for key in scene.keys if key != scene.key])
    leaf_of_other = OtherLeaf(sha256(other.name), sha256(_get_value(scene.view, other) or b""))
    own_leaf = OtherLeaf(sha256(scene.key.name), sha256(value or b""))
    siblings = proof.siblings[: rng.randrange(len(proof.siblings) + 1)] if rng.random() < 0.5 else proof.siblings
    if value is None:
        shown = rng.choice((_get_value(scene.view, other), b"", encode(Account(0, 0))))
        return scene.show(shown, StateProof(siblings, rng.choice(((), proof.other_leaf))))
    return scene.show(None, StateProof(siblings, rng.choice(((), (own_leaf,), (leaf_of_other,)))))


def show_inner(scene: Scene, rng: Random) -> Attempt:
    """Show an inner node on the way as the leaf of a key that nobody knows."""
    inner = scene.list_inner()
    depth = rng.randrange(len(inner))
    left, right = inner[depth].left, inner[depth].right
    leaf = rng.choice((OtherLeaf(left, right), OtherLeaf(right, left)))
    return scene.show(None, StateProof(scene.view.prove(scene.key).siblings[:depth], (leaf,)))


def resize_path(scene: Scene, rng: Random) -> Attempt:
    """Leave siblings out, or add some: hashes of nothing, of chance, or those that are there already."""
    proof = scene.view.prove(scene.key)
    siblings, place = list(proof.siblings), rng.randrange(len(proof.siblings) + 1)
    added = [
        rng.choice((EMPTY_ROOT, Hash(rng.randbytes(32)), *siblings))
        for _ in range(rng.choice((1, 2, DEPTH_MAX - len(siblings))))
    ]
    resized = rng.choice((siblings[:place] + added + siblings[place:], siblings[:-1], siblings[1:], siblings + added))
    if resized == siblings:
        resized = [Hash(alter_bytes(rng, EMPTY_ROOT))]
    return scene.show(_get_value(scene.view, scene.key), replace(proof, siblings=tuple(resized)))


TARGET_OF_STATE_PROOFS = Target(
    "state proofs",
    "an account, or its absence, under a known state root, to a light client",
    make_samples,
    BYTE_MUTATORS | WIRE_MUTATORS,
)
