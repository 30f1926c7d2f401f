"""The door of the transaction pool: what is valid on the head enters; what may become valid is tried again later.

A transaction is applied to a throw-away view of the head, so a commit's block data and a proof's openings are checked
before anybody else is bothered with them. It knows no peer; whoever brings a transaction hears a typed error.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from chain.codec import encode
from chain.errors import InvalidTransaction, MissingData
from chain.ledger.accounts import get_account
from chain.ledger.bonds import NOTHING, get_stake
from chain.ledger.context import BlockDraft, BlockScope, get_task_state
from chain.ledger.learning import LearningEngine
from chain.ledger.transactions import apply_transaction, validate_transaction
from chain.primitives import ZERO_HASH, Hash, PublicKey
from chain.state.view import StateView
from chain.ticket import EMPTY_TICKET
from chain.transaction import (
    CommitContribution,
    ProveContribution,
    ReportEquivocation,
    Sidecar,
    Transaction,
    compute_sidecar_hash,
    compute_transaction_hash,
)
from node.chain import Chain
from node.importer import HeadChange
from node.mempool import AddResult, Mempool
from node.observability.tally import Tally

LATER_MAX = 64
"""Transactions kept to be tried on the next head: openings often arrive before the block that asks for them."""

EVIDENCE_RULES = frozenset({"evidence-order", "evidence-place", "evidence-trunk", "evidence-signature"})
"""What two headers lack that prove nothing."""

LASTING_RULES = frozenset({"signature", "amount", "recipient", "sidecar-hash"}) | EVIDENCE_RULES
"""Faults that no later head can mend."""

UNKEPT_RULES = LASTING_RULES | {"pool-full", "report-waiting", "evidence-spent"}
"""Refusals after which a transaction is not tried again."""


class TransactionGate:
    """Admits transactions to the pool and keeps it true to the head."""

    def __init__(self, chain: Chain, mempool: Mempool, learning: LearningEngine) -> None:
        """Guard `mempool` by the state of `chain`."""
        self._chain = chain
        self._mempool = mempool
        self._learning = learning
        self._later: OrderedDict[Hash, Transaction] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_stopping = False
        self.on_admitted: list[Callable[[Hash], None]] = []
        self.admissions = Tally((*(result.name.lower() for result in AddResult), "refused", "missing_data"))

    def get_account_nonce(self, account: PublicKey) -> int:
        """Return the nonce of an account on the head."""
        return get_account(self._chain.view(), account).nonce

    def compute_next_nonce(self, account: PublicKey) -> int:
        """Return the first nonce that neither the head nor the pool has used."""
        return self._mempool.compute_next_nonce(account, self.get_account_nonce(account))

    async def admit(self, transaction: Transaction, sidecar: Sidecar | None = None) -> AddResult:
        """Take a transaction into the pool; raises InvalidTransaction, MissingData.

        What is refused for a reason that a later head may remove is tried again when the head moves.
        """
        transaction_hash = compute_transaction_hash(transaction)
        if self._mempool.get(transaction_hash) is not None:
            return AddResult.ALREADY_KNOWN
        try:
            await asyncio.to_thread(self._validate, transaction, sidecar)
            result = self._mempool.add(transaction, self.get_account_nonce(transaction.body.sender))
        except InvalidTransaction as error:
            self.admissions.add("refused")
            if error.rule not in UNKEPT_RULES:
                self._keep_for_later(transaction_hash, transaction)
            raise
        except MissingData:
            self.admissions.add("missing_data")
            raise
        self.admissions.add(result.name.lower())
        if result is not AddResult.ALREADY_KNOWN:
            for listener in self.on_admitted:
                listener(transaction_hash)
        return result

    def on_head(self, change: HeadChange) -> None:
        """Drop what the new head has taken, and try again what was early or was on blocks now left."""
        self._mempool.on_head(self.get_account_nonce)
        # What was meant for a round that is over can never be included, and would hold up its sender's next nonces.
        view = self._chain.view()
        round_number = get_task_state(self._chain.ledger_context, view).round
        self._mempool.drop_where(lambda transaction: _is_outdated(transaction, round_number))
        self._mempool.drop_where(lambda transaction: self._is_spent(transaction, view))
        returned = [transaction for block in reversed(change.disconnected) for transaction in block.transactions]
        waiting = [t for t in (*returned, *self._later.values()) if not _is_outdated(t, round_number)]
        self._later.clear()
        if waiting:
            task = asyncio.get_running_loop().create_task(self._admit_again(waiting))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _is_spent(self, transaction: Transaction, view: StateView) -> bool:
        """Say whether a transaction reports what nothing will be at stake for in the next block."""
        action, height = transaction.body.action, self._chain.head.height + 1
        if not isinstance(action, ReportEquivocation):
            return False
        return get_stake(self._chain.parameters, view, action.first, height) == NOTHING

    async def stop(self) -> None:
        """Try nothing again, and wait for the check under way: it reads the database."""
        self._is_stopping = True
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _admit_again(self, waiting: list[Transaction]) -> None:
        for transaction in waiting:
            if self._is_stopping:
                return
            if transaction.body.nonce < self.get_account_nonce(transaction.body.sender):
                continue
            try:
                await self.admit(transaction)
            except (InvalidTransaction, MissingData):
                continue

    def _keep_for_later(self, transaction_hash: Hash, transaction: Transaction) -> None:
        if transaction.body.nonce < self.get_account_nonce(transaction.body.sender):
            return
        self._later[transaction_hash] = transaction
        while len(self._later) > LATER_MAX:
            self._later.popitem(last=False)

    def _validate(self, transaction: Transaction, sidecar: Sidecar | None) -> None:
        context, view, head = self._chain.ledger_context, self._chain.view(), self._chain.head
        # A report that was not tried would keep a good one out of the pool.
        is_report = isinstance(transaction.body.action, ReportEquivocation)
        validate_transaction(context, view, transaction, is_nonce_exact=is_report)
        self._store_sidecar(transaction, sidecar)
        if transaction.body.nonce != get_account(view, transaction.body.sender).nonce:
            return
        draft = BlockDraft(head.height + 1, 0, PublicKey(ZERO_HASH), EMPTY_TICKET, head.beacon)
        scope = BlockScope(context, draft, self._learning, self._chain)
        apply_transaction(scope, view.fork(), transaction)

    def _store_sidecar(self, transaction: Transaction, sidecar: Sidecar | None) -> None:
        action = transaction.body.action
        if not isinstance(action, CommitContribution):
            return
        if transaction.body.sender not in self._chain.header_context.miners:
            raise InvalidTransaction(
                "segment-miner", f"found {transaction.body.sender.hex()}, expected a registered miner"
            )
        if sidecar is not None:
            found, size_bytes = compute_sidecar_hash(sidecar), len(encode(sidecar))
            if found != action.sidecar_hash:
                raise InvalidTransaction("sidecar-hash", f"found {found.hex()}, expected {action.sidecar_hash.hex()}")
            if size_bytes > self._chain.parameters.sidecar_bytes_max:
                raise InvalidTransaction(
                    "sidecar-size",
                    f"found {size_bytes} bytes, expected at most {self._chain.parameters.sidecar_bytes_max}",
                )
            self._chain.store_sidecars((action.sidecar_hash,), (sidecar,))
        if not self._chain.has_sidecar(action.sidecar_hash):
            raise MissingData((action.sidecar_hash,))


def _is_outdated(transaction: Transaction, round_number: int) -> bool:
    action = transaction.body.action
    return isinstance(action, CommitContribution | ProveContribution) and action.round < round_number
