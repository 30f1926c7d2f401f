"""Everything that a state holds of money and shares, read leaf by leaf in one walk.

Sums are made here again, beside those of `chain.ledger.supply`, so that a place which one of them forgets shows. It
compares nothing.
"""

from dataclasses import dataclass, field

from benchmarks.lab.economy.polls import Polls
from chain.codec import decode
from chain.ledger.audit_records import Auditor
from chain.ledger.economy_records import Model, Shares
from chain.ledger.records import Account, Contribution, Dispute, LockedReward, Miner, Supply, TaskState
from chain.primitives import ZERO_HASH, Hash, PublicKey
from chain.state.view import VALUE_BYTES_MAX, StateView


@dataclass(slots=True)
class Audit:
    """Atoms by place, and who holds what of which model."""

    supply: Supply = field(default_factory=lambda: Supply(0, 0, 0, 0))
    balances: dict[PublicKey, int] = field(default_factory=dict)
    deposits: int = 0
    bonds: int = 0
    locked: int = 0
    pots: dict[Hash, int] = field(default_factory=dict)
    polls: Polls = field(default_factory=Polls)
    models: dict[Hash, Model] = field(default_factory=dict)
    sketches: set[Hash] = field(default_factory=set)
    shares: dict[Hash, dict[PublicKey, Shares]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Atoms in all places."""
        income = sum(model.held for model in self.models.values())
        held = sum(self.balances.values()) + self.deposits + self.bonds + self.locked
        return (
            held
            + self.polls.locked
            + self.polls.deposits
            + sum(self.pots.values())
            + income
            + self.supply.treasury
            + self.supply.burned
        )

    def add(self, kind: bytes, name: bytes, value: bytes) -> None:
        """Take in one leaf."""
        match kind:
            case b"account":
                self.balances[PublicKey(name)] = decode(Account, value, VALUE_BYTES_MAX).balance
            case b"contribution":
                self.deposits += decode(Contribution, value, VALUE_BYTES_MAX).deposit
            case b"dispute":
                self.deposits += decode(Dispute, value, VALUE_BYTES_MAX).deposit
            case b"miner":
                self.bonds += decode(Miner, value, VALUE_BYTES_MAX).bond
            case b"auditor":
                self.bonds += decode(Auditor, value, VALUE_BYTES_MAX).bond
            case b"locked-reward":
                self.locked += decode(LockedReward, value, VALUE_BYTES_MAX).amount
            case b"task":
                self.pots[Hash(name)] = decode(TaskState, value, VALUE_BYTES_MAX).pot
            case b"supply":
                self.supply = decode(Supply, value, VALUE_BYTES_MAX)
            case b"model" | b"shares" | b"sketch":
                self._add_registered(kind, name, value)
            case _:
                self.polls.add(kind, name, value)

    def _add_registered(self, kind: bytes, name: bytes, value: bytes) -> None:
        if kind == b"sketch":
            self.sketches.add(Hash(name))
        elif kind == b"model":
            self.models[Hash(name)] = decode(Model, value, VALUE_BYTES_MAX)
        else:
            holders = self.shares.setdefault(Hash(name[:32]), {})
            holders[PublicKey(name[32:])] = decode(Shares, value, VALUE_BYTES_MAX)


def read_audit(view: StateView) -> Audit:
    """Return what a committed state holds."""
    audit = Audit()
    for leaf in view.iter_leaves(ZERO_HASH):
        kind, _, name = leaf.key.partition(b"/")
        audit.add(kind, name, leaf.value)
    return audit
