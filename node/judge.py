"""What peers sent, on its way to the chain: headers and blocks one at a time, transactions in batches behind them.

So a flood of transactions holds up no block for longer than one batch takes. Peers take turns, and what was sent by one
that has left comes behind all of them: a flood of blocks holds up another peer's for one block of each. It asks the
chain and tells the relay; a failure of the chain is ours and ends it. It holds no rule.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from chain.primitives import PublicKey
from node.ports import ChainPort, Outcome, SubmitResult
from p2p.actions import DeliverBlock, DeliverHeaders, DeliverTransaction, Delivery
from p2p.relay import Relay

TRANSACTIONS_QUEUED_MAX = 2_048
"""Transactions waiting to be judged; beyond, new ones are let go. Twice what the relay has open."""

BATCH_MAX = 256
"""Transactions judged together: a block that comes meanwhile waits for no more."""

BLOCK_WAIT_S = 0.5
"""How long transactions wait for a block under way: more than one takes, far less than makes their peers stall."""

LEFT_MAX = 64
"""Headers and blocks of peers that have left; beyond, the oldest is let go."""

Content = DeliverHeaders | DeliverBlock

Judged = Sequence[tuple[Delivery, bool]]
"""What was judged together, each with whether it was taken as new."""


class Judge:
    """The queues before the chain: one a peer, one for those that have left, one for transactions."""

    def __init__(
        self, chain: ChainPort, relay: Relay, get_now_ms: Callable[[], int], on_judged: Callable[[Judged], None]
    ) -> None:
        """Call `on_judged` after each piece of content and each batch of transactions."""
        self._chain = chain
        self._relay = relay
        self._get_now_ms = get_now_ms
        self._on_judged = on_judged
        # In the order of their turns.
        self._content: dict[PublicKey, deque[Content]] = {}
        self._left: deque[Content] = deque()
        self._transactions: deque[DeliverTransaction] = deque()
        self._has_work = asyncio.Event()
        self._is_block_judged = asyncio.Event()
        self._is_block_judged.set()

    @property
    def waiting(self) -> int:
        """How many pieces wait."""
        return sum(map(len, self._content.values())) + len(self._left) + len(self._transactions)

    def put(self, delivery: Delivery) -> None:
        """Take a piece of content; a transaction is let go when too many wait."""
        if not isinstance(delivery, DeliverTransaction):
            self._content.setdefault(delivery.peer, deque()).append(delivery)
        elif len(self._transactions) < TRANSACTIONS_QUEUED_MAX:
            self._transactions.append(delivery)
        else:
            result = SubmitResult(Outcome.REFUSED, "busy")
            self._relay.on_transaction_outcome(delivery.peer, delivery.hash, result)
        self._has_work.set()

    def drop_peer(self, peer: PublicKey) -> None:
        """Put what a peer has sent behind what others send: it has left, or is no longer listened to."""
        self._left += self._content.pop(peer, ())
        while len(self._left) > LEFT_MAX:
            self._tell(self._left.popleft(), SubmitResult(Outcome.REFUSED, "gone"))

    async def wait_block(self) -> None:
        """Return when the block under way is judged, at once when none is, and after half a second anyway.

        Reading transactions meanwhile takes its time from it.
        """
        if self._is_block_judged.is_set():
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(BLOCK_WAIT_S):
                await self._is_block_judged.wait()

    async def run(self) -> None:
        """Judge until cancelled; raises what the chain raises."""
        while True:
            await self._has_work.wait()
            delivery = self._take()
            if delivery is not None:
                result = await self._submit(delivery)
                self._on_judged([(delivery, result.outcome is Outcome.ACCEPTED)])
            elif self._transactions:
                await self._submit_transactions()
            else:
                self._has_work.clear()

    def _take(self) -> Content | None:
        """Return the next piece of the peer whose turn it is."""
        for peer, queue in self._content.items():
            delivery = queue.popleft()
            del self._content[peer]
            if queue:
                self._content[peer] = queue
            return delivery
        return self._left.popleft() if self._left else None

    async def _submit(self, delivery: Content) -> SubmitResult:
        if isinstance(delivery, DeliverHeaders):
            result = await self._chain.submit_headers(delivery.peer, delivery.headers, delivery.openings)
        else:
            self._is_block_judged.clear()
            try:
                result = await self._chain.submit_block(delivery.block, delivery.sidecars)
            finally:
                self._is_block_judged.set()
        self._tell(delivery, result)
        return result

    def _tell(self, delivery: Content, result: SubmitResult) -> None:
        if isinstance(delivery, DeliverHeaders):
            self._relay.on_headers_outcome(delivery, result, self._get_now_ms())
        else:
            self._relay.on_block_outcome(delivery.peer, delivery.hash, result, self._get_now_ms())

    async def _submit_transactions(self) -> None:
        batch = [self._transactions.popleft() for _ in range(min(BATCH_MAX, len(self._transactions)))]
        results = await self._chain.submit_transactions([(each.transaction, each.sidecar) for each in batch])
        for delivery, result in zip(batch, results, strict=True):
            self._relay.on_transaction_outcome(delivery.peer, delivery.hash, result)
        accepted = (result.outcome is Outcome.ACCEPTED for result in results)
        self._on_judged(list(zip(batch, accepted, strict=True)))
