"""The audit of all atoms: what every place of the state holds must add up to what was ever issued or allocated.

It reads the whole state, so it serves tests, `doctor` and explorers; blocks are bound to conserve by their rules alone.
"""

from dataclasses import dataclass

from chain.ledger.economy_records import Model
from chain.ledger.inference_records import Inference
from chain.ledger.keys import (
    ACCOUNT_PREFIX,
    CONTRIBUTION_PREFIX,
    INFERENCE_PREFIX,
    LOCKED_REWARD_PREFIX,
    MINER_PREFIX,
    MODEL_PREFIX,
    SUPPLY_KEY,
    TASK_PREFIX,
)
from chain.ledger.records import Account, Contribution, LockedReward, Miner, TaskState
from chain.state.view import StateView


@dataclass(frozen=True, slots=True)
class Holdings:
    """Atoms by where they are, and `expected`: all that were allocated or issued."""

    balances: int
    deposits: int
    """Those of contributions, and all that inferences hold: escrows and deposits."""
    bonds: int
    locked: int
    pot: int
    treasury: int
    income: int
    burned: int
    expected: int

    @property
    def total(self) -> int:
        """Atoms in all places."""
        held = self.balances + self.deposits + self.bonds + self.locked
        return held + self.pot + self.treasury + self.income + self.burned

    @property
    def is_conserved(self) -> bool:
        """Whether no atom was made or lost."""
        return self.total == self.expected


def compute_holdings(view: StateView) -> Holdings:
    """Return where all atoms of a committed state are; reads every leaf."""
    supply = view.get_existing(SUPPLY_KEY)
    inferences = sum(inference.held for _, inference in view.iter_records(INFERENCE_PREFIX, Inference))
    return Holdings(
        balances=sum(account.balance for _, account in view.iter_records(ACCOUNT_PREFIX, Account)),
        deposits=sum(entry.deposit for _, entry in view.iter_records(CONTRIBUTION_PREFIX, Contribution)) + inferences,
        bonds=sum(miner.bond for _, miner in view.iter_records(MINER_PREFIX, Miner)),
        locked=sum(reward.amount for _, reward in view.iter_records(LOCKED_REWARD_PREFIX, LockedReward)),
        pot=sum(task.pot for _, task in view.iter_records(TASK_PREFIX, TaskState)),
        treasury=supply.treasury,
        income=sum(model.held for _, model in view.iter_records(MODEL_PREFIX, Model)),
        burned=supply.burned,
        expected=supply.allocated + supply.issued,
    )
