"""What a node says of data sets, models, shares and licences: sent, mined and read back with proofs that hold."""

from collections.abc import AsyncIterator
from typing import TypeVar

import pytest
import pytest_asyncio

from chain.codec import decode, encode
from chain.errors import InvalidTransaction
from chain.ledger.context import make_context
from chain.ledger.economy_records import Dataset, DatasetSketch, Licence, Model
from chain.ledger.keys import model_key, shares_key
from chain.ledger.registry import GENESIS_ROYALTY_BP, compute_dataset_id, compute_model_id
from chain.primitives import ATOMS_PER_COIN, Hash
from chain.signature import SigningKey
from chain.state.proof import STATE_PROOF_BYTES_MAX, StateProof, verify_exclusion, verify_inclusion
from chain.transaction import (
    Action,
    BuyLicence,
    PayModel,
    RegisterDataset,
    Transaction,
    TransactionBody,
    compute_signing_hash,
)
from ml.dataset import compute_dataset_root
from ml.sketch import compute_sketch
from node.addresses import format_address
from node.rpc.api import StateEntry
from node.rpc.client import AsyncRpcClient, RemoteError
from node.rpc.economy_methods import (
    GET_DATASET,
    GET_LICENCE,
    GET_MODEL,
    GET_SHARES,
    DatasetParams,
    HolderParams,
    ModelParams,
)
from node.rpc.economy_views import EntryView, view_shares
from node.rpc.methods import GET_STATUS, SEND_TRANSACTION, SendParams
from node.rpc.registry import Params
from node.rpc.task_methods import GET_POSTED, PostedParams
from node.rpc.views import to_hex
from node.task_terms import Offer
from tests.support.economy import make_dataset, make_model
from tests.support.hash_training import SEGMENT_MACS
from tests.support.ledger import ALICE, BOB, LedgerChain, settle_round
from tests.support.live_node import HOLDER, MINER, LiveNode, run_live_node
from tests.support.posting import make_digits_task, make_task_on, post, read_digits

pytestmark = pytest.mark.asyncio(loop_scope="module")
T = TypeVar("T")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveNode]:
    async with run_live_node(tmp_path_factory.mktemp("node")) as node:
        await node.mine(1)
        yield node


async def send(live: LiveNode, key: SigningKey, action: Action) -> None:
    """Send an action and mine the block that takes it."""
    nonce = live.node.parts.gate.compute_next_nonce(key.public_key)
    body = TransactionBody(key.public_key, nonce, 10**6, action)
    signature = key.sign(compute_signing_hash(make_context(live.genesis).chain_id, body))
    async with AsyncRpcClient(live.url) as rpc:
        await rpc.call(SEND_TRANSACTION, SendParams(encode(Transaction(body, signature))))
    await live.mine(1)


def verify(live: LiveNode, entry: EntryView, record: type[T]) -> T | None:
    """Return what an entry proves under the state root of the head's header."""
    root, key = live.node.parts.chain.head.header.foliage.state_root, bytes.fromhex(entry.key[2:])
    proof = decode(StateProof, entry.proof, STATE_PROOF_BYTES_MAX)
    assert entry.state_root == to_hex(root)
    if entry.value is None:
        verify_exclusion(root, key, proof)
        return None
    verify_inclusion(root, key, entry.value, proof)
    return decode(record, entry.value, 4096)


async def test_the_networks_model_is_told_from_the_first_block_on(live: LiveNode) -> None:
    task = make_context(live.genesis).task_id
    async with AsyncRpcClient(live.url) as rpc:
        found = await rpc.call(GET_MODEL, ModelParams(to_hex(task)))
        assert found.terms is not None
        assert (found.terms.owner, found.terms.name, found.terms.royalty_bp) == (None, "digits", GENESIS_ROYALTY_BP)
        data = await rpc.call(GET_DATASET, DatasetParams(found.terms.datasets[0]))
        shares = await rpc.call(GET_SHARES, HolderParams(to_hex(task), format_address(MINER.public_key)))
    model, dataset = verify(live, found.entry, Model), verify(live, data.entry, Dataset)
    assert model is not None
    assert dataset is not None
    assert to_hex(model.terms.checkpoint_root) == found.terms.checkpoint_root
    assert dataset.terms.content_root == live.genesis.task.dataset_root
    assert (shares.units, shares.units_total, shares.claimable, shares.entry.value) == ("0", "0", "0", None)
    verify(live, shares.entry, Model)


