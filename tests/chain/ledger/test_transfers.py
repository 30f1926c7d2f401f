"""Transfers, nonces, fees and signatures: what a block and what the pool accepts, rule by rule."""

from dataclasses import replace

import pytest

from chain.errors import InvalidBlock, InvalidTransaction
from chain.ledger.accounts import get_account
from chain.ledger.transactions import validate_transaction, verify_signatures
from chain.packed import pack_transaction, pack_transactions
from chain.primitives import Hash, PublicKey, Signature
from chain.transaction import Transaction, Transfer
from tests.support.ledger import ALICE, BOB, DAVE, FUNDS, LedgerChain, make_public_key


def refuse(chain: LedgerChain, transaction: Transaction) -> str:
    """Return the rule by which a block with this transaction is refused."""
    with pytest.raises(InvalidBlock) as refusal:
        chain.execute(chain.draft(), transaction)
    return refusal.value.rule


def refuse_in_pool(chain: LedgerChain, transaction: Transaction) -> str:
    with pytest.raises(InvalidTransaction) as refusal:
        validate(chain, transaction)
    return refusal.value.rule


def validate(chain: LedgerChain, transaction: Transaction, *, is_nonce_exact: bool = True) -> None:
    """Do what the pool does with a transaction: check its signature, then what the sender's account says."""
    verify_signatures(chain.context.chain_id, (pack_transaction(transaction),))
    account = get_account(chain.view, transaction.body.sender)
    validate_transaction(chain.context, account, transaction, is_nonce_exact=is_nonce_exact)


def test_a_transfer_moves_atoms_and_its_fee_is_locked_for_the_winner() -> None:
    chain = LedgerChain()
    recipient = make_public_key(77)
    chain.mine(chain.sign(DAVE, Transfer(recipient, 300), fee=7))
    assert (chain.account(DAVE).balance, chain.account(DAVE).nonce) == (FUNDS - 307, 1)
    chain.mine(chain.sign(DAVE, Transfer(ALICE.public_key, FUNDS - 307)))
    assert (chain.account(DAVE).balance, chain.account(DAVE).nonce) == (0, 2)
    assert chain.account(ALICE).balance == 2 * FUNDS - 307, "the fee is not Alice's before her segment settles"


def test_a_transfer_to_oneself_costs_its_fee_alone() -> None:
    chain = LedgerChain()
    chain.mine(chain.sign(DAVE, Transfer(DAVE.public_key, FUNDS - 5), fee=5))
    assert chain.account(DAVE).balance == FUNDS - 5


def test_what_was_received_may_be_spent_in_the_same_block() -> None:
    chain = LedgerChain()
    first = chain.sign(DAVE, Transfer(BOB.public_key, FUNDS))
    second = chain.sign(BOB, Transfer(ALICE.public_key, 2 * FUNDS))
    chain.mine(first, second)
    assert chain.account(ALICE).balance == 3 * FUNDS
    other = LedgerChain()
    with pytest.raises(InvalidBlock, match="balance"):
        other.execute(other.draft(), second, first)


@pytest.mark.parametrize(
    ("amount", "fee", "rule"),
    [(0, 0, "amount"), (FUNDS + 1, 0, "balance"), (FUNDS, 1, "balance"), (2**64 - 1, 2**64 - 1, "balance")],
)
def test_amounts_out_of_range(amount: int, fee: int, rule: str) -> None:
    chain = LedgerChain()
    transaction = chain.sign(DAVE, Transfer(ALICE.public_key, amount), fee)
    assert refuse(chain, transaction) == refuse_in_pool(chain, transaction) == rule


@pytest.mark.parametrize("recipient", [bytes(32), b"\xff" * 32, b"\x01" + bytes(31)])
def test_a_recipient_that_nobody_can_sign_for(recipient: bytes) -> None:
    chain = LedgerChain()
    transaction = chain.sign(DAVE, Transfer(PublicKey(recipient), 1))
    assert refuse(chain, transaction) == refuse_in_pool(chain, transaction) == "recipient"


def test_nonces_count_up_without_gap_or_repeat() -> None:
    chain = LedgerChain()
    ahead = chain.sign(DAVE, Transfer(ALICE.public_key, 1), nonce=1)
    assert refuse(chain, ahead) == refuse_in_pool(chain, ahead) == "nonce"
    validate(chain, ahead, is_nonce_exact=False)
    first = chain.sign(DAVE, Transfer(ALICE.public_key, 1))
    chain.mine(first, ahead)
    assert refuse(chain, first) == "nonce"
    with pytest.raises(InvalidTransaction, match="nonce"):
        validate(chain, first, is_nonce_exact=False)


def test_a_signature_binds_body_and_chain() -> None:
    chain = LedgerChain()
    transaction = chain.sign(DAVE, Transfer(ALICE.public_key, 1))
    verify_signatures(chain.context.chain_id, pack_transactions((transaction,)))
    forged = replace(transaction, body=replace(transaction.body, fee=1))
    unsigned = replace(transaction, signature=Signature(bytes(64)))
    for chain_id, altered in [
        (chain.context.chain_id, forged),
        (chain.context.chain_id, unsigned),
        (Hash(bytes(32)), transaction),
    ]:
        with pytest.raises(InvalidTransaction) as refusal:
            offered = (transaction, altered) if altered is not transaction else (altered,)
            verify_signatures(chain_id, pack_transactions(offered))
        assert refusal.value.rule == "signature"
    assert refuse_in_pool(chain, forged) == "signature"
