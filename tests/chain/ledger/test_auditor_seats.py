"""The seats of auditors: a larger bond takes that of the least, and draws are by bond, however it is split up."""

from collections import Counter
from dataclasses import replace
from math import log2
from pathlib import Path

import pytest

from chain.audit import RegisterAuditor
from chain.dispute import DemandOpening
from chain.errors import InvalidBlock
from chain.genesis import Allocation
from chain.hashing import tagged_hash
from chain.ledger.audit_records import AUDITORS_MAX, ActiveAuditor, Auditor
from chain.ledger.auditors import compute_asked_bond, compute_release_blocks
from chain.ledger.audits import compute_draw_number, compute_log2, draw_auditors
from chain.ledger.keys import AUDITORS_KEY
from chain.ledger.supply import compute_holdings
from chain.ledger.transition import ContributionStatus
from chain.primitives import ATOMS_PER_COIN, Hash
from chain.signature import SigningKey
from chain.transaction import Transaction
from tests.support.audits import AuditedChain
from tests.support.ledger import BOB, CAROL, DAVE, PARAMETERS, make_genesis, make_public_key

BOND, PENALTY = PARAMETERS.auditor_bond, PARAMETERS.audit_penalty
DRAWN = PARAMETERS.commit_blocks + PARAMETERS.challenge_delay
"""Blocks of a round after which all of its auditors are drawn."""
CROWD = [SigningKey(bytes([100 + number]) * 32) for number in range(AUDITORS_MAX)]
HONEST = [SigningKey(bytes([50 + number]) * 32) for number in range(16)]
RICH = 10**6 * ATOMS_PER_COIN
PAGE = Path(__file__).parents[3] / "docs/adr/0060-seats-by-bond.md"


def make_chain() -> AuditedChain:
    genesis = make_genesis()
    more = tuple(Allocation(key.public_key, RICH) for key in (*CROWD, *HONEST))
    return AuditedChain(replace(genesis, allocations=(*genesis.allocations, *more)))


def enter(chain: AuditedChain, key: SigningKey, bond: int) -> Transaction:
    return chain.sign(key, RegisterAuditor(bond))


def fill(bond: int = BOND) -> AuditedChain:
    """Return a chain on which one purse holds all seats, as far as the last draw of its first round."""
    chain = make_chain()
    chain.mine(*(enter(chain, key, bond) for key in CROWD))
    chain.mine_to(DRAWN)
    return chain


def list_seats(chain: AuditedChain) -> tuple[ActiveAuditor, ...]:
    return chain.view.get_existing(AUDITORS_KEY).auditors


def get_auditor(chain: AuditedChain, key: SigningKey) -> Auditor:
    auditor = chain.auditor(key)
    assert auditor is not None
    return auditor


def refuse(chain: AuditedChain, transaction: Transaction) -> str:
    with pytest.raises(InvalidBlock) as refused:
        chain.execute(chain.draft(), transaction)
    return refused.value.rule


def test_threat_28_a_purse_that_holds_all_seats_keeps_nobody_out() -> None:
    chain, bond = fill(), 16 * BOND
    chain.mine(enter(chain, DAVE, bond))
    chain.mine_to(chain.task.start_height + PARAMETERS.round_blocks)
    chain.mine(chain.sign(BOB, chain.commit(BOB)))
    chain.mine_to(chain.height + PARAMETERS.challenge_delay)
    contribution, listed = chain.contribution(BOB), list_seats(chain)
    assert chain.audits(BOB)
    draws = 2_000
    drawn = (replace(contribution, challenge=Hash(number.to_bytes(32, "big"))) for number in range(draws))
    found = sum(DAVE.public_key in draw_auditors(PARAMETERS, each, BOB.public_key, listed) for each in drawn)
    # 320 of 1,580 coins that are locked, in one seat of 64.
    assert found / draws == pytest.approx(bond / (bond + 63 * BOND), abs=0.03)


