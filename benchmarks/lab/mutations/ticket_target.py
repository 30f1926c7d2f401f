"""Blocks' tickets: a header with the strips behind its ticket, judged as a node and as a light client judge them.

The attacker is the winner itself: it may alter its ticket, write what hangs on that anew and sign again. Tickets are
mined for this on random operands of K = 64 and 1,024, one block on the other, so that none has another's parent.
Whether operands are those of a committed segment is the ledger's to say, later; here they are anybody's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from random import Random

import numpy as np

from benchmarks.lab.mutations.byte_mutators import BYTE_MUTATORS
from benchmarks.lab.mutations.signed_headers import FOLIAGE_BITS, TICKET_BITS, alter_field, bend_signature, sign
from benchmarks.lab.mutations.target import Attempt, Forgery, Sample, Target
from benchmarks.lab.mutations.wire_mutators import WIRE_MUTATORS
from chain.codec import decode, encode
from chain.genesis import Genesis, Parameters, TaskSpec
from chain.header import Header
from chain.primitives import U256_MAX, ZERO_HASH, Hash, PublicKey
from chain.signature import SigningKey
from chain.ticket import EMPTY_TICKET, TILE, Ticket, TicketOpening
from consensus.header_chain import ChainEntry, make_entry, make_first_entry, make_genesis_header
from consensus.header_rules import (
    HeaderContent,
    HeaderContext,
    compute_next_target,
    compute_round,
    get_segment_seed,
    make_header,
    make_header_context,
    validate_header,
)
from consensus.history import History
from consensus.ticket import (
    Draw,
    Operands,
    compute_thresholds,
    compute_ticket_macs,
    compute_ticket_seed,
    compute_ticket_shape,
    get_place,
    open_ticket,
    verify_ticket,
)
from ml.lottery import Lottery, get_lottery
from ml.models import build_program
from ml.noise import I8, MatmulShape
from ml.program import Program
from ml.spec import DIGITS, Spec, encode_spec
from ml.tensor_tree import compute_tensor_root

SHOWN_BYTES_MAX = 256 * 1024
START_MS = 1_700_000_000_000
NOW_MS = START_MS + 10**6
TARGET = U256_MAX >> 26
"""A tile of K = 1,024 wins once in 64, one of K = 64 once in 1,024: soon mined, and seldom won by chance."""
LAPS_MAX = 10_000
KEYS = tuple(SigningKey(bytes([number]) * 32) for number in (0x51, 0x52))
SPECS: dict[int, Spec] = {64: DIGITS, 1_024: replace(DIGITS, batch=1_024)}
"""By K: the digits' first product, and a weight gradient over 1,024 examples."""


