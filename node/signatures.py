"""Signatures of transactions: verified side by side in lent threads, and once only.

What was verified is remembered by the transaction's hash, which covers body and signature to the last bit, so nothing
else than the very same signed transaction is taken unseen. Failures are not remembered. It knows no pool and no block.
"""

import threading
from collections.abc import Sequence
from itertools import islice

from chain.errors import InvalidTransaction
from chain.ledger.transactions import is_signed, make_signature_error
from chain.packed import PackedTransaction
from chain.primitives import Hash
from consensus.header_rules import Spread
from node.observability.tally import Tally

REMEMBERED_MAX = 65_536
"""Hashes kept, oldest dropped first: a full pool of transfers and the blocks it came from. About 8 MB."""

SPREAD_MIN = 16
"""Signatures below which waking threads costs more than they save."""


class Signatures:
    """The signatures seen on one chain; safe to use from several threads."""

    def __init__(self, chain_id: Hash, spread: Spread, remembered_max: int = REMEMBERED_MAX) -> None:
        """Verify what was signed for `chain_id` in ranges that `spread` runs."""
        self._chain_id = chain_id
        self._spread = spread
        self._remembered_max = remembered_max
        self._remembered: dict[Hash, None] = {}
        self._lock = threading.Lock()
        self.lookups = Tally(("hit", "miss"))

    def verify(self, chain_id: Hash, transactions: Sequence[PackedTransaction]) -> None:
        """Check every signature, as `chain.ledger.transactions.verify_signatures` does; raises InvalidTransaction."""
        assert chain_id == self._chain_id, "what is remembered is of one chain"
        for error in self.find_errors(transactions):
            if error is not None:
                raise error

    def find_errors(self, transactions: Sequence[PackedTransaction]) -> list[InvalidTransaction | None]:
        """Return for each transaction what is wrong with its signature, None where it holds."""
        unknown = [n for n, packed in enumerate(transactions) if packed.hash not in self._remembered]
        errors: list[InvalidTransaction | None] = [None] * len(transactions)

        def check(start: int, stop: int) -> None:
            for position in unknown[start:stop]:
                if not is_signed(self._chain_id, transactions[position]):
                    errors[position] = make_signature_error(position, transactions[position])

        if len(unknown) < SPREAD_MIN:
            check(0, len(unknown))
        else:
            self._spread(check, len(unknown))
        self._remember([transactions[n].hash for n in unknown if errors[n] is None])
        self.lookups.add("hit", len(transactions) - len(unknown))
        self.lookups.add("miss", len(unknown))
        return errors

    def _remember(self, verified: Sequence[Hash]) -> None:
        with self._lock:
            self._remembered.update(dict.fromkeys(verified))
            excess = max(0, len(self._remembered) - self._remembered_max)
            for oldest in list(islice(self._remembered, excess)):
                del self._remembered[oldest]
