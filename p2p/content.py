"""What can be told of content from its bytes alone: its name, its parent, and the sidecars it needs.

A block's hash covers its foliage; the trunk and the transactions are compared with the roots in it, so that nobody can
pass other content under a good hash. Whether any of it is valid is not asked here.
"""

from dataclasses import dataclass

from chain.block import Block, get_sidecar_hashes
from chain.codec import decode
from chain.errors import DecodeError
from chain.hashing import tagged_hash
from chain.header import HEADER_BYTES_MAX, Header, compute_header_hash, compute_trunk_hash
from chain.packed import PackedBlock, PackedTransaction, decode_block, decode_transaction
from chain.primitives import Hash
from chain.transaction import get_sidecar_hash
from p2p.errors import RemoteProtocolError
from p2p.messages import Item, ItemKind


@dataclass(frozen=True, slots=True)
class Content:
    """A block or transaction by name, a block's parent, and the sidecars it names."""

    item: Item
    parent: Hash | None
    sidecars: tuple[Hash, ...]


def read_block(data: bytes) -> PackedBlock:
    """Return the block whose bytes these are, its transactions those of its header; raises RemoteProtocolError."""
    try:
        packed = decode_block(data)
    except DecodeError as error:
        raise RemoteProtocolError("malformed", str(error)) from None
    found, expected = packed.compute_transactions_root(), packed.block.header.foliage.transactions_root
    if found != expected:
        raise RemoteProtocolError("unbound-transactions", f"found {found.hex()}, expected {expected.hex()}")
    return packed


def describe_block(block: Block) -> Content:
    """Return what a block whose transactions are its header's says of itself; raises RemoteProtocolError."""
    foliage = block.header.foliage
    found = compute_trunk_hash(block.header.trunk)
    if found != foliage.trunk_hash:
        raise RemoteProtocolError("unbound-trunk", f"found {found.hex()}, expected {foliage.trunk_hash.hex()}")
    item = Item(ItemKind.BLOCK, compute_header_hash(block.header))
    return Content(item, foliage.parent_hash, get_sidecar_hashes(block))


def read_transaction(data: bytes) -> PackedTransaction:
    """Return the transaction whose bytes these are; raises RemoteProtocolError."""
    try:
        return decode_transaction(data)
    except DecodeError as error:
        raise RemoteProtocolError("malformed", str(error)) from None


def describe_transaction(packed: PackedTransaction) -> Content:
    """Return what a transaction says of itself."""
    name = get_sidecar_hash(packed.transaction.body.action)
    return Content(Item(ItemKind.TRANSACTION, packed.hash), None, () if name is None else (name,))


def read_sidecar(data: bytes) -> Item:
    """Return the name of a sidecar; bytes that are no sidecar have a name that nobody asks for."""
    return Item(ItemKind.SIDECAR, tagged_hash("sidecar", data))


def read_header(data: bytes) -> Header:
    """Return a header; raises RemoteProtocolError."""
    try:
        return decode(Header, data, HEADER_BYTES_MAX)
    except DecodeError as error:
        raise RemoteProtocolError("malformed", str(error)) from None
