"""The door of the transaction pool: what is valid on the head enters; what may become valid is tried again later.

Transactions come in batches: signatures are verified side by side, then each is held against a throw-away view of the
head, so a commit's block data and a proof's openings are checked before anybody else is bothered with them. It knows
no peer; whoever brings a transaction hears a typed error.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chain.codec import encode
from chain.dispute import AnswerDispute
from chain.errors import InvalidTransaction, MissingData
from chain.ledger.accounts import get_account
from chain.ledger.bounds import get_context_in_force
from chain.ledger.context import BlockDraft, BlockScope, get_task_state
from chain.ledger.contributions import find_bond_problem
from chain.ledger.dataset_parts import apply_add_part, validate_part_place
from chain.ledger.keys import account_key
from chain.ledger.learning import ContentSource, LearningEngine
from chain.ledger.records import EMPTY_ACCOUNT, Account
from chain.ledger.transactions import apply_transaction, compute_cost, is_atomic, validate_transaction
from chain.packed import PackedTransaction, pack_transaction, pack_transactions
from chain.primitives import ZERO_HASH, Hash, PublicKey
from chain.state.view import StateView
from chain.ticket import EMPTY_TICKET
from chain.transaction import (
    AddDatasetPart,
    CommitContribution,
    PostTask,
    ReportEquivocation,
    Sidecar,
    Transaction,
    TransactionBody,
    compute_sidecar_hash,
    get_sidecar_hash,
)
from node.chain import Chain
from node.importer import HeadChange
from node.mempool import AddResult, Mempool
from node.observability.tally import Tally
from node.outlived import is_outdated, is_spent, is_uprooted
from node.signatures import Signatures

BATCH_MAX = 256
"""Transactions judged at once: enough to keep all threads busy, few enough that a block need not wait long."""

LATER_MAX = 64
"""Transactions kept, with the block data beside them, to be tried on the next head: openings often arrive before the
block that asks for them."""

EVIDENCE_RULES = frozenset({"evidence-order", "evidence-place", "evidence-trunk", "evidence-signature"})
"""What two headers lack that prove nothing."""

GOVERNANCE_RULES = frozenset({"proposal-title", "change-parameter", "change-bounds", "share-bounds", "vote-choice"})
"""What is wrong with a proposal or vote on any state."""

TASK_RULES = frozenset({"task-budget", "task-price", "task-dataset", "task-spec", "fund-amount"}) | {
    "task-size",
    "task-macs",
    "task-records",
    "task-heldout",
    "task-program",
    "task-checkpoint",
}
"""What is wrong with a task or a fund on any state. What a program costs to check is not paid again at every head."""

PART_RULES = frozenset({"dataset-size", "part-index", "part-bytes", "part-root"})
"""What is wrong with a part of a data set on any state."""

LASTING_RULES = (
    frozenset({"signature", "amount", "recipient", "sidecar-hash"})
    | EVIDENCE_RULES
    | GOVERNANCE_RULES
    | TASK_RULES
    | PART_RULES
)
"""Faults that no later head can mend."""

UNKEPT_RULES = LASTING_RULES | {
    "sidecar-size",
    "dataset-complete",
    "part-known",
    "pool-full",
    "pool-balance",
    "report-waiting",
    "evidence-spent",
    "proposal-closed",
    "vote-stake",
}
"""Refusals after which a transaction is not tried again."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A transaction for the pool, and the block data that came beside it."""

    packed: PackedTransaction
    sidecar: Sidecar | None = None


Answer = AddResult | InvalidTransaction | MissingData
"""What became of an offer, or why nothing did."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What the head says of an offer: its sender's account, and what is wrong."""

    account: Account
    error: InvalidTransaction | MissingData | None


@dataclass(frozen=True, slots=True)
class _Beside:
    """The chain's block data, and a piece that is not kept yet."""

    chain: Chain
    name: Hash
    sidecar: Sidecar

    def get_sidecar(self, sidecar_hash: Hash) -> Sidecar:
        return self.sidecar if sidecar_hash == self.name else self.chain.get_sidecar(sidecar_hash)


