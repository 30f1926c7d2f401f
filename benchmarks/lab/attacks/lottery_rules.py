"""Threats 49, 50, 51, 54, 55 and 59: tickets for another lattice, another time or another content than was worked for.

Every attempt is shown to the rules that a node applies, `verify_ticket` and the ledger. A threshold that every digest
meets leaves nothing to luck: what is refused is refused for what it is.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from benchmarks.lab.attacks.case import Attack, Effort, Ending, Outcome
from benchmarks.lab.attacks.commitment_network import ALICE, BOB, STRANGER, Network
from benchmarks.lab.attacks.lottery_arithmetic import (
    Lattice,
    Meter,
    compute_digests,
    compute_honest_prefixes,
    make_lap_seed,
    make_operands,
    make_scene,
)
from chain.errors import InvalidProof
from chain.header import (
    HEADER_VERSION,
    Foliage,
    Header,
    Trunk,
    compute_header_hash,
    compute_signing_hash,
    compute_trunk_hash,
)
from chain.ledger.bonds import make_report
from chain.ledger.context import EquivocationPunished
from chain.ledger.subsidy import compute_subsidy_split
from chain.primitives import U256_MAX, ZERO_HASH, Hash, Signature
from chain.signature import SigningKey
from chain.ticket import EMPTY_TICKET, StripOpening, Ticket, TicketOpening
from consensus.ticket import Draw, Operands, compute_thresholds, compute_ticket_seed, open_ticket, verify_ticket
from ml.backends.reference_ticket import compute_ticket_digest, mine_matmul
from ml.noise import I8, ROLE_A, TILE, MatmulShape, Place, compute_operand_noise
from ml.tensor_tree import compute_tensor_root

DRAW = Draw(Hash(b"c" * 32), Hash(b"p" * 32), Hash(b"s" * 32), target=U256_MAX)
SHAPE = MatmulShape(64, 96, 128)
STEP, OP = 3, 9
FIRST = Place(0, 0, 0)


def make_ticket(draw: Draw, shape: MatmulShape, a: I8, bt: I8, place: Place = FIRST) -> Ticket:
    """Return the honest ticket at a place."""
    roots = compute_tensor_root(a), compute_tensor_root(bt)
    seed = compute_ticket_seed(draw, Operands(STEP, OP, 0, shape, *roots))
    winners, _ = mine_matmul(seed, a, bt, [1 << 256] * shape.windows)
    found = {ticket.place: ticket.digest for ticket in winners}
    return _fill(place, found[place], roots)


def is_refused(ticket: Ticket, opening: TicketOpening, shape: MatmulShape = SHAPE, draw: Draw = DRAW) -> bool:
    """Say whether a node refuses a ticket on operands of `shape`."""
    try:
        verify_ticket(ticket, opening, shape, draw)
    except InvalidProof:
        return True
    return False


def judge_choices(effort: Effort) -> Outcome:
    """Mine under another rank, fold, split of K, shape or order of operands, and show the ticket as it is."""
    a, bt = make_operands(SHAPE.M, SHAPE.N, SHAPE.K, effort.seed)
    honest = make_ticket(DRAW, SHAPE, a, bt)
    opening = open_ticket(honest, a, bt)
    assert not is_refused(honest, opening), "the honest ticket stands"
    roots = honest.root_a, honest.root_b
    seed = compute_ticket_seed(DRAW, Operands(STEP, OP, 0, SHAPE, *roots))
    digests = [
        *(_mine_first(Lattice(SHAPE.M, SHAPE.N, SHAPE.K, *pair), seed, a, bt) for pair in _list_lattices()),
        # Half of K, counted as the whole; the operands in the other order; another tile's digest.
        make_ticket(DRAW, MatmulShape(64, 96, 64), a[:, :64], bt[:, :64]).digest,
        make_ticket(DRAW, MatmulShape(96, 64, 128), bt, a).digest,
        make_ticket(DRAW, SHAPE, a, bt, Place(1, 2, 0)).digest,
        make_ticket(DRAW, SHAPE, a[::-1].copy(), bt).digest,
        make_ticket(DRAW, SHAPE, a[:, ::-1].copy(), bt[:, ::-1].copy()).digest,
    ]
    refused = sum(is_refused(replace(honest, digest=digest), opening) for digest in digests)
    shapes = (replace(SHAPE, K=64), replace(SHAPE, M=32), MatmulShape(96, 64, 128), replace(SHAPE, K=2176))
    refused += sum(is_refused(honest, opening, shape) for shape in shapes)
    verdict = "shape, rank, fold and window follow from the task's program; a ticket has no field for them"
    return Outcome(len(digests) + len(shapes), refused, None, None, verdict)


def _list_lattices() -> Iterator[tuple[int, int]]:
    """Yield ranks and folds that are not the protocol's."""
    for fold in (8, 16, 32, 64, 128):
        yield from ((rank, fold) for rank in (8, 16, 32, 64) if fold % rank == 0 and (rank, fold) != (32, 32))


