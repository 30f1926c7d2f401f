"""Which tickets a light client opens, and the check of one: that the work which a header claims was done.

A header alone proves no work: its ticket's digest is a claim until the strips behind it are hashed again. It knows how
to ask for strips and for the headers that seeds hang on; whether a header stands in the chain was decided before.
"""

from dataclasses import dataclass

from chain.codec import decode
from chain.genesis import compute_segment_seed
from chain.header import Header
from chain.primitives import Hash
from chain.ticket import TICKET_OPENING_BYTES_MAX, TicketOpening
from consensus.header_rules import HeaderContext
from consensus.sampling import draw_places
from consensus.ticket import Draw, compute_ticket_macs, compute_ticket_shape, verify_ticket
from ml.program import Program
from node.light_chain import ChainReader, Clock, Policy, expect
from node.rpc.client import RpcClient
from node.rpc.methods import GET_TICKET, BlockParams
from node.rpc.views import to_hex, view_header


@dataclass(frozen=True, slots=True)
class Site:
    """A block whose ticket is to be opened, by hash and header."""

    hash: Hash
    header: Header


def draw_sites(reader: ChainReader, policy: Policy, clock: Clock) -> tuple[Site, ...]:
    """Return the last blocks and those at privately drawn places before them, oldest first and each once.

    Places are drawn by the density of compact proofs, the blocks that are opened anyway being the last stretch.
    """
    tip = reader.tip
    before = max(0, tip.first_height, tip.height - max(1, policy.tickets_last))
    sites = {site.header.height: site for site in list_sites(reader, before)}
    if before:
        seed = Hash(clock.draw_below(1 << 256).to_bytes(32, "big"))
        stretch_work = tip.total_work - tip.get_ancestor(before).total_work
        for place in draw_places(seed, tip.total_work, stretch_work, policy.tickets_drawn):
            site = _find_site(reader, place, clock)
            sites[site.header.height] = site
    return tuple(sites[height] for height in sorted(sites))


def list_sites(reader: ChainReader, before: int) -> tuple[Site, ...]:
    """Return all blocks behind height `before` up to the tip, oldest first."""
    return tuple(_get_site(reader, height) for height in range(before + 1, reader.tip.height + 1))


def _find_site(reader: ChainReader, place: int, clock: Clock) -> Site:
    """Return the block at a place; where a sampled chain is not at hand, at one of the proof's own places instead.

    Those were drawn by the same density, so the one stands for the other.
    """
    tip = reader.tip
    known_from = tip.get_ancestor(tip.first_height).total_work
    if reader.proven is None or place >= known_from:
        return _get_site(reader, tip.get_ancestor_by_work(place).height)
    deep = [sampled for sampled in reader.proven.places if sampled < known_from]
    drawn = deep[clock.draw_below(len(deep))] if deep else known_from
    for sample in reader.proven.samples:
        if drawn < sample.header.trunk.total_work:
            return Site(sample.hash, sample.header)
    return _get_site(reader, tip.first_height)


def _get_site(reader: ChainReader, height: int) -> Site:
    entry = reader.tip.get_ancestor(height)
    return Site(entry.hash, entry.header)


def find_beacons(reader: ChainReader, sites: tuple[Site, ...]) -> dict[int, Hash]:
    """Return the beacons of the sites' anchors by height; those that are not at hand are asked for, proven."""
    heights = sorted({site.header.trunk.ticket.anchor_height for site in sites})
    first = reader.tip.first_height
    known = {height: reader.tip.get_ancestor(height).beacon for height in heights if height >= first}
    if first and 0 in heights:
        known[0] = reader.genesis.beacon
    missing = [height for height in heights if height not in known]
    proven = reader.fetch_headers(missing)
    return known | {each.header.height: each.header.trunk.beacon for each in proven}


def verify_site(rpc: RpcClient, context: HeaderContext, program: Program, site: Site, beacon: Hash) -> int:
    """Check the opening of a site's ticket; return the MACs it covers. Raises InvalidProof or DecodeError."""
    answer = rpc.call(GET_TICKET, BlockParams(to_hex(site.hash)))
    expect("ticket-header", answer.header, view_header(site.header))
    opening = decode(TicketOpening, answer.opening, TICKET_OPENING_BYTES_MAX)
    ticket, foliage = site.header.trunk.ticket, site.header.foliage
    seed = compute_segment_seed(context.chain_id, ticket.task, ticket.round, beacon, foliage.miner, ticket.index)
    draw = Draw(context.chain_id, foliage.parent_hash, seed, foliage.target)
    verify_ticket(ticket, opening, compute_ticket_shape(program, ticket.step, ticket.op), draw)
    return compute_ticket_macs(program, ticket)
