"""Compact proofs of a chain, and proofs of single headers under a known tip: what a light client takes from a node.

The attacker serves the proof. It may have mined any of its headers and sign them again; and it may have made the tip's
history follow from what it shows, for a tip is its own to sign until the client has seen the headers before it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, islice
from random import Random

from benchmarks.lab.mutations.byte_mutators import BYTE_MUTATORS
from benchmarks.lab.mutations.header_target import Network, get_key, make_network
from benchmarks.lab.mutations.signed_headers import alter_bytes, alter_integer, bend_signature, sign
from benchmarks.lab.mutations.target import Attempt, Forgery, Judge, Sample, Target
from benchmarks.lab.mutations.wire_mutators import WIRE_MUTATORS
from chain.codec import decode, encode
from chain.errors import InvalidProof
from chain.hashing import tagged_hash
from chain.header import Header, compute_header_hash
from chain.primitives import Hash
from consensus.asert import compute_work
from consensus.flyclient import Demand, prove_chain, verify_chain
from consensus.header_chain import ChainEntry
from consensus.header_proof import (
    PROOF_BYTES_MAX,
    PROOF_HEADERS_MAX,
    PROOF_NODES_MAX,
    HeaderProof,
    SkippedTree,
    list_skipped,
    prove_headers,
    replay_proof,
)
from consensus.header_rules import validate_signature, validate_time
from consensus.history import HistoryNode, make_leaf

STRETCH_BLOCKS, SECURITY_BITS = 6, 8
SINGLES = (3, 40, 41, 150)
"""Heights of headers that are proven by themselves."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A proof under a tip. Without a demand, headers at `SINGLES` are asked for."""

    network: Network
    tip: ChainEntry
    demand: Demand | None
    proof: HeaderProof

    def make_judge(self, tip: Header) -> Judge:
        """Return who judges bytes as the proof under a tip."""
        if self.demand is None:
            return partial(_verify_singles, self.network, tip)
        return partial(_verify_chain, self.network, tip, self.demand)

    def show(self, proof: HeaderProof) -> Attempt:
        """Return the attempt to show another proof under the true tip."""
        return Attempt(encode(proof), self.make_judge(self.tip.header))

    def show_under_own_tip(self, proof: HeaderProof) -> Attempt:
        """Return the attempt to show a proof under a tip whose history follows from it, signed by its miner."""
        tip = self.tip.header
        foliage = replace(tip.foliage, history_root=_compute_history(self.network.genesis, tip.height, proof))
        signed = sign(self.network.context.chain_id, get_key(tip), tip.trunk, foliage)
        return Attempt(encode(proof), self.make_judge(signed), is_staged=True)

    @property
    def heights(self) -> tuple[int, ...]:
        """The heights of the headers that are shown."""
        return tuple(header.height for header in self.proof.headers)


def _verify_chain(network: Network, tip: Header, demand: Demand, data: bytes) -> None:
    proof = decode(HeaderProof, data, PROOF_BYTES_MAX)
    verify_chain(network.context, network.genesis, tip, demand, proof, network.now_ms)


def _verify_singles(network: Network, tip: Header, data: bytes) -> None:
    proof = decode(HeaderProof, data, PROOF_BYTES_MAX)
    if (found := tuple(header.height for header in proof.headers)) != SINGLES:
        raise InvalidProof("proof-heights", f"found {found[:8]}, expected {SINGLES}")
    replay_proof(network.context, network.genesis, tip, proof)
    for header in proof.headers:
        validate_signature(network.context, header)
        validate_time(network.context, header, network.now_ms)


def _compute_history(genesis: ChainEntry, count: int, proof: HeaderProof) -> Hash:
    """Return the root that a proof leads to, nothing checked."""
    history, start_ms = genesis.history, genesis.header.foliage.timestamp_ms
    nodes = {header.height: _make_leaf(header) for header in proof.headers}
    for (start, size), tree in zip(list_skipped(count, sorted(nodes)), proof.nodes, strict=True):
        times_ms = start_ms + tree.first_ms, start_ms + tree.last_ms
        nodes[start] = HistoryNode(tree.digest, size, int.from_bytes(tree.work, "big"), *times_ms)
    for start in sorted(nodes):
        history = history.extend(nodes[start])
    return history.compute_root()


def _make_leaf(header: Header) -> HistoryNode:
    return make_leaf(compute_header_hash(header), compute_work(header.foliage.target), header.foliage.timestamp_ms)


def make_samples() -> tuple[Sample, ...]:
    """Return compact proofs under three tips with a seed each, and proofs of single headers under two more."""
    network, samples = make_network(), []
    for number, behind in enumerate((0, 1, 37, 2, 5)):
        tip = network.tip.get_ancestor(network.tip.height - behind)
        demand = _make_demand(number) if number < 3 else None
        proof = prove_headers(tip, SINGLES) if demand is None else prove_chain(network.context, tip, demand)
        scene = Scene(network, tip, demand, proof)
        samples.append(Sample(scene.show(proof), _make_forgeries(scene)))
    return tuple(samples)


def _make_demand(number: int) -> Demand:
    return Demand(tagged_hash("mutations.demand", number.to_bytes(8, "little")), SECURITY_BITS, STRETCH_BLOCKS)


