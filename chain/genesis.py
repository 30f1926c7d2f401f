"""Genesis: the parameters of a network, its first accounts, miners and task. Its hash is the chain id.

Every parameter stands here once, with unit and reason; `docs/protocol.md` explains how they act.
"""

from dataclasses import dataclass
from typing import Annotated

from chain.codec import U16, U32, U64, U256, Bytes, HashField, Many, PublicKeyField, Text, encode
from chain.hashing import tagged_hash
from chain.primitives import ATOMS_PER_COIN, Hash

GENESIS_BYTES_MAX = 256 * 1024


@dataclass(frozen=True, slots=True)
class Parameters:
    """The rules' numbers. Defaults are the development network's: 40 blocks on two cores in under two minutes.

    Votes may move those that `chain/ledger/bounds.py` names, from here; all others hold for ever.
    """

    interval_ms: U32 = 2_000
    """Aim for the time between blocks; several times what a segment takes, so that rounds hold whole segments."""
    half_life_ms: U32 = 16_000
    """ASERT: being late by this much halves the difficulty; 8 intervals react fast, main networks take 288."""
    future_ms_max: U32 = 120_000
    """How far a timestamp may lead the validator's clock."""
    median_span: U16 = 11
    """Headers whose median timestamp a new one must exceed."""
    anchor_window: U16 = 8
    """L: a segment's tickets count for parents at heights in (anchor, anchor + L]."""
    segments_per_round: U16 = 2
    """S: segments a miner may commit in one round."""
    commit_blocks: U16 = 4
    """Blocks after a round's start in which commits are accepted."""
    challenge_delay: U16 = 2
    """c: blocks between a commit and the beacon that draws its places; one more than a winner can see ahead."""
    proof_window: U16 = 2
    """w: blocks in which the drawn places must be opened."""
    audit_blocks: U16 = 1
    """Blocks after the last proof window in which whoever executes segments again may still begin a dispute."""
    dispute_window: U16 = 2
    """Blocks in which a demand must be answered, and in which a challenger must make its next one."""
    places_drawn: U16 = 8
    """q: places opened per contribution, half drawn by MACs and half by op."""
    deposit: U64 = 5 * ATOMS_PER_COIN
    """Atoms locked by a commit, and by a challenger with its first demand. It burns when a commit expires; half of a
    dispute's loser's burns, the other half is the winner's."""
    bond: U64 = 50 * ATOMS_PER_COIN
    """Atoms that a miner has locked while its key may mine; with the locked reward, what two headers for one ticket
    burn. The rewards of eleven blocks: a ticket whose reward is lost anyway must not be free to equivocate with."""
    evidence_blocks: U32 = 1_000
    """Heights for which two headers for one ticket are evidence, and so how long a bond is held after its notice; half
    an hour of development blocks. At least a round: a locked reward must answer for as long as it is locked."""
    subsidy: U64 = 10 * ATOMS_PER_COIN
    """Atoms issued by the first block."""
    first_price: U64 = 1 << 45
    """Atoms for 2^40 verified MACs in the first round: 32 a MAC. A segment of the digits then brings 9.1 coins of the
    40.5 that a round has to spend; the price finds its level from there, by an eighth a round."""
    subsidy_half_life: U32 = 100_000
    """Blocks in which the subsidy halves, smoothly."""
    block_bytes_max: U32 = 1_500_000
    """Bytes of one encoded block."""
    sidecar_bytes_max: U32 = 512 * 1024
    """Bytes of one encoded sidecar."""
    sidecars_per_block: U16 = 8
    """Contributions one block may commit: the byte budget of block data."""
    contributions_per_round: U16 = 64
    """Contributions one round may hold, so that settling it stays bounded."""
    treasury_bp: U16 = 1_000
    """Basis points of the subsidy for the treasury; the rest is halved between the ticket's winner and the pot."""
    proposal_deposit: U64 = 10 * ATOMS_PER_COIN
    """Atoms locked by a proposal, burned when it is not heard; a block's subsidy, so that noise has a price."""
    voting_blocks: U32 = 12
    """Blocks after a proposal in which votes are cast; 24 s of a development network, weeks of a main one."""
    enactment_blocks: U32 = 6
    """Least blocks between the last vote and what it changes, so that whoever disagrees can act before."""
    quorum_bp: U16 = 2_000
    """Basis points of all atoms in circulation that must vote. Of what is locked it would be cheap to reach alone."""
    auditor_bond: U64 = 20 * ATOMS_PER_COIN
    """Atoms that an auditor has locked at least; so many are lost with a segment that it vouched for and that falls."""
    audit_bp: U16 = 10_000
    """Auditors drawn for a segment, in basis points of one: whole ones always, one more with the chance of the rest.
    On a development network somebody is told to execute every segment again."""
    audit_pay_bp: U16 = 2_500
    """What a proven audit is paid: these basis points of a segment's MACs, at the price of a round's contributions."""
    audit_penalty: U64 = 2 * ATOMS_PER_COIN
    """Atoms of the bond that burn for an assignment let pass: about what an audit pays, so that to be away costs twice
    what it saves; at most half a deposit, so that a dispute lost to an accomplice is no way out."""

    @property
    def round_blocks(self) -> int:
        """Blocks from a round's start to its settlement."""
        return self.commit_blocks + self.challenge_delay + self.proof_window + self.audit_blocks

    @property
    def release_blocks(self) -> int:
        """Blocks from a notice for stake to its release: whatever it has voted on has taken effect before."""
        return self.voting_blocks + self.enactment_blocks + self.round_blocks


@dataclass(frozen=True, slots=True)
class Allocation:
    """Atoms that an account holds at genesis."""

    account: PublicKeyField
    amount: U64


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """A training task: its program in canonical bytes (ml alone reads it) and the roots of its data and checkpoint."""

    name: Annotated[str, Text(64)]
    program: Annotated[bytes, Bytes(1, 4096)]
    dataset_root: HashField
    checkpoint_root: HashField


@dataclass(frozen=True, slots=True)
class Genesis:
    """Everything a network starts from."""

    network: Annotated[str, Text(64)]
    timestamp_ms: U64
    target: U256
    parameters: Parameters
    allocations: Annotated[tuple[Allocation, ...], Many(1024)]
    miners: Annotated[tuple[PublicKeyField, ...], Many(1024)]
    task: TaskSpec


def compute_chain_id(genesis: Genesis) -> Hash:
    """Return the hash that names the network."""
    return tagged_hash("genesis", encode(genesis))


def compute_task_id(chain_id: Hash, task: TaskSpec) -> Hash:
    """Return the hash that names a task on one chain."""
    return tagged_hash("task", chain_id, encode(task))


def compute_segment_seed(
    chain_id: Hash, task: Hash, round_number: int, anchor_beacon: Hash, miner: bytes, index: int
) -> Hash:
    """Return the seed that decides every batch and every rounding bit of a segment."""
    return tagged_hash(
        "segment",
        chain_id,
        task,
        round_number.to_bytes(4, "little"),
        anchor_beacon,
        miner,
        index.to_bytes(2, "little"),
    )
