"""What the campaign says to a running node over RPC: free ports for it, tickets won for it, its balances read.

It holds no chain; what a node answers is judged elsewhere.
"""

import socket
from dataclasses import replace

import numpy as np

from benchmarks.lab.simulator.setting import Setting
from chain.codec import encode
from chain.genesis import compute_segment_seed
from chain.ticket import EMPTY_TICKET
from consensus.ticket import Draw, Operands, compute_thresholds, compute_ticket_seed, open_ticket
from ml.lottery import get_lottery
from ml.noise import MatmulShape
from ml.tensor_tree import compute_tensor_root
from node.addresses import parse_address
from node.options import LOOPBACK, Endpoint
from node.rpc.client import RpcClient
from node.rpc.methods import GET_WORK, SUBMIT_TICKET, TicketParams
from node.rpc.registry import Params
from node.rpc.views import from_hex
from node.rpc.work_views import WorkView

LAPS_MAX = 20_000


def find_endpoints(count: int) -> tuple[Endpoint, ...]:
    """Return endpoints of loopback that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for probe in sockets:
            probe.bind((LOOPBACK, 0))
        return tuple(Endpoint(LOOPBACK, probe.getsockname()[1]) for probe in sockets)
    finally:
        for probe in sockets:
            probe.close()


def mine_block(setting: Setting, client: RpcClient) -> int | None:
    """Win a ticket for a node's head and submit it; return the new height, None when the head has moved on.

    Raises NodeUnreachable and RemoteError.
    """
    work = client.call(GET_WORK, Params())
    is_extended = client.call(SUBMIT_TICKET, find_ticket_for(setting, work)) == "extended"
    return work.parent.height + 1 if is_extended else None


def find_ticket_for(setting: Setting, work: WorkView) -> TicketParams:
    """Return a winning ticket for the work that a node hands out."""
    matmul = setting.task.program.matmuls[0]
    shape = MatmulShape(matmul.M, matmul.N, matmul.K)
    random = np.random.default_rng(work.parent.height)
    a, bt = (random.integers(-63, 64, (rows, shape.K), np.int8) for rows in (shape.M, shape.N))
    roots, anchor = (compute_tensor_root(a), compute_tensor_root(bt)), work.anchors[-1]
    chain_id, task, miner = setting.context.chain_id, from_hex(work.task.task), parse_address(work.miner)
    seed = compute_segment_seed(chain_id, task, work.task.round, from_hex(anchor.beacon), miner, 0)
    target = int(work.target, 16)
    draw, thresholds = Draw(chain_id, from_hex(work.parent.hash), seed, target), compute_thresholds(target, shape)
    for lap in range(LAPS_MAX):
        operands = Operands(0, matmul.op, lap, shape, *roots)
        won = get_lottery("cpu").find_tickets(compute_ticket_seed(draw, operands), a, bt, thresholds)
        if won:
            ticket = replace(
                EMPTY_TICKET,
                task=task,
                round=work.task.round,
                anchor_height=anchor.height,
                op=matmul.op,
                lap=lap,
                tile_row=won[0].place.tile_row,
                tile_column=won[0].place.tile_column,
                window=won[0].place.window,
                root_a=roots[0],
                root_b=roots[1],
                digest=won[0].digest,
            )
            return TicketParams(work.parent.hash, encode(ticket), encode(open_ticket(ticket, a, bt)))
    raise AssertionError("no ticket in thousands of laps")
