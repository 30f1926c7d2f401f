"""Proofs of audits, judged by the ledger that pays for them: nobody may prove what it has not executed.

The attacker knows all block data, every proof that others have sent, and whatever it has executed itself: here all of
the segment but the outputs that it is asked about. What it was assigned stands in the ledger.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from random import Random

from benchmarks.lab.attacks.commitment_network import ALICE, BOB, STRANGER, Network, make_genesis
from benchmarks.lab.attacks.trajectory_bench import Segment
from benchmarks.lab.mutations.byte_mutators import BYTE_MUTATORS
from benchmarks.lab.mutations.target import Attempt, Forgery, Sample, Target
from benchmarks.lab.mutations.wire_mutators import WIRE_MUTATORS
from chain.audit import ProveAudit, RegisterAuditor
from chain.codec import decode, encode
from chain.genesis import Parameters
from chain.ledger.audits import apply_prove_audit, compute_audit_challenge
from chain.ledger.context import BlockScope
from chain.signature import SigningKey
from chain.state.view import StateView
from chain.transaction import TRANSACTION_BYTES_MAX
from ml.auditing import DrawnOutput, draw_outputs, list_telling_outputs
from ml.disputing import open_digests
from ml.tensor_tree import DIGEST_BYTES

PARAMETERS = Parameters(audit_bp=20_000)


@dataclass(frozen=True, slots=True)
class Scene:
    """A ledger in which a segment is assigned to an auditor, and what it has to show."""

    scope: BlockScope
    view: StateView
    auditor: SigningKey
    segment: Segment
    drawn: tuple[DrawnOutput, ...]
    proof: ProveAudit

    def judge(self, data: bytes) -> None:
        """Check bytes as the auditor's proof in the next block; raises as a judge does."""
        shown = decode(ProveAudit, data, TRANSACTION_BYTES_MAX)
        apply_prove_audit(self.scope, self.view.fork(), self.auditor.public_key, shown)

    def show(self, digests: tuple[bytes, ...]) -> Attempt:
        """Return the attempt to prove by other digests."""
        return Attempt(encode(replace(self.proof, digests=digests)), self.judge)


def make_samples() -> tuple[Sample, ...]:
    """Return the proofs of two auditors of one segment, on two networks."""
    scenes = [scene for name in ("one", "another") for scene in _make_scenes(name)]
    return tuple(
        Sample(Attempt(encode(scene.proof), scene.judge), _make_forgeries(scene, scenes[number - number % 2 :][:2]))
        for number, scene in enumerate(scenes)
    )


def _make_scenes(name: str) -> list[Scene]:
    network = Network(make_genesis(PARAMETERS, name))
    bond = RegisterAuditor(PARAMETERS.auditor_bond)
    network.mine(*(network.sign(key, bond) for key in (ALICE, STRANGER)))
    segment = network.train(BOB)
    network.mine(network.sign(BOB, network.make_commit(segment)))
    network.mine_to(network.height + PARAMETERS.challenge_delay)
    scope = BlockScope(network.context, network.make_draft(), network.bench.learning, network.content)
    return [_make_scene(scope, network, segment, key) for key in (ALICE, STRANGER)]


def _make_scene(scope: BlockScope, network: Network, segment: Segment, auditor: SigningKey) -> Scene:
    challenge = network.get_contribution(BOB).challenge
    drawn = draw_outputs(segment.runner.program, compute_audit_challenge(challenge, auditor.public_key))
    digests = tuple(open_digests(segment.steps[output.step][output.tensor]) for output in drawn)
    proof = ProveAudit(network.context.task_id, 0, BOB.public_key, 0, challenge, digests)
    return Scene(scope, network.view, auditor, segment, drawn, proof)


def _make_forgeries(scene: Scene, of_segment: list[Scene]) -> Mapping[str, Forgery]:
    (other,) = (each for each in of_segment if each is not scene)
    return {
        "digests of another auditor": partial(take_proof, scene, other),
        "digests of another step": partial(take_step, scene),
        "digests of another output": partial(take_output, scene),
        "digests in another order": partial(reorder, scene),
        "root in place of digests": partial(show_root, scene),
    }


def take_proof(scene: Scene, other: Scene, rng: Random) -> Attempt | None:
    """Show what the other auditor showed, all of it or of one output; by rights where both were asked the same."""
    if rng.random() < 0.5:
        return None if other.drawn == scene.drawn else scene.show(other.proof.digests)
    place = rng.randrange(len(scene.drawn))
    if other.drawn[place] == scene.drawn[place]:
        return None
    return scene.show(_put(scene, place, other.proof.digests[place]))


def take_step(scene: Scene, rng: Random) -> Attempt | None:
    """Show an output as another step gave it; by rights where it had the same."""
    place, step = rng.randrange(len(scene.drawn)), rng.randrange(len(scene.segment.steps))
    digests = open_digests(scene.segment.steps[step][scene.drawn[place].tensor])
    return None if digests == scene.proof.digests[place] else scene.show(_put(scene, place, digests))


def take_output(scene: Scene, rng: Random) -> Attempt | None:
    """Show another output of the same step; by rights where it is equal."""
    place = rng.randrange(len(scene.drawn))
    tensor = rng.choice(list_telling_outputs(scene.segment.runner.program))
    digests = open_digests(scene.segment.steps[scene.drawn[place].step][tensor])
    return None if digests == scene.proof.digests[place] else scene.show(_put(scene, place, digests))


def reorder(scene: Scene, rng: Random) -> Attempt | None:
    """Swap outputs, or the digests of one; by rights where they are equal."""
    digests = list(scene.proof.digests)
    if rng.random() < 0.5:
        rng.shuffle(digests)
    else:
        place = rng.randrange(len(digests))
        parts = [digests[place][i : i + DIGEST_BYTES] for i in range(0, len(digests[place]), DIGEST_BYTES)]
        digests[place] = b"".join(rng.sample(parts, len(parts)))
    return None if tuple(digests) == scene.proof.digests else scene.show(tuple(digests))


def show_root(scene: Scene, rng: Random) -> Attempt:
    """Show what stands in the block data: the root of the output, as often as it has strips."""
    place = rng.randrange(len(scene.drawn))
    root = scene.segment.trace.get_root(scene.drawn[place].step, scene.drawn[place].tensor)
    return scene.show(_put(scene, place, root * (len(scene.proof.digests[place]) // DIGEST_BYTES)))


def _put(scene: Scene, place: int, digests: bytes) -> tuple[bytes, ...]:
    return (*scene.proof.digests[:place], digests, *scene.proof.digests[place + 1 :])


TARGET_OF_AUDITS = Target(
    "audits",
    "the proof of an assigned auditor that it has executed a segment, to the ledger",
    make_samples,
    BYTE_MUTATORS | WIRE_MUTATORS,
)
