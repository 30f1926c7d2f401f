"""What votes may change of the rules' numbers, and how far: one table, with bounds that no vote can leave.

All else of `Parameters` is fixed by genesis. Headers are checked without a state, so what they are checked by must not
depend on one: intervals, windows, the length of a round, segments a miner. Emission, and the rules of voting itself,
are out of reach for another reason: whoever wins one vote must not win all others by it. It knows no vote.
"""

from dataclasses import dataclass, fields, replace

from chain.errors import InvalidTransaction
from chain.genesis import Parameters
from chain.ledger.context import LedgerContext
from chain.ledger.governance_records import InForce
from chain.ledger.keys import IN_FORCE_KEY
from chain.primitives import ATOMS_PER_COIN
from chain.state.view import StateView
from chain.transaction import ChangeParameter

SPEND_PERCENT_MAX = 25
"""Of what the treasury holds, what one vote may spend at most: a mistake or a stolen majority leaves three quarters."""


@dataclass(frozen=True, slots=True)
class Bound:
    """How far votes may move a parameter; `step_percent` is of the value in force, the most that one vote changes."""

    name: str
    unit: str
    lowest: int
    highest: int
    step_percent: int
    reason: str

    def compute_step(self, value: int) -> int:
        """Return the most that one vote may change of `value`; at least 1, so that no value is stuck."""
        return max(1, value * self.step_percent // 100)


BOUNDS = (
    Bound(
        name="deposit",
        unit="atoms",
        lowest=4 * ATOMS_PER_COIN,
        highest=10_000 * ATOMS_PER_COIN,
        step_percent=50,
        reason="locked by each commit and dispute; half of it no cheaper than a missed audit, and miners can lock it",
    ),
    Bound(
        name="bond",
        unit="atoms",
        lowest=5 * ATOMS_PER_COIN,
        highest=100_000 * ATOMS_PER_COIN,
        step_percent=50,
        reason="asked of bonds that are posted from then on; those that stand go on as they were posted",
    ),
    Bound(
        name="treasury_bp",
        unit="basis points of the subsidy",
        lowest=200,
        highest=2_000,
        step_percent=25,
        reason="what is issued never depends on it; four fifths stay with those who mine and train",
    ),
    Bound(
        name="sidecars_per_block",
        unit="contributions",
        lowest=2,
        highest=32,
        step_percent=50,
        reason="block data that everybody must fetch before a block is valid: at most 16 MiB at 512 KiB each",
    ),
    Bound(
        name="contributions_per_round",
        unit="contributions",
        lowest=8,
        highest=256,
        step_percent=50,
        reason="every node audits each of them, and a settlement adds up all of their deltas",
    ),
)
"""The parameters that votes may change, in the order of `InForce`."""

_BY_NAME = {bound.name: bound for bound in BOUNDS}


def get_bound(name: str) -> Bound:
    """Return how far votes may move a parameter; raises InvalidTransaction where they may not."""
    if name not in _BY_NAME:
        raise InvalidTransaction("change-parameter", f"found {name!r}, expected one of {', '.join(_BY_NAME)}")
    return _BY_NAME[name]


def get_ceiling(parameters: Parameters, name: str) -> int:
    """Return the most that a parameter can ever be on a network with these `parameters` at genesis."""
    return max(_get_value(parameters, name), get_bound(name).highest)


def validate_value(change: ChangeParameter) -> None:
    """Check that votes may change a parameter, and to such a value; raises InvalidTransaction."""
    bound = get_bound(change.parameter)
    if not bound.lowest <= change.value <= bound.highest:
        message = f"found {change.value} {bound.unit}, expected {bound.lowest} to {bound.highest}"
        raise InvalidTransaction("change-bounds", message)


def validate_step(change: ChangeParameter, values: InForce) -> None:
    """Check that a value is another than the one in force and near enough to it; raises InvalidTransaction."""
    bound, value = get_bound(change.parameter), _get_value(values, change.parameter)
    step = bound.compute_step(value)
    if change.value == value or abs(change.value - value) > step:
        message = f"found {change.value} {bound.unit}, expected another than {value} and at most {step} from it"
        raise InvalidTransaction("change-step", message)


def make_values(parameters: Parameters) -> InForce:
    """Return the values that a network starts with."""
    return InForce(**{field.name: _get_value(parameters, field.name) for field in fields(InForce)})


def compute_changed(values: InForce, change: ChangeParameter) -> InForce:
    """Return the values in force after a change."""
    return replace(values, **{change.parameter: change.value})


def get_context_in_force(context: LedgerContext, view: StateView) -> LedgerContext:
    """Return a network's constants with the parameters that are in force in the state."""
    return replace(context, parameters=compute_in_force(context.genesis.parameters, view.get_existing(IN_FORCE_KEY)))


def compute_in_force(parameters: Parameters, values: InForce) -> Parameters:
    """Return the parameters of genesis with the values in force in their places."""
    return replace(parameters, **{field.name: _get_value(values, field.name) for field in fields(InForce)})


def _get_value(record: Parameters | InForce, name: str) -> int:
    value = getattr(record, name)
    assert isinstance(value, int)
    return value
