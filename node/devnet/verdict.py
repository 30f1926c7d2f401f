"""What a finished development network is checked for: agreement, learning, supply, an unpaid forger, paid audits.

It asks the running nodes over RPC and has the model scored by a process of its own; it repairs nothing.
"""

import asyncio
import json
import sys
from dataclasses import dataclass

from chain.genesis import Parameters
from node.cli.output import format_coins
from node.devnet.auditors import Audited, get_audited
from node.devnet.members import Member
from node.rpc import methods
from node.rpc.client import AsyncRpcClient
from node.rpc.views import ContributionView, StatusView

ACCURACY_MIN_PERMILLE = 950
"""Expected of a model that SETTLED_ROUNDS_MIN rounds have trained."""
SETTLED_ROUNDS_MIN = 3
"""Expected of a network that ran long enough for them; a shorter one has to settle every round it went through."""
CONTRIBUTORS_MIN = 2
AUDITED_ROUNDS_MIN = 2
"""Rounds after which an audit must have been paid."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked."""

    name: str
    is_good: bool
    detail: str


async def compute_verdict(members: tuple[Member, ...], statuses: list[StatusView]) -> tuple[Finding, ...]:
    """Return all findings about the network at its common head; raises NodeUnreachable."""
    async with AsyncRpcClient(members[0].rpc.url) as client:
        rounds = [
            await client.call(methods.GET_CHECKPOINT, methods.CheckpointParams(round=number))
            for number in range(1, statuses[0].task.round + 1)
        ]
        contributions = [
            entry
            for number in range(statuses[0].task.round)
            for entry in await client.call(methods.LIST_CONTRIBUTIONS, methods.RoundParams(round=number))
        ]
        audited = await get_audited(client, statuses)
    good_rounds = sum(entry.contributors >= CONTRIBUTORS_MIN for entry in rounds)
    return (
        _check_agreement(statuses),
        Finding(
            "rounds",
            good_rounds >= min(SETTLED_ROUNDS_MIN, len(rounds)),
            f"{good_rounds} of {len(rounds)} settled with {CONTRIBUTORS_MIN} or more contributions",
        ),
        await _recompute(members[0], is_trained=good_rounds >= SETTLED_ROUNDS_MIN),
        _check_supply(statuses[0]),
        _check_forger(contributions, statuses[-1].node),
        check_audits(audited, members[0].directory.read_genesis().parameters, statuses[0].task.round),
    )


def check_audits(audited: list[Audited], parameters: Parameters, rounds: int) -> Finding:
    """Expect every auditor to stand, none to have vouched for what fell, and audits wherever two rounds have ended.

    Auditors enter in the first round, so what is committed in the second is the first that they are surely drawn for.
    """
    proven, paid = sum(each.proven for each in audited), sum(each.paid_atoms for each in audited)
    standing = sum(each.bond_atoms > 0 for each in audited)
    missed = sum(parameters.auditor_bond - each.bond_atoms for each in audited) // max(1, parameters.audit_penalty)
    detail = (
        f"{proven} proven for {format_coins(paid)} coins, {missed} missed, {standing} of {len(audited)} auditors stand"
    )
    is_standing, is_paid = standing == len(audited) or rounds < 1, paid > 0 or rounds < AUDITED_ROUNDS_MIN
    return Finding("audits", is_standing and is_paid and missed <= proven, detail)


def _check_agreement(statuses: list[StatusView]) -> Finding:
    tips = {(status.head.hash, status.head.state_root) for status in statuses}
    head = statuses[0].head
    detail = f"{len(statuses)} nodes on {len(tips)} tip(s); height {head.height}, {head.hash[:18]}"
    return Finding("agreement", len(tips) == 1, f"{detail}, state root {head.state_root[:18]}")


async def _recompute(member: Member, *, is_trained: bool) -> Finding:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "node.devnet.recompute", member.rpc.url, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        return Finding("accuracy", False, "an independent process does not find the score that the chain states")
    score = json.loads(output)
    permille = score["correct"] * 1000 // score["total"]
    detail = f"{permille // 10}.{permille % 10} % held out ({score['correct']} of {score['total']}), recomputed"
    return Finding("accuracy", permille >= ACCURACY_MIN_PERMILLE or not is_trained, detail)


def _check_supply(status: StatusView) -> Finding:
    supply = status.supply
    held = (supply.balances, supply.deposits, supply.bonds, supply.stakes, supply.locked)
    places = (*held, supply.pot, supply.treasury, supply.income, supply.burned)
    found, expected = sum(map(int, places)), int(supply.issued) + int(supply.allocated)
    return Finding("supply", found == expected, f"{found} atoms in all places, {expected} issued or allocated")


def _check_forger(contributions: list[ContributionView], forger: str) -> Finding:
    forged = [entry for entry in contributions if entry.miner == forger]
    refused = [entry for entry in forged if entry.status in ("slashed", "expired") and int(entry.reward) == 0]
    detail = f"{len(refused)} of {len(forged)} forged contributions refused and unpaid"
    return Finding("forger", len(refused) == len(forged), detail)
