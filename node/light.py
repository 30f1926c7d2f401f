"""A light client: from a genesis hash alone, what a node says about its chain is checked or refused.

Checked are the genesis record, every header and its difficulty, one ticket drawn in private with a chance in proportion
to work, and an account under the tip's state root. It holds no weights, re-executes nothing and imports neither torch
nor numba. Every field a node sends is compared with the record it describes, so that no altered answer passes.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from chain.codec import decode
from chain.errors import DecodeError, InvalidBlock, InvalidProof
from chain.genesis import GENESIS_BYTES_MAX, Genesis
from chain.header import HEADER_BYTES_MAX, Header
from chain.ledger.genesis_state import make_genesis_state
from chain.ledger.keys import account_key
from chain.ledger.records import EMPTY_ACCOUNT, Account
from chain.primitives import Hash, PublicKey
from chain.state.proof import STATE_PROOF_BYTES_MAX, StateProof, verify_exclusion, verify_inclusion
from chain.ticket import Ticket, TicketOpening
from consensus.header_chain import ChainEntry, make_entry, make_first_entry, make_genesis_header
from consensus.header_rules import HeaderContext, get_segment_seed, make_header_context, validate_header
from consensus.history import History
from consensus.ticket import Draw, compute_ticket_macs, compute_ticket_shape, verify_ticket
from ml.models import build_program
from ml.spec import decode_spec
from node.addresses import format_address
from node.rpc.api import HEADERS_MAX
from node.rpc.client import RpcClient
from node.rpc.methods import (
    GET_ACCOUNT,
    GET_GENESIS,
    GET_HEADERS,
    GET_TICKET,
    TICKET_OPENING_BYTES_MAX,
    AccountParams,
    BlockParams,
    HeadersParams,
)
from node.rpc.registry import Params
from node.rpc.views import AccountView, from_hex, to_hex, view_header

T = TypeVar("T")

ACCOUNT_BYTES_MAX = 64


@dataclass(frozen=True, slots=True)
class Clock:
    """What a light client takes from its machine: the time, and randomness that the node cannot foresee."""

    get_time_ms: Callable[[], int]
    draw_below: Callable[[int], int] = field(default=secrets.randbelow)


@dataclass(frozen=True, slots=True)
class LightReport:
    """What was verified. `ticket_macs` is what the drawn ticket covers; both are None while only genesis stands."""

    network: str
    genesis_hash: Hash
    tip: ChainEntry
    ticket_height: int | None
    ticket_macs: int | None
    account: PublicKey | None
    balance: int | None


class LightClient:
    """Follows one node from a genesis hash, trusting nothing it says."""

    def __init__(self, rpc: RpcClient, genesis_hash: Hash, clock: Clock) -> None:
        """Ask the node behind `rpc` about the network of `genesis_hash`."""
        self._rpc = rpc
        self._clock = clock
        genesis = self._get_genesis(genesis_hash)
        self._program = build_program(decode_spec(genesis.task.program))
        self._context: HeaderContext = make_header_context(genesis, self._get_ticket_macs)
        state_root, _ = make_genesis_state(genesis)
        self._tip = make_first_entry(make_genesis_header(genesis, state_root), History())
        _expect("genesis", self._tip.hash, genesis_hash)

    def verify(self, account: PublicKey | None) -> LightReport:
        """Check the chain, one ticket and an account; raises InvalidBlock, InvalidProof, DecodeError or BadAnswer."""
        self._follow_headers()
        drawn = self._draw_entry()
        macs = self._verify_ticket(drawn) if drawn else None
        balance = None if account is None else self._verify_account(account)
        genesis = self._context.genesis
        genesis_hash = self._tip.get_ancestor(0).hash
        return LightReport(
            network=genesis.network,
            genesis_hash=genesis_hash,
            tip=self._tip,
            ticket_height=drawn.height if drawn else None,
            ticket_macs=macs,
            account=account,
            balance=balance,
        )

    def _get_genesis(self, genesis_hash: Hash) -> Genesis:
        answer = self._rpc.call(GET_GENESIS, Params())
        genesis = decode(Genesis, answer.record, GENESIS_BYTES_MAX)
        _expect("genesis", from_hex(answer.genesis_hash), genesis_hash)
        _expect("genesis", answer.network, genesis.network)
        return genesis

    def _follow_headers(self) -> None:
        while True:
            answers = self._rpc.call(GET_HEADERS, HeadersParams(self._tip.height + 1, HEADERS_MAX))
            for answer in answers:
                header = decode(Header, answer.record, HEADER_BYTES_MAX)
                _expect("header-fields", answer, view_header(header))
                validate_header(self._context, header, self._tip, self._clock.get_time_ms())
                self._tip = make_entry(header, self._tip)
            if len(answers) < HEADERS_MAX:
                return

    def _draw_entry(self) -> ChainEntry | None:
        """Return the block that holds a unit of work drawn at random, unknown to the node until it is asked for."""
        if self._tip.height == 0:
            return None
        unit = self._clock.draw_below(self._tip.total_work)
        low, high = 1, self._tip.height
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self._tip.get_ancestor(middle).total_work > unit else (middle + 1, high)
        return self._tip.get_ancestor(low)

    def _verify_ticket(self, entry: ChainEntry) -> int:
        answer = self._rpc.call(GET_TICKET, BlockParams(to_hex(entry.hash)))
        _expect("ticket-header", answer.header, view_header(entry.header))
        opening = decode(TicketOpening, answer.opening, TICKET_OPENING_BYTES_MAX)
        ticket, parent, foliage = entry.header.trunk.ticket, entry.parent, entry.header.foliage
        assert parent is not None
        seed = get_segment_seed(self._context, parent, ticket, foliage.miner)
        draw = Draw(self._context.chain_id, parent.hash, seed, foliage.target)
        verify_ticket(ticket, opening, compute_ticket_shape(self._program, ticket.step, ticket.op), draw)
        return self._get_ticket_macs(ticket)

    def _verify_account(self, account: PublicKey) -> int:
        shown = self._tip.height
        answer = self._rpc.call(GET_ACCOUNT, AccountParams(format_address(account)))
        if answer.height > shown:
            # The chain has grown since; the answer is at the new tip.
            self._follow_headers()
        if not shown <= answer.height <= self._tip.height:
            raise InvalidProof(
                "account-height", f"found an account at {answer.height}, expected one at the tip {shown}"
            )
        entry = self._tip.get_ancestor(answer.height)
        _expect("account-header", from_hex(answer.header_hash), entry.hash)
        state_root = entry.header.foliage.state_root
        _expect("account-root", from_hex(answer.state_root), state_root)
        name = account_key(account).name
        _expect("account-key", answer.key, to_hex(name))
        _expect("account-name", answer.account, format_address(account))
        record = _verify_state(state_root, name, answer)
        _expect("balance", answer.balance, str(record.balance))
        _expect("nonce", answer.nonce, record.nonce)
        return record.balance

    def _get_ticket_macs(self, ticket: Ticket) -> int:
        return compute_ticket_macs(self._program, ticket)


def _verify_state(root: Hash, key: bytes, answer: AccountView) -> Account:
    proof = decode(StateProof, answer.proof, STATE_PROOF_BYTES_MAX)
    if answer.value is None:
        verify_exclusion(root, key, proof)
        return EMPTY_ACCOUNT
    verify_inclusion(root, key, answer.value, proof)
    return decode(Account, answer.value, ACCOUNT_BYTES_MAX)


def _expect(rule: str, found: T, expected: T) -> None:
    if found != expected:
        raise InvalidProof(rule, f"found {_show(found)}, expected {_show(expected)}")


def _show(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else f"{value!r:.600}"


def verify_node(rpc: RpcClient, genesis_hash: Hash, clock: Clock, account: PublicKey | None) -> LightReport:
    """Check a node's chain, one ticket and an account; raises what `LightClient.verify` does.

    A chain that reorganises between two answers looks like a lie, so a refusal of that kind is checked once more.
    """
    try:
        return LightClient(rpc, genesis_hash, clock).verify(account)
    except (InvalidBlock, InvalidProof) as error:
        if error.rule not in ("parent", "account-header"):
            raise
    return LightClient(rpc, genesis_hash, clock).verify(account)


REFUSALS = (InvalidBlock, InvalidProof, DecodeError)
"""What a node's lies end in."""
