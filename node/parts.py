"""The parts that a node is made of, wired once and handed to whoever needs several of them.

A record and nothing more: it starts no task and knows neither peers nor RPC.
"""

from collections.abc import Callable
from dataclasses import dataclass

from chain.signature import SigningKey
from node.chain import Chain
from node.gate import TransactionGate
from node.importer import Importer
from node.learning import Learning
from node.mempool import Mempool
from node.sender import Sender
from node.signatures import Signatures
from node.signing_record import SigningRecord


@dataclass(frozen=True, slots=True)
class Parts:
    """One running node's parts; `get_time_ms` is its clock in Unix milliseconds."""

    chain: Chain
    learning: Learning
    mempool: Mempool
    gate: TransactionGate
    importer: Importer
    key: SigningKey
    signed: SigningRecord
    get_time_ms: Callable[[], int]
    signatures: Signatures
    sender: Sender
