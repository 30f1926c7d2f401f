"""Threats 28 and 29: auditors that do not execute what they are assigned, and auditors in a miner's hand.

Against the real ledger over the real engine. Bob's segments are audited by the stranger, or by Alice too. What a share
of auditors in one hand gains for any chance of audits is computed in `benchmarks.lab.audit_gains`.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import numpy as np

from benchmarks.lab.attacks.case import Attack, Effort, Ending, Outcome
from benchmarks.lab.attacks.challenge_gain import compute_devnet_stakes
from benchmarks.lab.attacks.commitment import is_refused
from benchmarks.lab.attacks.commitment_network import ALICE, BOB, STRANGER, Network, make_genesis
from benchmarks.lab.attacks.trajectory_bench import Segment, get_bench, make_seed, make_segment
from benchmarks.lab.attacks.trajectory_cheats import zero_all_layers
from benchmarks.lab.attacks.trajectory_odds import draw_challenges
from chain.audit import ProveAudit, RegisterAuditor
from chain.dispute import AnswerDispute, Demand, DemandDigests, DemandOpening, DisputeContribution
from chain.errors import InvalidProof
from chain.genesis import Parameters
from chain.ledger.audits import compute_audit_challenge
from chain.ledger.keys import auditor_key, audits_key
from chain.ledger.learning import Leaf
from chain.ledger.records import ContributionKey
from chain.ledger.transition import ContributionStatus
from chain.primitives import Hash, PublicKey
from chain.signature import SigningKey
from chain.transaction import compute_sidecar_hash
from ml.auditing import DrawnOutput, draw_outputs, list_telling_outputs, prove_audit, verify_audit
from ml.checks import CheckContext, check_place
from ml.disputing import Element, choose_place, find_difference, open_digests
from ml.openings import Place, TensorReader, draw_places
from ml.program import Program, TensorId
from ml.tensor_tree import DIGEST_BYTES
from ml.trace import get_tensor_shape
from node.demands import make_answer

PLACES_DRAWN = 8


def prove_without_work(effort: Effort) -> Outcome:
    """Prove an audit without executing: zeros, the block data's roots, the checkpoint, all steps but the last."""
    segment = make_segment(get_bench().make_runner(make_seed(effort.seed)))
    tried = refused = 0
    for challenge in draw_challenges(effort.seed, effort.trials):
        drawn = draw_outputs(segment.runner.program, challenge)
        for way in (_show_zeros, _show_roots, _show_checkpoint, _show_earlier):
            tried += 1
            refused += _is_proof_refused(segment, challenge, tuple(way(segment, output) for output in drawn))
    verdict = "a digest follows from the tensor alone, and half of what is drawn comes after the last step"
    return Outcome(tried, refused, None, None, verdict)


def prove_from_openings(effort: Effort) -> Outcome:
    """Prove an audit by digests that the miner's own openings give away: of tensors of one or two strips, all."""
    segment = make_segment(get_bench().make_runner(make_seed(effort.seed)))
    program = segment.runner.program
    shares, lacking = [], 0
    trials = effort.trials // 8
    for challenge in draw_challenges(effort.seed, trials):
        shown = set(_iter_shown(segment, challenge))
        drawn = draw_outputs(program, compute_audit_challenge(challenge, STRANGER.public_key))
        lacking += not {(output.step, output.tensor) for output in drawn} <= shown
        shares.append(_compute_copy_chance(program, shown))
    verdict = f"all four outputs would have to be among the tensors that 8 places show: {np.mean(shares):.0e} of audits"
    return Outcome(trials, lacking, 1 - float(np.mean(shares)), None, verdict)


def copy_proof(effort: Effort) -> Outcome:
    """Copy another auditor's proof of the same segment, one's own of another segment, or send one unassigned."""
    del effort
    network = _begin(Parameters(audit_bp=20_000), ALICE, STRANGER)
    segment = network.train(BOB)
    _commit(network, segment)
    own, other = (_make_proof(network, segment, key) for key in (STRANGER, ALICE))
    second = make_segment(get_bench().make_runner(make_seed(1)))
    challenge = _get_challenge(network, STRANGER)
    elsewhere = ProveAudit(
        own.task, own.round, own.miner, own.index, own.challenge, prove_audit(second.runner, challenge)
    )
    attempts = (
        partial(network.mine, network.sign(STRANGER, other)),
        partial(network.mine, network.sign(STRANGER, elsewhere)),
        partial(network.mine, network.sign(BOB, own)),
    )
    refused = sum(map(is_refused, attempts))
    refused += not is_refused(partial(network.mine, network.sign(STRANGER, own), network.sign(ALICE, other)))
    return Outcome(len(attempts) + 1, refused, None, None, "what is drawn depends on the auditor's key and the segment")


