"""What an account may ask of the ledger as an auditor: enter on a bond, leave, prove that it executed a segment again.

Records alone. Which segments an auditor has to execute, and what it owes who does not, is the ledger's business; which
digests it has to show of one, and whether they hold, is decided behind the learning engine.
"""

from dataclasses import dataclass
from typing import Annotated

from chain.codec import U16, U32, U64, Bytes, HashField, Many, PublicKeyField

OUTPUTS_DRAWN_MAX = 8
DIGESTS_BYTES_MAX = 64 * 1024
"""Bytes of the digests of one output; of 2,048 strips, each covering up to 32 KiB of a tensor."""


@dataclass(frozen=True, slots=True)
class RegisterAuditor:
    """Lock a bond of `amount` atoms and be drawn, from segments committed afterwards on; or add so many to it."""

    amount: U64


@dataclass(frozen=True, slots=True)
class RetireAuditor:
    """Give notice for the sender's bond of `amount` atoms; once its release height is reached, take it back."""

    amount: U64


@dataclass(frozen=True, slots=True)
class ProveAudit:
    """Show the strip digests of what was drawn for the sender of a segment assigned to it, in the order drawn.

    `challenge` is the segment's: on another branch another is drawn, and there the proof is of no use.
    """

    task: HashField
    round: U32
    miner: PublicKeyField
    index: U16
    challenge: HashField
    digests: Annotated[tuple[Annotated[bytes, Bytes(32, DIGESTS_BYTES_MAX)], ...], Many(OUTPUTS_DRAWN_MAX)]


AuditAction = RegisterAuditor | RetireAuditor | ProveAudit
