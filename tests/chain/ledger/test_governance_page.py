"""docs/governance.md: its example is played on a ledger and every figure compared; its tables are those of the code."""

import re
from dataclasses import fields
from pathlib import Path

from chain.genesis import Parameters
from chain.ledger.bounds import BOUNDS
from chain.ledger.governance_records import LIVE_MAX, Choice, ProposalStatus
from chain.transaction import CastVote, ChangeParameter, LockStake, UnlockStake
from tests.chain.ledger.test_transfers import refuse
from tests.support.governance import COIN, get_locked, get_proposal, get_values, lock, propose, vote
from tests.support.ledger import ALICE, BOB, CAROL, DAVE, PARAMETERS, LedgerChain, settle_round

PAGE = (Path(__file__).parents[3] / "docs" / "governance.md").read_text(encoding="utf-8")


def read_figures(header: str) -> dict[str, int]:
    """Return the rows of the table under `header`: a number by what it is for."""
    table = PAGE.split(f"| {header} |\n|---|---|\n")[1].split("\n\n")[0]
    return {name: int(number.replace(",", "")) for name, number in re.findall(r"^\| (.+) \| ([\d,]+) \|$", table, re.M)}


def test_the_example_of_the_page() -> None:
    chain, heights = LedgerChain(), dict[str, int]()
    settle_round(chain, ALICE, BOB)
    lock(chain, DAVE, 900)
    heights["Dave locks his stake"] = chain.height
    lock(chain, BOB, 200)
    heights["Bob locks his stake"] = chain.height
    before = chain.account(CAROL).balance
    name = propose(chain, CAROL, ChangeParameter("deposit", 7 * COIN))
    heights["Carol proposes"] = chain.height
    paid = before - chain.account(CAROL).balance
    vote(chain, DAVE, name)
    heights["Dave votes"] = chain.height
    vote(chain, BOB, name, Choice.NO)
    heights["Bob votes"] = chain.height
    chain.mine(chain.sign(DAVE, UnlockStake(900 * COIN)), chain.sign(ALICE, LockStake(500 * COIN)))
    heights["Dave gives notice"] = chain.height
    assert refuse(chain, chain.sign(ALICE, CastVote(name, 0))) == "vote-stake"
    chain.mine_to(get_proposal(chain, name).close_height)
    heights["the votes are counted"] = chain.height
    proposal = get_proposal(chain, name)
    assert proposal.status is ProposalStatus.ACCEPTED
    assert chain.account(CAROL).balance == before
    chain.mine_to(proposal.effect_height)
    heights["the deposit is raised"] = chain.height
    heights["Dave may take his stake back"] = get_locked(chain, DAVE).release_height
    assert heights == read_figures("what happens | height")
    assert read_figures("how it is counted | atoms") == {
        "yes": proposal.yes,
        "no": proposal.no,
        "in circulation: issued and allocated, but for what burned or lies in the treasury": proposal.circulating,
        "a fifth of it, the quorum": proposal.circulating // 5,
        "Carol's deposit, given back": paid,
        f"locked by each commit from height {chain.height + 1} on": get_values(chain).deposit,
    }


def test_the_bounds_of_the_page() -> None:
    rows = []
    for bound in BOUNDS:
        numbers = f"{bound.lowest:,} | {bound.highest:,} | {bound.step_percent} %"
        rows.append(f"| `{bound.name}` | {bound.unit} | {numbers} | {bound.reason} |")
    assert "\n".join(rows) in PAGE


def test_the_page_says_of_every_parameter_whether_votes_change_it() -> None:
    fixed = PAGE.split("## What no vote changes")[1].split("\n## ")[0]
    named = set(re.findall(r"`(\w+)`", fixed))
    assert named == {field.name for field in fields(Parameters)} - {bound.name for bound in BOUNDS}


def test_the_windows_of_the_page() -> None:
    assert f"{PARAMETERS.voting_blocks} blocks" in PAGE
    assert f"at least {PARAMETERS.enactment_blocks} blocks" in PAGE
    assert f"after {PARAMETERS.release_blocks} blocks" in PAGE
    assert PARAMETERS.quorum_bp == 10_000 // 5
    deposits = LIVE_MAX * PARAMETERS.proposal_deposit // COIN
    assert f"burns {deposits} coins every {PARAMETERS.voting_blocks} blocks keeps all {LIVE_MAX} places" in PAGE