def grind_draw(effort: Effort) -> Outcome:
    """Enter as an auditor with the commit that one wants to be drawn for, or after it; be one's own auditor."""
    del effort
    attempts = ((STRANGER, 2), (STRANGER, 3), (STRANGER, 4), (BOB, 1))
    missed = 0
    for key, height in attempts:
        network = Network(make_genesis())
        for place in range(1, 5):
            entering = [network.sign(key, _register(network))] if place == height else []
            commit = [network.sign(BOB, network.make_commit(network.train(BOB)))] if place == 2 else []
            network.mine(*entering, *commit)
        missed += not _list_drawn(network)
    verdict = "drawn are keys that stood before the commit, by a beacon after it, and never the miner's"
    return Outcome(len(attempts), missed, None, None, verdict)


def keep_silent(effort: Effort) -> Outcome:
    """Be paid for nothing as an auditor: execute nothing and prove nothing; or let a miner's segment hang by it."""
    del effort
    network = _begin(Parameters(), STRANGER)
    segment = network.train(BOB)
    _commit(network, segment)
    before = network.get_balance(STRANGER)
    network.mine(network.sign(BOB, network.make_proof(BOB, segment)))
    _finish(network)
    auditor = network.view.get_existing(auditor_key(STRANGER.public_key))
    parameters = network.context.parameters
    held = [
        network.get_contribution(BOB).status is ContributionStatus.SETTLED,
        network.get_contribution(BOB).reward > 0,
        network.get_balance(STRANGER) == before,
        auditor.bond == parameters.auditor_bond - parameters.audit_penalty,
    ]
    # An audit costs what it pays, at most; so silence saves as much as it forgoes, and loses the penalty.
    gain = -parameters.audit_penalty / _get_segment_reward(network)
    verdict = "the miner is paid as if nobody had been drawn; silence saves what an audit costs and loses the penalty"
    return Outcome(len(held), sum(held), None, None, verdict, gain)


def vouch_for_forgery(effort: Effort) -> Outcome:
    """As the auditor of a friend's forged segment, prove it by the friend's digests; an outsider executes it."""
    del effort
    network = _begin(Parameters(), STRANGER)
    forged = network.train(BOB, zero_all_layers)
    before = _get_wealth(network)
    _commit(network, forged)
    network.mine(
        network.sign(STRANGER, _make_proof(network, forged, STRANGER)),
        network.sign(BOB, network.make_proof(BOB, forged)),
    )
    start, held = network.get_balance(ALICE), [bool(_list_drawn(network))]
    demand = _make_demand(network, forged)
    network.mine(network.sign(ALICE, demand))
    shown = _answer_falsely(forged, demand)
    answer = AnswerDispute(demand.task, demand.round, BOB.public_key, 0, ALICE.public_key, shown)
    held += [is_refused(partial(network.mine, network.sign(key, answer))) for key in (BOB, STRANGER)]
    network.mine_to(network.height + network.context.parameters.dispute_window)
    parameters = network.context.parameters
    lost = before - _get_wealth(network)
    held += [
        network.get_contribution(BOB).status is ContributionStatus.SLASHED,
        network.view.get(auditor_key(STRANGER.public_key)) is None,
        lost == parameters.deposit + parameters.auditor_bond,
        network.get_balance(ALICE) - start == parameters.deposit // 2 + parameters.auditor_bond // 2,
    ]
    gain = -lost / _get_segment_reward(network)
    verdict = "the outsider's dispute cannot be answered by anybody: deposit and bond are lost, half of both are its"
    return Outcome(len(held), sum(held), None, None, verdict, gain)


def vouch_unseen(effort: Effort) -> Outcome:
    """The same where no outsider executes anything: all who were drawn are in one hand."""
    del effort
    network = _begin(Parameters(), STRANGER)
    forged = network.train(BOB, zero_all_layers)
    _commit(network, forged)
    network.mine(
        network.sign(STRANGER, _make_proof(network, forged, STRANGER)),
        network.sign(BOB, network.make_proof(BOB, forged)),
    )
    _finish(network)
    is_caught = network.get_contribution(BOB).status is not ContributionStatus.SETTLED
    verdict = "it settles: with a share q of the auditors this is q of what is drawn, and one outsider ends it"
    return Outcome(1, int(is_caught), None, None, verdict)


