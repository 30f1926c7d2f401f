"""What has to hold in every run, whatever goes wrong: checked while it runs and once more at its end.

Each check raises `InvariantBroken` with what it found. It looks into nodes and changes nothing.
"""

from collections import Counter, deque
from collections.abc import Iterable, Sequence

from benchmarks.lab.simulator.books import Books
from benchmarks.lab.simulator.healing import SPREAD_S
from benchmarks.lab.simulator.machine import InvariantBroken, Machine
from benchmarks.lab.simulator.setting import START_MS, Setting
from chain.ledger.accounts import get_account
from chain.ledger.apply import apply_block
from chain.ledger.bonds import NOTHING, get_forfeit
from chain.ledger.context import get_task_state
from chain.ledger.economy_records import EMPTY_SHARES
from chain.ledger.genesis_state import make_genesis_state
from chain.ledger.keys import shares_key
from chain.ledger.supply import compute_holdings
from chain.packed import pack_block
from chain.primitives import Hash
from chain.state.tree import MemoryNodes
from chain.state.view import StateView
from consensus.header_chain import ChainEntry
from node.chain import Chain
from node.gate import LATER_MAX
from node.judge import TRANSACTIONS_QUEUED_MAX
from node.mempool import DEFAULT_BOUNDS
from node.validator import Validator
from p2p.messages import FRAME_BYTES_MAX
from p2p.score import Fault, Standing

SETTLED = "settled"
JOINED = "joined"
"""Counts rounds beside the kinds of actions."""
EVIDENCE_BLOCKS = 3
"""Blocks in which a report is made, told and included."""

DATED_BLOCKS = 64
"""How far back a branch is searched for a block from ahead of the time."""

RETURN_S = 3.0
"""In which the pool takes back what was on a block that its node has left: a few moments of threads."""


class Watch:
    """One run's checks; remembers which states it has seen."""

    def __init__(self, setting: Setting, machines: Sequence[Machine], *, is_malice_about: bool) -> None:
        """Watch these machines; honest ones may fall out with each other only where others deceive them."""
        self._setting = setting
        self._machines = machines
        self._is_malice_about = is_malice_about
        self._conserved: set[Hash] = set()
        self._most: deque[tuple[float, int]] = deque()

    def check_running(self) -> None:
        """Check every machine that is up."""
        for machine in self._machines:
            if machine.validator is not None:
                self._check_supply(machine.validator.parts.chain)
                _check_queues(machine, machine.validator)
                _check_returned(machine, machine.validator)
                if not self._is_malice_about:
                    self._check_standings(machine, machine.validator)

    def _check_supply(self, chain: Chain) -> None:
        view = chain.view()
        if view.root in self._conserved:
            return
        holdings = compute_holdings(view)
        if not holdings.is_conserved:
            raise InvariantBroken("supply is conserved", f"at height {chain.head.height}: {holdings}")
        self._conserved.add(view.root)

    def _check_standings(self, machine: Machine, validator: Validator) -> None:
        """Check that honest peers charge each other with slowness alone, and not so much of it that they part."""
        charges = dict(validator.network.charges.counts)
        if any(count for fault, count in charges.items() if fault != Fault.TIMEOUT.name.lower()):
            raise InvariantBroken("honest peers are only slow", f"{machine.name} has charged others with {charges}")
        now_ms = validator.network._peering.get_now_ms()
        for other in self._machines:
            standing = validator.network._doorman.get_standing(other.key.public_key, other.host.address, now_ms)
            if standing is Standing.BANNED:
                raise InvariantBroken("honest peers are not banned", f"{machine.name} has banned {other.name}")

    def compute_tips(self) -> dict[Hash, int]:
        """Return the heads of all machines with their work, an empty hash without any for one that is down.

        A branch that a wrong clock dated ahead is not counted: until that time comes nobody else may take it, and its
        own machine leaves it for more work alone.
        """
        heads = [m.validator.parts.chain.head if m.validator is not None else None for m in self._machines]
        now_ms = START_MS + int(self._machines[0].world.loop.time() * 1000)
        latest_ms = now_ms + self._setting.genesis.parameters.future_ms_max
        counted = [head for head in heads if head is None or not _is_ahead(head, latest_ms)]
        most = max((head.total_work for head in counted if head is not None), default=0)
        behind = [head for head in heads if head is not None and head not in counted and head.total_work < most]
        return {Hash(b"") if head is None else head.hash: head.total_work if head else 0 for head in counted + behind}

    def check_spread(self) -> None:
        """Check that every head has as much work as any had some seconds ago; for times at which nothing fails."""
        now_s = self._machines[0].world.loop.time()
        heads = [(m, m.validator.parts.chain.head) for m in self._machines if m.validator is not None]
        self._most.append((now_s, max(head.total_work for _, head in heads)))
        while len(self._most) > 1 and self._most[1][0] <= now_s - SPREAD_S:
            self._most.popleft()
        since_s, most = self._most[0]
        for machine, head in heads:
            if since_s <= now_s - SPREAD_S and head.total_work < most:
                found = f"{machine.name} is at height {head.height} with {most - head.total_work} less work"
                raise InvariantBroken("news spreads", f"{found} than another had at {since_s:.0f} s")

    def check_evidence(self) -> int:
        """Check that nothing is at stake any more of what nodes hold evidence against; return how many pairs it is."""
        chain = self._get_heaviest()
        view, parameters, head = chain.view(), chain.parameters, chain.head
        pairs = {
            first.foliage.trunk_hash: first
            for machine in self._machines
            if machine.validator is not None and not machine.is_rogue
            for first, _ in machine.validator.parts.chain.contents.iter_evidence()
        }
        # Reports come one a miner at a time, each in a block of its own.
        old = [first for first in pairs.values() if first.height <= head.height - EVIDENCE_BLOCKS - len(pairs)]
        for first in old:
            forfeit = get_forfeit(parameters, view, first, head.height)
            if forfeit != NOTHING:
                miner = first.foliage.miner.hex()[:16]
                raise InvariantBroken("equivocation is paid for", f"at height {first.height} {miner} keeps {forfeit}")
        return len(pairs)

    def check_shares(self, posted: Iterable[Hash]) -> None:
        """Check that a settled round has paid somebody, and no task a forger; for runs in which nothing fails."""
        chain = self._get_heaviest()
        view, own = chain.view(), chain.ledger_context.task_id
        units = {
            (machine.name, task): (view.get(shares_key(task, machine.key.public_key)) or EMPTY_SHARES).units
            for machine in self._machines
            for task in (own, *posted)
        }
        forgers = {machine.name for machine in self._machines if machine.is_forger}
        paid = sorted({name for (name, _), count in units.items() if name in forgers and count})
        if paid:
            raise InvariantBroken("forgery is not paid", f"found shares of {', '.join(paid)}")
        if get_task_state(chain.ledger_context, view).round and not any(
            count for (_, task), count in units.items() if task == own
        ):
            raise InvariantBroken("training is paid", f"found no shares at height {chain.head.height}")

    def _get_heaviest(self) -> Chain:
        chains = [machine.validator.parts.chain for machine in self._machines if machine.validator is not None]
        return max(chains, key=lambda chain: chain.head.total_work)

    def check_replay(self, books: Books) -> Counter[str]:
        """Execute the longest chain again from genesis, compare every root and keep `books`; return what was done."""
        chain = self._get_heaviest()
        learning = next(m.validator.parts.learning for m in self._machines if m.validator is not None)
        listed = frozenset(self._setting.genesis.miners)
        root, genesis_nodes = make_genesis_state(self._setting.genesis)
        nodes, actions = MemoryNodes(genesis_nodes), Counter[str]()
        for height in range(1, chain.head.height + 1):
            entry = chain.head.get_ancestor(height)
            block = chain.get_existing_block(entry.hash)
            effects = apply_block(chain.ledger_context, StateView(root, nodes), pack_block(block), learning, chain)
            nodes.add(effects.new_nodes)
            root = effects.state_root
            actions.update(type(each.body.action).__name__ for each in block.transactions)
            actions[JOINED] += entry.header.foliage.miner not in listed
            if root != entry.header.foliage.state_root:
                raise InvariantBroken("a replay gives the same root", f"found another at height {height}")
            books.add(block, effects, StateView(root, nodes))
        actions[SETTLED] = get_task_state(chain.ledger_context, StateView(root, nodes)).round
        return actions + books.counts


