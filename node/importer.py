"""The one way into the chain: every block, mined here or received, is imported here and nowhere else.

block -> known? parent known? header rules -> ticket (in a thread) -> block data at hand? -> fork choice -> state
transitions, computed before anything is kept -> one atomic commit -> events. Jobs are taken one at a time from a
bounded queue, so no lock is needed. `InvalidBlock` is caught in one place. It knows no peer, no RPC and no miner.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from enum import Enum, auto
from itertools import zip_longest

from chain.block import Block, get_sidecar_hashes
from chain.errors import InvalidBlock, InvalidProof
from chain.header import Header, compute_header_hash
from chain.ledger.apply import apply_block, validate_content, validate_effects
from chain.ledger.context import BlockEffects
from chain.ledger.learning import LearningEngine
from chain.ledger.transactions import SignatureVerifier, verify_signatures
from chain.packed import PackedBlock, pack_block
from chain.primitives import Hash
from chain.state.view import StateView
from chain.transaction import Sidecar
from consensus.fork_choice import Path, choose_path
from consensus.header_chain import ChainEntry, make_entry
from consensus.header_rules import validate_header
from node.chain import Chain, OverlayNodes
from node.observability.journal import get_log
from node.observability.tally import Durations, Tally

log = get_log("importer")

QUEUE_LENGTH_MAX = 64


class ImportResult(Enum):
    """What became of a block."""

    EXTENDED = auto()
    REORGED = auto()
    SIDE_BRANCH = auto()
    EVIDENCE = auto()
    """On a side branch, and the second content of its ticket: worth telling, whatever becomes of it."""
    SURPLUS = auto()
    """One content more than two of its ticket, and nothing is built on it: not kept."""
    ALREADY_KNOWN = auto()
    ORPHAN = auto()
    MISSING_DATA = auto()
    TOO_DEEP = auto()
    """Heavier than the head, but it forks off deeper than states are kept: a person must decide."""
    REFUSED = auto()
    """Not valid yet: its time lies ahead of our clock."""
    INVALID = auto()


@dataclass(frozen=True, slots=True)
class ImportOutcome:
    """A result, with the rule that refused the block or the sidecars that it needs first."""

    result: ImportResult
    hash: Hash
    rule: str = ""
    message: str = ""
    missing: tuple[Hash, ...] = ()


@dataclass(frozen=True, slots=True)
class HeadChange:
    """How the head moved: blocks left (tip first), blocks joined (oldest first) with what they did."""

    disconnected: tuple[Block, ...]
    connected: tuple[tuple[ChainEntry, Block, BlockEffects], ...]


EquivocationListener = Callable[[Header, Header], None]
"""Hears of two headers of one ticket, the first seen first."""

VerifyTicket = Callable[[Block, ChainEntry], None]
"""Checks a block's ticket opening under its parent; raises InvalidProof."""


