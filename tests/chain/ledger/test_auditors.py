"""Auditors: how they enter, leave, and what a bond answers for."""

from dataclasses import replace

import pytest

from chain.audit import RegisterAuditor, RetireAuditor
from chain.errors import InvalidBlock
from chain.genesis import Allocation, Parameters
from chain.ledger import auditors
from chain.ledger.audit_records import AUDITORS_MAX
from chain.ledger.auditors import MISSES_MAX, compute_release_blocks
from chain.ledger.genesis_state import validate_genesis
from chain.ledger.keys import AUDITORS_KEY, SUPPLY_KEY
from chain.ledger.supply import compute_holdings
from chain.signature import SigningKey
from chain.transaction import Transaction
from tests.support.audits import AuditedChain
from tests.support.ledger import ALICE, BOB, CAROL, DAVE, FUNDS, PARAMETERS, make_genesis

BOND, PENALTY = PARAMETERS.auditor_bond, PARAMETERS.audit_penalty


def refuse(chain: AuditedChain, transaction: Transaction) -> str:
    with pytest.raises(InvalidBlock) as refused:
        chain.execute(chain.draft(), transaction)
    return refused.value.rule


def list_active(chain: AuditedChain) -> list[bytes]:
    return [each.auditor for each in chain.view.get_existing(AUDITORS_KEY).auditors]


def miss_rounds(chain: AuditedChain, count: int) -> None:
    """Let an auditor that is registered miss Bob's segment in so many rounds."""
    for _ in range(count):
        start = chain.task.start_height
        chain.mine(chain.sign(BOB, chain.commit(BOB)))
        chain.mine_to(start + 3)
        chain.mine(chain.sign(BOB, chain.prove(BOB)))
        chain.mine_to(start + 9)


def test_an_auditor_locks_its_bond_and_stands_on_the_list() -> None:
    chain = AuditedChain()
    chain.mine(chain.register(DAVE))
    assert chain.account(DAVE).balance == FUNDS - BOND
    assert list_active(chain) == [DAVE.public_key]
    auditor = chain.auditor(DAVE)
    assert auditor is not None
    assert (auditor.since_height, auditor.bond, auditor.release_height, auditor.missed) == (1, BOND, 0, 0)
    assert compute_holdings(chain.view).bonds == BOND + 3 * PARAMETERS.bond


def test_who_may_enter() -> None:
    chain = AuditedChain()
    assert refuse(chain, chain.sign(DAVE, RegisterAuditor(BOND - 1))) == "auditor-bond"
    assert refuse(chain, chain.sign(DAVE, RegisterAuditor(FUNDS + 1))) == "balance"
    assert refuse(chain, chain.sign(DAVE, RetireAuditor(BOND))) == "auditor-none"
    chain.mine(chain.register(DAVE))
    assert refuse(chain, chain.sign(DAVE, RetireAuditor(BOND - 1))) == "auditor-bond"


def test_the_list_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auditors, "AUDITORS_MAX", 2)
    chain = AuditedChain()
    chain.mine(chain.register(DAVE), chain.register(ALICE))
    assert refuse(chain, chain.register(CAROL)) == "auditors-full"
    chain.mine(chain.retire(DAVE))
    chain.mine(chain.register(CAROL))
    assert list_active(chain) == [ALICE.public_key, CAROL.public_key]


def test_a_bond_is_given_back_after_notice() -> None:
    chain = AuditedChain()
    chain.mine(chain.register(DAVE))
    chain.mine(chain.retire(DAVE))
    release = chain.height + compute_release_blocks(PARAMETERS)
    auditor = chain.auditor(DAVE)
    assert auditor is not None
    assert (auditor.release_height, list_active(chain)) == (release, [])
    chain.mine_to(release - 2)
    assert refuse(chain, chain.retire(DAVE)) == "auditor-release"
    assert refuse(chain, chain.register(DAVE)) == "auditor-held"
    chain.mine_to(release - 1)
    chain.mine(chain.retire(DAVE))
    assert (chain.auditor(DAVE), chain.account(DAVE).balance) == (None, FUNDS)
    chain.mine(chain.register(DAVE))
    assert list_active(chain) == [DAVE.public_key]


def test_whoever_is_gone_pays_and_is_drawn_no_more() -> None:
    chain = AuditedChain()
    chain.mine(chain.register(DAVE))
    chain.mine_to(9)
    burned = chain.view.get_existing(SUPPLY_KEY).burned
    miss_rounds(chain, MISSES_MAX - 1)
    auditor = chain.auditor(DAVE)
    assert auditor is not None
    assert (auditor.missed, auditor.bond, auditor.release_height) == (2, BOND - 2 * PENALTY, 0)
    miss_rounds(chain, 1)
    auditor = chain.auditor(DAVE)
    assert auditor is not None
    assert auditor.release_height == chain.height + compute_release_blocks(PARAMETERS)
    assert list_active(chain) == []
    # The rewards of these blocks came from no segment and burn too; what a fourth round adds is theirs alone.
    alone = AuditedChain()
    alone.mine_to(9)
    miss_rounds(alone, MISSES_MAX)
    without = alone.view.get_existing(SUPPLY_KEY).burned - burned
    assert chain.view.get_existing(SUPPLY_KEY).burned - burned == without + MISSES_MAX * PENALTY
    chain.mine_to(auditor.release_height - 1)
    chain.mine(chain.retire(DAVE))
    assert chain.account(DAVE).balance == FUNDS - MISSES_MAX * PENALTY


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"auditor_bond": MISSES_MAX * PENALTY - 1}, "genesis-auditor-bond"),
        ({"auditor_bond": 0, "audit_penalty": 0}, "genesis-auditor-bond"),
        ({"audit_bp": 40_001}, "genesis-audits"),
        ({"audit_pay_bp": 10_001}, "genesis-audits"),
        ({"audit_penalty": PENALTY + 1}, "genesis-audits"),
        ({"deposit": 2 * PENALTY - 1}, "genesis-audits"),
    ],
)
def test_genesis_parameters_must_fit_together(changed: dict[str, int], rule: str) -> None:
    genesis = make_genesis(replace(Parameters(), **changed))
    with pytest.raises(InvalidBlock) as refused:
        validate_genesis(genesis)
    assert refused.value.rule == rule
    validate_genesis(make_genesis(Parameters(audit_bp=40_000, audit_pay_bp=10_000)))


def test_as_many_as_the_list_holds_may_stand_on_it() -> None:
    keys = [SigningKey(bytes([100 + number]) * 32) for number in range(AUDITORS_MAX + 1)]
    genesis = make_genesis()
    more = tuple(Allocation(key.public_key, FUNDS) for key in keys)
    chain = AuditedChain(replace(genesis, allocations=(*genesis.allocations, *more)))
    chain.mine(*(chain.register(key) for key in keys[:-1]))
    assert refuse(chain, chain.register(keys[-1])) == "auditors-full"
    assert len(list_active(chain)) == AUDITORS_MAX
