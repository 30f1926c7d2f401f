"""The gate judges batches, each transaction by itself, and gives back what a reorganisation took off the chain."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from benchmarks.transaction_chain import MINER, BlockMaker, LoadNode, make_learning, make_load_genesis, open_load_node
from chain.errors import InvalidTransaction, MissingData
from chain.genesis import compute_segment_seed
from chain.ledger.accounts import get_account
from chain.ledger.context import BlockEffects
from chain.ledger.keys import beacon_key
from chain.packed import pack_transaction
from chain.primitives import ATOMS_PER_COIN, ZERO_HASH, Hash, PublicKey, Signature
from chain.signature import SigningKey
from chain.state.view import StateView
from chain.transaction import (
    Action,
    CommitContribution,
    ProveContribution,
    Sidecar,
    Transaction,
    TransactionBody,
    Transfer,
    compute_sidecar_hash,
    compute_signing_hash,
)
from node import gate as module
from node.gate import Answer, Offer
from node.importer import HeadChange
from node.mempool import AddResult
from node.outcomes import ImportResult

ACCOUNTS = 40
FUNDS = 100_000 * ATOMS_PER_COIN


@pytest.fixture
def maker(tmp_path: Path) -> BlockMaker:
    genesis = make_load_genesis()
    return BlockMaker(genesis, ACCOUNTS, make_learning(genesis, tmp_path / "maker"))


@pytest_asyncio.fixture
async def node(maker: BlockMaker, tmp_path: Path) -> AsyncIterator[LoadNode]:
    with open_load_node(tmp_path / "node", maker.genesis, threads=2) as opened:
        opened.importer.start()
        yield opened
        await opened.importer.stop()
        await opened.gate.stop()


async def offer(node: LoadNode, *transactions: Transaction) -> list[Answer]:
    return await node.gate.admit_many([Offer(pack_transaction(transaction)) for transaction in transactions])


def name(answer: Answer) -> str:
    match answer:
        case InvalidTransaction():
            return answer.rule
        case MissingData():
            return "missing"
        case AddResult():
            return answer.name.lower()


def pay(maker: BlockMaker, sender: int, nonce: int, amount: int) -> Transaction:
    key = maker.keys[sender]
    body = TransactionBody(key.public_key, nonce, 0, Transfer(maker.keys[0].public_key, amount))
    return Transaction(body, key.sign(compute_signing_hash(maker.ledger.chain_id, body)))


async def settle(node: LoadNode) -> None:
    """Wait until the gate has tried again what a head change gave back."""
    await asyncio.gather(*node.gate._tasks)


async def test_each_of_a_batch_is_answered_by_itself(maker: BlockMaker, node: LoadNode) -> None:
    good = [maker.transfer(sender, sender + 1) for sender in range(30)]
    forged = replace(good[3], signature=Signature(good[4].signature))
    nobody = replace(good[5], body=replace(good[5].body, action=Transfer(good[5].body.sender, 0)))
    heard: list[Hash] = []
    node.gate.on_admitted.append(heard.append)
    offers = [*good[:10], forged, good[0], pay(maker, 31, 0, FUNDS + 1), pay(maker, 32, 64, 1), nobody, *good[10:]]
    answers = [name(answer) for answer in await offer(node, *offers)]
    assert answers[:10] == answers[15:25] == ["added"] * 10
    assert answers[10:15] == ["signature", "already_known", "balance", "nonce", "signature"]
    assert heard == [pack_transaction(transaction).hash for transaction in good]
    assert node.gate.admissions.counts == {
        "added": 30, "replaced": 0, "already_known": 1, "refused": 4, "missing_data": 0,
    }  # fmt: skip


async def test_many_batches_keep_their_order(
    maker: BlockMaker, node: LoadNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH_MAX", 7)
    chained = [maker.transfer(1, 2) for _ in range(30)]
    assert {name(answer) for answer in await offer(node, *chained)} == {"added"}
    assert [packed.transaction for packed in node.mempool.iter_candidates()] == chained


async def test_one_is_admitted_as_many_are(maker: BlockMaker, node: LoadNode) -> None:
    transaction = maker.transfer(1, 2)
    assert await node.gate.admit(transaction) is AddResult.ADDED
    assert await node.gate.admit(transaction) is AddResult.ALREADY_KNOWN
    with pytest.raises(InvalidTransaction, match="signature"):
        await node.gate.admit(replace(transaction, signature=Signature(bytes(64))))


async def test_a_commit_without_its_block_data_is_missing_something(maker: BlockMaker, node: LoadNode) -> None:
    commit = CommitContribution(maker.ledger.task_id, 0, 0, 0, *([Hash(b"\x01" * 32)] * 4))
    body = TransactionBody(MINER.public_key, 0, 0, commit)
    (answer,) = await offer(node, Transaction(body, MINER.sign(compute_signing_hash(maker.ledger.chain_id, body))))
    assert name(answer) == "missing"
    assert len(node.mempool) == 0


def make_seed(maker: BlockMaker, key: SigningKey, anchor_height: int) -> Hash:
    """Return the seed of a miner's first segment on a maker's branch."""
    view = StateView(maker.tip.header.foliage.state_root, maker.nodes)
    anchored = view.get(beacon_key(anchor_height))
    beacon = ZERO_HASH if anchored is None else anchored.beacon
    return compute_segment_seed(maker.ledger.chain_id, maker.ledger.task_id, 0, beacon, key.public_key, 0)


def commit(maker: BlockMaker, key: SigningKey, nonce: int, sidecar: Sidecar, anchor_height: int = 0) -> Offer:
    names = make_seed(maker, key, anchor_height), ZERO_HASH, ZERO_HASH, compute_sidecar_hash(sidecar)
    action = CommitContribution(maker.ledger.task_id, 0, 0, anchor_height, *names)
    return sign(maker, key, nonce, action, sidecar)


def sign(maker: BlockMaker, key: SigningKey, nonce: int, action: Action, sidecar: Sidecar | None = None) -> Offer:
    body = TransactionBody(key.public_key, nonce, 0, action)
    message = compute_signing_hash(maker.ledger.chain_id, body)
    return Offer(pack_transaction(Transaction(body, key.sign(message))), sidecar)


async def test_block_data_are_on_disk_when_their_transaction_enters_and_not_before(
    maker: BlockMaker, node: LoadNode
) -> None:
    """Whoever had a bond once could fill the disk with the data of commits that no block takes."""
    sidecars = [Sidecar(bytes(32), bytes([number])) for number in range(3)]
    names = [compute_sidecar_hash(sidecar) for sidecar in sidecars]
    (stranger,) = await node.gate.admit_many([commit(maker, maker.keys[1], 0, sidecars[0])])
    (refused,) = await node.gate.admit_many([commit(maker, MINER, 0, sidecars[1])])
    assert name(stranger) == "segment-miner"
    assert name(refused) == "sidecar-size"
    assert not any(map(node.chain.has_sidecar, names))
    held = [offer.sidecar for offer in node.gate._later.values()]
    assert held == sidecars[:1], "it is tried again with its data, for a bond may come"
    heard: list[bool] = []
    node.gate.on_admitted.append(lambda _: heard.append(node.chain.has_sidecar(names[2])))
    assert [name(answer) for answer in await node.gate.admit_many([commit(maker, MINER, 1, sidecars[2])])] == ["added"]
    assert heard == [True], "before anybody hears of it"


async def test_a_balance_covers_all_that_waits(maker: BlockMaker, node: LoadNode) -> None:
    """Sixty-four transfers of all that an account has would be carried for the fee of one."""
    half, rest = FUNDS // 2, FUNDS - FUNDS // 2
    answers = await offer(node, pay(maker, 1, 0, half), pay(maker, 1, 1, rest + 1), pay(maker, 1, 1, rest))
    assert [name(answer) for answer in answers] == ["added", "pool-balance", "added"]
    (answer,) = await offer(node, pay(maker, 1, 2, 1))
    assert name(answer) == "pool-balance"


async def test_a_full_pool_refuses_the_cheap_before_their_signatures_are_verified(
    maker: BlockMaker, node: LoadNode
) -> None:
    node.mempool._bounds = replace(node.mempool._bounds, bytes_max=1_500)
    await offer(node, *(maker.transfer(sender, 0, fee=1_000) for sender in range(1, 20)))
    node.signatures.lookups.counts.clear()
    unsigned = replace(maker.transfer(25, 0, fee=900), signature=Signature(bytes(64)))
    assert [name(answer) for answer in await offer(node, unsigned)] == ["pool-full"]
    assert not node.signatures.lookups.counts


async def test_a_block_of_what_waited_needs_no_signature_again(maker: BlockMaker, node: LoadNode) -> None:
    chosen = [maker.transfer(sender, 0) for sender in range(1, 25)]
    await offer(node, *chosen)
    node.signatures.lookups.counts.clear()
    assert (await node.importer.import_block(maker.make_block(chosen))).result is ImportResult.EXTENDED
    assert node.signatures.lookups.counts["miss"] == 0
    assert len(node.mempool) == 0


async def test_what_stands_in_a_block_is_refused_at_little_cost_and_leaves_nothing(
    maker: BlockMaker, node: LoadNode
) -> None:
    """It may have been asked of a peer before the block came, and nobody looks it up when it comes."""
    transaction = maker.transfer(1, 2)
    await node.importer.import_block(maker.make_block([transaction]))
    misses = node.signatures.lookups.counts["miss"]
    assert [name(answer) for answer in await offer(node, transaction)] == ["nonce"]
    assert node.signatures.lookups.counts["miss"] == misses
    assert not node.gate.is_waiting(pack_transaction(transaction).hash)


async def test_a_block_whose_signature_is_swapped_is_invalid(maker: BlockMaker, node: LoadNode) -> None:
    """The pool has seen the same body; the block's copy carries a signature that nobody made."""
    good = maker.transfer(1, 2)
    await offer(node, good)
    outcome = await node.importer.import_block(
        maker.make_block([replace(good, signature=Signature(good.signature[:32] + bytes(32)))])
    )
    assert (outcome.result, outcome.rule) == (ImportResult.INVALID, "signature")