@dataclass(frozen=True, slots=True)
class ShownTicket:
    """What a light client gets of a block; a block has transactions besides."""

    header: Header
    opening: TicketOpening


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a ticket is won, and who checks it."""

    context: HeaderContext
    program: Program
    parent: ChainEntry
    lottery: Lottery

    def judge(self, data: bytes) -> None:
        """Check what is shown as a child of the parent; raises as a judge does."""
        shown = decode(ShownTicket, data, SHOWN_BYTES_MAX)
        validate_header(self.context, shown.header, self.parent, NOW_MS)
        ticket = shown.header.trunk.ticket
        shape = compute_ticket_shape(self.program, ticket.step, ticket.op)
        verify_ticket(ticket, shown.opening, shape, self.make_draw(ticket, shown.header.foliage.miner), self.lottery)

    def make_draw(self, ticket: Ticket, miner: bytes) -> Draw:
        """Return what a ticket is drawn under."""
        seed = get_segment_seed(self.context, self.parent, ticket, PublicKey(miner))
        return Draw(self.context.chain_id, self.parent.hash, seed, compute_next_target(self.context, self.parent))


@dataclass(frozen=True, slots=True)
class Scene:
    """A ticket with all that its winner holds: a (M, K) and bt (N, K) int8."""

    setting: Setting
    key: SigningKey
    ticket: Ticket
    a: I8
    bt: I8
    opening: TicketOpening

    @property
    def shape(self) -> MatmulShape:
        """The matmul's dimensions."""
        return MatmulShape(len(self.a), len(self.bt), self.a.shape[1])

    def compute_digest(self, ticket: Ticket) -> tuple[Hash, bool]:
        """Return the digest that a ticket on these operands truly has, and whether it wins."""
        draw = self.setting.make_draw(ticket, self.key.public_key)
        operands = Operands(ticket.step, ticket.op, ticket.lap, self.shape, ticket.root_a, ticket.root_b)
        place, seed = get_place(ticket), compute_ticket_seed(draw, operands)
        rows = (
            np.ascontiguousarray(part[TILE * tile : TILE * (tile + 1)])
            for part, tile in ((self.a, place.tile_row), (self.bt, place.tile_column))
        )
        digest = self.setting.lottery.compute_ticket_digest(seed, self.shape, place, *rows)
        return digest, int.from_bytes(digest, "big") < compute_thresholds(draw.target, self.shape)[place.window]

    def make_header(self, ticket: Ticket) -> Header:
        """Return the header of a ticket with everything that hangs on it, signed."""
        content = HeaderContent(self.key.public_key, self._get_time_ms(), ZERO_HASH, ZERO_HASH)
        return make_header(self.setting.context, self.setting.parent, ticket, content, self.key)

    def show(self, header: Header, opening: TicketOpening | None = None) -> Attempt:
        """Return the attempt to show a header, by itself over the opening of the scene's own ticket."""
        return Attempt(encode(ShownTicket(header, opening or self.opening)), self.setting.judge)

    def _get_time_ms(self) -> int:
        return START_MS + 2_000 * (self.setting.parent.height + 1)


def make_samples() -> tuple[Sample, ...]:
    """Return two tickets of each K and each implementation of the lottery, the second block on the first."""
    return tuple(
        Sample(scene.show(scene.make_header(scene.ticket)), _make_forgeries(scene))
        for K in sorted(SPECS)
        for name in ("reference", "cpu")
        for scene in _mine_pair(K, get_lottery(name))
    )


def _mine_pair(K: int, lottery: Lottery) -> list[Scene]:
    spec = SPECS[K]
    program, scenes = build_program(spec), list[Scene]()
    task = TaskSpec("digits", encode_spec(spec), ZERO_HASH, ZERO_HASH)
    miners = tuple(key.public_key for key in KEYS)
    genesis = Genesis("mutations", START_MS, TARGET, Parameters(), (), miners, task)
    context = make_header_context(genesis, partial(compute_ticket_macs, program))
    parent = make_first_entry(make_genesis_header(genesis, ZERO_HASH), History())
    for key in KEYS:
        scenes.append(mine(Setting(context, program, parent, lottery), key, K))
        parent = make_entry(scenes[-1].make_header(scenes[-1].ticket), parent)
    return scenes


def mine(setting: Setting, key: SigningKey, K: int) -> Scene:
    """Return a ticket won on random operands of the first matmul with that K."""
    matmul = next(m for m in setting.program.lottery_matmuls if m.K == K and min(m.M, m.N) >= TILE)
    rng = np.random.default_rng([K, setting.parent.height])
    a, bt = (rng.integers(-63, 63, (rows, K), np.int8, endpoint=True) for rows in (matmul.M, matmul.N))
    height = setting.parent.height
    blank = replace(
        EMPTY_TICKET, task=setting.context.task_id, op=matmul.op, round=compute_round(setting.context, height),
        anchor_height=max(0, height - 1), root_a=compute_tensor_root(a), root_b=compute_tensor_root(bt),
    )  # fmt: skip
    shape, draw = MatmulShape(matmul.M, matmul.N, K), setting.make_draw(blank, key.public_key)
    for lap in range(LAPS_MAX):
        operands = Operands(0, matmul.op, lap, shape, blank.root_a, blank.root_b)
        thresholds = compute_thresholds(draw.target, shape)
        won = get_lottery("cpu").find_tickets(compute_ticket_seed(draw, operands), a, bt, thresholds)
        if won:
            place = won[0].place
            ticket = replace(
                blank, lap=lap, digest=won[0].digest,
                tile_row=place.tile_row, tile_column=place.tile_column, window=place.window,
            )  # fmt: skip
            return Scene(setting, key, ticket, a, bt, open_ticket(ticket, a, bt))
    raise AssertionError(f"no ticket in {LAPS_MAX} laps")


