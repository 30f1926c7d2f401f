"""A real node in this process, mining real tickets on operands of no training, for tests of what callers see."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from chain.codec import encode
from chain.genesis import Allocation, Genesis, Parameters, TaskSpec, compute_chain_id, compute_segment_seed
from chain.primitives import ATOMS_PER_COIN, Hash
from chain.signature import SigningKey
from chain.ticket import EMPTY_TICKET
from consensus.ticket import Draw, Operands, compute_thresholds, compute_ticket_seed, open_ticket
from ml.checkpoint import compute_checkpoint_root, compute_initial_checkpoint
from ml.dataset import load_digits
from ml.lottery import get_lottery
from ml.models import build_program
from ml.noise import MatmulShape
from ml.spec import DIGITS, encode_spec
from ml.tensor_tree import compute_tensor_root
from node.addresses import parse_address
from node.data_directory import DataDirectory
from node.options import Endpoint, NodeOptions
from node.rpc.client import AsyncRpcClient
from node.rpc.methods import GET_WORK, SUBMIT_TICKET, TicketParams
from node.rpc.registry import Params
from node.rpc.views import from_hex
from node.rpc.work_views import WorkView
from node.run import Node, make_node

MINER, SECOND_MINER = (SigningKey(bytes([number]) * 32) for number in (0x11, 0x33))
HOLDER = SigningKey(b"\x22" * 32)


def make_genesis(miners: tuple[SigningKey, ...] = (MINER,)) -> Genesis:
    """Return a genesis whose target one noised matmul in a few meets."""
    program = build_program(DIGITS)
    dataset = load_digits(DIGITS.heldout)
    checkpoint_root = compute_checkpoint_root(compute_initial_checkpoint(program))
    return Genesis(
        network="test",
        timestamp_ms=time.time_ns() // 1_000_000 - 60_000,
        target=2**236,
        parameters=Parameters(),
        allocations=tuple(Allocation(key.public_key, 1_000 * ATOMS_PER_COIN) for key in (*miners, HOLDER)),
        miners=tuple(key.public_key for key in miners),
        task=TaskSpec("digits", encode_spec(DIGITS), dataset.root, checkpoint_root),
    )


@dataclass
class LiveNode:
    """A running node and how to reach it."""

    node: Node
    genesis: Genesis
    url: str
    token: str

    @property
    def genesis_hash(self) -> Hash:
        return self.node.parts.chain.headers.genesis.hash

    async def mine(self, blocks: int) -> None:
        """Mine blocks through the RPC, as a miner does."""
        async with AsyncRpcClient(self.url, self.token) as rpc:
            for _ in range(blocks):
                work = await rpc.call(GET_WORK, Params())
                assert await rpc.call(SUBMIT_TICKET, find_ticket(self.genesis, work)) == "extended"


def find_ticket(genesis: Genesis, work: WorkView) -> TicketParams:
    """Return a real winning ticket on random operands for the head."""
    matmul = build_program(DIGITS).matmuls[0]
    shape = MatmulShape(matmul.M, matmul.N, matmul.K)
    random = np.random.default_rng(work.parent.height)
    a = random.integers(-63, 64, (shape.M, shape.K), np.int8)
    bt = random.integers(-63, 64, (shape.N, shape.K), np.int8)
    roots, anchor, chain_id = (
        (compute_tensor_root(a), compute_tensor_root(bt)),
        work.anchors[-1],
        compute_chain_id(genesis),
    )
    seed = compute_segment_seed(
        chain_id, from_hex(work.task.task), work.task.round, from_hex(anchor.beacon), parse_address(work.miner), 0
    )
    target = int(work.target, 16)
    draw = Draw(chain_id, from_hex(work.parent.hash), seed, target)
    for lap in range(1_000):
        operands = Operands(0, matmul.op, lap, shape, *roots)
        won = get_lottery("cpu").find_tickets(
            compute_ticket_seed(draw, operands), a, bt, compute_thresholds(target, shape)
        )
        if won:
            ticket = replace(
                EMPTY_TICKET,
                task=from_hex(work.task.task),
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
    raise AssertionError("no ticket in a thousand laps")


@asynccontextmanager
async def run_live_node(
    root: Path, key: SigningKey = MINER, genesis: Genesis | None = None, peers: tuple[Endpoint, ...] = ()
) -> AsyncIterator[LiveNode]:
    """Run a node in `root` on free ports; go on with the network that the directory holds, if it holds one."""
    directory = DataDirectory(root)
    directory.create()
    if not directory.genesis_path.exists():
        directory.write_genesis(genesis or make_genesis())
    options = NodeOptions(root, p2p=Endpoint("127.0.0.1", 0), rpc=Endpoint("127.0.0.1", 0), peers=peers)
    node = make_node(options, directory, key)
    await node.start()
    try:
        token = directory.cookie_path.read_text()
        yield LiveNode(node, directory.read_genesis(), node.rpc.endpoint.url, token)
    finally:
        await node.stop()
