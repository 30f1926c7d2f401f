"""The audit of all atoms: what every place of the state holds must add up to what was ever issued or allocated.

It reads the whole state, so it serves tests, `doctor` and explorers; blocks are bound to conserve by their rules alone.
"""

from dataclasses import dataclass

from chain.ledger.economy_records import Bounty, Model
from chain.ledger.governance_records import Proposal, Stake
from chain.ledger.inference_records import Inference
from chain.ledger.keys import (
    ACCOUNT_PREFIX,
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
from chain.state.view import StateView


@dataclass(frozen=True, slots=True)
class Holdings:
    """Atoms by where they are, and `expected`: all that were allocated or issued."""

    balances: int
    deposits: int
    """Those of commits, disputes and proposals, bounties, and what inferences hold: escrows and deposits."""
    bonds: int
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
    """Return where all atoms of a committed state are; reads every leaf."""
    supply = view.get_existing(SUPPLY_KEY)
    deposits = sum(entry.deposit for _, entry in view.iter_records(CONTRIBUTION_PREFIX, Contribution))
    deposits += sum(dispute.deposit for _, dispute in view.iter_records(DISPUTE_PREFIX, Dispute))
    deposits += sum(bounty.terms.amount for _, bounty in view.iter_records(BOUNTY_PREFIX, Bounty))
    deposits += sum(inference.held for _, inference in view.iter_records(INFERENCE_PREFIX, Inference))
    deposits += sum(proposal.deposit for _, proposal in view.iter_records(PROPOSAL_PREFIX, Proposal))
    return Holdings(
        balances=sum(account.balance for _, account in view.iter_records(ACCOUNT_PREFIX, Account)),
        deposits=deposits,
        bonds=sum(miner.bond for _, miner in view.iter_records(MINER_PREFIX, Miner)),
        stakes=sum(stake.amount + stake.leaving for _, stake in view.iter_records(STAKE_PREFIX, Stake)),
        locked=sum(reward.amount for _, reward in view.iter_records(LOCKED_REWARD_PREFIX, LockedReward)),
        pot=sum(task.pot for _, task in view.iter_records(TASK_PREFIX, TaskState)),
        treasury=supply.treasury,
        income=sum(model.held for _, model in view.iter_records(MODEL_PREFIX, Model)),
        burned=supply.burned,
        expected=supply.allocated + supply.issued,
    )