async def test_a_reorganisation_gives_back_in_nonce_order(maker: BlockMaker, node: LoadNode) -> None:
    other = maker.branch(salt=9)
    left = [maker.transfer(sender, 0) for sender in (1, 2, 1, 2, 1, 3)]
    for start in (0, 3):
        await node.importer.import_block(maker.make_block(left[start : start + 3]))
    waiting = maker.transfer(1, 0)
    assert [name(answer) for answer in await offer(node, waiting)] == ["added"]
    heard: list[Hash] = []
    node.gate.on_admitted.append(heard.append)
    joined = [other.transfer(3, 5), other.transfer(4, 5)]
    outcomes = [await node.importer.import_block(other.make_block(each)) for each in ([joined[0]], [joined[1]], ())]
    assert outcomes[-1].result is ImportResult.REORGED
    names = [pack_transaction(transaction).hash for transaction in left[:5]]
    assert all(map(node.gate.is_waiting, names)), "whoever thinks that they are gone pays again"
    await settle(node)
    assert not node.gate._trying
    assert heard == [pack_transaction(transaction).hash for transaction in left[:5]]
    offered = [packed.transaction for packed in node.mempool.iter_candidates()]
    by_sender = {n: [t for t in offered if t.body.sender == maker.keys[n].public_key] for n in (1, 2, 3)}
    assert by_sender == {1: [left[0], left[2], left[4], waiting], 2: [left[1], left[3]], 3: []}
    assert node.gate.compute_next_nonce(maker.keys[1].public_key) == 4
    assert (await node.importer.import_block(other.make_block(offered))).result is ImportResult.EXTENDED
    assert get_account(node.chain.view(), maker.keys[1].public_key).nonce == 4
    assert len(node.mempool) == 0


