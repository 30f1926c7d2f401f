"""A node's answers to a light client: one of them is altered, all others are honest, and the client must not be led on.

A lie succeeds when the client ends with another belief than honest answers give it: another tip, balance or network, or
other tickets opened. An answer that says the same in other words, or differs where no belief comes from, is valid by
rights.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from random import Random

import msgspec

from benchmarks.lab.mutations.answer_network import HOLDER, Connection, Network, make_client, make_network
from benchmarks.lab.mutations.byte_mutators import BYTE_MUTATORS
from benchmarks.lab.mutations.json_mutators import JSON_MUTATORS, Node, iter_objects
from benchmarks.lab.mutations.target import Attempt, SameBelief, Sample, Target
from benchmarks.lab.mutations.wire_mutators import WIRE_MUTATORS
from chain.codec import decode, encode
from chain.errors import DecodeError
from chain.header import HEADER_BYTES_MAX, Header
from chain.ledger.records import Account
from chain.primitives import Hash, PublicKey
from chain.signature import SigningKey
from chain.state.view import VALUE_BYTES_MAX
from node.light import Wanted, verify_node
from node.light_chain import Clock, Policy
from node.rpc.views import view_header

SAMPLED = Policy(whole_blocks_max=0, security_bits=8, stretch_blocks=4, tickets_last=1, tickets_drawn=3)
WHOLE = Policy(whole_blocks_max=None, tickets_last=1, tickets_drawn=1)
NOBODY = SigningKey(b"\x54" * 32).public_key

RECORDS = ("record", "opening", "value", "proof")
"""Names under which answers carry canonical bytes."""

Belief = tuple[str, Hash, Hash, int, tuple[int, ...], int | None]
"""Network, genesis, tip, places sampled, heights of opened tickets, balance."""


@dataclass(frozen=True, slots=True)
class Errand:
    """What a client asks a node of this network."""

    network: Network
    account: PublicKey
    policy: Policy

    def run(self, connection: Connection) -> Belief:
        """Return what the client believes at the end; raises as a judge does."""
        tip = self.network.tip
        clock = Clock(lambda: tip.header.foliage.timestamp_ms, lambda limit: limit * 2 // 3)
        genesis_hash = tip.get_ancestor(0).hash
        found = verify_node(make_client(connection), genesis_hash, clock, Wanted(self.account), self.policy)
        heights = tuple(ticket.height for ticket in found.tickets)
        return found.network, found.genesis_hash, found.tip.hash, found.samples, heights, found.balance


def _judge(errand: Errand, method: str, honest: tuple[Belief, bytes], data: bytes) -> None:
    belief = errand.run(Connection(errand.network, method, data))
    if belief == honest[0] and data != honest[1]:
        raise SameBelief


def make_samples() -> tuple[Sample, ...]:
    """Return the first answer to every question of two errands on each of two networks."""
    errands = [
        Errand(network, *errand)
        for network in map(make_network, ("one", "another"))
        for errand in ((HOLDER, SAMPLED), (NOBODY, WHOLE))
    ]
    return tuple(sample for errand in errands for sample in _list_samples(errand))


def _list_samples(errand: Errand) -> list[Sample]:
    connection = Connection(errand.network)
    belief = errand.run(connection)
    honest = [
        Attempt(data, partial(_judge, errand, method, (belief, data)))
        for method, data in sorted(connection.asked.items())
    ]
    return [Sample(attempt, {"record altered, fields follow": partial(alter_record, attempt)}) for attempt in honest]


def alter_record(honest: Attempt, rng: Random) -> Attempt:
    """Alter the canonical bytes within an answer; what the answer says beside them follows, where they can be read."""
    holder: list[Node] = [json.loads(honest.data)]
    entries = [(parent, name) for parent in iter_objects(holder) for name in RECORDS if parent.get(name)]
    parent, name = rng.choice(entries)
    record = base64.b64decode(str(parent[name]))
    mutate = rng.choice(list((BYTE_MUTATORS | WIRE_MUTATORS).values()))
    is_richer = name == "value" and rng.random() < 0.5
    altered = encode(Account(rng.randrange(2), rng.randrange(2**64))) if is_richer else mutate(rng, record, record)
    if altered == record:
        return honest
    parent[name] = base64.b64encode(altered).decode()
    parent.update(_read_fields(parent, name, altered))
    return replace(honest, data=json.dumps(holder[0]).encode())


def _read_fields(parent: Mapping[str, Node], name: str, record: bytes) -> Mapping[str, Node]:
    """Return the fields that an answer would have beside an altered record."""
    try:
        if name == "value":
            account = decode(Account, record, VALUE_BYTES_MAX)
            return {"balance": str(account.balance), "nonce": account.nonce}
        if "total_work" in parent:
            fields: dict[str, Node] = json.loads(
                msgspec.json.encode(view_header(decode(Header, record, HEADER_BYTES_MAX)))
            )
            return fields
    except DecodeError:
        pass
    return {}


TARGET_OF_ANSWERS = Target(
    "light client answers",
    "one answer of a node in JSON, records in base64, to a light client that asks it all it needs",
    make_samples,
    BYTE_MUTATORS | JSON_MUTATORS,
)
