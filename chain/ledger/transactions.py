"""Transactions: checked against the state for the pool, and applied to it within a block.

A transaction that fails makes its block invalid, so nothing is ever half applied. Signatures are a pass of their own: a
node that has seen a transaction in its pool need not check it again. It knows no order of blocks.
"""

from collections.abc import Callable, Sequence
from typing import assert_never

from chain.audit import AuditAction, ProveAudit, RegisterAuditor, RetireAuditor
from chain.dispute import AnswerDispute, DisputeContribution
from chain.errors import InvalidTransaction
from chain.genesis import Parameters
from chain.inference import AnswerInference, ChallengeAnswer, CloseInference, OpenAnswer, RequestInference
from chain.ledger.accounts import apply_credit, get_account, validate_balance
from chain.ledger.auditors import apply_register, apply_retire
from chain.ledger.audits import apply_prove_audit
from chain.ledger.bonds import apply_post_bond, apply_report, apply_withdraw_bond
from chain.ledger.bounties import apply_post_bounty, validate_bounty_terms
from chain.ledger.context import BlockScope, Event, LedgerContext
from chain.ledger.contributions import apply_commit, apply_prove
from chain.ledger.disputes import apply_answer, apply_dispute
from chain.ledger.economy import apply_economy_action, compute_economy_cost, validate_economy_action
from chain.ledger.governance import (
    apply_governance_action,
    compute_governance_cost,
    validate_governance_action,
)
from chain.ledger.inference import apply_inference_action, compute_inference_cost, validate_inference_action
from chain.ledger.keys import account_key
from chain.ledger.posted_tasks import apply_post_task, validate_task_terms
from chain.ledger.records import Account
from chain.ledger.task_pots import apply_fund_task, validate_fund_terms
from chain.packed import PackedTransaction
from chain.primitives import Hash, PublicKey
from chain.signature import is_valid_point, verify_signature
from chain.state.view import StateView
from chain.transaction import (
    Action,
    CastVote,
    CommitContribution,
    FundTask,
    LockStake,
    PostBond,
    PostBounty,
    PostTask,
    ProposeChange,
    ProveContribution,
    ReportEquivocation,
    TaskAction,
    Transaction,
    TransactionBody,
    Transfer,
    UnlockStake,
    WithdrawBond,
)

ContributionAction = CommitContribution | ProveContribution | DisputeContribution | AnswerDispute

SignatureVerifier = Callable[[Hash, Sequence[PackedTransaction]], None]
"""Checks all signatures under a chain id; raises InvalidTransaction."""


def is_signed(chain_id: Hash, packed: PackedTransaction) -> bool:
    """Say whether the sender signed a transaction for the chain `chain_id`."""
    transaction = packed.transaction
    return verify_signature(transaction.body.sender, packed.compute_signing_hash(chain_id), transaction.signature)


def verify_signatures(chain_id: Hash, transactions: Sequence[PackedTransaction]) -> None:
    """Check every signature; raises InvalidTransaction naming the first that fails."""
    for position, packed in enumerate(transactions):
        if not is_signed(chain_id, packed):
            raise make_signature_error(position, packed)


def make_signature_error(position: int, packed: PackedTransaction) -> InvalidTransaction:
    """Return what is wrong with a transaction that its sender did not sign."""
    sender = packed.transaction.body.sender.hex()
    return InvalidTransaction("signature", f"transaction {position} is not signed by {sender}")


def validate_transaction(
    context: LedgerContext, account: Account, transaction: Transaction, *, is_nonce_exact: bool = True
) -> None:
    """Check what the sender's `account` says: nonce, recipient, and that the balance covers all.

    With `is_nonce_exact` false a nonce may also lie ahead. The signature is a pass of its own, before. Raises
    InvalidTransaction.
    """
    body = transaction.body
    if body.nonce < account.nonce or (is_nonce_exact and body.nonce != account.nonce):
        raise InvalidTransaction("nonce", f"found {body.nonce}, expected {account.nonce}")
    _validate_action(body.action)
    validate_balance(account, compute_cost(body, context.parameters))


def compute_cost(body: TransactionBody, parameters: Parameters) -> int:
    """Return the atoms that a transaction takes from its sender: fee, amount, deposit, bond, stake, price."""
    match body.action:
        case (
            Transfer(amount=taken)
            | PostBond(amount=taken)
            | RegisterAuditor(amount=taken)
            | DisputeContribution(deposit=taken)
            | PostBounty(amount=taken)
            | PostTask(budget=taken)
            | FundTask(amount=taken)
        ):
            return body.fee + taken
        case CommitContribution():
            return body.fee + parameters.deposit
        case (
            ProveContribution()
            | ReportEquivocation()
            | WithdrawBond()
            | AnswerDispute()
            | RetireAuditor()
            | ProveAudit()
        ):
            return body.fee
        case LockStake() | UnlockStake() | ProposeChange() | CastVote() as action:
            return body.fee + compute_governance_cost(action, parameters)
        case (RequestInference() | AnswerInference() | ChallengeAnswer() | OpenAnswer() | CloseInference()) as action:
            return body.fee + compute_inference_cost(action, parameters)
        case _ as action:
            return body.fee + compute_economy_cost(action)


