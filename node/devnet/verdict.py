"""What a finished development network is checked for: agreement, learning, conserved supply, an unpaid forger.

It asks the running nodes over RPC and has the model scored by a process of its own; it repairs nothing.
"""

import asyncio
import json
import sys
from dataclasses import dataclass

from node.devnet.members import Member
from node.rpc import methods
from node.rpc.client import AsyncRpcClient
from node.rpc.views import ContributionView, StatusView

ACCURACY_MIN_PERMILLE = 950
"""Expected of a model that SETTLED_ROUNDS_MIN rounds have trained."""
SETTLED_ROUNDS_MIN = 3
"""Expected of a network that ran long enough for them; a shorter one has to settle every round it went through."""
CONTRIBUTORS_MIN = 2


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
    )


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
