"""Evidence of equivocation, judged by the ledger that burns bonds for it: nobody may be framed.

The attacker knows every header that was ever signed, and has a key of its own, but not the miner's. Who is paid for a
report is whoever sends it, so a recipient is no part of what is shown here. A miner that signs two contents of one
ticket has incriminated itself whatever they say; so the miner's key signs only what an honest miner signs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from random import Random

from benchmarks.lab.attacks.commitment_network import ALICE, BOB, STRANGER, Network, make_genesis
from benchmarks.lab.mutations.byte_mutators import BYTE_MUTATORS
from benchmarks.lab.mutations.signed_headers import alter_bytes, bend_signature, restate, sign
from benchmarks.lab.mutations.target import Attempt, Forgery, Sample, Target
from benchmarks.lab.mutations.wire_mutators import WIRE_MUTATORS
from chain.codec import decode, encode
from chain.hashing import tagged_hash
from chain.header import HEADER_BYTES_MAX, HEADER_VERSION, Foliage, Header, Trunk, compute_header_hash
from chain.ledger.bonds import apply_report, make_report
from chain.ledger.context import BlockDraft, BlockScope
from chain.primitives import ZERO_HASH, Hash
from chain.signature import SigningKey
from chain.state.view import StateView
from chain.transaction import ReportEquivocation

BLOCKS = 4
PAIR_BYTES_MAX = 2 * HEADER_BYTES_MAX


@dataclass(frozen=True, slots=True)
class ShownPair:
    """A report without its recipient."""

    first: Header
    second: Header


@dataclass(frozen=True, slots=True)
class Scene:
    """A ledger where a miner has a bond and the locked reward of a block, and two contents of that block's ticket."""

    scope: BlockScope
    view: StateView
    key: SigningKey
    contents: tuple[Header, Header]
    punished: StateView
    """The ledger once these contents were reported."""
    blocks: tuple[Header, ...]
    """What the miner has signed honestly: a header of another block, and of the same height under another parent."""

    def judge(self, data: bytes) -> None:
        """Check bytes as evidence in the next block; raises as a judge does."""
        _judge(self.scope, self.view, data)

    def show(self, first: Header, second: Header) -> Attempt:
        """Return the attempt to show two headers in this order."""
        return Attempt(encode(ShownPair(first, second)), self.judge)

    def show_sorted(self, one: Header, other: Header) -> Attempt:
        """Return the attempt to show two headers in the order that a report has."""
        return self.show(*sorted((one, other), key=compute_header_hash))


def _judge(scope: BlockScope, view: StateView, data: bytes) -> None:
    shown = decode(ShownPair, data, PAIR_BYTES_MAX)
    apply_report(scope, view.fork(), ReportEquivocation(shown.first, shown.second, STRANGER.public_key))


def make_samples() -> tuple[Sample, ...]:
    """Return evidence against either miner, each on a network of its own."""
    scenes = [_make_scene(name, key) for name in ("one", "another") for key in (ALICE, BOB)]
    return tuple(Sample(scene.show_sorted(*scene.contents), _make_forgeries(scene)) for scene in scenes)


def _make_scene(name: str, key: SigningKey) -> Scene:
    # The miner's own name in the network's, so that no two scenes share a chain.
    network, drafts = Network(make_genesis(network=f"{name}-{key.public_key[:4].hex()}")), list[BlockDraft]()
    for _ in range(BLOCKS):
        drafts.append(network.make_draft(key))
        network.mine(draft=drafts[-1])
    chain_id, parent = network.context.chain_id, tagged_hash("mutations.parent", name.encode())
    first, second = (_sign_block(chain_id, key, drafts[1], parent, salt) for salt in (1, 2))
    blocks = (
        _sign_block(chain_id, key, drafts[2], parent, 3),
        _sign_block(chain_id, key, drafts[1], tagged_hash("mutations.fork", parent), 4),
    )
    scope = BlockScope(network.context, network.make_draft(key), network.bench.learning, network.content)
    punished = network.view.fork()
    apply_report(scope, punished, make_report(first, second, STRANGER.public_key))
    return Scene(scope, network.view, key, (first, second), punished, blocks)