async def test_a_model_is_registered_licensed_and_paid(live: LiveNode) -> None:
    chain_id, task = make_context(live.genesis).chain_id, make_context(live.genesis).task_id
    data_terms = make_dataset(1, royalty_bp=500)
    data = compute_dataset_id(chain_id, HOLDER.public_key, data_terms)
    terms = make_model(2, (task,), (data,), author_bp=3_000, licence_price=10**9)
    name = compute_model_id(chain_id, HOLDER.public_key, terms)
    for action in (data_terms, terms, BuyLicence(name, 10**9), PayModel(task, 1_000)):
        await send(live, HOLDER, action)
    buyer = HolderParams(to_hex(name), format_address(HOLDER.public_key))
    async with AsyncRpcClient(live.url) as rpc:
        found, licence = await rpc.call(GET_MODEL, ModelParams(to_hex(name))), await rpc.call(GET_LICENCE, buyer)
        other = await rpc.call(GET_LICENCE, HolderParams(to_hex(name), format_address(MINER.public_key)))
        parent = await rpc.call(GET_MODEL, ModelParams(to_hex(task)))
        dataset = await rpc.call(GET_DATASET, DatasetParams(to_hex(data)))
        status = await rpc.call(GET_STATUS, Params())
    model, bought = verify(live, found.entry, Model), verify(live, licence.entry, Licence)
    assert model is not None
    assert model.terms == terms
    assert bought == Licence(live.node.parts.chain.head.height - 1, 10**9)
    assert (licence.price, other.price, verify(live, other.entry, Licence)) == (str(10**9), None, None)
    assert found.terms is not None
    assert (found.terms.parent, found.terms.owner) == (to_hex(task), buyer.account)
    assert dataset.terms is not None
    assert dataset.terms.royalty_bp == 500
    assert (found.held, parent.waiting) == (str(54 * 10**7), str(10**8 + 990))
    assert status.supply.income == str(54 * 10**7 + 10**8 + 990)


async def test_what_no_one_registered_is_shown_to_be_absent(live: LiveNode) -> None:
    nothing = to_hex(Hash(b"\x07" * 32))
    async with AsyncRpcClient(live.url) as rpc:
        model = await rpc.call(GET_MODEL, ModelParams(nothing))
        dataset = await rpc.call(GET_DATASET, DatasetParams(nothing))
        assert (model.terms, dataset.terms) == (None, None)
        assert (verify(live, model.entry, Model), verify(live, dataset.entry, Dataset)) == (None, None)
        with pytest.raises(RemoteError, match="address"):
            await rpc.call(GET_SHARES, HolderParams(nothing, "mth1x"))


async def test_shares_show_what_may_be_claimed_now() -> None:
    chain = LedgerChain()
    settle_round(chain, ALICE, BOB)
    task, account = chain.context.task_id, BOB.public_key
    chain.mine(chain.sign(ALICE, PayModel(task, 1_000)))
    key, model = shares_key(task, account), chain.view.get_existing(model_key(task))
    proof = encode(chain.view.prove(key))
    entry = StateEntry(Hash(bytes(32)), chain.height, chain.root, key.name, chain.view.get(key), proof)
    shown = view_shares(task, account, model, entry)
    assert (shown.units, shown.units_total) == (str(SEGMENT_MACS), str(2 * SEGMENT_MACS))
    assert shown.claimable == "494", "half of 990 atoms, but for what the counter could not divide yet"


async def test_threat_41_a_node_shows_what_a_copied_data_set_resembles_and_refuses_to_train_on_it(
    live: LiveNode,
) -> None:
    chain_id = make_context(live.genesis).chain_id
    copied = bytearray(read_digits())
    copied[1_000] ^= 1
    copy = bytes(copied)
    terms = RegisterDataset(compute_dataset_root(copy), "MIT", 0)
    name = compute_dataset_id(chain_id, HOLDER.public_key, terms)
    await send(live, HOLDER, terms)
    offer = Offer(20 * ATOMS_PER_COIN, 1 << 44, live.node.parts.chain.head.height + 90)
    async with AsyncRpcClient(live.url) as rpc:
        unseen = await rpc.call(GET_DATASET, DatasetParams(to_hex(name)))
    assert (unseen.sketch, unseen.resembles, verify(live, unseen.sketch_entry, DatasetSketch)) == (None, [], None)
    task, data = make_digits_task(live, offer.last_height)
    (original,) = task.model.datasets
    await post(live, HOLDER, task, data)
    with pytest.raises(InvalidTransaction, match="agrees with data set") as refused:
        await post(live, HOLDER, *make_task_on(copy, name, offer, seed=8))
    assert refused.value.rule == "dataset-near-duplicate"
    posted = await post(live, HOLDER, *make_task_on(copy, name, offer, seed=8, sources=(original,)))
    async with AsyncRpcClient(live.url) as rpc:
        found = await rpc.call(GET_DATASET, DatasetParams(to_hex(name)))
        first = await rpc.call(GET_DATASET, DatasetParams(to_hex(original)))
        shown = await rpc.call(GET_POSTED, PostedParams(to_hex(posted)))
    sketch = verify(live, found.sketch_entry, DatasetSketch)
    assert sketch is not None
    assert (sketch.minima, to_hex(sketch.minima)) == (compute_sketch(copy), found.sketch)
    assert [(each.dataset, each.registered_height) for each in found.resembles] == [(to_hex(original), 0)]
    assert found.resembles[0].matches >= 90
    assert [each.dataset for each in first.resembles] == [to_hex(name)]
    assert shown.dataset == to_hex(name), "the one trained on, not the one owed"