async def test_what_hangs_on_a_block_that_was_left_is_let_go(maker: BlockMaker, node: LoadNode) -> None:
    """A commit names the height of its anchor alone: on the next branch it is a forgery, and its deposit burns."""
    other = maker.branch(salt=9)
    for _ in range(2):
        await node.importer.import_block(maker.make_block(()))
    data = Sidecar(bytes(32), b"1")
    rooted, uprooted = commit(maker, MINER, 1, data), commit(maker, MINER, 2, data, anchor_height=1)
    opening = sign(maker, MINER, 3, ProveContribution(maker.ledger.task_id, 0, 0, ()))
    later = commit(maker, maker.keys[1], 0, data, anchor_height=1)
    answers = await node.gate.admit_many([rooted, uprooted, opening, later])
    assert [name(answer) for answer in answers] == ["added", "added", "added", "segment-miner"]
    await node.importer.import_block(maker.make_block(()))
    await settle(node)
    assert all(node.gate.is_waiting(each.packed.hash) for each in (rooted, uprooted, opening, later))
    outcomes = [await node.importer.import_block(other.make_block(())) for _ in range(4)]
    assert outcomes[-1].result is ImportResult.REORGED
    await settle(node)
    waiting = [node.gate.is_waiting(each.packed.hash) for each in (rooted, uprooted, opening, later)]
    assert waiting == [True, False, False, True], "what was early may have been meant for this branch"