class TransactionGate:
    """Admits transactions to the pool and keeps it true to the head."""

    def __init__(
        self,
        chain: Chain,
        mempool: Mempool,
        learning: LearningEngine,
        signatures: Signatures,
        get_time_ms: Callable[[], int],
    ) -> None:
        """Guard `mempool` by the state of `chain`."""
        self._chain = chain
        self._mempool = mempool
        self._learning = learning
        self._signatures = signatures
        self._get_time_ms = get_time_ms
        self._context = get_context_in_force(chain.ledger_context, chain.view())
        self._later: OrderedDict[Hash, Offer] = OrderedDict()
        self._trying: dict[Hash, Offer] = {}
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

    def get_waiting(self, transaction_hash: Hash) -> PackedTransaction | None:
        """Return a transaction that waits for a block, for the head that it is valid on, or to be tried on this one.

        Whoever thinks that one is gone sends another in its place, and both may be carried out.
        """
        pooled = self._mempool.get(transaction_hash)
        offer = self._later.get(transaction_hash) or self._trying.get(transaction_hash)
        return pooled or (None if offer is None else offer.packed)

    def is_waiting(self, transaction_hash: Hash) -> bool:
        """Say whether `get_waiting` returns a transaction."""
        return self.get_waiting(transaction_hash) is not None

    async def admit(self, transaction: Transaction, sidecar: Sidecar | None = None) -> AddResult:
        """Take a transaction into the pool; raises InvalidTransaction, MissingData.

        What is refused for a reason that a later head may remove is tried again when the head moves.
        """
        (answer,) = await self.admit_many((Offer(pack_transaction(transaction), sidecar),))
        if isinstance(answer, AddResult):
            return answer
        raise answer

    async def admit_many(self, offers: Sequence[Offer]) -> list[Answer]:
        """Take transactions into the pool as `admit` does, in their order; return what became of each."""
        answers: list[Answer] = []
        for start in range(0, len(offers), BATCH_MAX):
            answers += await self._admit_batch(offers[start : start + BATCH_MAX])
        return answers

    def on_head(self, change: HeadChange) -> None:
        """Drop what the new head has taken, and try again what was early or was on blocks now left."""
        self._mempool.on_head(_compute_nonces(change), self._chain.head.height, self._get_time_ms())
        view = self._chain.view()
        self._context = get_context_in_force(self._chain.ledger_context, view)
        # What was meant for a round that is over can never be included, and would hold up its sender's next nonces.
        round_number = get_task_state(self._context, view).round
        first_left = change.disconnected[-1].header.height if change.disconnected else None

        def is_left(transaction: Transaction) -> bool:
            return first_left is not None and is_uprooted(self._context, view, transaction, first_left)

        left = [transaction for block in reversed(change.disconnected) for transaction in block.transactions]
        # What was early stays: it may have been meant for this branch.
        returned = [transaction for transaction in left if not is_left(transaction)]

        def is_useless(transaction: Transaction) -> bool:
            if is_outdated(transaction, round_number) or is_left(transaction):
                return True
            found = is_spent(self._chain.parameters, view, transaction, self._chain.head.height + 1)
            if found and isinstance(transaction.body.action, AnswerDispute):
                # Its demand may stand in no block of this branch yet; till then it is tried again from head to head.
                returned.append(transaction)
            return found

        self._mempool.drop_passing(is_useless)
        waiting = [*map(Offer, pack_transactions(returned)), *self._later.values()]
        self._later.clear()
        offers = [offer for offer in waiting if not is_outdated(offer.packed.transaction, round_number)]
        if offers:
            self._trying |= {offer.packed.hash: offer for offer in offers}
            task = asyncio.get_running_loop().create_task(self._admit_again(offers))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Try nothing again, and wait for the check under way: it reads the database."""
        self._is_stopping = True
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _admit_again(self, offers: Sequence[Offer]) -> None:
        for start in range(0, len(offers), BATCH_MAX):
            if self._is_stopping:
                return
            batch = offers[start : start + BATCH_MAX]
            try:
                await self._admit_batch(batch)
            finally:
                for offer in batch:
                    self._trying.pop(offer.packed.hash, None)

    async def _admit_batch(self, offers: Sequence[Offer]) -> list[Answer]:
        head, screened = self._chain.head, [self._screen(offer) for offer in offers]
        open_offers = [offer for offer, answer in zip(offers, screened, strict=True) if answer is None]
        verdicts = iter(await asyncio.to_thread(self._judge, open_offers) if open_offers else ())
        # Nonces that were read on another head would put what is added in a wrong place.
        is_same_head, answers = self._chain.head is head, list[Answer]()
        for offer, screening in zip(offers, screened, strict=True):
            answer = screening
            if answer is None:
                verdict = next(verdicts)
                if not is_same_head:
                    account = get_account(self._chain.view(), offer.packed.transaction.body.sender)
                    verdict = _Verdict(account, verdict.error)
                answer = self._enter(offer, verdict)
            self.admissions.add(_name(answer))
            answers.append(answer)
        return answers

    def _screen(self, offer: Offer) -> Answer | None:
        """Answer what needs no check: what waits already, and what a full pool has no room for."""
        if self._mempool.get(offer.packed.hash) is not None:
            return AddResult.ALREADY_KNOWN
        try:
            self._mempool.validate_price(offer.packed)
        except InvalidTransaction as error:
            return error
        return None

    def _judge(self, offers: Sequence[Offer]) -> list[_Verdict]:
        view = self._chain.view()
        view.read_ahead([account_key(offer.packed.transaction.body.sender) for offer in offers])
        signed = self._signatures.find_errors([offer.packed for offer in offers])
        verdicts = []
        for offer, signature_error in zip(offers, signed, strict=True):
            if signature_error is not None:
                verdicts.append(_Verdict(EMPTY_ACCOUNT, signature_error))
                continue
            account = get_account(view, offer.packed.transaction.body.sender)
            verdicts.append(_Verdict(account, self._find_error(view, account, offer)))
        return verdicts

    def _find_error(self, view: StateView, account: Account, offer: Offer) -> InvalidTransaction | MissingData | None:
        try:
            self._validate(view, account, offer)
        except (InvalidTransaction, MissingData) as error:
            return error
        return None

    def _validate(self, view: StateView, account: Account, offer: Offer) -> None:
        context, head, transaction = self._context, self._chain.head, offer.packed.transaction
        # A report that was not tried would keep a good one out of the pool, a task that was not its data on the disk.
        is_tried = isinstance(transaction.body.action, ReportEquivocation | PostTask)
        validate_transaction(context, account, transaction, is_nonce_exact=is_tried)
        content = self._take_sidecar(transaction, offer.sidecar)
        if is_atomic(transaction.body.action):
            return
        draft = BlockDraft(head.height + 1, 0, PublicKey(ZERO_HASH), EMPTY_TICKET, head.beacon)
        scope = BlockScope(context, draft, self._learning, content)
        if transaction.body.nonce == account.nonce:
            apply_transaction(scope, view.fork(), transaction)
        elif isinstance(transaction.body.action, AddDatasetPart):
            # Whether it is right depends on no nonce, and its bytes go to the disk. One too far ahead goes nowhere yet.
            self._mempool.validate_nonce(transaction.body.nonce, account.nonce)
            apply_add_part(scope, view.fork(), transaction.body.sender, transaction.body.action)

    def _enter(self, offer: Offer, verdict: _Verdict) -> Answer:
        """Put what was found good into the pool with its block data on disk, or keep it for a later head."""
        if isinstance(verdict.error, MissingData):
            return verdict.error
        packed = offer.packed
        try:
            if verdict.error is not None:
                raise verdict.error
            cost = compute_cost(packed.transaction.body, self._context.parameters)
            self._validate_reserve(packed.transaction.body, cost, verdict.account)
            result = self._mempool.add(packed, verdict.account.nonce, self._get_time_ms(), cost)
        except InvalidTransaction as error:
            if error.rule not in UNKEPT_RULES and packed.transaction.body.nonce >= verdict.account.nonce:
                self._keep_for_later(offer)
            return error
        if result is not AddResult.ALREADY_KNOWN:
            name = get_sidecar_hash(packed.transaction.body.action)
            if name is not None:
                self._chain.store_sidecars((name,), () if offer.sidecar is None else (offer.sidecar,))
                self._chain.keep_data((name,))
            for listener in self.on_admitted:
                listener(packed.hash)
        return result

    def _validate_reserve(self, body: TransactionBody, cost: int, account: Account) -> None:
        """Check that the balance covers all that an account has waiting: what it does not is carried for nothing."""
        whole = cost + self._mempool.compute_waiting_cost(body.sender, body.nonce)
        if whole > account.balance:
            message = f"found {account.balance} atoms, expected {whole} for all that {body.sender.hex()} has waiting"
            raise InvalidTransaction("pool-balance", message)

    def _keep_for_later(self, offer: Offer) -> None:
        self._later[offer.packed.hash] = offer
        while len(self._later) > LATER_MAX:
            self._later.popitem(last=False)

    def _take_sidecar(self, transaction: Transaction, sidecar: Sidecar | None) -> ContentSource:
        """Return where a transaction's block data are found, those beside it held beside the chain until it enters.

        A commit's are not asked for unless its sender has a bond, a part's unless its data set lacks it.
        """
        action, name = transaction.body.action, get_sidecar_hash(transaction.body.action)
        if name is None:
            return self._chain
        if sidecar is not None:
            self._validate_sidecar(name, sidecar)
        if isinstance(action, CommitContribution):
            problem = find_bond_problem(self._context, self._chain.view(), transaction.body.sender)
            if problem is not None:
                raise InvalidTransaction(*problem)
        if isinstance(action, AddDatasetPart):
            validate_part_place(self._chain.view(), action)
        if sidecar is not None:
            return _Beside(self._chain, name, sidecar)
        if not self._chain.has_sidecar(name):
            raise MissingData((name,))
        return self._chain

    def _validate_sidecar(self, name: Hash, sidecar: Sidecar) -> None:
        found, size_bytes = compute_sidecar_hash(sidecar), len(encode(sidecar))
        if found != name:
            raise InvalidTransaction("sidecar-hash", f"found {found.hex()}, expected {name.hex()}")
        size_bytes_max = self._chain.parameters.sidecar_bytes_max
        if size_bytes > size_bytes_max:
            raise InvalidTransaction("sidecar-size", f"found {size_bytes} bytes, expected at most {size_bytes_max}")


def _compute_nonces(change: HeadChange) -> dict[PublicKey, int]:
    """Return the nonce on the new head of every account that sent something on the way to it."""
    nonces: dict[PublicKey, int] = {}
    # Left blocks come tip first, so the lowest nonce of an account is met last; what was joined counts for more.
    for block in change.disconnected:
        nonces |= {transaction.body.sender: transaction.body.nonce for transaction in reversed(block.transactions)}
    for _, block, _ in change.connected:
        nonces |= {transaction.body.sender: transaction.body.nonce + 1 for transaction in block.transactions}
    return nonces


def _name(answer: Answer) -> str:
    if isinstance(answer, AddResult):
        return answer.name.lower()
    return "missing_data" if isinstance(answer, MissingData) else "refused"
