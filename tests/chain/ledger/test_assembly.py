"""Assembly: what does not fit or does not hold is passed over, with what its sender offers behind it, and no more."""

import pytest

from chain.errors import InvalidTransaction
from chain.genesis import Parameters
from chain.ledger import apply
from chain.ledger.apply import BLOCK_RESERVE_BYTES, Assembly, assemble_block
from chain.packed import pack_transactions
from chain.transaction import Transaction, Transfer
from tests.support.ledger import ALICE, BOB, CAROL, DAVE, FUNDS, LedgerChain, make_genesis, make_public_key

SHOP = make_public_key(7)


def assemble(chain: LedgerChain, *candidates: Transaction) -> Assembly:
    packed = pack_transactions(candidates)
    return assemble_block(chain.context, chain.view, chain.draft(), packed, chain.training, chain.content)


def list_chosen(assembly: Assembly) -> list[Transaction]:
    return [packed.transaction for packed in assembly.transactions]


def test_what_stands_behind_a_refused_one_is_not_refused_too() -> None:
    chain = LedgerChain()
    dud = chain.sign(DAVE, Transfer(SHOP, FUNDS + 1))
    behind = chain.sign(DAVE, Transfer(SHOP, 1), nonce=1)
    good = chain.sign(BOB, Transfer(SHOP, 1))
    assembly = assemble(chain, dud, behind, good)
    assert list_chosen(assembly) == [good]
    ((packed, error),) = assembly.refused
    assert (packed.transaction, isinstance(error, InvalidTransaction) and error.rule) == (dud, "balance")


def test_a_refused_transfer_leaves_no_trace() -> None:
    chain, other = LedgerChain(), LedgerChain()
    dud = chain.sign(DAVE, Transfer(SHOP, FUNDS + 1))
    good = chain.sign(BOB, Transfer(SHOP, 1))
    assert assemble(chain, dud, good).effects == other.execute(other.draft(), good)


def test_weight_bounds_a_block_and_what_is_lighter_still_fits() -> None:
    """A commit's weight finds no room where the bytes of two transfers do."""
    chain = LedgerChain(make_genesis(Parameters(block_bytes_max=BLOCK_RESERVE_BYTES + 300)))
    commit = chain.sign(ALICE, chain.commit(ALICE))
    behind = chain.sign(ALICE, Transfer(SHOP, 1), nonce=1)
    transfers = [chain.sign(key, Transfer(SHOP, 1)) for key in (BOB, CAROL, DAVE)]
    assert len(pack_transactions([commit])[0].data) < 300
    assembly = assemble(chain, commit, behind, *transfers)
    assert list_chosen(assembly) == transfers[:2]
    assert not assembly.refused


def test_a_pool_of_duds_holds_up_no_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "REFUSALS_MAX", 2)
    chain = LedgerChain()
    duds = [chain.sign(key, Transfer(SHOP, FUNDS + 1)) for key in (BOB, CAROL, DAVE)]
    good = chain.sign(ALICE, Transfer(SHOP, 1))
    assert list_chosen(assemble(chain, *duds, good)) == []
    assert list_chosen(assemble(chain, duds[0], good, *duds[1:])) == [good]