def test_the_least_bond_makes_room_and_is_given_back_after_notice() -> None:
    chain = fill()
    bonds = compute_holdings(chain.view).bonds
    least = CROWD[-1]
    chain.mine(enter(chain, DAVE, BOND + BOND // 8))
    assert len(list_seats(chain)) == AUDITORS_MAX
    assert list_seats(chain)[-1] == ActiveAuditor(DAVE.public_key, chain.height, BOND + BOND // 8)
    assert least.public_key not in {each.auditor for each in list_seats(chain)}, "the last of those with the least"
    assert compute_holdings(chain.view).bonds == bonds + BOND + BOND // 8
    auditor = get_auditor(chain, least)
    assert (auditor.bond, auditor.release_height) == (BOND, chain.height + compute_release_blocks(PARAMETERS))
    chain.mine_to(auditor.release_height - 1)
    chain.mine(chain.retire(least))
    assert chain.account(least).balance == RICH


def test_what_a_seat_asks() -> None:
    chain = fill()
    asked = BOND + BOND // 8
    assert compute_asked_bond(PARAMETERS, list_seats(chain)) == asked
    assert compute_asked_bond(PARAMETERS, list_seats(chain)[1:]) == BOND
    tiny = replace(PARAMETERS, auditor_bond=1)
    assert compute_asked_bond(tiny, tuple(replace(each, bond=0) for each in list_seats(chain))) == 1
    assert compute_asked_bond(tiny, tuple(replace(each, bond=3) for each in list_seats(chain))) == 4
    assert refuse(chain, enter(chain, DAVE, asked - 1)) == "auditors-full"
    assert refuse(chain, enter(chain, DAVE, 2 * RICH)) == "balance"
    chain.mine(enter(chain, DAVE, asked), enter(chain, CAROL, asked))
    assert refuse(chain, enter(chain, HONEST[0], asked - 1)) == "auditors-full"


def test_nobody_is_put_off_the_list_while_a_draw_is_due() -> None:
    chain = fill()
    for _ in range(2):
        start = chain.task.start_height
        for place in range(chain.height - start + 1, PARAMETERS.round_blocks + 1):
            newcomer = enter(chain, DAVE, 2 * BOND)
            if place <= DRAWN:
                assert refuse(chain, newcomer) == "auditors-drawn"
            else:
                chain.execute(chain.draft(), newcomer)
            chain.mine()


def test_whoever_has_a_seat_may_add_to_its_bond() -> None:
    chain = make_chain()
    chain.mine(enter(chain, DAVE, BOND))
    assert refuse(chain, enter(chain, DAVE, 0)) == "auditor-bond"
    last_drawn = PARAMETERS.commit_blocks + PARAMETERS.challenge_delay
    while chain.height < last_drawn:
        assert refuse(chain, enter(chain, DAVE, 5)) == "auditors-drawn", "it would take itself out of the draw"
        chain.mine()
    before, height = chain.account(DAVE).balance, chain.height + 1
    chain.mine(enter(chain, CAROL, BOND), enter(chain, DAVE, 5))
    auditor = get_auditor(chain, DAVE)
    assert (auditor.bond, auditor.since_height, chain.account(DAVE).balance) == (BOND + 5, height, before - 5)
    assert list_seats(chain)[0] == ActiveAuditor(DAVE.public_key, height, BOND + 5)
    chain.mine(chain.retire(DAVE))
    assert refuse(chain, enter(chain, DAVE, 5)) == "auditor-held"


@pytest.mark.parametrize("is_leaving", [False, True])
def test_of_a_larger_bond_falls_what_the_least_would_have_lost(*, is_leaving: bool) -> None:
    chain = make_chain()
    chain.mine(enter(chain, HONEST[0], 3 * BOND))
    chain.mine_to(PARAMETERS.round_blocks)
    sidecar = chain.training.make_sidecar(chain.segment(BOB), flaw=bytes(32))
    chain.mine(chain.sign(BOB, chain.commit(BOB, sidecar=sidecar)))
    chain.mine_to(chain.height + PARAMETERS.challenge_delay)
    chain.mine(chain.sign(HONEST[0], chain.prove_audit(HONEST[0], BOB)), chain.sign(BOB, chain.prove(BOB)))
    chain.mine(*([chain.retire(HONEST[0])] if is_leaving else []))
    release, before = get_auditor(chain, HONEST[0]).release_height, chain.account(DAVE).balance
    chain.mine(chain.sign(DAVE, chain.demand(BOB, DemandOpening(0, 0, 0))))
    chain.mine_to(chain.height + PARAMETERS.dispute_window)
    assert chain.contribution(BOB).status is ContributionStatus.SLASHED
    assert chain.account(DAVE).balance == before + PARAMETERS.deposit // 2 + BOND // 2
    left = get_auditor(chain, HONEST[0])
    assert (left.bond, list_seats(chain)) == (2 * BOND, ())
    assert left.release_height == (release or chain.height + compute_release_blocks(PARAMETERS))
    chain.mine_to(left.release_height - 1)
    chain.mine(chain.retire(HONEST[0]))
    assert chain.account(HONEST[0]).balance == RICH - BOND


def test_a_miss_takes_from_what_an_auditor_is_drawn_by() -> None:
    chain = make_chain()
    chain.mine(enter(chain, DAVE, BOND))
    chain.mine_to(PARAMETERS.round_blocks)
    chain.mine(chain.sign(BOB, chain.commit(BOB)))
    chain.mine_to(chain.task.start_height + 3)
    chain.mine(chain.sign(BOB, chain.prove(BOB)))
    chain.mine_to(chain.task.start_height + PARAMETERS.round_blocks)
    assert list_seats(chain) == (ActiveAuditor(DAVE.public_key, 1, BOND - PENALTY),)


def test_chances_are_by_bond_and_nothing_that_has_drained_is_drawn() -> None:
    chain = make_chain()
    chain.mine(chain.sign(BOB, chain.commit(BOB)))
    bonds = [BOND, 2 * BOND, 5 * BOND, 0]
    listed = tuple(ActiveAuditor(make_public_key(number), 0, bond) for number, bond in enumerate(bonds, start=1))
    counts: Counter[bytes] = Counter()
    draws = 4_000
    for number in range(draws):
        drawn = replace(chain.contribution(BOB), challenge=Hash(number.to_bytes(32, "big")))
        counts.update(draw_auditors(PARAMETERS, drawn, BOB.public_key, listed))
    for each in listed:
        assert counts[each.auditor] / draws == pytest.approx(each.bond / sum(bonds), abs=0.02)
    assert counts[listed[-1].auditor] == 0


def test_among_equal_bonds_the_lowest_hash_is_drawn() -> None:
    for number in range(20):
        challenge = Hash(number.to_bytes(32, "big"))
        listed = [ActiveAuditor(make_public_key(each), 0, BOND) for each in range(1, 65)]
        by_hash = min(listed, key=lambda each: tagged_hash("audit.draw", challenge, each.auditor))
        assert min(listed, key=lambda each: compute_draw_number(challenge, each)) == by_hash


@pytest.mark.parametrize("number", [1, 2, 3, 2**64 - 1, 2**64, 2**255 + 1, 2**256 - 1, 2**256, 3**150])
def test_logarithms_are_those_of_a_library(number: int) -> None:
    assert compute_log2(number) / 2**32 == pytest.approx(log2(number), abs=2e-9)
    assert compute_log2(1) == 0
    assert compute_log2(2**256) == 256 << 32


def compute_share(chain: AuditedChain, keys: list[SigningKey]) -> float:
    """Return the percentage of all that is locked by those on the list that `keys` have locked."""
    named, listed = {key.public_key for key in keys}, list_seats(chain)
    return 100 * sum(each.bond for each in listed if each.auditor in named) / sum(each.bond for each in listed)


def come_after(purse: int, coins: int) -> float:
    """Return the share of one whose bond comes after a purse that was split over as many seats as it reaches."""
    chain, count = make_chain(), min(AUDITORS_MAX, purse * ATOMS_PER_COIN // BOND)
    chain.mine(*(enter(chain, key, purse * ATOMS_PER_COIN // count) for key in CROWD[:count]))
    chain.mine_to(DRAWN)
    if coins * ATOMS_PER_COIN < compute_asked_bond(PARAMETERS, list_seats(chain)):
        assert refuse(chain, enter(chain, DAVE, coins * ATOMS_PER_COIN)) == "auditors-full"
        return 0
    chain.mine(enter(chain, DAVE, coins * ATOMS_PER_COIN))
    return compute_share(chain, [DAVE])


def push_off(bond: int, purse: int) -> tuple[float, int]:
    """Let a purse put off as many of 16 honest bonds as it can; return its share and the atoms that it has locked.

    It takes all free seats, each for an atom more than an honest one, and then those of the least, one by one.
    """
    chain, left = make_chain(), purse
    chain.mine(*(enter(chain, key, bond) for key in HONEST))
    chain.mine_to(DRAWN)
    for key in CROWD:
        is_full = len(list_seats(chain)) == AUDITORS_MAX
        asked = compute_asked_bond(PARAMETERS, list_seats(chain)) if is_full else bond + 1
        if left < asked or not compute_share(chain, HONEST):
            break
        chain.mine(enter(chain, key, asked))
        left -= asked
        if chain.height % PARAMETERS.round_blocks == 0:
            chain.mine_to(chain.height + DRAWN)
    if left and len(list_seats(chain)) < AUDITORS_MAX:
        chain.mine(enter(chain, CROWD[-1], left))
        left = 0
    return 100 - compute_share(chain, HONEST), purse - left


def test_the_decisions_figures_are_the_ledgers() -> None:
    page = PAGE.read_text()
    for purse, before in ((640, "1 of 33"), (1_280, "out"), (5_000, "out"), (20_000, "out")):
        shares = [come_after(purse, coins) for coins in (20, 50, 100, 400)]
        shown = " | ".join(f"{share:.1f} %" if share else "out" for share in shares)
        assert f"| {purse:,} | {before} | {shown} |" in page
    for coins in (20, 40, 100):
        share, _ = push_off(coins * ATOMS_PER_COIN, 1_280 * ATOMS_PER_COIN)
        all_of_them, locked = push_off(coins * ATOMS_PER_COIN, 10**5 * ATOMS_PER_COIN)
        assert all_of_them == 100
        assert f"| {coins} | {16 * coins:,} | {share:.1f} % | {locked // ATOMS_PER_COIN:,} |" in page
