"""The remote methods, one table: what each takes, what it returns, and how it asks the node.

Anyone who reaches the port may read and send transactions; `miner_` methods need the node's cookie. What is absent is
an error that names it, never a null result.
"""

from functools import cache
from importlib.metadata import version as get_distribution_version
from typing import Annotated

from msgspec import Meta

from chain.codec import decode, encode
from chain.genesis import compute_chain_id
from chain.header import Header
from chain.primitives import Hash
from chain.ticket import TICKET_OPENING_BYTES_MAX, Ticket, TicketOpening
from chain.transaction import TRANSACTION_BYTES_MAX
from consensus.flyclient import SECURITY_BITS_MAX, STRETCH_MAX, Demand
from consensus.header_proof import HeaderProof
from consensus.sampling import compute_public_seed
from node.rpc import state_views, views, work_views
from node.rpc.api import HEADERS_MAX, HEIGHTS_MAX, SENT_AT_ONCE_MAX, MinerRates, NodeApi
from node.rpc.arguments import parse_account
from node.rpc.audit_methods import AUDIT_METHODS
from node.rpc.bounty_methods import BOUNTY_METHODS
from node.rpc.dispute_methods import DISPUTE_METHODS
from node.rpc.economy_methods import ECONOMY_METHODS
from node.rpc.errors import ErrorCode, ErrorData, RpcError, not_found
from node.rpc.governance_methods import GOVERNANCE_METHODS
from node.rpc.inference_methods import INFERENCE_METHODS
from node.rpc.list_methods import LIST_METHODS
from node.rpc.registry import Method, Params, Registry, make_openrpc
from node.rpc.submitted import OpeningsSubmission, SegmentSubmission
from node.rpc.supply_methods import SUPPLY_METHODS
from node.rpc.task_methods import TASK_METHODS, parse_task
from node.rpc.views import Address, HashText, Natural, Record, from_hex, to_hex

TICKET_BYTES_MAX = 1024


class HeadersParams(Params, frozen=True):
    """A run of heights."""

    start: Natural
    count: Annotated[int, Meta(ge=1, le=HEADERS_MAX)]


class BlockParams(Params, frozen=True):
    """A block, by its hash or by its height on the best chain."""

    block: HashText | Natural


class ChainProofParams(Params, frozen=True):
    """A tip, and how its chain is to be sampled; the public seed is taken when there is none."""

    tip: HashText
    security_bits: Annotated[int, Meta(ge=1, le=SECURITY_BITS_MAX)]
    stretch_blocks: Annotated[int, Meta(ge=1, le=STRETCH_MAX)]
    seed: HashText | None = None


class HeaderProofParams(Params, frozen=True):
    """A tip, and heights before it, ascending."""

    tip: HashText
    heights: Annotated[list[Natural], Meta(min_length=1, max_length=HEIGHTS_MAX)]


class AccountParams(Params, frozen=True):
    """An account."""

    account: Address


class SendParams(Params, frozen=True):
    """A signed transaction, and the block data (a sidecar) that it names."""

    transaction: Record
    sidecar: Record | None = None


class SendManyParams(Params, frozen=True):
    """Signed transactions, in the order in which they are offered."""

    transactions: Annotated[list[Record], Meta(min_length=1, max_length=SENT_AT_ONCE_MAX)]


class HashParams(Params, frozen=True):
    """Something named by its hash."""

    hash: HashText


class CheckpointParams(Params, frozen=True):
    """A round (the running one when absent), whether the weights are wanted, and a task (genesis' when absent)."""

    round: Natural | None = None
    content: bool = False
    task: HashText | None = None


class RoundParams(Params, frozen=True):
    """A round, the running one when absent, and a task, genesis' when absent."""

    round: Natural | None = None
    task: HashText | None = None


class TicketParams(Params, frozen=True):
    """A winning ticket for a parent, and its opening."""

    parent_hash: HashText
    ticket: Record
    opening: Record


class SegmentParams(Params, frozen=True):
    """A finished segment."""

    task: HashText
    round: Annotated[int, Meta(ge=0, lt=2**32)]
    index: Annotated[int, Meta(ge=0, lt=2**16)]
    anchor_height: Natural
    seed: HashText
    trace_root: HashText
    delta_root: HashText
    sidecar: Record


class OpeningsParams(Params, frozen=True):
    """The drawn places of a segment, opened."""

    task: HashText
    round: Annotated[int, Meta(ge=0, lt=2**32)]
    index: Annotated[int, Meta(ge=0, lt=2**16)]
    openings: Annotated[list[Record], Meta(max_length=64)]


class RatesParams(Params, frozen=True):
    """What a miner did in the last second."""

    tickets: Natural
    macs: Natural


async def _get_genesis(api: NodeApi, _: Params) -> views.GenesisView:
    genesis = api.get_genesis()
    chain_id, genesis_hash = compute_chain_id(genesis), api.get_genesis_hash()
    return views.GenesisView(to_hex(chain_id), to_hex(genesis_hash), genesis.network, encode(genesis))