def _is_ahead(head: ChainEntry, latest_ms: int) -> bool:
    entry: ChainEntry | None = head
    for _ in range(DATED_BLOCKS):
        if entry is None or entry.height == 0:
            return False
        if entry.header.foliage.timestamp_ms > latest_ms:
            return True
        entry = entry.parent
    return False


def _check_returned(machine: Machine, validator: Validator) -> None:
    if machine.is_paused:
        return
    now_s, view = machine.world.loop.time(), validator.parts.chain.view()
    due = [transaction for transaction, since_s in machine.returned.items() if since_s <= now_s - RETURN_S]
    for transaction in due:
        del machine.returned[transaction]
    if not due:
        return
    later = {offer.packed.transaction.body for offer in validator.parts.gate._later.values()}
    pool = validator.parts.mempool
    pooled = [packed.transaction.body for packed in map(pool.get, pool.iter_hashes()) if packed is not None]
    waiting = {(body.sender, body.nonce) for body in pooled}
    for body in (transaction.body for transaction in due):
        is_kept = (body.sender, body.nonce) in waiting or body in later
        if body.nonce >= get_account(view, body.sender).nonce and not is_kept:
            found = f"{machine.name} has left nonce {body.nonce} of {body.sender.hex()[:16]} behind"
            raise InvariantBroken("a transaction outlives its block", found)


def _check_queues(machine: Machine, validator: Validator) -> None:
    network, parts = validator.network, validator.parts
    limits, assembly = network._limits, network._relay._assembly
    queued = max((link._queue_bytes for link in network._links.values()), default=0)
    asked = max((len(link._backlog) for link in network._links.values()), default=0)
    for what, found, bound in (
        ("deliveries", network.deliveries_waiting, TRANSACTIONS_QUEUED_MAX + 2 * limits.pending_max),
        ("pool bytes", parts.mempool.size_bytes, DEFAULT_BOUNDS.bytes_max),
        ("early transactions", len(parts.gate._later), LATER_MAX),
        ("waiting items", len(assembly._pending), limits.pending_max),
        ("waiting bytes", assembly.size_bytes, limits.pending_bytes_max),
        ("queued bytes", queued, limits.send_queue_bytes_max + FRAME_BYTES_MAX),
        ("questions", asked, limits.serve_backlog_max),
    ):
        if found > bound:
            raise InvariantBroken(
                "queues are bounded", f"{machine.name}: found {found} {what}, expected at most {bound}"
            )
