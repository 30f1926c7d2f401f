"""The weight of a transaction: what it costs everybody to check and carry, in bytes of a transfer.

Policy of pools and of whoever assembles a block; no rule of consensus looks at it, blocks are bounded by bytes. A
transfer weighs its bytes. What others cost beyond theirs stands in one table. It knows no fee and no state.
"""

from chain.audit import ProveAudit, RegisterAuditor, RetireAuditor
from chain.dispute import AnswerDispute, DisputeContribution
from chain.inference import AnswerInference, ChallengeAnswer, CloseInference, OpenAnswer, RequestInference
from chain.ledger.inference import OPENING_WEIGHT
from chain.transaction import (
    Action,
    AddDatasetPart,
    BuyLicence,
    CastVote,
    ClaimIncome,
    CommitContribution,
    FundTask,
    LockStake,
    PayModel,
    PostBond,
    PostBounty,
    PostTask,
    ProposeChange,
    ProveContribution,
    RegisterDataset,
    RegisterModel,
    ReportEquivocation,
    Transaction,
    Transfer,
    TransferShares,
    UnlockStake,
    WithdrawBond,
)

EXTRA_WEIGHTS: dict[type[Action], int] = {
    Transfer: 0,
    # A trace root is computed again from the sidecar (7 ms, as long as 35 transfers), and the sidecar itself, which
    # the transaction's bytes do not count, is carried and kept.
    CommitContribution: 8_192,
    # The drawn places are checked op by op (2 to 5 ms); the openings' bytes count as bytes.
    ProveContribution: 4_096,
    # Two signatures beside its own.
    ReportEquivocation: 256,
    PostBond: 0,
    # Every settlement looks at it until it is decided.
    PostBounty: 1_024,
    # A program is made, its data are split, its first checkpoint is computed, and the block data are carried. A
    # sketch of 512 KiB and its 33 records take 13 ms of it, a lookup in full bands 5 to 8 ms.
    PostTask: 147_456,
    FundTask: 144,
    WithdrawBond: 0,
    # A part is hashed and its minima are taken (7 ms); it is carried, and kept for ever, as a commit's block data are.
    AddDatasetPart: 16_384,
    # Each leaves two records in the state for ever, which are longer than its bytes.
    RegisterDataset: 1_024,
    RegisterModel: 1_024,
    # Two or three records are read and written beside the account, as by a second transfer.
    TransferShares: 144,
    ClaimIncome: 144,
    # Along the deepest lineage, eight data sets a model, each with another owner, a payment takes 3.3 ms, and 0.8 ms
    # behind another of the same model; to a model without a parent it takes little more than a transfer.
    BuyLicence: 2_048,
    PayModel: 2_048,
    # Four records are read and written; the miner has to answer, which weighs as itself.
    DisputeContribution: 512,
    # Up to 16,384 digests make a tree, or one op is checked; an answer's bytes count as bytes.
    AnswerDispute: 1_024,
    # One more record is read and written, which takes as long as a second transfer.
    LockStake: 144,
    UnlockStake: 144,
    # Each leaves a record in the state for ever. A vote reads and writes three beside the account: as long as three
    # transfers; a proposal is looked at again by the blocks that count and enact it.
    ProposeChange: 1_024,
    CastVote: 512,
    # A record stands in the state until it is closed.
    RequestInference: 512,
    AnswerInference: 144,
    ChallengeAnswer: 144,
    # One place is checked; what a block may have of them is a rule of consensus, and an assembled block keeps it.
    OpenAnswer: OPENING_WEIGHT,
    # What a payment to the model takes.
    CloseInference: 2_048,
    # The list of auditors is read and written beside the account and the record.
    RegisterAuditor: 512,
    RetireAuditor: 512,
    # The digests of four outputs make trees: 0.2 ms for the digits, 11 ms at most; their bytes count as bytes.
    ProveAudit: 1_024,
}
"""Weight beyond the bytes of a transaction; a transfer of 144 bytes takes about 0.2 ms, so a unit stands for 1.4 µs."""


def compute_weight(transaction: Transaction, size_bytes: int) -> int:
    """Return the weight of a transaction whose encoding takes `size_bytes`."""
    return size_bytes + EXTRA_WEIGHTS[type(transaction.body.action)]
