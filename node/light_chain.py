"""How a light client comes to a tip: by every header from genesis, or by a compact proof and the headers after it.

It asks a node through the RPC and believes no field of an answer. It knows neither tickets nor accounts. Which way is
taken, and to which level, a policy says.
"""

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from chain.codec import decode
from chain.errors import InvalidProof
from chain.header import HEADER_BYTES_MAX, Header, compute_header_hash
from chain.primitives import Hash
from consensus.flyclient import Demand, ProvenChain, is_provable, verify_chain
from consensus.header_chain import ChainEntry
from consensus.header_proof import PROOF_BYTES_MAX, HeaderProof, ProvenHeader, replay_proof
from consensus.header_rules import HeaderContext, validate_headers, validate_signature, validate_time
from consensus.sampling import compute_public_seed
from node.rpc.api import HEADERS_MAX, HEIGHTS_MAX
from node.rpc.client import RpcClient
from node.rpc.methods import (
    GET_HEAD,
    GET_HEADERS,
    PROVE_CHAIN,
    PROVE_HEADERS,
    ChainProofParams,
    HeaderProofParams,
    HeadersParams,
)
from node.rpc.registry import Params
from node.rpc.views import HeaderView, ProofView, to_hex, view_header
from node.threads import spread_over_threads

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Clock:
    """What a light client takes from its machine: the time, and randomness that the node cannot foresee."""

    get_time_ms: Callable[[], int]
    draw_below: Callable[[int], int] = field(default=secrets.randbelow)


@dataclass(frozen=True, slots=True)
class Policy:
    """How much a light client checks.

    A chain of more than `whole_blocks_max` blocks is sampled; None never samples. `is_public` takes draws that need no
    secret. Tickets opened: the last `tickets_last`, and those at `tickets_drawn` places drawn over work before them.
    """

    whole_blocks_max: int | None = HEADERS_MAX
    security_bits: int = 50
    stretch_blocks: int = 100
    is_public: bool = False
    tickets_last: int = 4
    tickets_drawn: int = 24


class ChainReader:
    """The chain that one node shows, from a known genesis to a tip that keeps all rules."""

    def __init__(self, rpc: RpcClient, context: HeaderContext, clock: Clock, genesis: ChainEntry) -> None:
        """Start at genesis."""
        self._rpc = rpc
        self._context = context
        self._clock = clock
        self.genesis = genesis
        self.tip = genesis
        self.proven: ProvenChain | None = None
        """What was sampled, when a compact proof was taken."""
        self._spread = spread_over_threads(os.cpu_count() or 1)
        self.headers_seen = 0
        self.proof_bytes = 0

    def fetch(self, policy: Policy) -> None:
        """Reach the node's head; raises InvalidBlock, InvalidProof or DecodeError."""
        head = _read_header(self._rpc.call(GET_HEAD, Params()))
        demand = self._make_demand(policy, head)
        is_long = policy.whole_blocks_max is not None and head.height > policy.whole_blocks_max
        if is_long and is_provable(self._context, head.height, demand):
            self._prove(head, demand, policy.is_public)
        else:
            self.follow(head.height)

    def follow(self, height: int) -> None:
        """Take the headers behind the tip up to a height the node named, all rules kept; raises as `fetch` does."""
        while self.tip.height < height:
            count = min(HEADERS_MAX, height - self.tip.height)
            answers = self._rpc.call(GET_HEADERS, HeadersParams(self.tip.height + 1, count))
            if not 0 < len(answers) <= count:
                raise InvalidProof("header-count", f"found {len(answers)} headers, expected 1 to {count}")
            headers = [_read_header(answer) for answer in answers]
            now_ms = self._clock.get_time_ms()
            self.tip = validate_headers(self._context, headers, self.tip, now_ms, self._spread)
            self.headers_seen += len(answers)

    def fetch_headers(self, heights: list[int]) -> tuple[ProvenHeader, ...]:
        """Return headers below the tip, ascending, each proven under it and signed; raises as `fetch` does."""
        parts = (heights[start : start + HEIGHTS_MAX] for start in range(0, len(heights), HEIGHTS_MAX))
        return tuple(header for part in parts for header in self._fetch_part(part))

    def _fetch_part(self, heights: list[int]) -> tuple[ProvenHeader, ...]:
        tip = self.tip
        proof = self._read_proof(self._rpc.call(PROVE_HEADERS, HeaderProofParams(to_hex(tip.hash), heights)), tip.hash)
        expect("proof-heights", [header.height for header in proof.headers], heights)
        proven = replay_proof(self._context, self.genesis, tip.header, proof)
        for header in proof.headers:
            validate_signature(self._context, header)
            validate_time(self._context, header, self._clock.get_time_ms())
        return proven

    def _make_demand(self, policy: Policy, head: Header) -> Demand:
        # Drawn only now: the head binds every header before it, so the node can adapt nothing to the seed.
        private = Hash(self._clock.draw_below(1 << 256).to_bytes(32, "big"))
        seed = compute_public_seed(head) if policy.is_public else private
        return Demand(seed, policy.security_bits, policy.stretch_blocks)

    def _prove(self, head: Header, demand: Demand, is_public: bool) -> None:
        tip_hash = compute_header_hash(head)
        seed = None if is_public else to_hex(demand.seed)
        params = ChainProofParams(to_hex(tip_hash), demand.security_bits, demand.stretch_blocks, seed)
        proof = self._read_proof(self._rpc.call(PROVE_CHAIN, params), tip_hash)
        now_ms = self._clock.get_time_ms()
        self.proven = verify_chain(self._context, self.genesis, head, demand, proof, now_ms)
        self.tip = self.proven.tip

    def _read_proof(self, answer: ProofView, tip_hash: Hash) -> HeaderProof:
        expect("proof-tip", answer.tip, to_hex(tip_hash))
        self.proof_bytes += len(answer.record)
        proof = decode(HeaderProof, answer.record, PROOF_BYTES_MAX)
        self.headers_seen += len(proof.headers)
        return proof


def _read_header(answer: HeaderView) -> Header:
    header = decode(Header, answer.record, HEADER_BYTES_MAX)
    expect("header-fields", answer, view_header(header))
    return header


def expect(rule: str, found: T, expected: T) -> None:
    """Check that two values agree; raises InvalidProof."""
    if found != expected:
        raise InvalidProof(rule, f"found {_show(found)}, expected {_show(expected)}")


def _show(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else f"{value!r:.600}"