def burn_honest_bond(effort: Effort) -> Outcome:
    """Let an honest segment of one's own fall by silence, to take half the bond of the auditor that vouched for it."""
    del effort
    network = _begin(Parameters(), STRANGER)
    segment = network.train(BOB)
    _commit(network, segment)
    network.mine(
        network.sign(STRANGER, _make_proof(network, segment, STRANGER)),
        network.sign(BOB, network.make_proof(BOB, segment)),
    )
    before = network.get_balance(ALICE), network.get_balance(BOB)
    task, number = network.context.task_id, network.task.round
    deposit = network.context.parameters.deposit
    leaf = Leaf(3, 9)
    demands: tuple[Demand, ...] = (DemandDigests(0), DemandOpening(0, 0, 0))
    for place, demand in enumerate(demands):
        locked = deposit if place == 0 else 0
        named = network.get_contribution(BOB, round_number=number).sidecar_hash
        action = DisputeContribution(task, number, BOB.public_key, 0, named, leaf.step, leaf.op, demand, locked)
        network.mine(network.sign(ALICE, action))
        shown = make_answer(segment.runner, (leaf, demand))
        answer = AnswerDispute(task, number, BOB.public_key, 0, ALICE.public_key, shown)
        network.mine(network.sign(STRANGER, answer))
    network.mine_to(network.height + network.context.parameters.round_blocks)
    held = [
        network.view.get_existing(auditor_key(STRANGER.public_key)).bond == network.context.parameters.auditor_bond,
        network.get_contribution(BOB).status is ContributionStatus.SETTLED,
    ]
    after = network.get_balance(ALICE), network.get_balance(BOB)
    reward = network.get_contribution(BOB).reward
    gained = sum(after) - sum(before) - deposit - reward
    verdict = "the auditor answers in the miner's place, and the accomplice's deposit is lost, half of it to the miner"
    return Outcome(len(held), sum(held), None, None, verdict, gained / _get_segment_reward(network))


def _begin(parameters: Parameters, *auditors: SigningKey) -> Network:
    """Return a network whose auditors have entered in the first block."""
    network = Network(make_genesis(parameters))
    network.mine(*(network.sign(key, _register(network)) for key in auditors))
    return network


def _register(network: Network) -> RegisterAuditor:
    return RegisterAuditor(network.context.parameters.auditor_bond)


def _commit(network: Network, segment: Segment) -> None:
    """Commit a segment of Bob's and mine until its auditors are drawn."""
    network.mine(network.sign(BOB, network.make_commit(segment)))
    network.mine_to(network.height + network.context.parameters.challenge_delay)


def _finish(network: Network) -> None:
    network.mine_to(network.context.parameters.round_blocks)


def _get_challenge(network: Network, auditor: SigningKey) -> Hash:
    return compute_audit_challenge(network.get_contribution(BOB).challenge, auditor.public_key)


def _list_drawn(network: Network) -> list[PublicKey]:
    found = network.view.get(audits_key(network.context.task_id, 0, ContributionKey(BOB.public_key, 0)))
    return [] if found is None else [audit.auditor for audit in found.audits]


def _make_proof(network: Network, segment: Segment, auditor: SigningKey) -> ProveAudit:
    """Return the proof that an auditor has who holds all tensors of a segment as they were committed."""
    drawn = draw_outputs(segment.runner.program, _get_challenge(network, auditor))
    digests = tuple(open_digests(segment.steps[output.step][output.tensor]) for output in drawn)
    drawn_by = network.get_contribution(BOB).challenge
    return ProveAudit(network.context.task_id, 0, BOB.public_key, 0, drawn_by, digests)


def _get_wealth(network: Network) -> int:
    """Return what miner and auditor have together: balances, and what they may get back."""
    auditor = network.view.get(auditor_key(STRANGER.public_key))
    return network.get_balance(BOB) + network.get_balance(STRANGER) + (0 if auditor is None else auditor.bond)


def _get_segment_reward(network: Network) -> float:
    """Return what one segment earns on a full development network, in atoms."""
    return network.context.parameters.deposit / compute_devnet_stakes().deposit


def _make_demand(network: Network, forged: Segment) -> DisputeContribution:
    """Return the demand of whoever has executed a forged segment: its first wrong op, opened where it is wrong."""
    runner = forged.runner
    honest = make_segment(runner)
    fault = find_difference(runner.program, honest.sidecar.output_roots, forged.sidecar.output_roots)
    assert fault is not None
    own, tensor = honest.steps[fault.step], runner.program.get_op(fault.op).outputs[fault.output]
    row, column = np.argwhere(own[tensor] != forged.steps[fault.step][tensor])[0]
    place = choose_place(runner.program, fault, Element(int(row), int(column)), own)
    demand = DemandOpening(place.row, place.column, place.depth)
    deposit = network.context.parameters.deposit
    named = compute_sidecar_hash(forged.sidecar)
    segment = network.context.task_id, 0, BOB.public_key, 0, named
    return DisputeContribution(*segment, fault.step, fault.op, demand, deposit)


