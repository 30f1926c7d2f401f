"""A simulated miner: real tickets on random operands, found at times as a machine of a given speed would find them.

The wait for a ticket is exponential, with a mean that follows from the target, so difficulty acts as it does on a real
network. What is won goes through the node's own producer. It knows no fault.
"""

import asyncio
from dataclasses import dataclass, replace
from functools import cache
from math import exp
from random import Random

import numpy as np

from benchmarks.lab.simulator.setting import INTERVAL_MS, TARGET, Setting
from chain.errors import InvalidBlock
from chain.genesis import compute_segment_seed
from chain.primitives import Hash
from chain.signature import SigningKey
from chain.ticket import EMPTY_TICKET, Ticket, TicketOpening
from consensus.header_chain import ChainEntry
from consensus.header_rules import compute_next_target, compute_round
from consensus.ticket import Draw, Operands, compute_thresholds, compute_ticket_seed, open_ticket
from ml.lottery import get_lottery
from ml.noise import I8, MatmulShape
from ml.tensor_tree import compute_tensor_root
from node.parts import Parts
from node.producer import Producer

LAPS_MAX = 20_000
OPERANDS = 32
"""Pairs of factors that miners draw from."""
STEP_S = 0.2
"""How often it is decided whether a ticket was found; no machine finds them faster, however easy they are."""


IDLE_RULES = frozenset({"head-future", "signing-height", "segment-miner", "segment-bond", "segment-anchor"})
"""Why a good node makes no block of a ticket: its chain is older than what it signed, or it has no bond that counts."""


@dataclass(frozen=True, slots=True)
class Won:
    """A ticket with its parent and opening."""

    parent: ChainEntry
    ticket: Ticket
    opening: TicketOpening


def find_ticket(setting: Setting, parent: ChainEntry, key: SigningKey, random: Random) -> Won | None:
    """Return a real winning ticket under `parent`, or None when thousands of laps win nothing."""
    context, program = setting.context, setting.task.program
    matmul = program.matmuls[0]
    shape = MatmulShape(matmul.M, matmul.N, matmul.K)
    a, bt, roots = _get_operands(shape, random.randrange(OPERANDS))
    anchor, number = max(0, parent.height - 1), compute_round(context, parent.height)
    beacon = parent.get_ancestor(anchor).beacon
    seed = compute_segment_seed(context.chain_id, context.task_id, number, beacon, key.public_key, 0)
    target = compute_next_target(context, parent)
    draw = Draw(context.chain_id, parent.hash, seed, target)
    thresholds, lottery = compute_thresholds(target, shape), get_lottery("cpu")
    for lap in range(LAPS_MAX):
        operands = Operands(0, matmul.op, lap, shape, *roots)
        won = lottery.find_tickets(compute_ticket_seed(draw, operands), a, bt, thresholds)
        if won:
            place = won[0].place
            ticket = replace(
                EMPTY_TICKET,
                task=context.task_id,
                round=number,
                anchor_height=anchor,
                op=matmul.op,
                lap=lap,
                tile_row=place.tile_row,
                tile_column=place.tile_column,
                window=place.window,
                root_a=roots[0],
                root_b=roots[1],
                digest=won[0].digest,
            )
            return Won(parent, ticket, open_ticket(ticket, a, bt))
    return None


async def mine(setting: Setting, parts: Parts, share: float, random: Random) -> None:
    """Mine on the head until cancelled, with `share` of the work that genesis expects.

    Raises StorageError when the node cannot write.
    """
    producer = Producer(parts)
    while True:
        await asyncio.sleep(STEP_S)
        parent = parts.chain.head
        ease = compute_next_target(setting.context, parent) / TARGET
        if random.random() < exp(-STEP_S * share * ease * 1000 / INTERVAL_MS):
            continue
        won = find_ticket(setting, parent, parts.key, random)
        if won is None:
            continue
        try:
            await producer.produce(parent.hash, won.ticket, won.opening)
        except InvalidBlock as error:
            if error.rule not in IDLE_RULES:
                raise


@cache
def _get_operands(shape: MatmulShape, number: int) -> tuple[I8, I8, tuple[Hash, Hash]]:
    """Return one of a few pairs of factors with their roots: what wins is decided by the lottery's noise on them."""
    random = Random(number)
    a, bt = _draw_operand(random, shape.M, shape.K), _draw_operand(random, shape.N, shape.K)
    return a, bt, (compute_tensor_root(a), compute_tensor_root(bt))


def _draw_operand(random: Random, rows: int, columns: int) -> I8:
    data = np.frombuffer(random.randbytes(rows * columns), np.uint8)
    return (data % 127).astype(np.int8).reshape(rows, columns) - np.int8(63)