async def _get_head(api: NodeApi, _: Params) -> views.HeaderView:
    return views.view_header(api.get_head())


async def _get_headers(api: NodeApi, params: HeadersParams) -> list[views.HeaderView]:
    return [views.view_header(header) for header in api.get_headers(params.start, params.count)]


async def _get_block(api: NodeApi, params: BlockParams) -> views.BlockView:
    block = api.get_block(_find_hash(api, params.block))
    if block is None:
        raise not_found("block", str(params.block))
    return views.view_block(block)


async def _get_ticket(api: NodeApi, params: BlockParams) -> views.TicketView:
    block = api.get_block(_find_hash(api, params.block))
    if block is None:
        raise not_found("block", str(params.block))
    return views.TicketView(views.view_header(block.header), encode(block.opening))


async def _prove_chain(api: NodeApi, params: ChainProofParams) -> views.ProofView:
    tip_hash = from_hex(params.tip)
    tip = api.get_header(tip_hash)
    if tip is None:
        raise not_found("header", params.tip)
    seed = compute_public_seed(tip) if params.seed is None else from_hex(params.seed)
    proof = await api.prove_chain(tip_hash, Demand(seed, params.security_bits, params.stretch_blocks))
    return _view_proof(params.tip, proof)


async def _prove_headers(api: NodeApi, params: HeaderProofParams) -> views.ProofView:
    return _view_proof(params.tip, await api.prove_headers(from_hex(params.tip), tuple(params.heights)))


def _view_proof(tip: HashText, proof: HeaderProof | None) -> views.ProofView:
    if proof is None:
        raise not_found("header", tip)
    return views.ProofView(tip, encode(proof))


async def _get_account(api: NodeApi, params: AccountParams) -> state_views.AccountView:
    account = parse_account(params.account)
    return state_views.view_account(api.get_account_proof(account), api.get_next_nonce(account))


async def _get_miner(api: NodeApi, params: AccountParams) -> state_views.MinerView:
    return state_views.view_miner(api.get_miner_proof(parse_account(params.account)))


async def _send_transaction(api: NodeApi, params: SendParams) -> HashText:
    if len(params.transaction) > TRANSACTION_BYTES_MAX:
        found, expected = f"{len(params.transaction)} bytes", f"at most {TRANSACTION_BYTES_MAX}"
        raise RpcError(ErrorCode.REFUSED, ErrorData("transaction-size", found, expected))
    return to_hex(await api.send_transaction(params.transaction, params.sidecar))


async def _send_transactions(api: NodeApi, params: SendManyParams) -> list[views.SentView]:
    return [views.view_sent(answer) for answer in await api.send_transactions(tuple(params.transactions))]


async def _get_transaction(api: NodeApi, params: HashParams) -> views.TransactionView:
    info = api.get_transaction(from_hex(params.hash))
    if info is None:
        raise not_found("transaction", params.hash)
    return views.view_transaction(info)


async def _get_checkpoint(api: NodeApi, params: CheckpointParams) -> views.CheckpointView:
    task = parse_task(params.task)
    info = api.get_checkpoint(params.round, task)
    if info is None:
        raise not_found("round", str(params.round))
    content = api.get_checkpoint_content(info.root, task) if params.content else None
    if params.content and content is None:
        raise not_found("checkpoint", to_hex(info.root))
    return views.view_checkpoint(info, content)


async def _list_contributions(api: NodeApi, params: RoundParams) -> list[views.ContributionView]:
    return [views.view_contribution(info) for info in api.get_contributions(params.round, parse_task(params.task))]


async def _get_peers(api: NodeApi, _: Params) -> list[views.PeerView]:
    return [views.view_peer(info) for info in api.get_peers()]


async def _get_status(api: NodeApi, _: Params) -> views.StatusView:
    return views.view_status(api.get_status(), api.get_head(), api.get_genesis_hash(), api.list_tasks())


async def _get_work(api: NodeApi, _: Params) -> work_views.WorkView:
    return work_views.view_work(api.get_work())


async def _submit_ticket(api: NodeApi, params: TicketParams) -> str:
    ticket = decode(Ticket, params.ticket, TICKET_BYTES_MAX)
    opening = decode(TicketOpening, params.opening, TICKET_OPENING_BYTES_MAX)
    return (await api.submit_ticket(from_hex(params.parent_hash), ticket, opening)).value


async def _submit_segment(api: NodeApi, params: SegmentParams) -> HashText:
    segment = SegmentSubmission(
        task=from_hex(params.task),
        round=params.round,
        index=params.index,
        anchor_height=params.anchor_height,
        seed=from_hex(params.seed),
        trace_root=from_hex(params.trace_root),
        delta_root=from_hex(params.delta_root),
        sidecar=params.sidecar,
    )
    return to_hex(await api.submit_segment(segment))


async def _submit_openings(api: NodeApi, params: OpeningsParams) -> HashText:
    openings = OpeningsSubmission(from_hex(params.task), params.round, params.index, tuple(params.openings))
    return to_hex(await api.submit_openings(openings))