def apply_transaction(scope: BlockScope, view: StateView, transaction: Transaction) -> tuple[Event, ...]:
    """Change `view` by one transaction whose signature holds; raises InvalidTransaction, MissingData.

    On an error `view` may be half changed, unless the action `is_atomic`: try it on a fork. The fee is taken here and
    handed out when the block ends.
    """
    body = transaction.body
    account = get_account(view, body.sender)
    validate_transaction(scope.context, account, transaction)
    taken = body.fee + (body.action.amount if isinstance(body.action, Transfer) else 0)
    view.put(account_key(body.sender), Account(account.nonce + 1, account.balance - taken))
    match body.action:
        case Transfer(recipient=recipient, amount=amount):
            apply_credit(view, recipient, amount)
        case CommitContribution() | ProveContribution() | DisputeContribution() | AnswerDispute() as action:
            return _apply_contribution_action(scope, view, body.sender, action)
        case ReportEquivocation() as report:
            return apply_report(scope, view, report)
        case PostBounty() | PostTask() | FundTask() as action:
            return _apply_task_action(scope, view, body.sender, action)
        case RegisterAuditor() | RetireAuditor() | ProveAudit() as action:
            return _apply_audit_action(scope, view, body.sender, action)
        case PostBond() as post:
            apply_post_bond(scope, view, body.sender, post)
        case WithdrawBond() as withdraw:
            apply_withdraw_bond(scope, view, body.sender, withdraw)
        case LockStake() | UnlockStake() | ProposeChange() | CastVote() as action:
            return apply_governance_action(scope, view, body.sender, action)
        case (RequestInference() | AnswerInference() | ChallengeAnswer() | OpenAnswer() | CloseInference()) as action:
            apply_inference_action(scope, view, body.sender, action)
        case _ as action:
            apply_economy_action(scope, view, body.sender, action)
    return ()


def _apply_contribution_action(
    scope: BlockScope, view: StateView, sender: PublicKey, action: ContributionAction
) -> tuple[Event, ...]:
    match action:
        case CommitContribution():
            return apply_commit(scope, view, sender, action)
        case ProveContribution():
            return apply_prove(scope, view, sender, action)
        case DisputeContribution():
            return apply_dispute(scope, view, sender, action)
        case AnswerDispute():
            return apply_answer(scope, view, action)
    assert_never(action)


def _apply_task_action(scope: BlockScope, view: StateView, sender: PublicKey, action: TaskAction) -> tuple[Event, ...]:
    match action:
        case PostBounty():
            return apply_post_bounty(scope, view, sender, action)
        case PostTask():
            apply_post_task(scope, view, sender, action)
        case FundTask():
            apply_fund_task(scope, view, sender, action)
        case _:
            assert_never(action)
    return ()


def _apply_audit_action(
    scope: BlockScope, view: StateView, sender: PublicKey, action: AuditAction
) -> tuple[Event, ...]:
    match action:
        case RegisterAuditor():
            apply_register(scope, view, sender, action)
        case RetireAuditor():
            apply_retire(scope, view, sender, action)
        case ProveAudit():
            return apply_prove_audit(scope, view, sender, action)
        case _:
            assert_never(action)
    return ()


def is_atomic(action: Action) -> bool:
    """Say whether an action that is refused leaves the view as it was: all its checks come before its first change."""
    return isinstance(action, Transfer)


def _validate_action(action: Action) -> None:
    match action:
        case Transfer(recipient=recipient, amount=amount):
            if amount == 0:
                raise InvalidTransaction("amount", "found 0 atoms, expected at least 1")
            _validate_recipient(recipient)
        case ReportEquivocation(recipient=recipient):
            _validate_recipient(recipient)
        case CommitContribution() | ProveContribution() | DisputeContribution() | AnswerDispute():
            pass
        case PostBond() | WithdrawBond() | RegisterAuditor() | RetireAuditor() | ProveAudit():
            pass
        case PostBounty() | PostTask() | FundTask():
            _validate_task_action(action)
        case LockStake() | UnlockStake() | ProposeChange() | CastVote():
            validate_governance_action(action)
        case RequestInference() | AnswerInference() | ChallengeAnswer() | OpenAnswer() | CloseInference():
            validate_inference_action(action)
        case _:
            validate_economy_action(action)


def _validate_task_action(action: TaskAction) -> None:
    match action:
        case PostBounty():
            validate_bounty_terms(action)
        case PostTask():
            validate_task_terms(action)
        case FundTask():
            validate_fund_terms(action)
        case _:
            assert_never(action)


def _validate_recipient(recipient: PublicKey) -> None:
    # What is sent to bytes that no secret key belongs to could never be spent.
    if not is_valid_point(recipient):
        raise InvalidTransaction("recipient", f"found {recipient.hex()}, expected a public key")
