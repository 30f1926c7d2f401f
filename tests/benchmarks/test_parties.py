"""Five parties on real processes, and the accounts from blocks that judge them: against the ledger, and spoiled."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks.lab.parties import accounts as rules
from benchmarks.lab.parties import audits, market
from benchmarks.lab.parties.accounts import Accounts, compute_subsidy, count_blocks
from benchmarks.lab.parties.bonds import Bonds
from benchmarks.lab.parties.report import render_page
from benchmarks.lab.parties.story import AUTHOR, BUYER, DATA_OWNER, FEE, Line, Outcome, play
from chain.audit import RegisterAuditor
from chain.dispute import DemandOpening
from chain.genesis import Allocation, Parameters
from chain.ledger import auditors, subsidy
from chain.ledger.keys import SUPPLY_KEY, miner_key
from chain.ledger.records import NO_MINER
from chain.ledger.supply import compute_holdings
from chain.primitives import PublicKey
from chain.signature import SigningKey
from chain.transaction import BuyLicence, ClaimIncome, PayModel, PostBond, Transfer, TransferShares, WithdrawBond
from tests.support.audits import AuditedChain
from tests.support.economy import get_model, get_shares, make_dataset, make_model, register_dataset, register_model
from tests.support.hash_training import SEGMENT_MACS
from tests.support.ledger import ALICE, BOB, CAROL, DAVE, FUNDS, make_genesis, settle_round
from tests.support.processes import QUICK, find_ports

EVIDENCE_BLOCKS = 12
ERIN = SigningKey(bytes([31]) * 32)
KEYS = (ALICE, BOB, CAROL, DAVE, ERIN)


@pytest.mark.slow
async def test_everybody_ends_with_what_the_blocks_give(tmp_path: Path) -> None:
    outcome = await play(tmp_path / "network", find_ports(4), rounds=2, parameters=QUICK)
    assert [line for line in outcome.lines if not line.is_equal] == []
    assert outcome.is_good
    found = {line.name: line.found for line in outcome.lines}
    coin, accounts = 10**9, outcome.accounts
    # By hand: 100 coins, fees of a thousandth, 5 % of 10 coins, 10 coins and 3.000000007 paid.
    assert found["balance of the data owner"] == 100 * coin - FEE + coin // 2
    # Of the contributor's segments a third of one is the author's.
    units = found["units of the contributor"] + found["units of the model author"]
    assert units == accounts.counts["segments settled"] * SEGMENT_MACS > 0
    assert found["units of the model author"] == SEGMENT_MACS // 3
    assert found["balance of the buyer"] == 100 * coin - 2 * FEE - 10 * coin - (3 * coin + 7)
    # A third of a segment's units came to the author before the second payment.
    assert 103 * coin - 2 * FEE < found["balance of the model author"] < 106 * coin
    name, account, deposit = "dishonest contributor", outcome.forger, accounts.genesis.parameters.deposit
    assert (found[f"units of the {name}"], outcome.forger_units) == (0, 0)
    assert set(outcome.forged) <= {"slashed", "expired"}
    assert accounts.lost[account] >= len(outcome.forged) >= 1
    # It came with 100 coins that were lent to it, paid a fee to post 50 of them, and has these still.
    assert account not in {*accounts.genesis.miners, *(each.account for each in accounts.genesis.allocations)}
    assert [found[f"bond of the {each}"] for each in (name, "contributor", "buyer")] == [50 * coin, 50 * coin, 0]
    spent = 100 * coin - FEE - 50 * coin - found[f"balance of the {name}"]
    gone = accounts.lost[account] + sum(miner == account for miner, _ in accounts.commits)
    # Every deposit is gone or locked, and beside it two fees of a thousand atoms for each segment at most.
    assert gone * deposit < spent <= gone * (deposit + 2_000)
    page = render_page(outcome)
    assert "**no**" not in page
    assert f"{found['burned']:,}" in page


@cache
def make_history() -> AuditedChain:
    """Return a ledger on which everything has happened that accounts tell of; Carol forges. Nobody mines on it."""
    genesis = make_genesis(Parameters(audit_bp=15_000, evidence_blocks=EVIDENCE_BLOCKS))
    chain = AuditedChain(replace(genesis, allocations=(*genesis.allocations, Allocation(ERIN.public_key, FUNDS))))
    task = chain.context.task_id
    chain.mine(chain.sign(DAVE, PayModel(task, 12_347), fee=3))
    chain.mine_to(9)
    settle_round(chain, ALICE, BOB)
    data = register_dataset(chain, ERIN, make_dataset(1, royalty_bp=333))
    child = register_model(
        chain, DAVE, make_model(2, (task,), (data,), royalty_bp=77, author_bp=3_001, licence_price=99_700_001)
    )
    young = register_model(chain, BOB, make_model(3, (child,), (data,), author_bp=1))
    for action in (
        BuyLicence(child, 99_700_001),
        PayModel(young, 10_003),
        PayModel(task, 10**9 + 7),
        Transfer(ERIN.public_key, 5),
    ):
        chain.mine(chain.sign(CAROL, action, fee=11))
    chain.mine_to(chain.task.start_height + 9)
    start = chain.task.start_height
    flawed = chain.training.make_sidecar(chain.segment(CAROL), b"flaw")
    commits = [chain.sign(ALICE, chain.commit(ALICE)), chain.sign(CAROL, chain.commit(CAROL, sidecar=flawed))]
    chain.mine(*commits, chain.sign(BOB, chain.commit(BOB)))
    chain.mine_to(start + 3)
    chain.mine(
        chain.sign(ALICE, chain.prove(ALICE)),
        chain.sign(CAROL, chain.prove(CAROL)),
        *(chain.sign(key, chain.demand(CAROL)) for key in (DAVE, BOB)),
        chain.sign(ERIN, chain.demand(ALICE, DemandOpening(0, 0, 0))),
    )
    chain.mine(chain.sign(ALICE, chain.answer(ALICE, ERIN)))
    chain.mine(chain.sign(ALICE, TransferShares(task, ERIN.public_key, SEGMENT_MACS // 3)))
    chain.mine_to(start + 8)
    chain.mine(chain.sign(ERIN, chain.demand(ALICE, DemandOpening(0, 0, 0))))
    held = chain.task.round - 1
    chain.mine(chain.sign(ALICE, chain.answer(ALICE, ERIN, held)))
    chain.mine(chain.sign(DAVE, PayModel(task, 1_000_003)))
    chain.mine(*(chain.sign(key, ClaimIncome(task)) for key in (ALICE, BOB, ERIN)))
    audit(chain)
    join(chain)
    return chain


def join(chain: AuditedChain) -> None:
    """Let Dave and Erin become miners, settle and mine; Erin leaves, and Dave signs twice, pays, and comes again."""
    bond = chain.context.parameters.bond
    chain.mine(*(chain.sign(key, PostBond(bond)) for key in (DAVE, ERIN)))
    chain.mine_to(chain.task.start_height + 9)
    settle_round(chain, DAVE, ERIN, miner=ERIN)
    chain.mine(chain.sign(ERIN, WithdrawBond(bond)), miner=DAVE)
    notice = chain.height
    chain.mine(chain.sign(BOB, chain.report(DAVE, notice, CAROL)))
    chain.mine(chain.sign(DAVE, PostBond(bond)))
    chain.mine_to(notice + EVIDENCE_BLOCKS)
    chain.mine(chain.sign(ERIN, WithdrawBond(bond)))
    chain.mine(chain.sign(ERIN, PostBond(bond)))


def audit(chain: AuditedChain) -> None:
    """Let auditors prove, miss, vouch falsely and leave, over a few rounds; some segments have two auditors."""
    keys = (CAROL, DAVE, ERIN)

    bond = chain.context.parameters.auditor_bond

    def play(*, is_proven: bool = True, flaw: bytes = b"", is_expired: bool = False) -> None:
        able = [key for key in keys if chain.auditor(key) is None]
        chain.mine(*(chain.sign(key, RegisterAuditor(bond * (2 * keys.index(key) + 1))) for key in able))
        standing = [key for key in keys if (auditor := chain.auditor(key)) and not auditor.release_height]
        chain.mine_to(chain.task.start_height + 6)
        chain.mine(*(chain.sign(key, RegisterAuditor(bond // 3)) for key in standing[:1]))
        chain.mine_to(chain.task.start_height + 9)
        start, sidecar = chain.task.start_height, chain.training.make_sidecar(chain.segment(BOB), flaw)
        chain.mine(chain.sign(BOB, chain.commit(BOB, sidecar=sidecar)), chain.sign(ALICE, chain.commit(ALICE)))
        chain.mine_to(start + 3)
        openings = [chain.sign(key, chain.prove(key)) for key in ((ALICE,) if is_expired else (ALICE, BOB))]
        drawn = {audit.auditor for audit in chain.audits(BOB)}
        assert drawn
        able = [key for key in keys if key.public_key in drawn and is_proven]
        proofs = [chain.sign(key, chain.prove_audit(key, BOB)) for key in able]
        demands = [chain.sign(ALICE, chain.demand(BOB), nonce=chain.account(ALICE).nonce + 1)] if flaw else []
        chain.mine(*openings, *proofs, *demands)
        chain.mine_to(start + 9)

    play()
    play(is_proven=False)
    play(flaw=b"flaw")
    play(flaw=b"flaw", is_expired=True)
    leaving = [key for key in keys if (auditor := chain.auditor(key)) and not auditor.release_height]
    chain.mine(*(chain.retire(key) for key in leaving))


@pytest.mark.parametrize("flaw", [b"", b"flaw"])
def test_seats_are_held_by_bond(flaw: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auditors, "AUDITORS_MAX", 2)
    monkeypatch.setattr(audits, "SEATS", 2)
    chain = AuditedChain(make_genesis(Parameters(audit_bp=15_000)))
    bond = chain.context.parameters.auditor_bond
    chain.mine(chain.register(CAROL), chain.register(ALICE))
    chain.mine_to(9)
    sidecar = chain.training.make_sidecar(chain.segment(BOB), flaw)
    chain.mine(chain.sign(BOB, chain.commit(BOB, sidecar=sidecar)))
    chain.mine_to(chain.height + 2)
    drawn = [key for key in (CAROL, ALICE) if key.public_key in {each.auditor for each in chain.audits(BOB)}]
    chain.mine(chain.sign(BOB, chain.prove(BOB)), *(chain.sign(key, chain.prove_audit(key, BOB)) for key in drawn))
    chain.mine_to(15)
    chain.mine(chain.sign(DAVE, RegisterAuditor(bond * 9 // 8)))
    if flaw:
        chain.mine(chain.sign(DAVE, chain.demand(BOB)))
    chain.mine_to(60)
    leaving = [key for key in (CAROL, ALICE) if (auditor := chain.auditor(key)) and auditor.release_height]
    chain.mine(*(chain.retire(key) for key in leaving))
    assert list_differences(chain, count_blocks(chain.genesis, SEGMENT_MACS, chain.blocks)) == []


def list_differences(chain: AuditedChain, accounts: Accounts) -> list[str]:
    """Return what of a ledger's state the accounts do not give."""
    holdings, supply, task = compute_holdings(chain.view), chain.view.get_existing(SUPPLY_KEY), chain.context.task_id
    model = accounts.models[task]
    pairs: dict[str, tuple[object, object]] = {}
    for number, key in enumerate(KEYS):
        shares, account = get_shares(chain, task, key.public_key), key.public_key
        pairs[f"balance {number}"] = (chain.account(key).balance, accounts.balances.get(account, 0))
        pairs[f"units {number}"] = (shares.units, model.units.get(account, 0))
        pairs[f"due {number}"] = (shares.earned, int(model.owed.get(account, 0)))
        auditor, bond = chain.auditor(key), accounts.audits.bonds.get(account)
        stands = auditor and (auditor.bond, auditor.missed, auditor.release_height)
        miner, posted = chain.view.get(miner_key(account)) or NO_MINER, accounts.miners.bonds.get(account)
        pairs[f"miner {number}"] = (
            (miner.bond, miner.release_height),
            (posted.atoms, posted.release) if posted else (0, 0),
        )
        pairs[f"auditor {number}"] = (stands, bond and (bond.amount, bond.missed, bond.release))
    pairs |= {"deposits": (holdings.deposits, accounts.deposits), "bonds": (holdings.bonds, accounts.bonds)}
    pairs |= {"pot": (holdings.pot, accounts.pot), "price": (chain.task.price, accounts.price)}
    pairs |= {"burned": (supply.burned, accounts.burned), "treasury": (supply.treasury, accounts.treasury)}
    for name, held in accounts.models.items():
        pairs[f"held {name.hex()[:8]}"] = (get_model(chain, name).held, int(held.total))
    return [f"{what}: {found} {expected}" for what, (found, expected) in pairs.items() if found != expected]


