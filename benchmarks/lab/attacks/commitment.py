"""Threats 11 to 16, 56 and 57: commitments that mean something else, or belong to someone else.

Spliced segments, state that no hash holds, replays, copies, front-running, a poisoned delta, and block data for some
eyes only, against the real ledger over the real engine. Trees and encodings stand in `commitment_trees`.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from benchmarks.lab.attacks import commitment_trees
from benchmarks.lab.attacks.case import Attack, Effort, Ending, Outcome
from benchmarks.lab.attacks.challenge_gain import compute_devnet_stakes, compute_gain
from benchmarks.lab.attacks.commitment_network import ALICE, BOB, Network, make_genesis
from benchmarks.lab.attacks.trajectory_bench import get_bench, make_seed, make_segment
from benchmarks.lab.attacks.trajectory_cheats import (
    SPLICE_STEP,
    carry_moments,
    copy_segment,
    make_other_half,
    shift_cursor,
    shift_schedule,
    splice,
    turn_delta,
)
from benchmarks.lab.attacks.trajectory_judges import make_judged_pair
from chain.errors import InvalidBlock, InvalidProof, InvalidTransaction, MissingData
from chain.ledger.learning import SegmentContext
from chain.ledger.transition import ContributionStatus
from chain.primitives import Hash
from chain.transaction import Sidecar
from ml.checks import CheckContext, check_place
from ml.openings import OpeningReader, Place, TensorReader, decode_opening


def show_other_half(effort: Effort) -> Outcome:
    """At the seam of a splice, open the rows that the second half truly read."""
    runner = get_bench().make_runner(make_seed(effort.seed))
    spliced = make_segment(runner, splice)
    other = make_other_half(make_seed(effort.seed))[SPLICE_STEP]
    context, tried, refused = CheckContext(runner.program, runner.dataset, runner.segment_seed), 0, 0
    for op in runner.program.ops:
        if not set(op.inputs) & set(runner.program.state_inputs):
            continue
        output = runner.program.tensors[op.outputs[0]]
        for row in np.random.default_rng(effort.seed).integers(output.rows, size=max(1, effort.trials // 32)):
            place = Place(SPLICE_STEP, op.index, int(row), 0, 0)
            reader = TensorReader(runner.program, other, {})
            check_place(context, place, reader)
            opened = OpeningReader(spliced.trace, SPLICE_STEP, decode_opening(reader.encode()))
            tried += 1
            refused += is_refused(partial(check_place, context, place, opened))
    return Outcome(tried, refused, None, None, "ids, never the prover, say which root an op reads")


def replay(effort: Effort) -> Outcome:
    """Send an honest segment again: as it was, re-signed, for other indexes, anchors, rounds, tasks, miners, chains."""
    del effort
    network = Network()
    segment = network.train(ALICE)
    commit = network.make_commit(segment)
    first = network.sign(ALICE, commit)
    network.mine(first)
    network.mine()
    elsewhere = Network(make_genesis(network="another"))
    again = [
        partial(network.mine, first),
        partial(network.mine, network.sign(ALICE, commit)),
        partial(network.mine, network.sign(BOB, replace(commit, round=1))),
        partial(network.mine, network.sign(BOB, replace(commit, index=2))),
        partial(network.mine, network.sign(BOB, replace(commit, task=Hash(bytes(32))))),
        partial(elsewhere.mine, first),
    ]
    refused = sum(map(is_refused, again))
    seeds = [network.compute_seed(BOB), network.compute_seed(ALICE, 1), network.compute_seed(ALICE, 0, 1),
             network.compute_seed(ALICE, 0, 2), elsewhere.compute_seed(ALICE)]  # fmt: skip
    learning, spec = network.bench.learning, network.bench.spec
    contexts = [SegmentContext(seed, spec.checkpoint_root, 0) for seed in seeds]
    refused += sum(not learning.is_segment_honest(spec, context, segment.sidecar) for context in contexts)
    gain = compute_gain(compute_devnet_stakes(), 0.0, 0.0)
    verdict = "by the ledger where a number differs, else by re-execution: another seed is another segment"
    return Outcome(len(again) + len(seeds), refused, None, None, verdict, gain)


def front_run(effort: Effort) -> Outcome:
    """See a commit on its way, and have a copy of it, of one's own seed, in the block before it."""
    tried = max(1, effort.trials // 1024)
    detected = 0
    for _ in range(tried):
        network = Network()
        segment = network.train(ALICE)
        before = network.get_balance(BOB)
        commit = network.make_commit(segment)
        copied = replace(commit, seed=network.compute_seed(BOB))
        network.mine(network.sign(BOB, copied, fee=1), draft=network.make_draft(BOB))
        network.mine(network.sign(ALICE, commit))
        network.mine_to(4)
        proof = network.make_proof(ALICE, segment)
        network.mine(network.sign(ALICE, proof))
        network.mine_to(network.context.parameters.round_blocks)
        statuses = [network.get_contribution(key).status for key in (ALICE, BOB)]
        is_harmless = statuses == [ContributionStatus.SETTLED, ContributionStatus.EXPIRED]
        detected += is_harmless and network.get_balance(BOB) < before
    verdict = "the victim settles as if nothing had been; the copy answers for the copier's seed and expires"
    return Outcome(tried, detected, None, None, verdict, compute_gain(compute_devnet_stakes(), 0.0, 0.0))


def poison_delta(effort: Effort) -> Outcome:
    """Leave the trace honest, and put other delta bytes into the sidecar."""
    network, rng = Network(), np.random.default_rng(effort.seed)
    segment = network.train(ALICE)
    commit, delta = network.make_commit(segment), bytearray(segment.sidecar.delta)
    validate, root, detected = network.bench.learning.validate_sidecar, network.task.checkpoint_root, 0
    for _ in range(effort.trials):
        place, bit = int(rng.integers(len(delta))), 1 << int(rng.integers(8))
        delta[place] ^= bit
        poisoned = Sidecar(segment.sidecar.output_roots, bytes(delta))
        detected += is_refused(partial(validate, network.bench.spec, root, commit, poisoned))
        delta[place] ^= bit
    return Outcome(effort.trials, detected, None, None, "the delta's roots are outputs of the trace")


def show_sidecar_to_half(effort: Effort) -> Outcome:
    """Publish a block whose sidecar only half the network is given, then let it be found."""
    del effort
    seeing, blind = Network(), Network()
    commit = seeing.make_commit(seeing.train(BOB))
    transaction = seeing.sign(BOB, commit)
    seeing.mine(transaction)
    waits = is_refused(partial(blind.mine, transaction))
    is_unchanged = blind.height == 0
    blind.content.add(seeing.content.get_sidecar(commit.sidecar_hash))
    blind.mine(transaction)
    detected = waits + is_unchanged + (blind.root == seeing.root)
    verdict = "a block without its data is not valid yet; with it, both halves have one state"
    return Outcome(3, detected, None, None, verdict)


def is_refused(attempt: Callable[[], object]) -> bool:
    """Say whether an attempt ends in a typed refusal."""
    try:
        attempt()
    except (InvalidBlock, InvalidTransaction, InvalidProof, MissingData):
        return True
    return False


def _make_case(rows: tuple[int, ...], name: str, run: Callable[[Effort], Outcome], *endings: Ending) -> Attack:
    return Attack(rows, name, run.__doc__ or name, "always refused", (Ending.DETECTED, *endings), run)


JUDGED = (
    ((12,), "two honest halves spliced", splice),
    ((13,), "schedule shifted", shift_schedule),
    ((13,), "cursor shifted", shift_cursor),
    ((13,), "moments carried over", carry_moments),
    ((15,), "copied segment", copy_segment),
    ((56,), "delta turned around", turn_delta),
)

ATTACKS: tuple[Attack, ...] = (
    *commitment_trees.ATTACKS,
    _make_case((12,), "rows of the other half", show_other_half),
    _make_case((14,), "replay", replay, Ending.UNPROFITABLE),
    _make_case((16,), "commit front-run", front_run, Ending.UNPROFITABLE),
    _make_case((56,), "delta bytes poisoned", poison_delta),
    _make_case((57,), "sidecar for half the network", show_sidecar_to_half),
    *(attack for rows, name, cheat in JUDGED for attack in make_judged_pair(rows, name, cheat)),
)
