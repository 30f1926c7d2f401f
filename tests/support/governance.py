"""Stake, proposals and votes for tests: what each leaves in the state, and shortcuts through a proposal's life."""

from chain.ledger.governance_records import Choice, InForce, Proposal, Stake
from chain.ledger.keys import IN_FORCE_KEY, proposal_key
from chain.ledger.proposals import compute_proposal_id
from chain.ledger.stakes import get_stake
from chain.primitives import ATOMS_PER_COIN, Hash
from chain.signature import SigningKey
from chain.transaction import CastVote, Change, ChangeParameter, LockStake, ProposeChange, SpendTreasury
from tests.support.ledger import ALICE, LedgerChain

COIN = ATOMS_PER_COIN
RAISE = ChangeParameter("deposit", 7 * COIN)
"""Of the deposit, from 5 coins; a vote may move it by half."""


def spend(key: SigningKey, amount: int) -> SpendTreasury:
    """Return a payment from the treasury."""
    return SpendTreasury(key.public_key, amount)


def lock(chain: LedgerChain, key: SigningKey, coins: int) -> None:
    """Mine a block that locks stake."""
    chain.mine(chain.sign(key, LockStake(coins * COIN)))


def propose(chain: LedgerChain, key: SigningKey, change: Change = RAISE, miner: SigningKey = ALICE) -> Hash:
    """Mine a block with a proposal and return its name."""
    terms, nonce = ProposeChange("a change", change), chain.account(key).nonce
    chain.mine(chain.sign(key, terms, nonce=nonce), miner=miner)
    return compute_proposal_id(chain.context.chain_id, key.public_key, nonce, terms)


def vote(chain: LedgerChain, key: SigningKey, name: Hash, choice: Choice = Choice.YES) -> None:
    """Mine a block with a vote."""
    chain.mine(chain.sign(key, CastVote(name, int(choice))))


def accept(chain: LedgerChain, key: SigningKey, change: Change) -> Hash:
    """Propose a change, vote for it with the stake that `key` has, and mine until it takes effect."""
    name = propose(chain, key, change)
    vote(chain, key, name)
    chain.mine_to(get_proposal(chain, name).close_height)
    chain.mine_to(get_proposal(chain, name).effect_height)
    return name


def get_proposal(chain: LedgerChain, name: Hash) -> Proposal:
    """Return a proposal at the head."""
    return chain.view.get_existing(proposal_key(name))


def get_values(chain: LedgerChain) -> InForce:
    """Return the values in force at the head."""
    return chain.view.get_existing(IN_FORCE_KEY)


def get_locked(chain: LedgerChain, key: SigningKey) -> Stake:
    """Return an account's stake at the head."""
    return get_stake(chain.view, key.public_key)
