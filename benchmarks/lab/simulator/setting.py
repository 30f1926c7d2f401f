"""What is the same in every run: a tiny task, a genesis with its keys, and checks whose answers are shared.

The task's matmuls are the smallest that hold a ticket, so that a real one is won in a millisecond. What only repeats is
remembered by its arguments: a ticket's verdict is one function's of one block under one parent, whichever node asks.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from chain.block import Block
from chain.codec import encode
from chain.errors import InvalidProof
from chain.genesis import Allocation, Genesis, Parameters, TaskSpec
from chain.hashing import sha256
from chain.header import compute_header_hash
from chain.ledger.genesis_state import make_genesis_state
from chain.primitives import ATOMS_PER_COIN, Hash
from chain.signature import SigningKey
from consensus.header_chain import ChainEntry, make_genesis_header
from consensus.header_rules import HeaderContext, make_header_context
from consensus.ticket import compute_ticket_macs
from ml.checkpoint import compute_checkpoint_root, compute_initial_checkpoint
from ml.dataset import load_digits
from ml.models import build_program
from ml.spec import DIGITS, Mlp, encode_spec
from node.admission import VerifyTicket
from node.learning import Task, load_task
from node.validator import make_ticket_verifier

INTERVAL_MS = 2_000
ALLOCATED = 1_000 * ATOMS_PER_COIN
"""Atoms that everybody begins with."""
START_MS = 1_800_000_000_000
"""Unix time at which every run begins."""
MINERS_MAX = 6
LISTED = 3
"""Miners that genesis lists; the others join by posting a bond."""
ACCOUNTS = 8
PEOPLE = ("poster", "backer", "buyer", "provider")
"""Whose accounts nobody else uses: what becomes of each of their atoms is told apart."""
TARGET = 1 << 237
"""One matmul of the task in eight wins under it."""

SPEC = replace(
    DIGITS,
    model=Mlp((64, 32, 10)),
    batch=32,
    segment_steps=1,
    warmup_steps=0,
    decay_steps=0,
    warmup_rounds=1,
    decay_rounds=4,
)


@dataclass(frozen=True, slots=True)
class Setting:
    """One network's genesis with everybody's keys."""

    genesis: Genesis
    genesis_hash: Hash
    context: HeaderContext
    task: Task
    miners: tuple[SigningKey, ...]
    accounts: tuple[SigningKey, ...]
    people: dict[str, SigningKey]
    """By their names in `PEOPLE`."""
    verify: VerifyTicket


def make_key(kind: str, number: int) -> SigningKey:
    """Return a key that is the same in every run."""
    return SigningKey(sha256(b"simulator" + kind.encode() + number.to_bytes(4, "big")))


@cache
def make_setting() -> Setting:
    """Return the setting of every run."""
    miners = tuple(make_key("miner", number) for number in range(MINERS_MAX))
    accounts = tuple(make_key("account", number) for number in range(ACCOUNTS))
    people = {name: make_key(name, 0) for name in PEOPLE}
    root = compute_checkpoint_root(compute_initial_checkpoint(build_program(SPEC)))
    genesis = Genesis(
        network="simulation",
        timestamp_ms=START_MS - INTERVAL_MS,
        target=TARGET,
        parameters=Parameters(interval_ms=INTERVAL_MS, half_life_ms=8 * INTERVAL_MS),
        allocations=tuple(Allocation(key.public_key, ALLOCATED) for key in (*miners, *accounts, *people.values())),
        miners=tuple(key.public_key for key in miners[:LISTED]),
        task=TaskSpec("digits", encode_spec(SPEC), load_digits(SPEC.heldout).root, root),
    )
    task = load_task(genesis.task)
    context = make_header_context(genesis, lambda ticket: compute_ticket_macs(task.program, ticket))
    state_root, _ = make_genesis_state(genesis)
    genesis_hash = compute_header_hash(make_genesis_header(genesis, state_root))
    verify = remember(make_ticket_verifier(context, task))
    return Setting(genesis, genesis_hash, context, task, miners, accounts, people, verify)


def remember(verify: VerifyTicket, count_max: int = 4_096) -> VerifyTicket:
    """Return a check that runs once for each block and parent, and gives the same verdict again."""
    verdicts: dict[bytes, InvalidProof | None] = {}

    def verify_once(block: Block, parent: ChainEntry) -> None:
        name = sha256(parent.hash + encode(block.header) + encode(block.opening))
        if name not in verdicts:
            if len(verdicts) >= count_max:
                verdicts.clear()
            verdicts[name] = _get_verdict(lambda: verify(block, parent))
        verdict = verdicts[name]
        if verdict is not None:
            raise InvalidProof(verdict.rule, verdict.message)

    return verify_once


def _get_verdict(check: Callable[[], None]) -> InvalidProof | None:
    try:
        check()
    except InvalidProof as error:
        return error
    return None
