"""The one way into the chain: every block, mined here or received, is imported here and nowhere else.

block -> known? parent known? header rules -> ticket (in a thread) -> block data at hand? -> fork choice -> state
transitions, computed before anything is kept -> one atomic commit -> events. Jobs are taken one at a time from a
bounded queue, so no lock is needed. `InvalidBlock` is caught in one place. It knows no peer, no RPC and no miner.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from chain.block import Block, get_sidecar_hashes
from chain.errors import InvalidBlock, InvalidProof
from chain.header import Header, compute_header_hash
from chain.ledger.apply import apply_block, validate_content, validate_effects
from chain.ledger.bounds import get_ceiling
from chain.ledger.context import BlockEffects
from chain.ledger.learning import LearningEngine
from chain.ledger.transactions import SignatureVerifier, verify_signatures
from chain.packed import PackedBlock, pack_block
from chain.primitives import Hash, PublicKey
from chain.state.tree import OverlayNodes
from chain.state.view import StateView
from chain.storage.block_store import Connected
from chain.ticket import TicketOpening
from chain.transaction import Sidecar
from consensus.fork_choice import Path, choose_path
from consensus.header_chain import ChainEntry
from node.admission import NOBODY, Admission, VerifyTicket
from node.beside import refuse_beside, refuse_too_deep
from node.chain import Chain
from node.observability.journal import get_log
from node.observability.tally import Durations, Tally
from node.outcomes import ImportOutcome, ImportResult

log = get_log("importer")

QUEUE_LENGTH_MAX = 64


@dataclass(frozen=True, slots=True)
class HeadChange:
    """How the head moved: blocks left (tip first), blocks joined (oldest first) with what they did."""

    disconnected: tuple[Block, ...]
    connected: tuple[tuple[ChainEntry, Block, BlockEffects], ...]


@dataclass(frozen=True, slots=True)
class _Way:
    """A move of the head, and what of it is stored."""

    change: HeadChange
    connected: tuple[Connected, ...]


@dataclass(frozen=True, slots=True)
class _Failure:
    """The first block of a way that does not hold."""

    entry: ChainEntry
    error: InvalidBlock


class Importer:
    """Imports blocks and headers in turn, and tells listeners when the head has moved."""

    def __init__(
        self,
        chain: Chain,
        learning: LearningEngine,
        verify_ticket: VerifyTicket,
        admission: Admission,
        verify_signatures: SignatureVerifier = verify_signatures,
    ) -> None:
        """Take the chain to grow and what decides about learning, tickets, headers and transactions' signatures."""
        self._chain = chain
        self._learning = learning
        self._verify_ticket = verify_ticket
        self.admission = admission
        self._verify_signatures = verify_signatures
        self._jobs: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue(QUEUE_LENGTH_MAX)
        self._worker: asyncio.Task[None] | None = None
        self._job_under_way: asyncio.Future[None] | None = None
        self._job_started_s = 0.0
        self.listeners: list[Callable[[HeadChange], None]] = []
        self.results = Tally(tuple(result.name.lower() for result in ImportResult))
        self.phases = {phase: Durations() for phase in ("ticket", "execution", "commit")}

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
        self, block: Block | PackedBlock, sidecars: tuple[Sidecar, ...] = (), effects: BlockEffects | None = None
    ) -> ImportOutcome:
        """Import a block with the block data that came beside it.

        Who has made the block hands in its `effects`, and it is not executed again; all else is checked as ever.
        """
        done: asyncio.Future[ImportOutcome] = asyncio.get_running_loop().create_future()

        async def job() -> None:
            try:
                with self.admission.hold():
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

    async def import_headers(
        self,
        headers: tuple[Header, ...],
        openings: Mapping[int, TicketOpening] | None = None,
        source: PublicKey = NOBODY,
    ) -> ImportOutcome:
        """Keep linked headers ahead of their blocks, oldest first; `openings` show the work of some, by position."""
        return await self.admission.admit_run(headers, openings or {}, source)

    async def _work(self) -> None:
        while True:
            job = await self._jobs.get()
            # A job under way is finished even when the node stops: the database must not close beneath it.
            self._job_under_way = asyncio.ensure_future(job())
            self._job_started_s = asyncio.get_running_loop().time()
            await asyncio.shield(self._job_under_way)

    async def _import_block(
        self, offered: Block | PackedBlock, sidecars: tuple[Sidecar, ...], effects: BlockEffects | None
    ) -> ImportOutcome:
        block = offered.block if isinstance(offered, PackedBlock) else offered
        block_hash = compute_header_hash(block.header)
        if self._chain.has_block(block_hash):
            return ImportOutcome(ImportResult.ALREADY_KNOWN, block_hash)
        packed = offered if isinstance(offered, PackedBlock) else pack_block(block)
        refusal = (
            self._check_content(packed, block_hash)
            or refuse_beside(self._chain, block.header, block_hash)
            or self.admission.refuse(block.header, block_hash)
        )
        if refusal is not None:
            return refusal
        known = self._chain.headers.get(block_hash)
        # Another copy of a known header may have another signature; the one that was kept was checked.
        block = block if known is None else replace(block, header=known.header)
        parent = self._chain.headers.get(block.header.foliage.parent_hash)
        assert parent is not None
        try:
            with self._measure("ticket"):
                await asyncio.to_thread(self._verify_ticket, block, parent)
        except InvalidProof as error:
            # The opening is not bound by the block's hash: another copy may still be good, so nothing is marked.
            return ImportOutcome(ImportResult.INVALID, block_hash, error.rule, str(error))
        refusal = self.admission.admit_earned(block.header, block_hash) or refuse_too_deep(self._chain, block_hash)
        if refusal is not None:
            return refusal
        entry = self._chain.headers.get(block_hash)
        assert entry is not None
        block = replace(block, header=entry.header)
        missing = self._chain.store_sidecars(get_sidecar_hashes(block), sidecars)
        if missing:
            return ImportOutcome(ImportResult.MISSING_DATA, block_hash, missing=missing)
        return await self._connect(entry, PackedBlock(block, packed.transactions), effects)

    def _check_content(self, packed: PackedBlock, block_hash: Hash) -> ImportOutcome | None:
        """Refuse, before any costly check, a body that its header does not name or that is over budget."""
        block = packed.block
        parent_hash = block.header.foliage.parent_hash
        if parent_hash != self._chain.headers.genesis.hash and not self._chain.has_body(parent_hash):
            if self._chain.marks.is_poisoned(parent_hash):
                return ImportOutcome(ImportResult.INVALID, block_hash, "parent-invalid", "its parent is invalid")
            return ImportOutcome(ImportResult.ORPHAN, block_hash)
        found = packed.compute_transactions_root()
        if found != block.header.foliage.transactions_root:
            message = f"found transactions under {found.hex()}, expected {block.header.foliage.transactions_root.hex()}"
            return ImportOutcome(ImportResult.INVALID, block_hash, "transactions-root", message)
        sidecars = len(get_sidecar_hashes(block))
        # What is in force stands in the parent's state, which may not be here yet; nothing can ever lie above this.
        sidecars_max = get_ceiling(self._chain.parameters, "sidecars_per_block")
        if sidecars > sidecars_max:
            message = f"found block data of {sidecars} actions, expected at most {sidecars_max}"
            return ImportOutcome(ImportResult.INVALID, block_hash, "block-sidecars", message)
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
            way = await asyncio.to_thread(self._compute_way, path, packed, effects)
        if isinstance(way, _Failure):
            self._chain.mark_invalid(way.entry)
            self._chain.drop_data(get_sidecar_hashes(packed.block))
            log.warning("block is invalid", block=way.entry.hash, height=way.entry.height, error=str(way.error))
            return ImportOutcome(ImportResult.INVALID, entry.hash, way.error.rule, str(way.error))
        change = way.change
        with self._measure("commit"):
            self._chain.commit(path, change.disconnected, way.connected)
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

    def _compute_way(self, path: Path, last: PackedBlock, last_effects: BlockEffects | None) -> _Way | _Failure:
        """Compute every transition of the way before any is kept; return them or the first failure."""
        blocks: list[tuple[ChainEntry, Block, BlockEffects]] = []
        connected: list[Connected] = []
        nodes = OverlayNodes(self._chain.store.get_nodes(), {})
        for entry in path.connect:
            assert entry.parent is not None
            is_last = entry is path.connect[-1]
            packed = last if is_last else pack_block(self._chain.get_existing_block(entry.hash))
            view = StateView(entry.parent.header.foliage.state_root, nodes)
            try:
                effects = self._apply(view, packed, last_effects if is_last else None)
            except InvalidBlock as error:
                return _Failure(entry, error)
            if not is_last:
                nodes.add(effects.new_nodes)
            blocks.append((entry, packed.block, effects))
            connected.append(Connected(entry.hash, packed, effects.new_nodes))
        left = tuple(self._chain.get_existing_block(entry.hash) for entry in path.disconnect)
        return _Way(HeadChange(left, tuple(blocks)), tuple(connected))

    def _apply(self, view: StateView, packed: PackedBlock, effects: BlockEffects | None) -> BlockEffects:
        context, verify = self._chain.ledger_context, self._verify_signatures
        if effects is None:
            return apply_block(context, view, packed, self._learning, self._chain, verify)
        validate_content(context, packed, verify)
        validate_effects(packed.block, effects)
        return effects
