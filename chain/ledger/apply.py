"""The state transition: from the state after a parent and a block to the state after the block.

`execute_block` computes it, for whoever assembles and whoever validates alike; `apply_block` also compares what the
header claims. Both are pure: they change neither the parent's view nor anything else, and an invalid block leaves no
trace. Headers, work and tickets are consensus' business and are checked before.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from chain.block import TRANSACTIONS_PER_BLOCK_MAX, Block
from chain.errors import InvalidBlock, InvalidTransaction, MissingData
from chain.ledger.bounds import get_context_in_force
from chain.ledger.context import BlockDraft, BlockEffects, BlockScope, Event, LedgerContext, get_task_state
from chain.ledger.contributions import apply_deadlines, find_segment_problem
from chain.ledger.disputes import apply_due_disputes
from chain.ledger.inference import validate_opening_count
from chain.ledger.keys import account_key, beacon_key
from chain.ledger.learning import ContentSource, LearningEngine
from chain.ledger.proposals import apply_agenda
from chain.ledger.records import Account, BeaconRecord, ContributionKey
from chain.ledger.rewards import apply_issuance
from chain.ledger.rounds import apply_round_end
from chain.ledger.transactions import SignatureVerifier, apply_transaction, is_atomic, verify_signatures
from chain.ledger.weight import compute_weight
from chain.packed import PackedBlock, PackedTransaction
from chain.primitives import PublicKey
from chain.state.view import StateKey, StateView
from chain.transaction import Transaction, Transfer, get_sidecar_hash

BLOCK_RESERVE_BYTES = 160 * 1024
"""What an assembled block leaves for its header and the opening of its ticket: four strips and their paths."""


REFUSALS_MAX = 256
"""Candidates that may fail before an assembly makes do with what it has; a pool full of duds must hold up no block."""

Refusal = tuple[PackedTransaction, InvalidTransaction | MissingData]


@dataclass(frozen=True, slots=True)
class Assembly:
    """The transactions chosen for a block, what it does with them, and what was refused for which reason."""

    transactions: tuple[PackedTransaction, ...]
    effects: BlockEffects
    refused: tuple[Refusal, ...]


def make_draft(block: Block) -> BlockDraft:
    """Return what of `block` is decided before its transactions are executed."""
    foliage, trunk = block.header.foliage, block.header.trunk
    return BlockDraft(foliage.height, foliage.timestamp_ms, foliage.miner, trunk.ticket, trunk.beacon)


def apply_block(
    context: LedgerContext,
    parent_view: StateView,
    packed: PackedBlock,
    learning: LearningEngine,
    content: ContentSource,
    verify: SignatureVerifier = verify_signatures,
) -> BlockEffects:
    """Return what a block does to the state after its parent; raises InvalidBlock, MissingData.

    The block's size, transactions root, signatures, every transaction and the state root are checked, in this order.
    """
    block = packed.block
    validate_content(context, packed, verify)
    effects = execute_block(context, parent_view, make_draft(block), block.transactions, learning, content)
    validate_effects(block, effects)
    return effects


def validate_content(context: LedgerContext, packed: PackedBlock, verify: SignatureVerifier) -> None:
    """Check what needs no state: size, transactions root and signatures; raises InvalidBlock."""
    size_bytes, size_bytes_max = packed.compute_size_bytes(), context.parameters.block_bytes_max
    if size_bytes > size_bytes_max:
        raise InvalidBlock("block-size", f"found {size_bytes} bytes, expected at most {size_bytes_max}")
    foliage = packed.block.header.foliage
    _compare("transactions-root", packed.compute_transactions_root(), foliage.transactions_root)
    try:
        verify(context.chain_id, packed.transactions)
    except InvalidTransaction as error:
        raise InvalidBlock(error.rule, str(error)) from error


def validate_effects(block: Block, effects: BlockEffects) -> None:
    """Check that a block claims the state that it leads to; raises InvalidBlock."""
    _compare("state-root", effects.state_root, block.header.foliage.state_root)


def execute_block(
    context: LedgerContext,
    parent_view: StateView,
    draft: BlockDraft,
    transactions: tuple[Transaction, ...],
    learning: LearningEngine,
    content: ContentSource,
) -> BlockEffects:
    """Return what a block with these `transactions` does; raises InvalidBlock, MissingData.

    Signatures are not checked here.
    """
    scope, view = BlockScope(get_context_in_force(context, parent_view), draft, learning, content), parent_view.fork()
    assert view.get_existing(beacon_key(draft.height - 1)).height == draft.height - 1, "this is not the parent's state"
    _validate_ticket(scope, view)
    _validate_sidecar_count(scope.context, transactions)
    validate_opening_count(scope.context.parameters, transactions)
    view.read_ahead(_list_accounts(transactions))
    events: list[Event] = []
    for position, transaction in enumerate(transactions):
        try:
            events += apply_transaction(scope, view, transaction)
        except InvalidTransaction as error:
            raise InvalidBlock(error.rule, f"transaction {position}: {error}") from error
    return _finish(scope, view, transactions, events)


def assemble_block(
    context: LedgerContext,
    parent_view: StateView,
    draft: BlockDraft,
    candidates: Iterable[PackedTransaction],
    learning: LearningEngine,
    content: ContentSource,
) -> Assembly:
    """Choose those of `candidates`, in their order, that fit and hold, and execute the block; raises InvalidBlock.

    What is chosen weighs no more than a block may have bytes. Signatures are not checked here: the pool has done so.
    """
    scope, view = BlockScope(get_context_in_force(context, parent_view), draft, learning, content), parent_view.fork()
    assert view.get_existing(beacon_key(draft.height - 1)).height == draft.height - 1, "this is not the parent's state"
    _validate_ticket(scope, view)
    offered = list(candidates)
    view.read_ahead(_list_accounts(packed.transaction for packed in offered))
    selection = _Selection(context.parameters.block_bytes_max - BLOCK_RESERVE_BYTES, _get_sidecars_max(scope.context))
    for packed in offered:
        if selection.is_over:
            break
        if selection.has_room(packed):
            selection.attempt(scope, view, packed)
    chosen = tuple(packed.transaction for packed in selection.chosen)
    effects = _finish(scope, view, chosen, selection.events)
    return Assembly(tuple(selection.chosen), effects, tuple(selection.refused))


class _Selection:
    """The transactions of a block in the making, and the room that is left."""

    def __init__(self, weight_max: int, sidecars_max: int) -> None:
        self.chosen: list[PackedTransaction] = []
        self.refused: list[Refusal] = []
        self.events: list[Event] = []
        self._weight_left = weight_max
        self._sidecars_left = sidecars_max
        self._passed_over: set[PublicKey] = set()

    @property
    def is_over(self) -> bool:
        return len(self.chosen) == TRANSACTIONS_PER_BLOCK_MAX or len(self.refused) == REFUSALS_MAX

    def has_room(self, packed: PackedTransaction) -> bool:
        """Say whether a candidate can still be taken; what its sender offers behind one that cannot be must wait."""
        body = packed.transaction.body
        has_data = get_sidecar_hash(body.action) is not None
        weight = compute_weight(packed.transaction, len(packed.data))
        if body.sender in self._passed_over:
            return False
        if weight > self._weight_left or (has_data and not self._sidecars_left):
            self._passed_over.add(body.sender)
            return False
        return True

    def attempt(self, scope: BlockScope, view: StateView, packed: PackedTransaction) -> None:
        """Apply a candidate to `view`, or leave it as it was."""
        action = packed.transaction.body.action
        attempt = view if is_atomic(action) else view.fork()
        try:
            self.events += apply_transaction(scope, attempt, packed.transaction)
        except (InvalidTransaction, MissingData) as error:
            self.refused.append((packed, error))
            self._passed_over.add(packed.transaction.body.sender)
            return
        if attempt is not view:
            view.adopt(attempt)
        self.chosen.append(packed)
        self._weight_left -= compute_weight(packed.transaction, len(packed.data))
        self._sidecars_left -= get_sidecar_hash(action) is not None


def _finish(
    scope: BlockScope, view: StateView, transactions: tuple[Transaction, ...], events: list[Event]
) -> BlockEffects:
    apply_issuance(scope, view, sum(transaction.body.fee for transaction in transactions))
    view.put(beacon_key(scope.draft.height), BeaconRecord(scope.draft.height, scope.draft.beacon))
    # Disputes before the round: one that is decided in its last block must not hold what it was about.
    ended = (*apply_deadlines(scope, view), *apply_due_disputes(scope, view), *apply_round_end(scope, view))
    after = (*events, *ended, *apply_agenda(scope, view))
    state_root, new_nodes = view.commit()
    return BlockEffects(state_root, new_nodes, after)


def _list_accounts(transactions: Iterable[Transaction]) -> Iterator[StateKey[Account]]:
    """Yield where the accounts stand that transactions surely touch."""
    for transaction in transactions:
        yield account_key(transaction.body.sender)
        if isinstance(transaction.body.action, Transfer):
            yield account_key(transaction.body.action.recipient)


def _validate_ticket(scope: BlockScope, view: StateView) -> None:
    context, draft = scope.context, scope.draft
    ticket, state = draft.ticket, get_task_state(context, view)
    if ticket.task != context.task_id:
        raise InvalidBlock("ticket-task", f"found task {ticket.task.hex()}, expected {context.task_id.hex()}")
    if ticket.round != state.round:
        raise InvalidBlock("ticket-round", f"found round {ticket.round}, expected {state.round}")
    key = ContributionKey(draft.miner, ticket.index)
    if problem := find_segment_problem(context, view, draft.height, key, ticket.anchor_height):
        raise InvalidBlock(*problem)


def _validate_sidecar_count(context: LedgerContext, transactions: tuple[Transaction, ...]) -> None:
    found = sum(get_sidecar_hash(transaction.body.action) is not None for transaction in transactions)
    if found > (expected := _get_sidecars_max(context)):
        raise InvalidBlock("block-sidecars", f"found block data of {found} actions, expected at most {expected}")


def _get_sidecars_max(context: LedgerContext) -> int:
    return context.parameters.sidecars_per_block


def _compare(rule: str, found: bytes, expected: bytes) -> None:
    if found != expected:
        raise InvalidBlock(rule, f"found {found.hex()}, expected {expected.hex()}")
