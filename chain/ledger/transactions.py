"""Transactions: checked against the state for the pool, and applied to it within a block.

A transaction that fails makes its block invalid, so nothing is ever half applied. Signatures are a pass of their own: a
node that has seen a transaction in its pool need not check it again. It knows no order of blocks.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import assert_never

from chain.errors import InvalidTransaction
from chain.genesis import Parameters
from chain.ledger.accounts import apply_credit, get_account, validate_balance
from chain.ledger.bonds import apply_post_bond, apply_report, apply_withdraw_bond
from chain.ledger.context import BlockScope, Event, LedgerContext
from chain.ledger.contributions import apply_commit, apply_prove
from chain.ledger.keys import account_key
from chain.primitives import Hash
from chain.signature import is_valid_point, verify_signature
from chain.state.view import StateView
from chain.transaction import (
    Action,
    CommitContribution,
    PostBond,
    ProveContribution,
    ReportEquivocation,
    Transaction,
    TransactionBody,
    Transfer,
    WithdrawBond,
    compute_signing_hash,
)

SignatureVerifier = Callable[[Hash, Sequence[Transaction]], None]
"""Checks all signatures under a chain id; raises InvalidTransaction."""


def verify_signatures(chain_id: Hash, transactions: Sequence[Transaction]) -> None:
    """Check every signature; raises InvalidTransaction naming the first that fails."""
    for position, transaction in enumerate(transactions):
        body = transaction.body
        if not verify_signature(body.sender, compute_signing_hash(chain_id, body), transaction.signature):
            raise InvalidTransaction("signature", f"transaction {position} is not signed by {body.sender.hex()}")


def validate_transaction(
    context: LedgerContext, view: StateView, transaction: Transaction, *, is_nonce_exact: bool = True
) -> None:
    """Check what the pool can check: signature, nonce, recipient, and that the balance covers all; raises.

    With `is_nonce_exact` false a nonce may also lie ahead. Raises InvalidTransaction.
    """
    verify_signatures(context.chain_id, (transaction,))
    body = transaction.body
    account = get_account(view, body.sender)
    if body.nonce < account.nonce or (is_nonce_exact and body.nonce != account.nonce):
        raise InvalidTransaction("nonce", f"found {body.nonce}, expected {account.nonce}")
    _validate_action(body.action)
    validate_balance(account, compute_cost(body, context.parameters))


def compute_cost(body: TransactionBody, parameters: Parameters) -> int:
    """Return the atoms that a transaction takes from its sender: fee, amount, deposit, bond."""
    match body.action:
        case Transfer(amount=amount):
            return body.fee + amount
        case CommitContribution():
            return body.fee + parameters.deposit
        case PostBond(amount=amount):
            return body.fee + amount
        case ProveContribution() | ReportEquivocation() | WithdrawBond():
            return body.fee
    assert_never(body.action)


def apply_transaction(scope: BlockScope, view: StateView, transaction: Transaction) -> tuple[Event, ...]:
    """Change `view` by one transaction whose signature holds; raises InvalidTransaction, MissingData.

    On an error `view` may be half changed: try it on a fork. The fee is taken here and handed out when the block ends.
    """
    body = transaction.body
    account = get_account(view, body.sender)
    if body.nonce != account.nonce:
        raise InvalidTransaction("nonce", f"found {body.nonce}, expected {account.nonce}")
    _validate_action(body.action)
    validate_balance(account, compute_cost(body, scope.context.parameters))
    view.put(account_key(body.sender), replace(account, nonce=account.nonce + 1, balance=account.balance - body.fee))
    match body.action:
        case Transfer(recipient=recipient, amount=amount):
            sender = get_account(view, body.sender)
            view.put(account_key(body.sender), replace(sender, balance=sender.balance - amount))
            apply_credit(view, recipient, amount)
            return ()
        case CommitContribution() as commit:
            return apply_commit(scope, view, body.sender, commit)
        case ProveContribution() as prove:
            return apply_prove(scope, view, body.sender, prove)
        case ReportEquivocation() as report:
            return apply_report(scope, view, report)
        case PostBond() as post:
            apply_post_bond(scope, view, body.sender, post)
            return ()
        case WithdrawBond() as withdraw:
            apply_withdraw_bond(scope, view, body.sender, withdraw)
            return ()
    assert_never(body.action)


def _validate_action(action: Action) -> None:
    if isinstance(action, Transfer) and action.amount == 0:
        raise InvalidTransaction("amount", "found 0 atoms, expected at least 1")
    # What is sent to bytes that no secret key belongs to could never be spent.
    if isinstance(action, Transfer | ReportEquivocation) and not is_valid_point(action.recipient):
        raise InvalidTransaction("recipient", f"found {action.recipient.hex()}, expected a public key")
