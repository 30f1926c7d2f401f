"""The audit of all atoms: what every place of the state holds must add up to what was ever issued or allocated.

It reads the whole state, so it serves tests, `doctor` and explorers; blocks are bound to conserve by their rules alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from chain.codec import decode
from chain.ledger.audit_records import Auditor
from chain.ledger.economy_records import Bounty, Model
from chain.ledger.governance_records import Proposal, Stake
from chain.ledger.inference_records import Inference
from chain.ledger.keys import (
    ACCOUNT_PREFIX,
    AUDITOR_PREFIX,
    BOUNTY_PREFIX,
    CONTRIBUTION_PREFIX,
    DISPUTE_PREFIX,
    INFERENCE_PREFIX,
    LOCKED_REWARD_PREFIX,
    MINER_PREFIX,
    MODEL_PREFIX,
    PROPOSAL_PREFIX,
    STAKE_PREFIX,
    SUPPLY_KEY,
    TASK_PREFIX,
)
from chain.ledger.records import Account, Contribution, Dispute, LockedReward, Miner, TaskState
from chain.primitives import ZERO_HASH
from chain.state.view import VALUE_BYTES_MAX, StateView

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Holdings:
    """Atoms by where they are, and `expected`: all that were allocated or issued."""

    balances: int
    deposits: int
    """Those of commits, disputes and proposals, bounties, and what inferences hold: escrows and deposits."""
    bonds: int
    """Those of miners and of auditors."""
    stakes: int
    locked: int
    pot: int
    treasury: int
    income: int
    burned: int
    expected: int

    @property
    def total(self) -> int:
        """Atoms in all places."""
        held = self.balances + self.deposits + self.bonds + self.stakes + self.locked
        return held + self.pot + self.treasury + self.income + self.burned

    @property
    def is_conserved(self) -> bool:
        """Whether no atom was made or lost."""
        return self.total == self.expected


def compute_holdings(view: StateView) -> Holdings:
    """Return where all atoms of a committed state are; reads every leaf, once."""
    sums = dict.fromkeys(_HELD, 0)
    for leaf in view.iter_leaves(ZERO_HASH):
        prefix = leaf.key[: leaf.key.find(b"/") + 1]
        if prefix in _HELD:
            sums[prefix] += _HELD[prefix](leaf.value)
    supply = view.get_existing(SUPPLY_KEY)
    locked_up = (CONTRIBUTION_PREFIX, DISPUTE_PREFIX, PROPOSAL_PREFIX, BOUNTY_PREFIX, INFERENCE_PREFIX)
    return Holdings(
        balances=sums[ACCOUNT_PREFIX],
        deposits=sum(sums[prefix] for prefix in locked_up),
        bonds=sums[MINER_PREFIX] + sums[AUDITOR_PREFIX],
        stakes=sums[STAKE_PREFIX],
        locked=sums[LOCKED_REWARD_PREFIX],
        pot=sums[TASK_PREFIX],
        treasury=supply.treasury,
        income=sums[MODEL_PREFIX],
        burned=supply.burned,
        expected=supply.allocated + supply.issued,
    )


def _read(record: type[T], count: Callable[[T], int]) -> Callable[[bytes], int]:
    """Return what reads the atoms that a value of the state holds."""
    return lambda value: count(decode(record, value, VALUE_BYTES_MAX))


_HELD = {
    ACCOUNT_PREFIX: _read(Account, lambda account: account.balance),
    CONTRIBUTION_PREFIX: _read(Contribution, lambda contribution: contribution.deposit),
    DISPUTE_PREFIX: _read(Dispute, lambda dispute: dispute.deposit),
    PROPOSAL_PREFIX: _read(Proposal, lambda proposal: proposal.deposit),
    BOUNTY_PREFIX: _read(Bounty, lambda bounty: bounty.terms.amount),
    INFERENCE_PREFIX: _read(Inference, lambda inference: inference.held),
    MINER_PREFIX: _read(Miner, lambda miner: miner.bond),
    AUDITOR_PREFIX: _read(Auditor, lambda auditor: auditor.bond),
    STAKE_PREFIX: _read(Stake, lambda stake: stake.amount + stake.leaving),
    LOCKED_REWARD_PREFIX: _read(LockedReward, lambda reward: reward.amount),
    TASK_PREFIX: _read(TaskState, lambda task: task.pot),
    MODEL_PREFIX: _read(Model, lambda model: model.held),
}
"""Every kind of record that holds atoms, by the prefix of its keys; the supply's own totals apart."""