def _sign_block(chain_id: Hash, key: SigningKey, draft: BlockDraft, parent: Hash, salt: int) -> Header:
    foliage = Foliage(
        version=HEADER_VERSION, height=draft.height, parent_hash=parent, timestamp_ms=draft.timestamp_ms,
        target=2**255, miner=key.public_key, state_root=tagged_hash("mutations.content", bytes([salt])),
        transactions_root=ZERO_HASH, trunk_hash=ZERO_HASH, history_root=ZERO_HASH,
    )  # fmt: skip
    return restate(chain_id, key, Trunk(draft.ticket, draft.beacon, draft.height), foliage)


def _make_forgeries(scene: Scene) -> Mapping[str, Forgery]:
    forgeries = {
        "one header twice": show_twice,
        "two honest blocks": show_honest_blocks,
        "a content made up": make_up,
        "a pair of one's own": show_own_pair,
        "another trunk under both": exchange_trunks,
        "already punished": show_again,
    }
    return {name: partial(forge, scene) for name, forge in forgeries.items()}


def show_twice(scene: Scene, rng: Random) -> Attempt:
    """Show one header twice, the second time under another signature, or both headers the wrong way round."""
    header = rng.choice((*scene.contents, *scene.blocks))
    wrong_way = sorted(scene.contents, key=compute_header_hash, reverse=True)
    pair = rng.choice(((header, header), (header, bend_signature(rng, header)), tuple(wrong_way)))
    return scene.show(*pair)


def show_honest_blocks(scene: Scene, rng: Random) -> Attempt:
    """Show blocks of two heights, or of one height under two parents: no ticket has two contents there."""
    one, other = rng.sample((scene.contents[0], *scene.blocks), 2)
    return scene.show_sorted(one, other)


def make_up(scene: Scene, rng: Random) -> Attempt:
    """Make up a second content, without the miner's key: its old signature, a bent one, or one's own."""
    header = rng.choice(scene.contents)
    foliage = replace(header.foliage, state_root=Hash(alter_bytes(rng, header.foliage.state_root)))
    unsigned = Header(header.trunk, foliage, header.signature)
    forged = rng.choice(
        (unsigned, bend_signature(rng, unsigned), sign(_get_chain_id(scene), STRANGER, header.trunk, foliage))
    )
    return scene.show_sorted(header, forged)


def show_own_pair(scene: Scene, rng: Random) -> Attempt:
    """Show two contents that a stranger signed under its own name, of any height: it has nothing at stake."""
    trunk, height = scene.contents[0].trunk, rng.choice((scene.contents[0].height, rng.randrange(2**64)))
    foliage = replace(scene.contents[0].foliage, miner=STRANGER.public_key, height=height)
    roots = (Hash(rng.randbytes(32)) for _ in range(2))
    pair = [restate(_get_chain_id(scene), STRANGER, trunk, replace(foliage, state_root=root)) for root in roots]
    return scene.show_sorted(*pair)


def exchange_trunks(scene: Scene, rng: Random) -> Attempt:
    """Put another trunk under both headers, or one of them, which their signatures do not cover."""
    first, second = scene.contents
    trunk = replace(first.trunk, total_work=first.trunk.total_work ^ 1 << rng.randrange(256))
    other = rng.choice((trunk, scene.blocks[0].trunk))
    return scene.show_sorted(replace(first, trunk=other), rng.choice((second, replace(second, trunk=other))))


def show_again(scene: Scene, rng: Random) -> Attempt:
    """Show true evidence once more, to a ledger that has punished it; as it was, or with a content more."""
    third = replace(scene.contents[0].foliage, state_root=Hash(rng.randbytes(32)))
    more = sign(_get_chain_id(scene), scene.key, scene.contents[0].trunk, third)
    pair = rng.choice((scene.contents, (scene.contents[0], more), (more, scene.contents[1])))
    return replace(scene.show_sorted(*pair), judge=partial(_judge, scene.scope, scene.punished), is_staged=True)


def _get_chain_id(scene: Scene) -> Hash:
    return scene.scope.context.chain_id


TARGET_OF_EVIDENCE = Target(
    "evidence",
    "two headers of one ticket, to the ledger that punishes their miner",
    make_samples,
    BYTE_MUTATORS | WIRE_MUTATORS,
)
