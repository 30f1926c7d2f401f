"""What peers sent, on its way to the chain: headers and blocks one at a time, transactions in batches behind them.

So a flood of transactions holds up no block for longer than one batch takes. It asks the chain and tells the relay; a
failure of the chain is ours and ends it. It holds no rule.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from node.ports import ChainPort, Outcome, SubmitResult
from p2p.actions import DeliverBlock, DeliverHeaders, DeliverTransaction, Delivery
from p2p.relay import Relay

TRANSACTIONS_QUEUED_MAX = 2_048
"""Transactions waiting to be judged; beyond, new ones are let go. Twice what the relay has open."""

BATCH_MAX = 256
"""Transactions judged together: a block that comes meanwhile waits for no more."""


class Judge:
    """Two queues before the chain."""

    def __init__(
        self, chain: ChainPort, relay: Relay, get_now_ms: Callable[[], int], on_judged: Callable[[Delivery, bool], None]
    ) -> None:
        """Call `on_judged` after each piece with whether it was taken as new."""
        self._chain = chain
        self._relay = relay
        self._get_now_ms = get_now_ms
        self._on_judged = on_judged
        self._content: deque[DeliverHeaders | DeliverBlock] = deque()
        self._transactions: deque[DeliverTransaction] = deque()
        self._has_work = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many pieces wait."""
        return len(self._content) + len(self._transactions)

    def put(self, delivery: Delivery) -> None:
        """Take a piece of content; a transaction is let go when too many wait."""
        if not isinstance(delivery, DeliverTransaction):
            self._content.append(delivery)
        elif len(self._transactions) < TRANSACTIONS_QUEUED_MAX:
            self._transactions.append(delivery)
        else:
            result = SubmitResult(Outcome.REFUSED, "busy")
            self._relay.on_transaction_outcome(delivery.peer, delivery.hash, result)
        self._has_work.set()

    async def run(self) -> None:
        """Judge until cancelled; raises what the chain raises."""
        while True:
            await self._has_work.wait()
            if self._content:
                delivery = self._content.popleft()
                result = await self._submit(delivery)
                self._on_judged(delivery, result.outcome is Outcome.ACCEPTED)
            elif self._transactions:
                await self._submit_transactions()
            else:
                self._has_work.clear()

    async def _submit(self, delivery: DeliverHeaders | DeliverBlock) -> SubmitResult:
        if isinstance(delivery, DeliverHeaders):
            result = await self._chain.submit_headers(delivery.headers, delivery.openings)
            self._relay.on_headers_outcome(delivery, result, self._get_now_ms())
        else:
            result = await self._chain.submit_block(delivery.block, delivery.sidecars)
            self._relay.on_block_outcome(delivery.peer, delivery.hash, result, self._get_now_ms())
        return result

    async def _submit_transactions(self) -> None:
        batch = [self._transactions.popleft() for _ in range(min(BATCH_MAX, len(self._transactions)))]
        results = await self._chain.submit_transactions([(each.transaction, each.sidecar) for each in batch])
        for delivery, result in zip(batch, results, strict=True):
            self._relay.on_transaction_outcome(delivery.peer, delivery.hash, result)
            self._on_judged(delivery, result.outcome is Outcome.ACCEPTED)
