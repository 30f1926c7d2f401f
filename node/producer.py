"""From a winning ticket to a block on the chain: choose transactions, execute, sign, import like anybody's block.

The signing key stays here. What is signed is on disk before it is imported, and a ticket that comes a second time, from
a miner that was started again for instance, gets the block that was signed for it and no other.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from chain.block import Block, compute_transactions_root
from chain.errors import InvalidTransaction
from chain.header import Trunk, compute_trunk_hash
from chain.ledger.apply import Assembly, assemble_block
from chain.ledger.context import BlockDraft
from chain.primitives import Hash
from chain.ticket import Ticket, TicketOpening
from chain.transaction import compute_transaction_hash
from consensus.header_chain import ChainEntry
from consensus.header_rules import HeaderContent, compute_timestamp_min, make_header, make_trunk
from node.importer import ImportOutcome
from node.parts import Parts

NO_OPENING = TicketOpening((), ())
"""What a signed block is written down with: the opening comes again with the ticket."""


class Producer:
    """Turns tickets into signed blocks."""

    def __init__(self, parts: Parts) -> None:
        """Sign with the node's key, whose segments the tickets must be of."""
        self._parts = parts

    async def produce(self, parent_hash: Hash, ticket: Ticket, opening: TicketOpening) -> ImportOutcome | None:
        """Make and import a block on `parent_hash`; None when the head has moved on.

        Raises InvalidBlock, and StorageError when what is signed cannot be written down.
        """
        parent = self._parts.chain.head
        if parent.hash != parent_hash:
            return None
        trunk = make_trunk(self._parts.chain.header_context, parent, ticket)
        height, trunk_hash = parent.height + 1, compute_trunk_hash(trunk)
        signed = self._parts.signed.get(height, trunk_hash)
        if signed is None:
            sign = await self._prepare(parent, trunk)
            signed = self._parts.signed.sign_once(height, trunk_hash, sign)
        # The opening is not signed; the one that comes now may be better than the first.
        return await self._parts.importer.import_block(replace(signed, opening=opening))

    async def _prepare(self, parent: ChainEntry, trunk: Trunk) -> Callable[[], Block]:
        """Assemble a block on `parent` and return what signs it."""
        context, key = self._parts.chain.header_context, self._parts.key
        timestamp_ms = max(self._parts.get_time_ms(), compute_timestamp_min(context, parent))
        assembly = await self._assemble(parent, trunk, timestamp_ms)
        root = compute_transactions_root(assembly.transactions)
        content = HeaderContent(key.public_key, timestamp_ms, assembly.effects.state_root, root)

        def sign() -> Block:
            header = make_header(context, parent, trunk.ticket, content, key)
            return Block(header, NO_OPENING, assembly.transactions)

        return sign

    async def _assemble(self, parent: ChainEntry, trunk: Trunk, timestamp_ms: int) -> Assembly:
        draft = BlockDraft(parent.height + 1, timestamp_ms, self._parts.key.public_key, trunk.ticket, trunk.beacon)
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
