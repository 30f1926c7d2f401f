"""A light client: from a genesis hash alone, what a node says about its chain is checked or refused.

Checked are the genesis record, the headers (all of a short chain, a compact proof of a long one), tickets at the tip
and at places drawn in private over work, and an account, an auditor and a contribution's audits under the tip's state
root. It holds no weights, re-executes
nothing and imports neither torch nor numba. Every field of an answer is compared with the record it describes.
"""

from dataclasses import dataclass
from typing import TypeVar

from chain.codec import decode
from chain.errors import DecodeError, InvalidBlock, InvalidProof
from chain.genesis import GENESIS_BYTES_MAX, Genesis, compute_chain_id, compute_task_id
from chain.ledger.audit_records import Audit, Auditor
from chain.ledger.genesis_state import make_genesis_state
from chain.ledger.keys import account_key, auditor_key, audits_key
from chain.ledger.records import EMPTY_ACCOUNT, ContributionKey
from chain.primitives import Hash, PublicKey
from chain.state.proof import STATE_PROOF_BYTES_MAX, StateProof, verify_exclusion, verify_inclusion
from chain.state.view import VALUE_BYTES_MAX, StateKey
from consensus.header_chain import ChainEntry, make_first_entry, make_genesis_header
from consensus.header_rules import make_header_context
from consensus.history import History
from consensus.ticket import compute_ticket_macs
from ml.models import build_program
from ml.spec import decode_spec
from node.addresses import format_address
from node.light_chain import ChainReader, Clock, Policy, expect
from node.light_tickets import Site, draw_sites, find_beacons, list_sites, verify_site
from node.rpc.api import HEADERS_MAX
from node.rpc.audit_methods import (
    GET_AUDITOR,
    GET_AUDITS,
    NO_AUDITOR,
    AuditorParams,
    AuditsParams,
    view_auditor,
    view_audits,
)
from node.rpc.client import RpcClient
from node.rpc.economy_views import EntryView
from node.rpc.methods import GET_ACCOUNT, GET_GENESIS, AccountParams
from node.rpc.registry import Params
from node.rpc.state_views import AccountView
from node.rpc.views import from_hex, to_hex

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of the state: an account, an auditor, and the audits of a contribution to a round."""

    account: PublicKey | None = None
    auditor: PublicKey | None = None
    audited: tuple[int, ContributionKey] | None = None


@dataclass(frozen=True, slots=True)
class TicketCheck:
    """A ticket that was opened and recomputed: its block's height, and the MACs it covers."""

    height: int
    macs: int


@dataclass(frozen=True, slots=True)
class LightReport:
    """What was verified. `samples` counts the places drawn over work; it is 0 when every header was checked."""

    network: str
    genesis_hash: Hash
    tip: ChainEntry
    headers: int
    samples: int
    proof_bytes: int
    received_bytes: int
    tickets: tuple[TicketCheck, ...]
    account: PublicKey | None
    balance: int | None
    auditor: Auditor | None
    """The one that was asked for; one of no bond where the state holds none."""
    audits: tuple[Audit, ...] | None
    """Those of the contribution that was asked for."""