def _mine_first(lattice: Lattice, seed: Hash, a: I8, bt: I8) -> Hash:
    scene = make_scene(lattice, seed, a, bt)
    return compute_digests(scene, compute_honest_prefixes(Meter(), scene))[0]


def judge_known_seed(effort: Effort) -> Outcome:
    """Choose A = -E for a foreseen seed, so that A' x B' is zero, and commit to it."""
    refused, tried = 0, max(4, effort.trials // 64)
    for lap in range(tried):
        foreseen = make_lap_seed(lap)
        a = (-compute_operand_noise(foreseen, ROLE_A, SHAPE.M, SHAPE)).astype(np.int8)
        bt = make_operands(SHAPE.M, SHAPE.N, SHAPE.K, lap)[1]
        rows_a, rows_b = a[:TILE], bt[:TILE]
        digest = compute_ticket_digest(foreseen, SHAPE, FIRST, rows_a, rows_b)
        ticket = _fill(FIRST, digest, (compute_tensor_root(a), compute_tensor_root(bt)))
        refused += is_refused(ticket, open_ticket(ticket, a, bt))
    return Outcome(tried, refused, None, None, "the seed holds both roots: it is another once A is chosen")


FIXPOINT_BITS = 4


def judge_fixpoint(effort: Effort) -> Outcome:
    """Search operands whose seed is the one that they were made for, with all of a seed's bits but four taken away."""
    shape, hits = MatmulShape(32, 32, 32), 0
    bt = make_operands(32, 32, 32, effort.seed)[1]
    for trial in range(effort.trials):
        foreseen = make_lap_seed(trial)
        a = (-compute_operand_noise(foreseen, ROLE_A, shape.M, shape)).astype(np.int8)
        roots = compute_tensor_root(a), compute_tensor_root(bt)
        seed = compute_ticket_seed(DRAW, Operands(STEP, OP, 0, shape, *roots))
        hits += seed[0] >> 8 - FIXPOINT_BITS == foreseen[0] >> 8 - FIXPOINT_BITS
    verdict = f"one try in 2^{FIXPOINT_BITS} with {FIXPOINT_BITS} bits; a seed has 256"
    return Outcome(effort.trials, effort.trials - hits, 1 - 1 / (1 << FIXPOINT_BITS), None, verdict)


def judge_stockpile(effort: Effort) -> Outcome:
    """Show tickets of one parent under others: later blocks, siblings with another time, one's own re-signed."""
    a, bt = make_operands(SHAPE.M, SHAPE.N, SHAPE.K, effort.seed)
    refused, tried = 0, 0
    header = _make_headers(Network(), BOB, EMPTY_TICKET, 1)[0]
    for number in range(max(4, effort.trials // 256)):
        sibling = replace(header, foliage=replace(header.foliage, timestamp_ms=number + 1))
        draw = replace(DRAW, parent_hash=compute_header_hash(sibling))
        ticket = make_ticket(draw, SHAPE, a, bt)
        opening = open_ticket(ticket, a, bt)
        assert not is_refused(ticket, opening, draw=draw), "it stands under its own parent"
        refused += is_refused(ticket, opening)
        resigned = replace(sibling, signature=Signature(bytes([number]) * 64))
        refused += compute_header_hash(resigned) == draw.parent_hash
        tried += 2
    return Outcome(tried, refused, None, None, "the parent's hash is in the seed, its signature in no hash")


def judge_tails(effort: Effort) -> Outcome:
    """Claim remainder rows and columns, windows without a fold, and matmuls without any."""
    places = [
        (MatmulShape(63, 95, 128), Place(1, 0, 0)),
        (MatmulShape(63, 95, 128), Place(0, 2, 0)),
        (MatmulShape(64, 64, 2048), Place(0, 0, 1)),
        (MatmulShape(64, 64, 4096 + 127), Place(0, 0, 2)),
        (MatmulShape(64, 64, 31), Place(0, 0, 0)),
        (MatmulShape(31, 64, 128), Place(0, 0, 0)),
        (MatmulShape(64, 10, 128), Place(0, 0, 0)),
    ]
    refused = 0
    for shape, place in places:
        a, bt = make_operands(shape.M, shape.N, shape.K, effort.seed)
        ticket = _fill(place, Hash(bytes(32)), (compute_tensor_root(a), compute_tensor_root(bt)))
        strips = (StripOpening(bytes(TILE), ()),)
        refused += is_refused(ticket, TicketOpening(strips, strips), shape)
    return Outcome(len(places), refused, None, None, "whole tiles and whole folds alone have a ticket")


def judge_tail_price(effort: Effort) -> Outcome:
    """Mine only the last window, shorter than the others: compare chance a MAC between windows."""
    del effort
    target, shapes = 1 << 200, [MatmulShape(32, 32, K) for K in (2048 + 64, 4096 + 128, 5000, 9000)]
    chances = [
        (threshold, shape.get_ticket_macs(window))
        for shape in shapes
        for window, threshold in enumerate(compute_thresholds(target, shape))
    ]
    macs_per_chance = [macs * target / threshold for threshold, macs in chances]
    verdict = f"{len(chances)} windows of {min(m for _, m in chances)} to {max(m for _, m in chances)} MACs, one price"
    return Outcome(len(chances), 0, None, min(macs_per_chance), verdict)


def judge_equivocation(effort: Effort) -> Outcome:
    """Sign a second content for a ticket, to be shown to others or chosen after the win, and report it oneself."""
    del effort
    contents: tuple[Callable[[Foliage], Foliage], ...] = (
        lambda foliage: replace(foliage, timestamp_ms=foliage.timestamp_ms + 1),
        lambda foliage: replace(foliage, state_root=Hash(b"\x01" * 32)),
        lambda foliage: replace(foliage, transactions_root=Hash(b"\x01" * 32)),
    )
    punished, lost = 0, 0
    for change in contents:
        network = Network()
        draft = network.make_draft(BOB)
        network.mine(draft=draft)
        network.mine(draft=network.make_draft(ALICE))
        first, second = _make_headers(network, BOB, draft.ticket, 1, change)
        # The miner's friend reports, so that the reporter's part stays with them.
        report = make_report(first, second, STRANGER.public_key)
        effects = network.mine(network.sign(STRANGER, report), draft=network.make_draft(ALICE))
        events = [event for event in effects.events if isinstance(event, EquivocationPunished)]
        punished += len(events) == 1
        lost += sum(event.burned for event in events)
    reward = compute_subsidy_split(1, network.genesis.parameters).reward
    gain = -lost / len(contents) / reward
    return Outcome(
        len(contents),
        punished,
        None,
        None,
        "gain in rewards of a block: reward and bond burn, a tenth goes to whoever reports",
        gain,
    )


def _make_headers(
    network: Network, key: SigningKey, ticket: Ticket, height: int, change: Callable[[Foliage], Foliage] = lambda f: f
) -> tuple[Header, Header]:
    """Return two signed headers of one ticket, the second with changed content."""
    trunk = Trunk(ticket, ZERO_HASH, 1)
    foliage = Foliage(
        HEADER_VERSION, height, ZERO_HASH, 1_700_000_000_000, 1, key.public_key, ZERO_HASH, ZERO_HASH,
        compute_trunk_hash(trunk), ZERO_HASH,
    )  # fmt: skip
    first, second = (
        Header(trunk, each, key.sign(compute_signing_hash(network.context.chain_id, each)))
        for each in (foliage, change(foliage))
    )
    return first, second


def _fill(place: Place, digest: Hash, roots: tuple[Hash, Hash]) -> Ticket:
    placed = replace(EMPTY_TICKET, tile_row=place.tile_row, tile_column=place.tile_column, window=place.window)
    return replace(placed, step=STEP, op=OP, root_a=roots[0], root_b=roots[1], digest=digest)


DETECTED = (Ending.DETECTED,)

ATTACKS: tuple[Attack, ...] = (
    Attack(
        (49,), "chosen rank, fold, shape, order or tile", "Mine under values that suit the miner and show the digest",
        "refused", DETECTED, judge_choices,
    ),
    Attack(
        (50,), "operands for a foreseen seed", "Choose A = -E: the noised product is zero", "refused", DETECTED,
        judge_known_seed,
    ),
    Attack(
        (50,), "operands that are a fixpoint of their seed", "Search A = -E(seed) whose root gives that seed",
        "as often as computed", (Ending.COMPUTED,), judge_fixpoint,
    ),
    Attack(
        (54,), "stockpiled and re-signed", "Show a ticket under another parent; change a parent's signature alone",
        "refused, and no other seed", DETECTED, judge_stockpile,
    ),
    Attack(
        (51, 59), "one ticket, two contents", "Sign another time, state or content for a ticket that has won",
        "reward and bond burn", (Ending.DETECTED, Ending.UNPROFITABLE), judge_equivocation,
    ),
    Attack(
        (55,), "tails", "Claim remainder rows, remainder columns and windows without a fold", "refused", DETECTED,
        judge_tails,
    ),
    Attack(
        (55,), "short windows only", "Mine the short last windows alone", "costs as much", (Ending.UNPROFITABLE,),
        judge_tail_price,
    ),
)  # fmt: skip
