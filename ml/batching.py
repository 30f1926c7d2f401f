"""Many openings checked together: each read by itself against its trace, then one call a kind of arithmetic for all.

The verdicts are those of `ml.proving.verify_opening` one after another. A batch has one verdict a place and adds up
nothing over places, so two errors cannot cancel. Which backend decides is the caller's choice; the reference is asked
again where it said no, for the reason. It knows no challenge and no deposit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from chain.errors import InvalidProof
from ml.backends.batched_checks import Batch, Verify, join_batches
from ml.checks import CheckContext, Claim, read_claims, validate_claim
from ml.openings import OpeningReader, Place, decode_opening
from ml.trace import Trace


@dataclass(frozen=True, slots=True)
class Submission:
    """An opening with what it is held against; submissions of one batch may be of any segments."""

    context: CheckContext
    trace: Trace
    place: Place
    data: bytes


@dataclass(frozen=True, slots=True)
class _Read:
    """A claim and the submission that it came from."""

    index: int
    claim: Claim


def find_faults(submissions: Sequence[Submission], verify: Verify) -> tuple[InvalidProof | None, ...]:
    """Return for each submission what is wrong with it, or None; `verify` is that of any backend of checks."""
    faults: list[InvalidProof | None] = [None] * len(submissions)
    reads: dict[type[Batch], list[_Read]] = {}
    for index, submission in enumerate(submissions):
        try:
            for claim in _read_submission(submission):
                reads.setdefault(type(claim.batch), []).append(_Read(index, claim))
        except InvalidProof as error:
            faults[index] = error
    for kind in sorted(reads, key=lambda kind: kind.__name__):
        for index, fault in _decide(reads[kind], verify):
            faults[index] = faults[index] or fault
    return tuple(faults)


def verify_submissions(submissions: Sequence[Submission], verify: Verify) -> None:
    """Check all submissions; raises InvalidProof of the first that does not hold, which names its place."""
    for fault in find_faults(submissions, verify):
        if fault is not None:
            raise fault


def _read_submission(submission: Submission) -> list[Claim]:
    """Return all claims of an opening whose pieces belong to its trace and of which nothing is left over."""
    reader = OpeningReader(submission.trace, submission.place.step, decode_opening(submission.data))
    claims = list(read_claims(submission.context, submission.place, reader))
    reader.validate_end()
    return claims


def _decide(reads: Sequence[_Read], verify: Verify) -> list[tuple[int, InvalidProof]]:
    """Return submission and fault of every claim of one kind that does not hold."""
    verdicts = verify(join_batches([read.claim.batch for read in reads]))
    wrong = [read for read, verdict in zip(reads, verdicts.tolist(), strict=True) if not verdict]
    return [(read.index, _explain(read.claim)) for read in wrong]


def _explain(claim: Claim) -> InvalidProof:
    try:
        validate_claim(claim)
    except InvalidProof as error:
        return error
    raise AssertionError(f"{claim.place}: a backend refused what the reference accepts")
