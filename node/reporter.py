"""Reports equivocation: whenever two headers of one ticket are seen, the ledger is shown both of them.

Each report comes from an account that is used once, so that reports take no nonce from the node's commits and cost
nothing; what they earn goes to the node's key. What the head is not ready for is tried again with the next. It knows
no peer: whoever brought the second header, the importer tells of it.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from chain.errors import InvalidTransaction
from chain.header import Header
from chain.ledger.bonds import NOTHING, make_report
from chain.primitives import Hash
from chain.signature import SigningKey
from chain.transaction import Transaction, TransactionBody, compute_signing_hash
from node.chain import Chain
from node.gate import TransactionGate
from node.importer import HeadChange
from node.observability.journal import get_log

log = get_log("reporter")

EVIDENCE_MAX = 64
"""Pairs remembered, those dropped first that cost nobody anything, then the oldest: a bond is gone after the first, and
what remains are single rewards."""


class Reporter:
    """Keeps evidence and offers it to the pool while something is at stake."""

    def __init__(
        self, chain: Chain, gate: TransactionGate, key: SigningKey, get_random_bytes: Callable[[int], bytes]
    ) -> None:
        """Report to `gate` in favour of `key`."""
        self._chain = chain
        self._gate = gate
        self._key = key
        self._get_random_bytes = get_random_bytes
        self._evidence: OrderedDict[Hash, tuple[Header, Header]] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        for first, second in chain.contents.iter_evidence():
            self._remember(first, second)

    def on_equivocation(self, first: Header, second: Header) -> None:
        """Take two headers of one ticket; a pair that is remembered is told again by whoever likes."""
        foliage = first.foliage
        if foliage.trunk_hash in self._evidence:
            return
        log.warning("two headers for one ticket", miner=foliage.miner, height=foliage.height)
        self._remember(first, second)
        self._report_soon()

    def on_head(self, _change: HeadChange) -> None:
        """Try again what is still at stake."""
        if self._evidence:
            self._report_soon()

    async def stop(self) -> None:
        """Wait for the report under way."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _remember(self, first: Header, second: Header) -> None:
        self._evidence[first.foliage.trunk_hash] = (first, second)
        while len(self._evidence) > EVIDENCE_MAX:
            # Keys without a bond have as many pairs to show as they like, and would push out those that count.
            idle = (name for name, (held, _) in self._evidence.items() if self._chain.get_forfeit(held) == NOTHING)
            del self._evidence[next(idle, next(iter(self._evidence)))]

    def _report_soon(self) -> None:
        if not self._tasks:
            task = asyncio.get_running_loop().create_task(self._report())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _report(self) -> None:
        for first, second in tuple(self._evidence.values()):
            if first.height > self._chain.head.height or self._chain.get_forfeit(first) == NOTHING:
                continue
            account = SigningKey(self._get_random_bytes(32))
            body = TransactionBody(account.public_key, 0, 0, make_report(first, second, self._key.public_key))
            signature = account.sign(compute_signing_hash(self._chain.ledger_context.chain_id, body))
            try:
                await self._gate.admit(Transaction(body, signature))
            except InvalidTransaction as error:
                log.info("report waits", height=first.height, error=str(error))
