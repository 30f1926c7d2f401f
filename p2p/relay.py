"""The network's side of a node without its sockets: messages and outcomes go in, actions come out.

It ties gossip, fetching, assembly and sync together and holds no rule of its own but one: content is taken only from
whom it was asked of. Deterministic: time is handed in, and the same calls give the same actions.
"""

from chain.header import compute_header_hash
from chain.packed import PackedBlock, PackedTransaction
from chain.primitives import Hash
from p2p.actions import Action, Charge, DeliverHeaders, Peer, Send, Serve
from p2p.assembly import Assembly, Pending
from p2p.compact import CompactBlock
from p2p.compact_relay import CompactRelay
from p2p.content import (
    Content,
    describe_block,
    describe_transaction,
    read_block,
    read_sidecar,
    read_transaction,
)
from p2p.errors import RemoteProtocolError
from p2p.fetch import Fetcher
from p2p.gossip import Gossip, has_item, validate_kind
from p2p.limits import Limits
from p2p.messages import (
    ITEM_NAMES,
    BlobPart,
    BlockMessage,
    CompactMessage,
    GetBlobPart,
    GetData,
    GetHeaders,
    GetStateChunk,
    GetTransactions,
    Headers,
    Inventory,
    Item,
    ItemKind,
    Message,
    NotFound,
    OpeningMessage,
    Ping,
    Pong,
    PushBlocks,
    SidecarMessage,
    StateChunkMessage,
    Status,
    TransactionMessage,
    Transactions,
)
from p2p.score import Fault
from p2p.sync import Sync, SyncSettings
from p2p.view import ChainView, Outcome, SubmitResult

Packed = PackedBlock | PackedTransaction
ContentMessage = BlockMessage | TransactionMessage | SidecarMessage | StateChunkMessage | BlobPart


