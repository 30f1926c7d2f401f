"""From a winning ticket to a block on the chain: choose transactions, execute, sign, import like anybody's block.

The signing key stays here. What is signed is on disk before it is imported, and a ticket that comes a second time, from
a miner that was started again for instance, gets the block that was signed for it and no other.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice

from chain.block import TRANSACTIONS_PER_BLOCK_MAX, Block
from chain.errors import InvalidBlock, InvalidTransaction
from chain.header import Trunk, compute_trunk_hash
from chain.ledger.apply import Assembly, assemble_block
from chain.ledger.context import BlockDraft
from chain.merkle import compute_root
from chain.packed import PackedBlock
from chain.primitives import Hash
from chain.ticket import Ticket, TicketOpening
from consensus.header_chain import ChainEntry
from consensus.header_rules import HeaderContent, compute_timestamp_min, make_header, make_trunk
from node.outcomes import ImportOutcome
from node.parts import Parts

NO_OPENING = TicketOpening((), ())
"""What a signed block is written down with: the opening comes again with the ticket."""


CANDIDATES_MAX = 2 * TRANSACTIONS_PER_BLOCK_MAX
"""How far down the pool's order a block looks; what is passed over for want of room may be followed by what fits."""


class Producer:
    """Turns tickets into signed blocks."""

    def __init__(self, parts: Parts) -> None:
        """Sign with the node's key, whose segments the tickets must be of."""
        self._parts = parts

    async def produce(self, parent_hash: Hash, ticket: Ticket, opening: TicketOpening) -> ImportOutcome | None:
        """Make and import a block on `parent_hash`; None when the head has moved on.

        Raises InvalidBlock, also when the head is of a time when this machine's clock ran ahead: nobody else has taken
        it, and what is mined on it only puts off the day when the others' branch is heavier. Raises StorageError when
        what is signed cannot be written down.
        """
        parent = self._parts.chain.head
        if parent.hash != parent_hash:
            return None
        self._validate_head_time(parent)
        trunk = make_trunk(self._parts.chain.header_context, parent, ticket)
        height, trunk_hash = parent.height + 1, compute_trunk_hash(trunk)
        signed, prepared = self._parts.signed.get(height, trunk_hash), None
        if signed is None:
            prepared = await self._prepare(parent, trunk)
            signed = self._parts.signed.sign_once(height, trunk_hash, prepared.sign)
        # The opening is not signed; the one that comes now may be better than the first.
        block = replace(signed, opening=opening)
        if prepared is None or not prepared.is_signed:
            return await self._parts.importer.import_block(block)
        packed = PackedBlock(block, prepared.assembly.transactions)
        return await self._parts.importer.import_block(packed, effects=prepared.assembly.effects)

    def _validate_head_time(self, head: ChainEntry) -> None:
        found_ms = head.header.foliage.timestamp_ms - self._parts.get_time_ms()
        lead_ms_max = self._parts.chain.parameters.future_ms_max
        if found_ms > lead_ms_max:
            message = f"found a head {found_ms} ms ahead of this machine's clock, expected at most {lead_ms_max} ms"
            raise InvalidBlock("head-future", message)

    async def _prepare(self, parent: ChainEntry, trunk: Trunk) -> "_Prepared":
        """Assemble a block on `parent`, ready to be signed."""
        context, key = self._parts.chain.header_context, self._parts.key
        timestamp_ms = max(self._parts.get_time_ms(), compute_timestamp_min(context, parent))
        assembly = await self._assemble(parent, trunk, timestamp_ms)
        root = compute_root([packed.data for packed in assembly.transactions])
        content = HeaderContent(key.public_key, timestamp_ms, assembly.effects.state_root, root)

        def make_block() -> Block:
            header = make_header(context, parent, trunk.ticket, content, key)
            return Block(header, NO_OPENING, tuple(packed.transaction for packed in assembly.transactions))

        return _Prepared(make_block, assembly)

    async def _assemble(self, parent: ChainEntry, trunk: Trunk, timestamp_ms: int) -> Assembly:
        draft = BlockDraft(parent.height + 1, timestamp_ms, self._parts.key.public_key, trunk.ticket, trunk.beacon)
        assembly = await asyncio.to_thread(
            assemble_block,
            self._parts.chain.ledger_context,
            self._parts.chain.view(parent),
            draft,
            list(islice(self._parts.mempool.iter_candidates(), CANDIDATES_MAX)),
            self._parts.learning,
            self._parts.chain,
        )
        for packed, error in assembly.refused:
            if isinstance(error, InvalidTransaction):
                self._parts.mempool.drop(packed.hash)
        return assembly


@dataclass(slots=True)
class _Prepared:
    """A block that waits for its signature, and what it is made of."""

    make_block: Callable[[], Block]
    assembly: Assembly
    is_signed: bool = False

    def sign(self) -> Block:
        self.is_signed = True
        return self.make_block()
