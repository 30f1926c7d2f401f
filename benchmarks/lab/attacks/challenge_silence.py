"""Threats 21, 53 and 60: answers that do not come, work that is never finished, and answers that are kept out.

Against the real ledger over the real engine, in atoms where somebody is paid.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from benchmarks.lab.attacks.case import Attack, Effort, Ending, Outcome
from benchmarks.lab.attacks.challenge_gain import SHARE, compute_devnet_stakes, compute_gain
from benchmarks.lab.attacks.commitment import is_refused
from benchmarks.lab.attacks.commitment_network import ALICE, BOB, Network
from benchmarks.lab.attacks.trajectory_cheats import zero_all_layers
from chain.hashing import tagged_hash
from chain.ledger.transition import ContributionStatus
from chain.transaction import ProveContribution

OPENING_FEE_ATOMS = 1_000
"""What a node offers to have its openings included."""


def answer_selectively(effort: Effort) -> Outcome:
    """Commit a forgery; be silent, answer part, answer in another order, twice, or late."""
    del effort
    network = Network()
    deposit, before = network.context.parameters.deposit, network.get_balance(BOB)
    forged = network.train(BOB, zero_all_layers)
    network.mine(network.sign(BOB, network.make_commit(forged)))
    network.mine_to(3)
    proof = network.make_proof(BOB, forged)
    answers = (proof.openings[:-1], proof.openings[::-1], proof.openings + proof.openings[:1], proof.openings[:1] * 8)
    refused = 0
    for openings in answers:
        answer = ProveContribution(proof.task, proof.round, proof.index, openings)
        refused += is_refused(partial(network.mine, network.sign(BOB, answer)))
    network.mine_to(5)
    refused += network.get_contribution(BOB).status is ContributionStatus.EXPIRED
    refused += network.get_balance(BOB) == before - deposit
    refused += is_refused(partial(network.mine, network.sign(BOB, proof)))
    gain = compute_gain(compute_devnet_stakes(), 0.0, 0.0)
    return Outcome(len(answers) + 3, refused, None, None, "silence loses the deposit, as a lie does", gain)


def farm_first_ops(effort: Effort) -> Outcome:
    """Mine on the first ops of segments that are never finished, or of more segments than a round allows."""
    del effort
    network = Network()
    parameters = network.context.parameters
    honest = network.train(ALICE)
    unfinished = network.make_draft(BOB, network.make_ticket(network.train(BOB)))
    other = replace(network.make_ticket(honest), root_a=tagged_hash("tensor", b"other"))
    too_many = network.make_draft(BOB, replace(network.make_ticket(network.train(BOB)), index=2))
    refused = int(is_refused(partial(network.mine, draft=too_many)))
    before = [network.get_balance(key) for key in (ALICE, BOB)]
    network.mine(network.sign(ALICE, network.make_commit(honest)), draft=unfinished)
    network.mine(draft=network.make_draft(ALICE, other))
    network.mine()
    network.mine(network.sign(ALICE, network.make_proof(ALICE, honest)))
    network.mine_to(parameters.round_blocks)
    paid = network.get_contribution(ALICE).reward
    refused += network.get_balance(BOB) == before[1]
    refused += network.get_balance(ALICE) == before[0] + paid
    gain = -compute_devnet_stakes().block_reward
    verdict = "an index below S, or no block; a ticket of no settled segment, or of other operands, burns its reward"
    return Outcome(3, refused, None, None, verdict, gain)


def keep_answers_out(effort: Effort) -> Outcome:
    """With a third of the work, leave another miner's openings out of all the blocks that may hold them."""
    window = Network().context.parameters.proof_window
    rng = random.Random(effort.seed)
    heard = sum(any(rng.random() >= SHARE for _ in range(window)) for _ in range(effort.trials))
    alone, together = _end_round(is_heard=False), _end_round(is_heard=True)
    assert alone.status is ContributionStatus.EXPIRED
    assert together.status is ContributionStatus.SETTLED
    lost = SHARE**window
    # A segment is paid by its own work, so all that is left is the fee that the openings would have paid.
    gain = lost * (alone.reward - together.reward) / together.reward - OPENING_FEE_ATOMS / together.reward
    verdict = (
        f"{lost:.1%} of another's segments expire with their deposits, and nobody is paid more for it:"
        f" {together.reward / 1e9:.1f} coins stay {alone.reward / 1e9:.1f} where two contribute"
    )
    return Outcome(effort.trials, heard, 1 - lost, None, verdict, gain)


@dataclass(frozen=True, slots=True)
class _RoundEnd:
    """How a round ended for the victim, and what the other was paid in atoms."""

    status: ContributionStatus
    reward: int


def _end_round(*, is_heard: bool) -> _RoundEnd:
    network = Network()
    segments = {key: network.train(key) for key in (ALICE, BOB)}
    network.mine(*(network.sign(key, network.make_commit(segment)) for key, segment in segments.items()))
    network.mine_to(3)
    heard = (ALICE, BOB) if is_heard else (ALICE,)
    network.mine(*(network.sign(key, network.make_proof(key, segments[key])) for key in heard))
    network.mine_to(network.context.parameters.round_blocks)
    return _RoundEnd(network.get_contribution(BOB).status, network.get_contribution(ALICE).reward)


def _make_case(rows: tuple[int, ...], name: str, run: Callable[[Effort], Outcome], *endings: Ending) -> Attack:
    expected = "succeeds as often as computed" if Ending.OPEN in endings else "never paid"
    return Attack(rows, name, run.__doc__ or name, expected, endings, run)


ATTACKS = (
    _make_case((21,), "selective answers", answer_selectively, Ending.DETECTED, Ending.UNPROFITABLE),
    _make_case((21, 60), "answers kept out", keep_answers_out, Ending.COMPUTED, Ending.UNPROFITABLE),
    _make_case((53,), "first ops of endless segments", farm_first_ops, Ending.DETECTED, Ending.UNPROFITABLE),
)
