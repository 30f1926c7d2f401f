"""The door between the network and the chain: all that `node.network` may ask or hand over.

The importer implements it; tests script it. Blocks and transactions travel beside their canonical bytes, headers and
sidecars as these alone, which the implementer decodes under its own limits. Submissions are awaited one at a time, in
the order in which they have to be imported.
"""

from collections.abc import Sequence
from typing import Protocol

from chain.packed import PackedBlock, PackedTransaction
from chain.primitives import PublicKey
from p2p.view import ChainView, Outcome, SubmitResult, Tip

__all__ = ["ChainPort", "Outcome", "SubmitResult", "Tip"]


class ChainPort(ChainView, Protocol):
    """A chain that answers questions (`ChainView`) and takes what peers send."""

    async def submit_headers(
        self, source: PublicKey, headers: tuple[bytes, ...], openings: tuple[tuple[int, bytes], ...]
    ) -> SubmitResult:
        """Validate linked headers, oldest first, and keep all or none; `openings` show the work of some, by position.

        ACCEPTED when at least one is new and all are valid; INVALID names the first broken rule; ORPHAN when the first
        one's parent is unknown. LIGHT and PROVEN speak of the branch that `source` shows, page after page.
        """
        ...

    async def submit_block(self, block: PackedBlock, sidecars: tuple[bytes, ...]) -> SubmitResult:
        """Import a block; `sidecars` are those that `has_sidecar` denied, their hashes checked, in no special order.

        The parent satisfies `has_block`. A block whose header was never submitted is welcome: the tip arrives so.
        """
        ...

    async def submit_transactions(self, offers: Sequence[tuple[PackedTransaction, bytes | None]]) -> list[SubmitResult]:
        """Offer transactions to the pool, each with a commit's sidecar unless `has_sidecar` affirmed it.

        The results stand in the order of the offers.
        """
        ...
