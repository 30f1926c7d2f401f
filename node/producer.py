"""From a winning ticket to a block on the chain: choose transactions, execute, sign, import like anybody's block.

The signing key stays here. A block is on disk before anyone hears of it, because importing commits before it announces.
"""

import asyncio

from chain.block import Block, compute_transactions_root
from chain.errors import InvalidTransaction
from chain.ledger.apply import Assembly, assemble_block
from chain.ledger.context import BlockDraft
from chain.primitives import Hash
from chain.ticket import Ticket, TicketOpening
from chain.transaction import compute_transaction_hash
from consensus.header_chain import ChainEntry
from consensus.header_rules import HeaderContent, compute_timestamp_min, make_header, make_trunk
from node.importer import ImportOutcome
from node.parts import Parts


class Producer:
    """Turns tickets into signed blocks."""

    def __init__(self, parts: Parts) -> None:
        """Sign with the node's key, whose segments the tickets must be of."""
        self._parts = parts

    async def produce(self, parent_hash: Hash, ticket: Ticket, opening: TicketOpening) -> ImportOutcome | None:
        """Make and import a block on `parent_hash`; None when the head has moved on. Raises InvalidBlock."""
        parent = self._parts.chain.head
        if parent.hash != parent_hash:
            return None
        timestamp_ms = max(self._parts.get_time_ms(), compute_timestamp_min(self._parts.chain.header_context, parent))
        assembly = await self._assemble(parent, ticket, timestamp_ms)
        content = HeaderContent(
            self._parts.key.public_key,
            timestamp_ms,
            assembly.effects.state_root,
            compute_transactions_root(assembly.transactions),
        )
        header = make_header(self._parts.chain.header_context, parent, ticket, content, self._parts.key)
        return await self._parts.importer.import_block(Block(header, opening, assembly.transactions))

    async def _assemble(self, parent: ChainEntry, ticket: Ticket, timestamp_ms: int) -> Assembly:
        trunk = make_trunk(self._parts.chain.header_context, parent, ticket)
        draft = BlockDraft(parent.height + 1, timestamp_ms, self._parts.key.public_key, ticket, trunk.beacon)
        candidates = list(self._parts.mempool.iter_candidates(self._parts.gate.get_account_nonce))
        assembly = await asyncio.to_thread(
            assemble_block,
            self._parts.chain.ledger_context,
            self._parts.chain.view(parent),
            draft,
            candidates,
            self._parts.learning,
            self._parts.chain,
        )
        for transaction, error in assembly.refused:
            if isinstance(error, InvalidTransaction):
                self._parts.mempool.drop(compute_transaction_hash(transaction))
        return assembly
