"""What peers sent, on its way to the chain: judged one piece at a time, in the order in which it came.

It asks the chain and tells the relay; a failure of the chain is ours and ends it. It holds no rule.
"""

import asyncio
from collections.abc import Callable

from node.ports import ChainPort, Outcome, SubmitResult
from p2p.actions import DeliverBlock, DeliverHeaders, DeliverTransaction, Delivery
from p2p.relay import Relay

TRANSACTIONS_QUEUED_MAX = 256
"""Transactions waiting to be judged; beyond, new ones are let go."""


class Judge:
    """One queue before the chain."""

    def __init__(
        self, chain: ChainPort, relay: Relay, get_now_ms: Callable[[], int], on_judged: Callable[[Delivery, bool], None]
    ) -> None:
        """Call `on_judged` after each piece with whether it was taken as new."""
        self._chain = chain
        self._relay = relay
        self._get_now_ms = get_now_ms
        self._on_judged = on_judged
        self._deliveries: asyncio.Queue[Delivery] = asyncio.Queue()

    @property
    def waiting(self) -> int:
        """How many pieces wait."""
        return self._deliveries.qsize()

    def put(self, delivery: Delivery) -> None:
        """Take a piece of content; a transaction is let go when too much waits."""
        if isinstance(delivery, DeliverTransaction) and self._deliveries.qsize() >= TRANSACTIONS_QUEUED_MAX:
            result = SubmitResult(Outcome.REFUSED, "busy")
            self._relay.on_transaction_outcome(delivery.peer, delivery.hash, result)
        else:
            self._deliveries.put_nowait(delivery)

    async def run(self) -> None:
        """Judge until cancelled; raises what the chain raises."""
        while True:
            delivery = await self._deliveries.get()
            result = await self._submit(delivery)
            self._on_judged(delivery, result.outcome is Outcome.ACCEPTED)

    async def _submit(self, delivery: Delivery) -> SubmitResult:
        if isinstance(delivery, DeliverHeaders):
            result = await self._chain.submit_headers(delivery.headers, delivery.openings)
            self._relay.on_headers_outcome(delivery, result, self._get_now_ms())
        elif isinstance(delivery, DeliverBlock):
            result = await self._chain.submit_block(delivery.block, delivery.sidecars)
            self._relay.on_block_outcome(delivery.peer, delivery.hash, result, self._get_now_ms())
        else:
            result = await self._chain.submit_transaction(delivery.transaction, delivery.sidecar)
            self._relay.on_transaction_outcome(delivery.peer, delivery.hash, result)
        return result