class Importer:
    """Imports blocks and headers in turn, and tells listeners when the head has moved."""

    def __init__(
        self,
        chain: Chain,
        learning: LearningEngine,
        verify_ticket: VerifyTicket,
        get_time_ms: Callable[[], int],
        verify_signatures: SignatureVerifier = verify_signatures,
    ) -> None:
        """Take the chain to grow and what decides about learning, tickets, time and transactions' signatures."""
        self._chain = chain
        self._learning = learning
        self._verify_ticket = verify_ticket
        self._get_time_ms = get_time_ms
        self._verify_signatures = verify_signatures
        self._jobs: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue(QUEUE_LENGTH_MAX)
        self._worker: asyncio.Task[None] | None = None
        self._job_under_way: asyncio.Future[None] | None = None
        self._job_started_s = 0.0
        self.listeners: list[Callable[[HeadChange], None]] = []
        self.results = Tally(tuple(result.name.lower() for result in ImportResult))
        self.phases = {phase: Durations() for phase in ("ticket", "execution", "commit")}
        self.equivocation_listeners: list[EquivocationListener] = []

    def start(self) -> None:
        """Begin to take jobs."""
        self._worker = asyncio.create_task(self._work(), name="importer")

    async def stop(self) -> None:
        """Finish the job under way and take no more."""
        if self._worker is not None:
            self._worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._worker
        if self._job_under_way is not None:
            await self._job_under_way

    async def import_block(
        self, block: Block, sidecars: tuple[Sidecar, ...] = (), effects: BlockEffects | None = None
    ) -> ImportOutcome:
        """Import a block with the block data that came beside it.

        Who has made the block hands in its `effects`, and it is not executed again; all else is checked as ever.
        """
        done: asyncio.Future[ImportOutcome] = asyncio.get_running_loop().create_future()

        async def job() -> None:
            try:
                outcome = await self._import_block(block, sidecars, effects)
                self.results.add(outcome.result.name.lower())
            except Exception as error:
                # Who asked may have left meanwhile, a peer that hung up for instance; the next job must not suffer.
                if not done.done():
                    done.set_exception(error)
            else:
                if not done.done():
                    done.set_result(outcome)

        await self._jobs.put(job)
        return await done

    @property
    def queue_length(self) -> int:
        """How many jobs wait."""
        return self._jobs.qsize()

    @property
    def busy_ms(self) -> int:
        """How long the job under way has taken; 0 when there is none."""
        if self._job_under_way is None or self._job_under_way.done():
            return 0
        return int((asyncio.get_running_loop().time() - self._job_started_s) * 1000)

    @property
    def is_running(self) -> bool:
        """Whether jobs are taken."""
        return self._worker is not None and not self._worker.done()

    def import_headers(self, headers: tuple[Header, ...]) -> ImportOutcome:
        """Keep headers whose rules hold, up to the first that does not; oldest first."""
        outcome = ImportOutcome(ImportResult.ALREADY_KNOWN, self._chain.headers.genesis.hash)
        for header, child in zip_longest(headers, headers[1:]):
            header_hash = compute_header_hash(header)
            if header_hash in self._chain.headers:
                continue
            refusal = self._admit_header(header, header_hash, child)
            if refusal is not None:
                return refusal
            outcome = ImportOutcome(ImportResult.SIDE_BRANCH, header_hash)
        return outcome

    async def _work(self) -> None:
        while True:
            job = await self._jobs.get()
            # A job under way is finished even when the node stops: the database must not close beneath it.
            self._job_under_way = asyncio.ensure_future(job())
            self._job_started_s = asyncio.get_running_loop().time()
            await asyncio.shield(self._job_under_way)

    async def _import_block(
        self, block: Block, sidecars: tuple[Sidecar, ...], effects: BlockEffects | None
    ) -> ImportOutcome:
        block_hash = compute_header_hash(block.header)
        if self._chain.has_block(block_hash):
            return ImportOutcome(ImportResult.ALREADY_KNOWN, block_hash)
        packed = pack_block(block)
        refusal = self._check_content(packed, block_hash) or self._admit_header(block.header, block_hash)
        if refusal is not None:
            return refusal
        entry = self._chain.headers.get(block_hash)
        assert entry is not None
        assert entry.parent is not None
        block = replace(block, header=entry.header)
        try:
            with self._measure("ticket"):
                await asyncio.to_thread(self._verify_ticket, block, entry.parent)
        except InvalidProof as error:
            # The opening is not bound by the block's hash: another copy may still be good, so nothing is marked.
            return ImportOutcome(ImportResult.INVALID, block_hash, error.rule, str(error))
        missing = self._chain.store_sidecars(get_sidecar_hashes(block), sidecars)
        if missing:
            return ImportOutcome(ImportResult.MISSING_DATA, block_hash, missing=missing)
        return await self._connect(entry, PackedBlock(block, packed.transactions), effects)

    def _check_content(self, packed: PackedBlock, block_hash: Hash) -> ImportOutcome | None:
        """Refuse, before any costly check, a body that its header does not name or that is over budget."""
        block = packed.block
        parent_hash, parameters = block.header.foliage.parent_hash, self._chain.parameters
        if parent_hash != self._chain.headers.genesis.hash and not self._chain.has_body(parent_hash):
            if self._chain.marks.is_poisoned(parent_hash):
                return ImportOutcome(ImportResult.INVALID, block_hash, "parent-invalid", "its parent is invalid")
            return ImportOutcome(ImportResult.ORPHAN, block_hash)
        found = packed.compute_transactions_root()
        if found != block.header.foliage.transactions_root:
            message = f"found transactions under {found.hex()}, expected {block.header.foliage.transactions_root.hex()}"
            return ImportOutcome(ImportResult.INVALID, block_hash, "transactions-root", message)
        commits = len(get_sidecar_hashes(block))
        if commits > parameters.sidecars_per_block:
            message = f"found {commits} commits, expected at most {parameters.sidecars_per_block}"
            return ImportOutcome(ImportResult.INVALID, block_hash, "block-sidecars", message)
        return None

    def _admit_header(self, header: Header, header_hash: Hash, child: Header | None = None) -> ImportOutcome | None:
        """Keep a header in the tree, or return why not; a third one of its ticket needs a valid `child`."""
        if header_hash in self._chain.headers:
            return None
        is_surplus = self._chain.contents.is_full(header)
        if is_surplus and (child is None or child.foliage.parent_hash != header_hash):
            return ImportOutcome(ImportResult.SURPLUS, header_hash, "contents", "two contents of its ticket are held")
        parent = self._chain.headers.get(header.foliage.parent_hash)
        if parent is None:
            return ImportOutcome(ImportResult.ORPHAN, header_hash)
        if self._chain.marks.is_poisoned(parent.hash):
            return ImportOutcome(ImportResult.INVALID, header_hash, "parent-invalid", "its parent is invalid")
        try:
            validate_header(self._chain.header_context, header, parent, self._get_time_ms())
            if is_surplus and child is not None:
                validate_header(self._chain.header_context, child, make_entry(header, parent), self._get_time_ms())
        except InvalidBlock as error:
            result = ImportResult.REFUSED if error.rule == "future" else ImportResult.INVALID
            return ImportOutcome(result, header_hash, error.rule, str(error))
        entry = self._chain.insert_header(header)
        first = self._chain.contents.get_first(entry)
        if first is not None:
            for listener in self.equivocation_listeners:
                listener(first.header, header)
        return None

    async def _connect(self, entry: ChainEntry, packed: PackedBlock, effects: BlockEffects | None) -> ImportOutcome:
        path = choose_path(self._chain.head, entry)
        if path is None:
            self._chain.store_side_block(entry, packed.block)
            is_evidence = self._chain.contents.get_first(entry) is not None
            return ImportOutcome(ImportResult.EVIDENCE if is_evidence else ImportResult.SIDE_BRANCH, entry.hash)
        if not self._chain.is_within_reach(path):
            return self._refuse_too_deep(entry, packed, path)
        with self._measure("execution"):
            change, failure = await asyncio.to_thread(self._compute_change, path, packed, effects)
        if failure is not None:
            failed, error = failure
            self._chain.mark_invalid(failed)
            log.warning("block is invalid", block=failed.hash, height=failed.height, error=str(error))
            return ImportOutcome(ImportResult.INVALID, entry.hash, error.rule, str(error))
        assert change is not None
        with self._measure("commit"):
            self._chain.commit(path, change.connected)
        for listener in self.listeners:
            listener(change)
        return ImportOutcome(ImportResult.REORGED if path.disconnect else ImportResult.EXTENDED, entry.hash)

    def _refuse_too_deep(self, entry: ChainEntry, packed: PackedBlock, path: Path) -> ImportOutcome:
        self._chain.store_side_block(entry, packed.block)
        found = f"found a fork {len(path.disconnect)} blocks below the head, whose state is pruned"
        message = f"{found}; if this heavier branch is right, import it into an empty directory"
        log.error("a heavier branch forks off too deep", block=entry.hash, height=entry.height, error=message)
        return ImportOutcome(ImportResult.TOO_DEEP, entry.hash, "reorg-depth", message)

    def _measure(self, phase: str) -> AbstractContextManager[None]:
        return self.phases[phase].measure(asyncio.get_running_loop())

    def _compute_change(
        self, path: Path, last: PackedBlock, last_effects: BlockEffects | None
    ) -> tuple[HeadChange | None, tuple[ChainEntry, InvalidBlock] | None]:
        """Compute every transition of the way before any is kept; return the change or the first failure."""
        connected: list[tuple[ChainEntry, Block, BlockEffects]] = []
        nodes = OverlayNodes(self._chain.store)
        for entry in path.connect:
            assert entry.parent is not None
            is_last = entry is path.connect[-1]
            packed = last if is_last else pack_block(self._chain.get_existing_block(entry.hash))
            view = StateView(entry.parent.header.foliage.state_root, nodes)
            try:
                effects = self._apply(view, packed, last_effects if is_last else None)
            except InvalidBlock as error:
                return None, (entry, error)
            nodes.add(effects.new_nodes)
            connected.append((entry, packed.block, effects))
        left = tuple(self._chain.get_existing_block(entry.hash) for entry in path.disconnect)
        return HeadChange(left, tuple(connected)), None

    def _apply(self, view: StateView, packed: PackedBlock, effects: BlockEffects | None) -> BlockEffects:
        context, verify = self._chain.ledger_context, self._verify_signatures
        if effects is None:
            return apply_block(context, view, packed, self._learning, self._chain, verify)
        validate_content(context, packed, verify)
        validate_effects(packed.block, effects)
        return effects