def _make_forgeries(scene: Scene) -> Mapping[str, Forgery]:
    forgeries = {
        "ticket altered, signed again": alter_ticket,
        "drawn elsewhere": draw_elsewhere,
        "operand altered, opened anew": alter_operand,
        "foliage altered, signed again": alter_foliage,
        "signature bent": bend,
        "signed by another miner": sign_by_another,
    }
    return {name: partial(forge, scene) for name, forge in forgeries.items()}


def alter_ticket(scene: Scene, rng: Random) -> Attempt:
    """Alter a field of the ticket and sign its header again."""
    return scene.show(scene.make_header(alter_field(rng, scene.ticket, TICKET_BITS)))


def draw_elsewhere(scene: Scene, rng: Random) -> Attempt | None:
    """Move to another lap, segment, step or tile and open what stands there, under the true digest or a luckier one.

    Valid by rights when the true digest wins: that is mining.
    """
    shape = scene.shape
    moved = replace(
        scene.ticket, lap=rng.randrange(2**32), index=rng.randrange(2), step=rng.randrange(scene.setting.program.steps),
        tile_row=rng.randrange(shape.tile_rows), tile_column=rng.randrange(shape.tile_columns),
    )  # fmt: skip
    return _claim_digest(scene, moved, rng)


def alter_operand(scene: Scene, rng: Random) -> Attempt | None:
    """Alter an element of an operand, in range or out of it, and compute its root and the strips' paths anew.

    Valid by rights when the true digest wins: that is mining.
    """
    is_a = rng.random() < 0.5
    operand = (scene.a if is_a else scene.bt).copy()
    place = rng.randrange(len(operand)), rng.randrange(operand.shape[1])
    operand[place] = rng.choice([value for value in (-128, -64, -63, 0, 63, 64, 127) if value != operand[place]])
    if is_a:
        ticket = replace(scene.ticket, root_a=compute_tensor_root(operand))
        return _claim_digest(replace(scene, a=operand), ticket, rng)
    ticket = replace(scene.ticket, root_b=compute_tensor_root(operand))
    return _claim_digest(replace(scene, bt=operand), ticket, rng)


def _claim_digest(scene: Scene, ticket: Ticket, rng: Random) -> Attempt | None:
    digest, wins = scene.compute_digest(ticket)
    if wins:
        return None
    claimed = replace(ticket, digest=rng.choice((digest, scene.ticket.digest, Hash(bytes(32)))))
    return scene.show(scene.make_header(claimed), open_ticket(claimed, scene.a, scene.bt))


def alter_foliage(scene: Scene, rng: Random) -> Attempt:
    """Alter what the winner cannot choose, and sign it."""
    header = scene.make_header(scene.ticket)
    altered = alter_field(rng, header.foliage, FOLIAGE_BITS)
    return scene.show(sign(scene.setting.context.chain_id, scene.key, header.trunk, altered))


def bend(scene: Scene, rng: Random) -> Attempt:
    """Put another signature there, which nobody made."""
    return scene.show(bend_signature(rng, scene.make_header(scene.ticket)))


def sign_by_another(scene: Scene, rng: Random) -> Attempt:
    """Take the ticket for oneself: under another name, or under the winner's name."""
    header, (thief,) = scene.make_header(scene.ticket), (key for key in KEYS if key is not scene.key)
    miner = rng.choice((thief.public_key, header.foliage.miner))
    # Every try needs other bytes; what a winner may choose, a thief may too.
    foliage = replace(header.foliage, miner=miner, state_root=Hash(rng.randbytes(32)))
    return scene.show(sign(scene.setting.context.chain_id, thief, header.trunk, foliage))


TARGET_OF_TICKETS = Target(
    "tickets",
    "a header and the strips behind its ticket, to a node or light client (K = 64 and 1,024)",
    make_samples,
    BYTE_MUTATORS | WIRE_MUTATORS,
)
