"""The state that a network starts from.

It checks that the genesis record cannot lead to sums or windows that the ledger's records have no room for, and knows
nothing of headers.
"""

from collections.abc import Sequence

from chain.errors import InvalidBlock
from chain.genesis import Genesis, Parameters
from chain.hashing import tagged_hash
from chain.ledger.accounts import apply_credit, apply_debit
from chain.ledger.audit_records import AUDITORS_PER_SEGMENT_MAX, NO_AUDITORS
from chain.ledger.auditors import MISSES_MAX
from chain.ledger.bounds import get_bound, make_values
from chain.ledger.context import make_context
from chain.ledger.governance_records import EMPTY_AGENDA
from chain.ledger.keys import (
    AGENDA_KEY,
    AUDITORS_KEY,
    BEACONS_KEPT,
    IN_FORCE_KEY,
    SUPPLY_KEY,
    beacon_key,
    miner_key,
    task_key,
)
from chain.ledger.records import BeaconRecord, Miner, Supply, TaskState
from chain.ledger.registry import apply_genesis_registry
from chain.ledger.subsidy import compute_issuance_bound
from chain.primitives import BASIS_POINTS, Hash
from chain.state.tree import EMPTY_ROOT, MemoryNodes, NodeChanges
from chain.state.view import StateView

_ATOMS_MAX = 2**64 - 1


def validate_genesis(genesis: Genesis) -> None:
    """Check that the parameters fit together; raises InvalidBlock."""
    parameters = genesis.parameters
    if parameters.subsidy_half_life == 0:
        raise InvalidBlock("genesis-half-life", "found 0 blocks, expected at least 1")
    atoms = sum(allocation.amount for allocation in genesis.allocations) + compute_issuance_bound(parameters)
    if atoms > _ATOMS_MAX:
        raise InvalidBlock("genesis-supply", f"found up to {atoms} atoms in all, expected at most {_ATOMS_MAX}")
    if parameters.first_price == 0:
        raise InvalidBlock("genesis-price", "found 0 atoms for 2^40 MACs, expected at least 1")
    _validate_windows(parameters)
    _validate_voting(parameters)
    _validate_audits(parameters)
    _validate_distinct("genesis-allocations", [allocation.account for allocation in genesis.allocations])
    _validate_distinct("genesis-miners", genesis.miners)
    _validate_bonds(genesis)


def make_genesis_state(genesis: Genesis) -> tuple[Hash, NodeChanges]:
    """Return the root of the first state and its nodes; raises InvalidBlock."""
    validate_genesis(genesis)
    context = make_context(genesis)
    view = StateView(EMPTY_ROOT, MemoryNodes())
    for allocation in genesis.allocations:
        apply_credit(view, allocation.account, allocation.amount)
    for miner in genesis.miners:
        apply_debit(view, miner, genesis.parameters.bond)
        record = Miner(registered_height=0, settled_segments=0, bond=genesis.parameters.bond, release_height=0)
        view.put(miner_key(miner), record)
    allocated = sum(allocation.amount for allocation in genesis.allocations)
    view.put(SUPPLY_KEY, Supply(allocated=allocated, issued=0, burned=0, treasury=0))
    view.put(beacon_key(0), BeaconRecord(0, compute_genesis_beacon(context.chain_id)))
    price = genesis.parameters.first_price
    view.put(task_key(context.task_id), TaskState(0, 0, genesis.task.checkpoint_root, 0, 0, 0, 0, price, 0, 0, ()))
    view.put(IN_FORCE_KEY, make_values(genesis.parameters))
    view.put(AGENDA_KEY, EMPTY_AGENDA)
    view.put(AUDITORS_KEY, NO_AUDITORS)
    apply_genesis_registry(context, view)
    return view.commit()


def compute_genesis_beacon(chain_id: Hash) -> Hash:
    """Return the beacon that the chain starts from."""
    return tagged_hash("beacon.genesis", chain_id)


def _validate_windows(parameters: Parameters) -> None:
    spans = (
        parameters.commit_blocks,
        parameters.challenge_delay,
        parameters.proof_window,
        parameters.dispute_window,
    )
    if min(spans) < 1:
        raise InvalidBlock("genesis-windows", f"found spans {spans} of blocks, expected at least 1 each")
    # A commit may name an anchor one block older than its round, as late as the commit window is long.
    if parameters.commit_blocks + 1 >= BEACONS_KEPT:
        raise InvalidBlock(
            "genesis-windows", f"found {parameters.commit_blocks} commit blocks, expected below {BEACONS_KEPT - 1}"
        )
    if parameters.evidence_blocks < parameters.round_blocks:
        message = f"found {parameters.evidence_blocks} blocks, expected at least a round's {parameters.round_blocks}"
        raise InvalidBlock("genesis-evidence", message)


def _validate_voting(parameters: Parameters) -> None:
    spans = (parameters.voting_blocks, parameters.enactment_blocks)
    if min(spans) < 1:
        raise InvalidBlock("genesis-voting", f"found spans {spans} of blocks, expected at least 1 each")
    if not 1 <= parameters.quorum_bp <= BASIS_POINTS:
        found = parameters.quorum_bp
        raise InvalidBlock("genesis-quorum", f"found {found} basis points, expected 1 to {BASIS_POINTS}")
    if parameters.treasury_bp > BASIS_POINTS:
        found = parameters.treasury_bp
        raise InvalidBlock("genesis-treasury", f"found {found} basis points, expected at most {BASIS_POINTS}")


def _validate_audits(parameters: Parameters) -> None:
    # A dispute that is lost to an accomplice costs half a deposit, and must be no way out of an audit.
    penalty_max = min(parameters.deposit, get_bound("deposit").lowest) // 2
    if parameters.audit_penalty > penalty_max:
        message = f"found a penalty of {parameters.audit_penalty} atoms, expected at most {penalty_max}, half a deposit"
        raise InvalidBlock("genesis-audits", message)
    bond_min = max(1, MISSES_MAX * parameters.audit_penalty)
    if parameters.auditor_bond < bond_min:
        message = f"found {parameters.auditor_bond} atoms, expected at least the {bond_min} of {MISSES_MAX} misses"
        raise InvalidBlock("genesis-auditor-bond", message)
    for found, highest in (
        (parameters.audit_bp, AUDITORS_PER_SEGMENT_MAX * BASIS_POINTS),
        (parameters.audit_pay_bp, BASIS_POINTS),
    ):
        if found > highest:
            raise InvalidBlock("genesis-audits", f"found {found} basis points, expected at most {highest}")


def _validate_bonds(genesis: Genesis) -> None:
    amounts = {allocation.account: allocation.amount for allocation in genesis.allocations}
    for miner in genesis.miners:
        found, bond = amounts.get(miner, 0), genesis.parameters.bond
        if found < bond:
            raise InvalidBlock("genesis-bond", f"found {found} atoms for {miner.hex()}, expected a bond of {bond}")


def _validate_distinct(rule: str, keys: Sequence[bytes]) -> None:
    if len(set(keys)) != len(keys):
        raise InvalidBlock(rule, "found a key twice, expected each once")
