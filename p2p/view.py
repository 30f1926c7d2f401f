"""What the network may ask of a chain, and how a chain answers what it is given.

These are questions about content by hash, never about rules: whether a block is valid is known only through the
`SubmitResult` that the node hands back. All questions are answered from memory or one indexed read, on the event loop.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from chain.packed import PackedBlock, PackedTransaction
from chain.primitives import Hash


class Outcome(Enum):
    """What became of content that was handed to the node."""

    ACCEPTED = auto()
    """New, valid and kept: on the main branch or a side branch, or in the pool."""
    EVIDENCE = auto()
    """A block: new, kept, and the second content of its ticket, which everybody should see."""
    SURPLUS = auto()
    """A block: one content of its ticket too many; not kept unless a block that builds on it asks for it."""
    LIGHT = auto()
    """Headers: valid, and too light to be kept; what comes behind them may change that."""
    PROVEN = auto()
    """Headers: those which were too light have shown enough work, and are kept when they come again from the first."""
    ALREADY_KNOWN = auto()
    """Held before; nothing changed."""
    ORPHAN = auto()
    """The parent is unknown; nothing was kept."""
    MISSING_DATA = auto()
    """Sidecars named in `missing` are needed first; nothing was kept."""
    REFUSED = auto()
    """Not now, and nobody's fault: a timestamp ahead of our clock, a full pool, a used nonce, a closed window."""
    INVALID = auto()
    """Breaks `rule`; whoever sent it is penalised. A transaction is INVALID only when it would be so on every head."""


@dataclass(frozen=True, slots=True)
class SubmitResult:
    """An outcome, with the slug of the rule that refused or the hashes of what is missing."""

    outcome: Outcome
    rule: str = ""
    missing: tuple[Hash, ...] = ()


@dataclass(frozen=True, slots=True)
class Tip:
    """The end of a branch: its hash, its height, and the expected MACs behind it."""

    hash: Hash
    height: int
    total_work: int


class ChainView(Protocol):
    """The questions that sync, gossip and serving ask."""

    def get_tip(self) -> Tip:
        """Return the head: the heaviest branch whose blocks are all validated."""
        ...

    def get_header_work(self) -> int:
        """Return the total work of the heaviest known header that is not known to be invalid."""
        ...

    def get_locator(self) -> tuple[Hash, ...]:
        """Return hashes of the heaviest header branch, newest first, thinning out, genesis last; at most 64."""
        ...

    def get_headers_after(self, locator: tuple[Hash, ...], count_max: int) -> tuple[bytes, ...]:
        """Return encoded headers of the head's branch above the first hash of `locator` that is on it, oldest first.

        Without any such hash they begin at height 1. There are none when not all of their blocks, which show their
        work, are held.
        """
        ...

    def get_missing_blocks(self, count_max: int) -> tuple[Hash, ...]:
        """Return hashes of headers whose blocks must come before the heaviest header can be the head, oldest first.

        Empty when the head is the heaviest header. Branches known to be invalid are left out.
        """
        ...

    def has_header(self, header_hash: Hash) -> bool:
        """Say whether the header is kept, on any branch."""
        ...

    def has_block(self, block_hash: Hash) -> bool:
        """Say whether the block was submitted before and its fate is known: kept on any branch, or found invalid.

        Only a fault in what the hash binds counts: another copy may come with another signature or ticket opening.
        """
        ...

    def has_transaction(self, transaction_hash: Hash) -> bool:
        """Say whether the transaction waits in the pool or stands in the head's branch."""
        ...

    def has_sidecar(self, sidecar_hash: Hash) -> bool:
        """Say whether the sidecar is held."""
        ...

    def iter_pool(self) -> Iterable[Hash]:
        """Return the hashes of the transactions that wait in the pool."""
        ...

    def get_block_bytes(self, block_hash: Hash) -> bytes | None:
        """Return the encoded block of any branch."""
        ...

    def get_head_block(self) -> PackedBlock | None:
        """Return the block of the tip; genesis has none."""
        ...

    def get_opening_bytes(self, block_hash: Hash) -> bytes | None:
        """Return the encoded opening of a block's ticket."""
        ...

    def get_state_chunk(self, root: Hash, first: Hash) -> bytes | None:
        """Return an encoded chunk of the state under a root of the head's branch; None when it is not kept.

        Takes long and may be called in another thread, like `get_blob_part`.
        """
        ...

    def get_blob_part(self, name: Hash, offset: int, length_max: int) -> tuple[int, bytes] | None:
        """Return the size of a blob and its bytes from `offset` on; None when it is not held or too large to serve."""
        ...

    def get_transaction(self, transaction_hash: Hash) -> PackedTransaction | None:
        """Return the transaction, from the pool at least."""
        ...

    def get_sidecar_bytes(self, sidecar_hash: Hash) -> bytes | None:
        """Return the encoded sidecar."""
        ...