async def test_what_hangs_on_a_block_that_was_left_does_not_come_back_from_one(
    maker: BlockMaker, node: LoadNode
) -> None:
    data = Sidecar(bytes(32), b"1")
    rooted, uprooted = commit(maker, MINER, 1, data), commit(maker, MINER, 2, data, anchor_height=1)
    transactions = tuple(each.packed.transaction for each in (rooted, uprooted))
    node.gate.on_head(HeadChange((replace(maker.make_block(()), transactions=transactions),), ()))
    assert list(node.gate._trying) == [rooted.packed.hash]
    await settle(node)


async def test_what_was_judged_on_an_old_head_enters_by_the_new_one(
    maker: BlockMaker, node: LoadNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block arrives while a batch is in its thread: the first of two nonces is spent, the second is next."""
    first, second = maker.transfer(1, 0), maker.transfer(1, 0)
    block = maker.make_block([first])
    judge, loop = node.gate._judge, asyncio.get_running_loop()

    def judge_late(offers: list[Offer]) -> object:
        verdicts = judge(offers)
        asyncio.run_coroutine_threadsafe(node.importer.import_block(block), loop).result(10)
        return verdicts

    monkeypatch.setattr(node.gate, "_judge", judge_late)
    answers = await offer(node, first, second)
    assert [name(answer) for answer in answers] == ["nonce", "added"]
    assert [packed.transaction for packed in node.mempool.iter_candidates()] == [second]


async def test_what_came_too_early_enters_with_the_head_that_allows_it(maker: BlockMaker, node: LoadNode) -> None:
    rich, poor = 1, ACCOUNTS - 1
    key = maker.keys[poor]
    spend = FUNDS + 5
    early = pay(maker, poor, 0, spend)
    assert [name(answer) for answer in await offer(node, early)] == ["balance"]
    await node.importer.import_block(maker.make_block([maker.transfer(rich, poor, amount=10)]))
    await settle(node)
    assert node.mempool.get(pack_transaction(early).hash) is not None
    assert get_account(node.chain.view(), key.public_key).balance >= spend


async def test_nonces_follow_from_the_blocks_of_the_way(maker: BlockMaker) -> None:
    other, fork = maker.branch(salt=9), maker.tip
    older = maker.make_block([maker.transfer(sender, 0) for sender in (1, 2, 1)])
    newer = maker.make_block([maker.transfer(sender, 0) for sender in (1, 3)])
    joined = other.make_block([other.transfer(3, 0), other.transfer(3, 0), other.transfer(4, 0)])
    change = HeadChange((newer, older), ((fork, joined, BlockEffects(fork.hash, {}, ())),))
    found = {maker.keys.index(key): nonce for key, nonce in _index(maker, module._compute_nonces(change))}
    assert found == {1: 0, 2: 0, 3: 2, 4: 1}


def _index(maker: BlockMaker, nonces: dict[PublicKey, int]) -> list[tuple[SigningKey, int]]:
    return [(key, nonces[key.public_key]) for key in maker.keys if key.public_key in nonces]


async def test_effects_at_hand_do_not_stand_for_signatures(maker: BlockMaker, node: LoadNode) -> None:
    forged = replace(maker.transfer(1, 2), signature=Signature(bytes(64)))
    block = maker.make_block([forged])
    effects = BlockEffects(block.header.foliage.state_root, {}, ())
    outcome = await node.importer.import_block(block, effects=effects)
    assert (outcome.result, outcome.rule) == (ImportResult.INVALID, "signature")
