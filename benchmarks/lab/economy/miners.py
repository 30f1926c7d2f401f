"""Miners' bonds in a random history: who joins by one, leaves, comes back, or loses it by two headers of one ticket.

The first of genesis' miners makes all blocks, and so keeps its bond; all others may come and go.
"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from benchmarks.lab.economy.world import PARAMETERS
from chain.header import Header, compute_signing_hash, compute_trunk_hash
from chain.ledger.bonds import make_report
from chain.primitives import Hash, PublicKey
from chain.signature import SigningKey
from chain.transaction import PostBond, ReportEquivocation, WithdrawBond

if TYPE_CHECKING:
    from benchmarks.lab.economy.history import History

RESERVE = 40 * 10**9
REPORTED = 10
"""Who shows two headers has one part in so many of what they cost."""


@dataclass(slots=True)
class MinerBook:
    """A bond, the block that it was posted in, and from when on it is free; 0 without notice. Nothing once it is gone.

    Genesis' stand since block 0.
    """

    atoms: int
    since: int
    release: int = 0


@dataclass(slots=True)
class MinerBooks:
    """All that ever posted a bond."""

    miners: dict[PublicKey, MinerBook] = field(default_factory=dict)

    @property
    def bonds(self) -> int:
        """Atoms of all bonds."""
        return sum(miner.atoms for miner in self.miners.values())

    def find_obstacle(self, account: PublicKey, anchor_height: int) -> str | None:
        """Return the rule by which an account may start no segment on a block, or None."""
        found = self.miners.get(account)
        if found is None:
            return "segment-miner"
        if not found.atoms:
            return "segment-bond"
        if found.release:
            return "segment-notice"
        return "segment-anchor" if found.since and anchor_height <= found.since else None


def post(run: "History") -> None:
    """Join by a bond, a second one, or another than is asked for."""
    key = run.random.choice(run.keys)
    book, bond = run.books.miners.miners.get(key.public_key), run.books.ballots.values["bond"]
    if book is not None and book.atoms:
        # Of an atom, which every account has: what it cannot pay is refused before.
        run.refuse(key, PostBond(1), "bond-held")
    elif run.random.random() < 0.1:
        run.refuse(key, PostBond(bond - 1), "bond-amount")
    elif not run.has_claimed(key.public_key) and run.balance_of(key.public_key) > bond + RESERVE:
        run.books.miners.miners[key.public_key] = MinerBook(bond, run.world.tip.height + 1)
        run.oracle.credit(key.public_key, -bond)
        run.counts["bonds posted"] += 1
        run.enter(key, PostBond(bond))


def withdraw(run: "History") -> None:
    """Give notice, take a bond out, or try to too early or without one."""
    key, height = run.random.choice(run.keys[1:]), run.world.tip.height + 1
    book = run.books.miners.miners.get(key.public_key)
    if book is None or not book.atoms:
        run.refuse(key, WithdrawBond(PARAMETERS.bond), "bond-miner" if book is None else "bond-none")
        return
    action = WithdrawBond(book.atoms)
    if not book.release:
        book.release = height + PARAMETERS.evidence_blocks + 1
        run.enter(key, action)
    elif height < book.release:
        run.refuse(key, action, "bond-release")
    else:
        run.oracle.credit(key.public_key, book.atoms)
        book.atoms = book.release = 0
        run.counts["bonds given back"] += 1
        run.enter(key, action)


def report(run: "History") -> None:
    """Show two headers that a miner made of one ticket, while a bond answers for them or after."""
    tip = run.world.tip.height
    if not tip:
        return
    key, reporter = run.random.choice(run.keys[1:]), run.random.choice(run.keys)
    height, recipient = run.random.randrange(max(1, tip - 12), tip + 1), run.random.choice(run.keys).public_key
    book, age = run.books.miners.miners.get(key.public_key), tip + 1 - height
    action = _make_report(run, key, height, recipient)
    if book is None or not book.atoms or height <= book.since or age > PARAMETERS.evidence_blocks:
        run.refuse(reporter, action, "evidence-spent")
        return
    run.oracle.credit(recipient, book.atoms // REPORTED)
    run.books.burned += book.atoms - book.atoms // REPORTED
    book.atoms = book.release = 0
    run.counts["bonds burned"] += 1
    run.enter(reporter, action)


def _make_report(run: "History", key: SigningKey, height: int, recipient: PublicKey) -> ReportEquivocation:
    header = run.world.blocks[height - 1].header
    trunk_hash, headers = compute_trunk_hash(header.trunk), []
    for salt in (1, 2):
        root = Hash(bytes([salt]) * 32)
        foliage = replace(header.foliage, miner=key.public_key, trunk_hash=trunk_hash, state_root=root)
        signature = key.sign(compute_signing_hash(run.world.context.chain_id, foliage))
        headers.append(Header(header.trunk, foliage, signature))
    return make_report(headers[0], headers[1], recipient)