def test_accounts_from_blocks_are_the_ledgers() -> None:
    chain = make_history()
    accounts = count_blocks(chain.genesis, SEGMENT_MACS, chain.blocks)
    assert list_differences(chain, accounts) == []
    assert {
        "segments settled",
        "segments slashed",
        "segments expired",
        "disputes refused",
        "block rewards paid",
        "block rewards burned",
        "audits paid",
        "equivocations",
    } <= set(accounts.counts)
    assert len(accounts.models) == 3


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [
        (market, "TREASURY", 101),
        (market, "NETWORK_ROYALTY", 999),
        (market, "GRAIN", 2**10),
        (market, "WHOLE", 9_999),
        (rules, "PERCENT", 44),
        (rules, "REPORTED", 11),
    ],
)
def test_a_wrong_rule_of_theirs_shows(
    place: ModuleType, name: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = make_history()
    monkeypatch.setattr(place, name, value)
    assert list_differences(chain, count_blocks(chain.genesis, SEGMENT_MACS, chain.blocks))


@pytest.mark.parametrize(
    ("name", "value"), [("WHOLE", 20_000), ("MISSES", 1), ("WINDOWS_AFTER_NOTICE", 1), ("log1p", float)]
)
def test_a_wrong_rule_of_audits_shows(name: str, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = make_history()
    monkeypatch.setattr(audits, name, value)
    accounts = count_blocks(chain.genesis, SEGMENT_MACS, chain.blocks)
    assert list_differences(chain, accounts)


@pytest.mark.parametrize("name", ["post", "withdraw", "burn"])
def test_a_bond_that_is_not_followed_shows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chain, honest = make_history(), getattr(Bonds, name)

    def follow(self: Bonds, height: int, miner: PublicKey) -> int:
        atoms: int = honest(self, height, miner)
        return atoms - (height > 1)

    monkeypatch.setattr(Bonds, name, follow)
    assert list_differences(chain, count_blocks(chain.genesis, SEGMENT_MACS, chain.blocks))


def test_a_dispute_that_is_left_out_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = make_history()
    monkeypatch.setattr(Accounts, "_decide", lambda *_: None)
    assert list_differences(chain, count_blocks(chain.genesis, SEGMENT_MACS, chain.blocks))


@pytest.mark.parametrize("half_life", [1, 7, 1_000, 100_000])
def test_subsidies_are_the_ledgers(half_life: int) -> None:
    parameters = Parameters(subsidy_half_life=half_life)
    for height in [*range(1, 3 * half_life + 2, max(1, half_life // 50)), 10 * half_life + 3]:
        assert compute_subsidy(height, parameters) == subsidy.compute_subsidy(height, parameters)


@pytest.mark.parametrize("flaw", ["a line", "honest", "unpunished", "rich", "unpaid"])
def test_an_outcome_is_good_only_if_all_of_it_is(flaw: str) -> None:
    chain = make_history()
    accounts = count_blocks(chain.genesis, SEGMENT_MACS, chain.blocks)
    forger = CAROL.public_key
    good = Outcome(9, (Line("pot", 1, 1),), ("slashed",), forger, accounts)
    assert good.is_good
    spoiled = {
        "a line": replace(good, lines=(Line("pot", 1, 2),)),
        "honest": replace(good, forged=()),
        "unpunished": replace(good, forged=("slashed", "settled")),
        "rich": replace(good, forger=ALICE.public_key),
        "unpaid": replace(good, forged=("slashed", "slashed")),
    }
    assert not spoiled[flaw].is_good


def test_people_have_keys_of_their_own() -> None:
    assert len({key.public_key for key in (DATA_OWNER, AUTHOR, BUYER)}) == 3
