"""Everything that a database promises, read and checked: headers, blocks, indexes, the state's nodes, blobs.

A start of a node checks the last blocks; this checks all of them and that no node of the state is missing or left over.
It repairs nothing.
"""

from dataclasses import dataclass

from chain.block import compute_transactions_root, get_sidecar_hashes
from chain.errors import InvalidBlock, StorageError
from chain.primitives import Hash
from chain.state.tree import EMPTY_ROOT, LEAF, load_node_bytes
from chain.storage.block_store import BlockStore
from chain.storage.engine import CorruptDatabase
from chain.transaction import compute_transaction_hash
from consensus.header_rules import validate_signature, validate_unsigned
from node.chain import Chain
from node.database.blob_names import compute_blob_names, list_programs, list_tasks
from node.database.export_folder import OnProgress
from node.database.exporting import get_needed_blobs
from node.database.opening import OpenChain


@dataclass(frozen=True, slots=True)
class Findings:
    """What was read and found right."""

    height: int
    headers: int
    blocks: int
    transactions: int
    state_leaves: int
    state_nodes: int
    blobs: int


def verify_database(opened: OpenChain, on_progress: OnProgress) -> Findings:
    """Check all that an open chain keeps; raises CorruptDatabase, StorageError."""
    chain = opened.chain
    headers = _verify_headers(chain, on_progress)
    blocks, transactions = _verify_blocks(chain, on_progress)
    leaves, nodes = _verify_state(chain.store, chain.head.header.foliage.state_root, on_progress)
    blobs = _verify_blobs(opened, on_progress)
    return Findings(chain.head.height, headers, blocks, transactions, leaves, nodes, blobs)


def _verify_headers(chain: Chain, on_progress: OnProgress) -> int:
    entries = chain.headers.get_entries()
    for number, entry in enumerate(entries):
        if entry.parent is None:
            continue
        try:
            # What the clock says is no question of the database: it may have run ahead when a block was taken.
            validate_unsigned(chain.header_context, entry.header, entry.parent)
            validate_signature(chain.header_context, entry.header)
        except InvalidBlock as error:
            raise CorruptDatabase(f"the header {entry.hash.hex()} at height {entry.height}: {error}") from None
        on_progress("headers", number + 1, len(entries))
    return len(entries)


def _verify_blocks(chain: Chain, on_progress: OnProgress) -> tuple[int, int]:
    transactions = 0
    for height in range(chain.base.height + 1, chain.head.height + 1):
        entry = chain.head.get_ancestor(height)
        block = chain.get_existing_block(entry.hash)
        if block.header != entry.header or chain.store.get_hash_at_height(height) != entry.hash:
            raise CorruptDatabase(f"the block or the index at height {height} is another than its header's")
        if compute_transactions_root(block.transactions) != entry.header.foliage.transactions_root:
            raise CorruptDatabase(f"the block at height {height} holds other transactions than its header says")
        for transaction in block.transactions:
            if chain.store.get_transaction_block(compute_transaction_hash(transaction)) != entry.hash:
                raise CorruptDatabase(f"a transaction at height {height} is not in the index")
        for name in get_sidecar_hashes(block):
            if not chain.has_sidecar(name):
                raise CorruptDatabase(f"the block data {name.hex()} of height {height} is gone")
        transactions += len(block.transactions)
        on_progress("blocks", height, chain.head.height)
    found = chain.store.count_indexed_transactions()
    if found != transactions:
        raise CorruptDatabase(f"found {found} transactions in the index, expected {transactions}")
    return chain.head.height - chain.base.height, transactions


def _verify_state(store: BlockStore, root: Hash, on_progress: OnProgress) -> tuple[int, int]:
    """Walk the head's whole state, and compare what is on disk with that and what waits to be pruned."""
    reached, pending, leaves = set[Hash](), [root], 0
    while pending:
        node_hash = pending.pop()
        if node_hash == EMPTY_ROOT or node_hash in reached:
            continue
        reached.add(node_hash)
        data = load_node_bytes(store, node_hash)
        if data[0] == LEAF:
            leaves += 1
        else:
            pending += [Hash(data[1:33]), Hash(data[33:])]
        if not len(reached) % 1024:
            on_progress("state", len(reached), 0)
    nodes = store.get_nodes()
    on_disk, expected = set(nodes.iter_names()), reached.union(nodes.iter_stale_names())
    if on_disk != expected:
        lost, extra = len(expected - on_disk), len(on_disk - expected)
        raise CorruptDatabase(f"found {lost} state nodes lost and {extra} left over, expected none of either")
    return leaves, len(on_disk)


def _verify_blobs(opened: OpenChain, on_progress: OnProgress) -> int:
    chain, names = opened.chain, list(opened.chain.blobs.iter_names())
    programs = list_programs(list_tasks(chain.ledger_context, chain.view()))
    for number, name in enumerate(names):
        data = chain.blobs.get(name)
        if data is None or name not in compute_blob_names(data, programs):
            raise CorruptDatabase(f"the blob {name.hex()} is no sidecar, data set or checkpoint of that name")
        on_progress("blobs", number + 1, len(names))
    for name in get_needed_blobs(chain.ledger_context, chain.view()):
        if not chain.blobs.has(name):
            raise StorageError(f"the blob {name.hex()} is gone, expected all that the running round needs")
    return len(names)
