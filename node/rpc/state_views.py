"""How records of the state look in JSON, each with the proof that holds it to a head's state root.

Who trusts nobody verifies `value` by `proof`; the fields beside them are for reading. It knows no method.
"""

import msgspec

from chain.codec import encode
from chain.ledger.records import NO_MINER
from node.addresses import format_address
from node.rpc.proofs import AccountProof, MinerProof
from node.rpc.views import Address, Amount, HashText, HexText, Natural, Record, to_hex


class AccountView(msgspec.Struct, frozen=True):
    """An account under a head's state root; `value` is null when the state has no such account."""

    account: Address
    nonce: Natural
    next_nonce: Natural
    balance: Amount
    header_hash: HashText
    height: Natural
    state_root: HashText
    key: HexText
    value: Record | None
    proof: Record


class MinerView(msgspec.Struct, frozen=True):
    """A miner under a head's state root; `value` is null when the state has no such miner.

    `release_height` is where the bond may be taken back, null while no notice was given.
    """

    miner: Address
    bond: Amount
    registered_height: Natural
    settled_segments: Natural
    release_height: Natural | None
    header_hash: HashText
    height: Natural
    state_root: HashText
    key: HexText
    value: Record | None
    proof: Record


def view_account(info: AccountProof, next_nonce: int) -> AccountView:
    """Return an account with its proof as JSON shows it."""
    return AccountView(
        account=format_address(info.account),
        nonce=info.nonce,
        next_nonce=next_nonce,
        balance=str(info.balance),
        header_hash=to_hex(info.header_hash),
        height=info.height,
        state_root=to_hex(info.state_root),
        key=to_hex(info.key),
        value=info.value,
        proof=info.proof,
    )


def view_miner(info: MinerProof) -> MinerView:
    """Return a miner with its proof as JSON shows it; what the state does not hold has neither bond nor height."""
    found = info.miner or NO_MINER
    return MinerView(
        miner=format_address(info.account),
        bond=str(found.bond),
        registered_height=found.registered_height,
        settled_segments=found.settled_segments,
        release_height=found.release_height or None,
        header_hash=to_hex(info.header_hash),
        height=info.height,
        state_root=to_hex(info.state_root),
        key=to_hex(info.key),
        value=None if info.miner is None else encode(info.miner),
        proof=info.proof,
    )