def _answer_falsely(forged: Segment, demand: DisputeContribution) -> bytes:
    """Return the best answer there is: the committed tensors, opened where they do not hold."""
    assert isinstance(demand.demand, DemandOpening)
    at = demand.demand
    program = forged.runner.program
    reader = TensorReader(program, forged.steps[demand.step], {})
    context = CheckContext(program, forged.runner.dataset, forged.runner.segment_seed)
    with suppress(InvalidProof):
        check_place(context, Place(demand.step, demand.op, at.row, at.column, at.depth), reader)
    return reader.encode()


def _is_proof_refused(segment: Segment, challenge: Hash, digests: tuple[bytes, ...]) -> bool:
    return is_refused(partial(verify_audit, segment.trace, challenge, digests))


def _show_zeros(segment: Segment, output: DrawnOutput) -> bytes:
    return bytes(get_tensor_shape(segment.runner.program.tensors[output.tensor]).strips * DIGEST_BYTES)


def _show_roots(segment: Segment, output: DrawnOutput) -> bytes:
    strips = get_tensor_shape(segment.runner.program.tensors[output.tensor]).strips
    return segment.trace.get_root(output.step, output.tensor) * strips


def _show_checkpoint(segment: Segment, output: DrawnOutput) -> bytes:
    """Show what the tensor would be at the start: weights as they were, all else of the first step."""
    return open_digests(segment.steps[0][output.tensor])


def _show_earlier(segment: Segment, output: DrawnOutput) -> bytes:
    """Show what all steps but the last give."""
    return open_digests(segment.steps[min(output.step, len(segment.steps) - 2)][output.tensor])


def _iter_shown(segment: Segment, challenge: Hash) -> Iterator[tuple[int, TensorId]]:
    """Yield (step, tensor) of all whose strip digests stand in the openings of a challenge, or follow from them."""
    program = segment.runner.program
    context = CheckContext(program, segment.runner.dataset, segment.runner.segment_seed)
    for place in draw_places(program, challenge, PLACES_DRAWN):
        reader = TensorReader(program, segment.steps[place.step], {})
        check_place(context, place, reader)
        for tensor, _, _ in reader.opened:
            # The path of one of two strips is the other's digest.
            if get_tensor_shape(program.tensors[tensor]).strips <= 2:
                yield place.step, tensor


def _compute_copy_chance(program: Program, shown: set[tuple[int, TensorId]]) -> float:
    """Return the chance that all that is drawn for an audit is among what is `shown`."""
    telling = set(list_telling_outputs(program))
    final = telling & set(program.state_outputs)
    of_last = sum(step == program.steps - 1 and tensor in final for step, tensor in shown)
    of_any = sum(tensor in telling for _, tensor in shown)
    return float((of_last / len(final)) ** 2 * (of_any / (len(telling) * program.steps)) ** 2)


def _make_case(
    rows: tuple[int, ...], name: str, run: Callable[[Effort], Outcome], *endings: Ending, expected: str
) -> Attack:
    return Attack(rows, name, run.__doc__ or name, expected, endings, run)


ATTACKS: tuple[Attack, ...] = (
    _make_case((28,), "audit without work", prove_without_work, Ending.DETECTED, expected="always refused"),
    _make_case((28,), "audit from openings", prove_from_openings, Ending.COMPUTED, expected="as good as never"),
    _make_case((28,), "audit proof copied", copy_proof, Ending.DETECTED, expected="always refused"),
    _make_case((28, 17), "draw of auditors ground", grind_draw, Ending.DETECTED, expected="never drawn"),
    _make_case((28,), "silent auditor", keep_silent, Ending.DETECTED, Ending.UNPROFITABLE, expected="costs it alone"),
    _make_case(
        (29, 52), "forgery vouched for", vouch_for_forgery, Ending.DETECTED, Ending.UNPROFITABLE,
        expected="both lose all that is locked",
    ),
    _make_case((29,), "forgery vouched for, unseen", vouch_unseen, Ending.ACCEPTED, expected="settles"),
    _make_case(
        (29, 61), "honest bond burned by silence", burn_honest_bond, Ending.DETECTED, Ending.UNPROFITABLE,
        expected="the challenger loses",
    ),
)  # fmt: skip