async def _report_rates(api: NodeApi, params: RatesParams) -> bool:
    api.report_rates(MinerRates(params.tickets, params.macs))
    return True


async def _discover(_: NodeApi, __: Params) -> dict[str, object]:
    return _make_document()


@cache
def _make_document() -> dict[str, object]:
    """Return the document of this interface; made once, since a batch may ask for it a hundred times."""
    return make_openrpc(make_registry(), get_distribution_version("mathesis"))


def _find_hash(api: NodeApi, block: str | int) -> Hash:
    if isinstance(block, str):
        return from_hex(block)
    found = api.get_hash_at_height(block)
    if found is None:
        head: Header = api.get_head()
        raise RpcError(ErrorCode.NOT_FOUND, ErrorData("unknown-height", str(block), f"at most {head.height}"))
    return found


GET_GENESIS = Method("chain_getGenesis", "The genesis record.", Params, views.GenesisView, _get_genesis)
GET_HEAD = Method("chain_getHead", "The header at the tip of the best chain.", Params, views.HeaderView, _get_head)
GET_HEADERS = Method(
    "chain_getHeaders", "Headers of the best chain, upwards.", HeadersParams, list[views.HeaderView], _get_headers
)
GET_BLOCK = Method("chain_getBlock", "A block, by hash or height.", BlockParams, views.BlockView, _get_block)
GET_TICKET = Method("chain_getTicket", "A block's ticket and opening.", BlockParams, views.TicketView, _get_ticket)
PROVE_CHAIN = Method(
    "light_proveChain", "A tip's chain by sampled headers.", ChainProofParams, views.ProofView, _prove_chain
)
PROVE_HEADERS = Method(
    "light_proveHeaders", "Single headers under a tip.", HeaderProofParams, views.ProofView, _prove_headers
)
GET_ACCOUNT = Method(
    "state_getAccount", "An account at the head, with its proof.", AccountParams, state_views.AccountView, _get_account
)
GET_MINER = Method(
    "state_getMiner",
    "A miner's bond at the head, with its proof.",
    AccountParams,
    state_views.MinerView,
    _get_miner,
)
SEND_TRANSACTION = Method("tx_send", "Offer a signed transaction.", SendParams, str, _send_transaction)
SEND_TRANSACTIONS = Method(
    "tx_sendMany",
    "Offer signed transactions together; says of each what became of it.",
    SendManyParams,
    list[views.SentView],
    _send_transactions,
)
GET_TRANSACTION = Method(
    "tx_get", "A transaction of the best chain or the pool.", HashParams, views.TransactionView, _get_transaction
)
GET_CHECKPOINT = Method(
    "model_getCheckpoint", "A round's checkpoint.", CheckpointParams, views.CheckpointView, _get_checkpoint
)
LIST_CONTRIBUTIONS = Method(
    "contribution_list", "A round's contributions.", RoundParams, list[views.ContributionView], _list_contributions
)
GET_PEERS = Method(
    "net_peers", "The connected peers, and what each connection is for.", Params, list[views.PeerView], _get_peers
)
GET_STATUS = Method("node_status", "The node at a glance.", Params, views.StatusView, _get_status)
DISCOVER = Method("rpc.discover", "This interface as an OpenRPC document.", Params, dict[str, object], _discover)
GET_WORK = Method("miner_getWork", "What to train and mine on.", Params, work_views.WorkView, _get_work, is_admin=True)
SUBMIT_TICKET = Method("miner_submitTicket", "Make a block.", TicketParams, str, _submit_ticket, is_admin=True)
SUBMIT_SEGMENT = Method("miner_submitSegment", "Commit a segment.", SegmentParams, str, _submit_segment, is_admin=True)
SUBMIT_OPENINGS = Method(
    "miner_submitOpenings", "Open drawn places.", OpeningsParams, str, _submit_openings, is_admin=True
)
REPORT_RATES = Method("miner_reportRates", "Tell what mining does.", RatesParams, bool, _report_rates, is_admin=True)


def make_registry() -> Registry:
    """Return the registry of every method that a node serves."""
    return Registry(
        (
            GET_GENESIS,
            GET_HEAD,
            GET_HEADERS,
            GET_BLOCK,
            GET_TICKET,
            PROVE_CHAIN,
            PROVE_HEADERS,
            GET_ACCOUNT,
            GET_MINER,
            *ECONOMY_METHODS,
            *GOVERNANCE_METHODS,
            *BOUNTY_METHODS,
            *LIST_METHODS,
            *SUPPLY_METHODS,
            *INFERENCE_METHODS,
            SEND_TRANSACTION,
            SEND_TRANSACTIONS,
            GET_TRANSACTION,
            *TASK_METHODS,
            GET_CHECKPOINT,
            LIST_CONTRIBUTIONS,
            GET_PEERS,
            GET_STATUS,
            DISCOVER,
            GET_WORK,
            SUBMIT_TICKET,
            SUBMIT_SEGMENT,
            SUBMIT_OPENINGS,
            *DISPUTE_METHODS,
            *AUDIT_METHODS,
            REPORT_RATES,
        )
    )
