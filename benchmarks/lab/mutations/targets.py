"""All targets of a campaign, and whose turn a number is. A new target is a line here, on slots that are free.

Numbers go round the slots, and those of free slots name no case: so a new target changes no case of the others.
"""

from benchmarks.lab.mutations.answer_target import TARGET_OF_ANSWERS
from benchmarks.lab.mutations.audit_target import TARGET_OF_AUDITS
from benchmarks.lab.mutations.evidence_target import TARGET_OF_EVIDENCE
from benchmarks.lab.mutations.header_proof_target import TARGET_OF_HEADER_PROOFS
from benchmarks.lab.mutations.header_target import TARGET_OF_HEADERS
from benchmarks.lab.mutations.opening_target import TARGET_OF_BATCHES, TARGET_OF_OPENINGS
from benchmarks.lab.mutations.paid_target import TARGET_OF_PAID_ANSWERS
from benchmarks.lab.mutations.state_target import TARGET_OF_STATE_PROOFS
from benchmarks.lab.mutations.target import Target
from benchmarks.lab.mutations.ticket_target import TARGET_OF_TICKETS
from benchmarks.lab.mutations.transcript_target import TARGET_OF_TRANSCRIPTS
from benchmarks.lab.records import LabError

SLOTS = 32

TARGETS = (
    TARGET_OF_TICKETS,
    TARGET_OF_OPENINGS,
    TARGET_OF_BATCHES,
    TARGET_OF_TRANSCRIPTS,
    TARGET_OF_HEADERS,
    TARGET_OF_HEADER_PROOFS,
    TARGET_OF_STATE_PROOFS,
    TARGET_OF_EVIDENCE,
    TARGET_OF_ANSWERS,
    TARGET_OF_AUDITS,
    TARGET_OF_PAID_ANSWERS,
)
_SHARES = (4, 6, 2, 1, 3, 2, 3, 3, 1, 1, 3)
_SCHEDULE = tuple(target for target, share in zip(TARGETS, _SHARES, strict=True) for _ in range(share))


def find_target(number: int) -> Target | None:
    """Return the target of a case, or None where its slot is free."""
    slot = number % SLOTS
    return _SCHEDULE[slot] if slot < len(_SCHEDULE) else None


def get_target(number: int) -> Target:
    """Return the target of a case; raises LabError where its slot is free."""
    target = find_target(number)
    if target is None:
        raise LabError(f"found case {number}, expected one whose remainder by {SLOTS} is below {len(_SCHEDULE)}")
    return target