class Relay:
    """All peers of one node."""

    def __init__(self, chain: ChainView, limits: Limits, secret: Hash) -> None:
        """Start without peers; `secret` is random and stays with this node."""
        self._chain = chain
        self._limits = limits
        self._fetcher = Fetcher(limits)
        self._assembly = Assembly(chain, limits)
        self._compact = CompactRelay(chain, self._fetcher, limits)
        self._gossip = Gossip(chain, self._fetcher, self._assembly, limits)
        self._sync = Sync(chain, self._fetcher, self._assembly, self._is_coming, SyncSettings(limits, secret))
        self._peers: dict[Peer, None] = {}
        self._actions: list[Action] = []

    def on_established(self, peer: Peer, *, is_block_only: bool = False) -> None:
        """Take a peer whose handshake is over, and tell it where we stand."""
        self._peers[peer] = None
        self._fetcher.add_peer(peer)
        self._sync.add_peer(peer)
        self._actions.append(Send(peer, self._make_status()))
        self._actions += self._gossip.add_peer(peer, is_block_only=is_block_only)

    def on_gone(self, peer: Peer) -> None:
        """Forget a peer that left or is no longer listened to."""
        self._peers.pop(peer, None)
        for part in (self._fetcher, self._gossip, self._sync, self._compact):
            part.drop_peer(peer)

    def on_message(self, peer: Peer, message: Message, now_ms: int) -> None:
        """Act on a message; what breaks the protocol becomes a charge."""
        try:
            if not self._on_request(peer, message):
                self._on_offer(peer, message, now_ms)
        except RemoteProtocolError as error:
            self._actions.append(Charge(peer, Fault.PROTOCOL, str(error)))

    def on_headers_outcome(self, delivery: DeliverHeaders, result: SubmitResult, now_ms: int) -> None:
        """Learn what the chain thought of headers."""
        if result.outcome is Outcome.INVALID:
            self._actions.append(Charge(delivery.peer, Fault.INVALID_BLOCK, f"headers: {result.rule}"))
        self._sync.on_headers_outcome(delivery.peer, result.outcome, now_ms)

    def on_block_outcome(self, peer: Peer, block_hash: Hash, result: SubmitResult, now_ms: int) -> None:
        """Learn what the chain thought of a block that `peer` sent."""
        judged = self._assembly.on_judged(Item(ItemKind.BLOCK, block_hash))
        if result.outcome is Outcome.ACCEPTED:
            self._fetcher.on_good_block(peer)
        if result.outcome is Outcome.ACCEPTED and self._chain.get_tip().hash == block_hash:
            self.announce_block(block_hash)
            if peer in self._peers and not self._sync.is_far_behind():
                self._actions += self._compact.on_first(peer)
        elif result.outcome is Outcome.EVIDENCE:
            self._actions += self._gossip.announce(Item(ItemKind.BLOCK, block_hash))
        elif result.outcome is Outcome.SURPLUS:
            self._gossip.reject(Item(ItemKind.BLOCK, block_hash))
        elif result.outcome is Outcome.INVALID:
            # Its fate is known only once its ticket was verified and its transactions were executed.
            fault = Fault.UNSOUND_BLOCK if self._chain.has_block(block_hash) else Fault.INVALID_BLOCK
            self._actions.append(Charge(peer, fault, f"block {block_hash.hex()}: {result.rule}"))
        elif result.outcome is Outcome.ORPHAN:
            self._sync.on_orphan(peer)
        elif result.outcome is Outcome.MISSING_DATA and judged is not None:
            self._reopen(judged, result.missing)
        if result.outcome in (Outcome.ACCEPTED, Outcome.EVIDENCE, Outcome.INVALID):
            self._sync.on_block_judged(now_ms)

    def on_transaction_outcome(self, peer: Peer, transaction_hash: Hash, result: SubmitResult) -> None:
        """Learn what the chain thought of a transaction that `peer` sent."""
        item = Item(ItemKind.TRANSACTION, transaction_hash)
        judged = self._assembly.on_judged(item)
        if result.outcome is Outcome.ACCEPTED:
            self._gossip.gather(transaction_hash)
        elif result.outcome is Outcome.MISSING_DATA and judged is not None:
            self._reopen(judged, result.missing)
        elif result.outcome is Outcome.INVALID:
            self._gossip.reject(item)
            reason = f"transaction {transaction_hash.hex()}: {result.rule}"
            self._actions.append(Charge(peer, Fault.INVALID_TRANSACTION, reason))

    def announce_block(self, block_hash: Hash) -> None:
        """Tell every peer of a new head."""
        self._actions += self._gossip.announce_block(block_hash, self._compact.get_listeners())
        self._actions += [Send(peer, self._make_status()) for peer in self._peers]

    def announce_transaction(self, transaction_hash: Hash) -> None:
        """Tell every peer of a new transaction, soon and together with others."""
        self._gossip.gather(transaction_hash)

    def poll(self, now_ms: int) -> list[Action]:
        """Return what is to be done now; call after every input and at least once a second."""
        self._assembly.drop_hopeless(self._fetcher.is_wanted, now_ms)
        actions, self._actions = self._actions, []
        actions += self._assembly.take_ready()
        self._compact.poll(now_ms)
        actions += self._sync.poll(now_ms)
        actions += self._gossip.poll(now_ms)
        open_transactions = self._assembly.transactions_unjudged + self._fetcher.count_transactions_owed()
        return actions + self._fetcher.poll(now_ms, max(0, self._limits.transactions_open_max - open_transactions))

    def _on_request(self, peer: Peer, message: Message) -> bool:
        """Act on a question; False when the message is none."""
        if isinstance(message, Ping):
            self._actions.append(Send(peer, Pong(message.nonce)))
        elif isinstance(message, GetHeaders | GetTransactions | GetStateChunk | GetBlobPart):
            self._actions.append(Serve(peer, message))
        elif isinstance(message, PushBlocks):
            self._compact.on_push_wish(peer, bool(message.is_wanted))
        elif isinstance(message, GetData):
            for item in message.items:
                validate_kind(item)
                self._gossip.mark_known(peer, item)
                self._actions.append(Serve(peer, item))
        else:
            return False
        return True

    def _on_offer(self, peer: Peer, message: Message, now_ms: int) -> None:
        if peer not in self._peers:
            return
        if isinstance(message, Status):
            self._sync.on_status(peer, message.total_work)
        elif isinstance(message, Inventory):
            self._gossip.on_inventory(peer, message.items, self._sync.is_far_behind())
        elif isinstance(message, NotFound):
            self._fetcher.on_not_found(peer, message.items, now_ms)
            self._actions += self._sync.on_not_found(peer, message.items, now_ms)
            self._compact.on_not_found(peer, message.items)
        elif isinstance(message, Headers):
            self._actions += self._sync.on_headers(peer, message.headers, now_ms)
        elif isinstance(message, OpeningMessage):
            self._actions += self._sync.on_opening(peer, message.block, message.opening)
        elif isinstance(message, ContentMessage):
            self._on_content(peer, message, now_ms)
        elif isinstance(message, CompactMessage):
            self._on_compact(peer, message.compact, now_ms)
        elif isinstance(message, Transactions):
            self._on_whole(peer, self._compact.on_transactions(peer, message), now_ms)

    def _on_content(self, peer: Peer, message: ContentMessage, now_ms: int) -> None:
        # Reading content costs work: nothing is read for a peer that owes nothing. Pieces are asked for only by who
        # starts from a state, and no relay runs then.
        if isinstance(message, StateChunkMessage | BlobPart) or not self._fetcher.has_asked(peer):
            self._actions.append(Charge(peer, Fault.UNSOLICITED, f"{type(message).__name__} that was not asked for"))
        elif isinstance(message, SidecarMessage):
            item = read_sidecar(message.sidecar)
            if self._is_expected(peer, item, now_ms):
                self._assembly.add_sidecar(item.hash, message.sidecar)
        elif isinstance(message, BlockMessage):
            block = read_block(message.block)
            self._on_judgeable(peer, describe_block(block.block), block, now_ms)
        else:
            self._on_transactions(peer, message, now_ms)

    def _on_transactions(self, peer: Peer, message: TransactionMessage, now_ms: int) -> None:
        """Take transactions up to the first that was not asked for: nothing behind it is read."""
        if not message.transactions:
            raise RemoteProtocolError("transactions", "found none, expected one at least")
        for data in message.transactions:
            transaction = read_transaction(data)
            if not self._on_judgeable(peer, describe_transaction(transaction), transaction, now_ms):
                return

    def _on_compact(self, peer: Peer, compact: CompactBlock, now_ms: int) -> None:
        block_hash = compute_header_hash(compact.header)
        is_expected = self._fetcher.on_received(peer, Item(ItemKind.COMPACT, block_hash), now_ms)
        if not is_expected and not self._compact.is_pusher(peer):
            self._actions.append(Charge(peer, Fault.UNSOLICITED, f"compact block {block_hash.hex()}, not asked for"))
            return
        item = Item(ItemKind.BLOCK, block_hash)
        self._gossip.mark_known(peer, item)
        is_done = has_item(self._chain, item) or self._assembly.holds(item) or self._gossip.is_rejected(item)
        if not is_done:
            block, actions = self._compact.on_compact(peer, compact, now_ms)
            self._actions += actions
            self._on_whole(peer, block, now_ms)

    def _on_whole(self, peer: Peer, block: PackedBlock | None, now_ms: int) -> None:
        if block is not None:
            self._place(peer, describe_block(block.block), block, now_ms)

    def _on_judgeable(self, peer: Peer, content: Content, packed: Packed, now_ms: int) -> bool:
        """Have content judged that was asked of `peer`; False when it was not."""
        is_expected = self._is_expected(peer, content.item, now_ms)
        if is_expected:
            self._place(peer, content, packed, now_ms)
        return is_expected

    def _place(self, peer: Peer, content: Content, packed: Packed, now_ms: int) -> None:
        self._gossip.mark_known(peer, content.item)
        # A transaction that waits or stands in a block is known again where it is judged, without a look on disk.
        if content.parent is not None and has_item(self._chain, content.item):
            return
        missing = frozenset(h for h in content.sidecars if not self._chain.has_sidecar(h))
        parent = content.parent
        is_orphan = parent is not None and not (self._chain.has_block(parent) or self._is_coming(parent))
        if is_orphan:
            self._sync.on_orphan(peer)
        self._assembly.add(Pending(content.item, peer, packed, content.parent, now_ms, missing, is_orphan))
        self._want_sidecars(content.item, peer, missing)

    def _is_expected(self, peer: Peer, item: Item, now_ms: int) -> bool:
        is_expected = self._fetcher.on_received(peer, item, now_ms)
        if item.kind == ItemKind.BLOCK and is_expected:
            self._fetcher.drop(Item(ItemKind.COMPACT, item.hash))
        elif item.kind == ItemKind.BLOCK:
            # A block that was asked for in its compact form may come whole.
            is_expected = self._fetcher.on_received(peer, Item(ItemKind.COMPACT, item.hash), now_ms)
        if not is_expected:
            reason = f"{ITEM_NAMES[item.kind]} {item.hash.hex()} that was not asked for"
            self._actions.append(Charge(peer, Fault.UNSOLICITED, reason))
        return is_expected

    def _is_coming(self, block_hash: Hash) -> bool:
        """Say whether a block is asked for in any form, or here and not yet judged."""
        item = Item(ItemKind.BLOCK, block_hash)
        return self._assembly.holds(item) or self._fetcher.is_wanted(item) or self._compact.is_coming(block_hash)

    def _reopen(self, judged: Pending, missing: tuple[Hash, ...]) -> None:
        if self._assembly.reopen(judged, missing):
            self._want_sidecars(judged.item, judged.peer, judged.missing)

    def _want_sidecars(self, item: Item, peer: Peer, missing: frozenset[Hash]) -> None:
        """Ask for sidecars, in the order of their hashes, whoever sent the item that names them."""
        if self._assembly.holds(item):
            for sidecar_hash in sorted(missing):
                self._fetcher.want(Item(ItemKind.SIDECAR, sidecar_hash), peer)

    def _make_status(self) -> Status:
        tip = self._chain.get_tip()
        return Status(tip.height, tip.total_work)