class LightClient:
    """Follows one node from a genesis hash, trusting nothing it says."""

    def __init__(self, rpc: RpcClient, genesis_hash: Hash, clock: Clock, policy: Policy) -> None:
        """Ask the node behind `rpc` about the network of `genesis_hash`."""
        self._rpc = rpc
        self._clock = clock
        self._policy = policy
        genesis = self._get_genesis(genesis_hash)
        program = build_program(decode_spec(genesis.task.program))
        self._program = program
        self._context = make_header_context(genesis, lambda ticket: compute_ticket_macs(program, ticket))
        state_root, _ = make_genesis_state(genesis)
        first = make_first_entry(make_genesis_header(genesis, state_root), History())
        expect("genesis", first.hash, genesis_hash)
        self._reader = ChainReader(rpc, self._context, clock, first)
        self._tickets: list[TicketCheck] = []

    def verify(self, wanted: Wanted) -> LightReport:
        """Check the chain, tickets and what is wanted of the state.

        Raises InvalidBlock, InvalidProof, DecodeError or BadAnswer.
        """
        reader = self._reader
        reader.fetch(self._policy)
        self._verify_tickets(draw_sites(reader, self._policy, self._clock))
        balance = None if wanted.account is None else self._verify_account(wanted.account)
        auditor = None if wanted.auditor is None else self._verify_auditor(wanted.auditor)
        audits = None if wanted.audited is None else self._verify_audits(*wanted.audited)
        return LightReport(
            network=self._context.genesis.network,
            genesis_hash=reader.genesis.hash,
            tip=reader.tip,
            headers=reader.headers_seen,
            samples=len(reader.proven.places) if reader.proven else 0,
            proof_bytes=reader.proof_bytes,
            received_bytes=self._rpc.received_bytes,
            tickets=tuple(self._tickets),
            account=wanted.account,
            balance=balance,
            auditor=auditor,
            audits=audits,
        )

    def _get_genesis(self, genesis_hash: Hash) -> Genesis:
        answer = self._rpc.call(GET_GENESIS, Params())
        genesis = decode(Genesis, answer.record, GENESIS_BYTES_MAX)
        expect("genesis", from_hex(answer.genesis_hash), genesis_hash)
        expect("genesis", from_hex(answer.chain_id), compute_chain_id(genesis))
        expect("genesis", answer.network, genesis.network)
        return genesis

    def _verify_tickets(self, sites: tuple[Site, ...]) -> None:
        beacons = find_beacons(self._reader, sites)
        for site in sites:
            beacon = beacons[site.header.trunk.ticket.anchor_height]
            macs = verify_site(self._rpc, self._context, self._program, site, beacon)
            self._tickets.append(TicketCheck(site.header.height, macs))

    def _verify_account(self, account: PublicKey) -> int:
        answer = self._rpc.call(GET_ACCOUNT, AccountParams(format_address(account)))
        record = self._verify_entry(account_key(account), answer) or EMPTY_ACCOUNT
        expect("account-name", answer.account, format_address(account))
        expect("balance", answer.balance, str(record.balance))
        expect("nonce", answer.nonce, record.nonce)
        return record.balance

    def _verify_auditor(self, account: PublicKey) -> Auditor:
        answer = self._rpc.call(GET_AUDITOR, AuditorParams(format_address(account)))
        record = self._verify_entry(auditor_key(account), answer.entry)
        expect("auditor", answer, view_auditor(account, record, answer.entry))
        return record or NO_AUDITOR

    def _verify_audits(self, round_number: int, key: ContributionKey) -> tuple[Audit, ...]:
        genesis = self._context.genesis
        task = compute_task_id(compute_chain_id(genesis), genesis.task)
        answer = self._rpc.call(GET_AUDITS, AuditsParams(round_number, format_address(key.miner), key.index))
        record = self._verify_entry(audits_key(task, round_number, key), answer.entry)
        expect("audits", answer, view_audits(record, answer.entry))
        return () if record is None else record.audits

    def _verify_entry(self, key: StateKey[T], answer: AccountView | EntryView) -> T | None:
        """Return the record of a key under the state root of a header that was checked; None where it is absent."""
        shown = self._reader.tip.height
        if shown < answer.height <= shown + HEADERS_MAX:
            # The chain has grown since; the answer is at the new tip, whose state costs nothing to invent unopened.
            self._reader.follow(answer.height)
            self._verify_tickets(list_sites(self._reader, shown))
        tip = self._reader.tip
        if not shown <= answer.height <= tip.height:
            raise InvalidProof("state-height", f"found a record at {answer.height}, expected one at the tip {shown}")
        entry = tip.get_ancestor(answer.height)
        expect("state-header", from_hex(answer.header_hash), entry.hash)
        state_root = entry.header.foliage.state_root
        expect("state-root", from_hex(answer.state_root), state_root)
        expect("state-key", answer.key, to_hex(key.name))
        proof = decode(StateProof, answer.proof, STATE_PROOF_BYTES_MAX)
        if answer.value is None:
            verify_exclusion(state_root, key.name, proof)
            return None
        verify_inclusion(state_root, key.name, answer.value, proof)
        return decode(key.record, answer.value, VALUE_BYTES_MAX)


def verify_node(
    rpc: RpcClient, genesis_hash: Hash, clock: Clock, wanted: Wanted, policy: Policy | None = None
) -> LightReport:
    """Check a node's chain, tickets and what is wanted of its state; raises what `LightClient.verify` does.

    A chain that reorganises between two answers looks like a lie, so a refusal of that kind is checked once more.
    """
    policy = policy or Policy()
    try:
        return LightClient(rpc, genesis_hash, clock, policy).verify(wanted)
    except (InvalidBlock, InvalidProof) as error:
        if error.rule not in ("parent", "header-count", "state-header"):
            raise
    return LightClient(rpc, genesis_hash, clock, policy).verify(wanted)


REFUSALS = (InvalidBlock, InvalidProof, DecodeError)
"""What a node's lies end in."""
