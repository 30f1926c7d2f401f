"""A compact proof of the heaviest chain: its last stretch whole, and headers at places drawn by work before it.

The prover is committed to all earlier headers by the tip before it learns the seed of the draws. False work is then
found with a chance that the number of places sets; what lies in the stretch is checked like any header. It opens no
ticket: that is asked for afterwards. Source: FlyClient (Bünz et al. 2019); docs/light-client.md has the arithmetic.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from chain.errors import InvalidProof
from chain.header import Header
from chain.primitives import Hash
from consensus.header_chain import ChainEntry, make_entry, make_first_entry
from consensus.header_proof import HeaderProof, ProvenHeader, prove_headers, replay_proof
from consensus.header_rules import (
    HeaderContext,
    compute_lead_in,
    validate_signature,
    validate_time,
    validate_unsigned,
)
from consensus.sampling import SAMPLES_MAX, compute_sample_count, draw_places

SECURITY_BITS_MAX = 128
STRETCH_MAX = 1_024
"""Headers that a proof may be asked to show one after another up to the tip."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What a client asks for: places drawn from `seed`, to a level, and the last `stretch_blocks` headers whole."""

    seed: Hash
    security_bits: int = 50
    stretch_blocks: int = 100


@dataclass(frozen=True, slots=True)
class ProvenChain:
    """A tip whose chain was sampled: `tip` has ancestors down to the lead-in, `samples` cover `places` before those."""

    tip: ChainEntry
    places: tuple[int, ...]
    samples: tuple[ProvenHeader, ...]


def is_provable(context: HeaderContext, height: int, demand: Demand) -> bool:
    """Say whether a chain of that height is longer than the headers which the proof shows anyway."""
    return height > demand.stretch_blocks + compute_lead_in(context)


def prove_chain(context: HeaderContext, tip: ChainEntry, demand: Demand) -> HeaderProof:
    """Return the proof that `demand` asks of `tip`'s chain; raises InvalidProof when the chain is too short for it."""
    _validate_demand(context, tip.height, demand)
    stretch_start = tip.height - demand.stretch_blocks
    before = tip.get_ancestor(stretch_start)
    places = compute_places(demand, tip.total_work, before.total_work)
    first = stretch_start - compute_lead_in(context) + 1
    drawn = {before.get_ancestor_by_work(place).height for place in places}
    return prove_headers(tip, sorted(drawn | set(range(first, tip.height))))


def compute_places(demand: Demand, total_work: int, work_before: int) -> tuple[int, ...]:
    """Return the units of work to show, when the stretch starts after `work_before`; raises InvalidProof."""
    count = compute_sample_count(demand.security_bits, total_work, total_work - work_before)
    if count > SAMPLES_MAX:
        raise InvalidProof("proof-samples", f"found a chain that needs {count} samples, expected at most {SAMPLES_MAX}")
    return draw_places(demand.seed, total_work, total_work - work_before, count)


def verify_chain(
    context: HeaderContext, genesis: ChainEntry, tip: Header, demand: Demand, proof: HeaderProof, now_ms: int
) -> ProvenChain:
    """Check that `proof` is what `demand` asks of the chain under `tip`; raises InvalidProof or InvalidBlock.

    `genesis` is the client's own; `now_ms` its clock. Signatures come last, once all that is cheaper holds.
    """
    _validate_demand(context, tip.height, demand)
    first = tip.height - demand.stretch_blocks - compute_lead_in(context) + 1
    stretch_count = tip.height - first
    _validate_stretch(proof.headers[-stretch_count:], first, stretch_count)
    proven = replay_proof(context, genesis, tip, proof)
    samples, stretch = proven[:-stretch_count], proven[-stretch_count:]
    parent = _append_stretch(context, stretch, compute_lead_in(context))
    validate_unsigned(context, tip, parent)
    work_before = parent.get_ancestor(tip.height - demand.stretch_blocks).total_work
    places = compute_places(demand, tip.trunk.total_work, work_before)
    _validate_samples(samples, [place for place in places if place < stretch[0].history.work])
    for header in (*proof.headers, tip):
        validate_signature(context, header)
        validate_time(context, header, now_ms)
    return ProvenChain(make_entry(tip, parent), places, samples)


def _validate_demand(context: HeaderContext, height: int, demand: Demand) -> None:
    if not 1 <= demand.security_bits <= SECURITY_BITS_MAX or not 1 <= demand.stretch_blocks <= STRETCH_MAX:
        found = f"{demand.security_bits} bits and {demand.stretch_blocks} blocks"
        expected = f"at most {SECURITY_BITS_MAX} and {STRETCH_MAX}"
        raise InvalidProof("proof-demand", f"found {found}, expected {expected}")
    if not is_provable(context, height, demand):
        raise InvalidProof("proof-length", f"found a chain of {height} blocks, expected one longer than its stretch")


def _validate_stretch(headers: Sequence[Header], first: int, count: int) -> None:
    if len(headers) != count or headers[0].height != first:
        raise InvalidProof("proof-stretch", f"found {len(headers)} last headers, expected {count} from height {first}")


def _validate_samples(samples: Sequence[ProvenHeader], places: Sequence[int]) -> None:
    """Check that each place lies in a block of `samples`, and that each of these was asked for; raises InvalidProof."""
    ends = [proven.header.trunk.total_work for proven in samples]
    asked = set()
    for place in places:
        found = bisect_right(ends, place)
        if found == len(samples) or samples[found].history.work > place:
            raise InvalidProof("proof-place", f"found no header over unit {place} of the work")
        asked.add(found)
    if len(asked) != len(samples):
        raise InvalidProof("proof-unasked", f"found {len(samples)} sampled headers, expected {len(asked)}")


def _append_stretch(context: HeaderContext, stretch: Sequence[ProvenHeader], lead_in: int) -> ChainEntry:
    """Return the entry of the tip's parent, each header behind the lead-in checked against its parent."""
    entry = make_first_entry(stretch[0].header, stretch[0].history)
    for place, proven in enumerate(stretch[1:], 1):
        if place >= lead_in:
            validate_unsigned(context, proven.header, entry)
        entry = make_entry(proven.header, entry)
    return entry