def _make_forgeries(scene: Scene) -> Mapping[str, Forgery]:
    forgeries = {
        "header altered, signed again": alter_header,
        "tree altered": alter_tree,
        "other headers shown": show_others,
        "another tip's proof": prove_another_tip,
        "signature bent": bend,
        "filled to the limit": fill,
    }
    return {name: partial(forge, scene) for name, forge in forgeries.items()}


def alter_header(scene: Scene, rng: Random) -> Attempt:
    """Alter a header that is shown, its free fields too, sign it again, and let the tip's history follow or not."""
    place = rng.randrange(len(scene.proof.headers))
    header = scene.proof.headers[place]
    foliage = header.foliage
    altered = rng.choice(
        (
            replace(foliage, state_root=Hash(alter_bytes(rng, foliage.state_root))),
            replace(foliage, parent_hash=Hash(alter_bytes(rng, foliage.parent_hash))),
            replace(foliage, timestamp_ms=foliage.timestamp_ms ^ 1 << rng.randrange(24)),
            replace(foliage, target=foliage.target >> rng.randrange(1, 64)),
        )
    )
    signed = sign(scene.network.context.chain_id, get_key(header), header.trunk, altered)
    headers = (*scene.proof.headers[:place], signed, *scene.proof.headers[place + 1 :])
    return _show_either_way(scene, replace(scene.proof, headers=headers), rng)


def alter_tree(scene: Scene, rng: Random) -> Attempt:
    """Alter digest, work or times of a tree that is stepped over, and let the tip's history follow or not."""
    place = rng.randrange(len(scene.proof.nodes))
    tree = scene.proof.nodes[place]
    work = alter_integer(rng, int.from_bytes(tree.work, "big"), rng.choice((64, 128, 200)))
    altered: SkippedTree = rng.choice(
        (
            replace(tree, digest=Hash(alter_bytes(rng, tree.digest))),
            replace(tree, work=work.to_bytes((work.bit_length() + 7) // 8, "big")),
            replace(tree, first_ms=alter_integer(rng, tree.first_ms, 40)),
            replace(tree, last_ms=alter_integer(rng, tree.last_ms, 40)),
        )
    )
    nodes = (*scene.proof.nodes[:place], altered, *scene.proof.nodes[place + 1 :])
    return _show_either_way(scene, replace(scene.proof, nodes=nodes), rng)


def _show_either_way(scene: Scene, proof: HeaderProof, rng: Random) -> Attempt:
    # Single headers are asked for under a tip that was verified before.
    is_under_own_tip = scene.demand is not None and rng.random() < 0.5
    return scene.show_under_own_tip(proof) if is_under_own_tip else scene.show(proof)


def show_others(scene: Scene, rng: Random) -> Attempt:
    """Prove truthfully, but leave a header out, show one that nobody asked for, or one in the place of another."""
    heights = list(scene.heights)
    # Genesis is known to all and the tip is at hand: neither is ever shown.
    others = [height for height in range(1, scene.tip.height) if height not in set(heights)]
    dropped = heights.pop(rng.randrange(len(heights)))
    if rng.random() < 0.5:
        heights.append(rng.choice(others))
    if rng.random() < 0.3:
        heights += [height for height in {dropped, rng.choice(others)} if height not in set(heights)]
    return scene.show(prove_headers(scene.tip, sorted(heights)))


def prove_another_tip(scene: Scene, rng: Random) -> Attempt:
    """Answer for another tip of the same chain, or another seed."""
    tip = scene.tip.get_ancestor(scene.tip.height - rng.randrange(1, 64))
    if scene.demand is None:
        return scene.show(prove_headers(tip, SINGLES if rng.random() < 0.5 else SINGLES[:3]))
    demand = rng.choice((scene.demand, _make_demand(rng.randrange(2**32))))
    return scene.show(prove_chain(scene.network.context, rng.choice((tip, scene.tip)), demand))


def bend(scene: Scene, rng: Random) -> Attempt:
    """Put another signature on a header that is shown."""
    headers = list(scene.proof.headers)
    place = rng.randrange(len(headers))
    headers[place] = bend_signature(rng, headers[place])
    return scene.show(replace(scene.proof, headers=tuple(headers)))


def fill(scene: Scene, rng: Random) -> Attempt:
    """Repeat what is shown until a proof is as large as one may be, or less often: all of it has to be read."""
    # The smallest of three draws: the largest take most of a second to read.
    times = 1 << min(rng.randrange(PROOF_NODES_MAX.bit_length()) for _ in range(3))
    if rng.random() < 0.5:
        count = min(len(scene.proof.headers) + times, PROOF_HEADERS_MAX)
        return scene.show(replace(scene.proof, headers=tuple(islice(cycle(scene.proof.headers), count))))
    count = min(len(scene.proof.nodes) + times, PROOF_NODES_MAX)
    return scene.show(replace(scene.proof, nodes=tuple(islice(cycle(scene.proof.nodes), count))))


TARGET_OF_HEADER_PROOFS = Target(
    "header proofs",
    "a compact proof of a chain, or of single headers under a tip, to a light client",
    make_samples,
    BYTE_MUTATORS | WIRE_MUTATORS,
)
