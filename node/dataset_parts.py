"""The parts of a data set's blob as block data: cut, and brought to a network a few at a time, each once.

What has come is asked of the node, never remembered, so that whoever was cut off goes on where it was. It decides no
rule and prints nothing.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from chain.ledger.dataset_parts import PART_BYTES, count_parts
from chain.primitives import Hash
from chain.signature import SigningKey
from chain.transaction import AddDatasetPart, Sidecar, compute_sidecar_hash
from ml.dataset import CHUNK_BYTES, HASH_BYTES, compute_dataset_root, hash_chunks
from node.addresses import format_address
from node.exit_codes import CommandError, ExitCode
from node.rpc.client import RpcClient
from node.rpc.economy_methods import GET_DATASET, DatasetParams
from node.rpc.economy_views import DatasetView
from node.rpc.methods import GET_ACCOUNT, AccountParams
from node.rpc.views import to_hex
from node.wallet import POLL_S, send_action

BATCH = 8
"""Parts sent before any has to stand in a block: what one block takes by default."""


def make_part(blob: bytes, index: int) -> Sidecar:
    """Return part `index` of a blob as block data."""
    chunks, start = hash_chunks(blob), index * PART_BYTES
    first = start // CHUNK_BYTES
    del chunks[first : first + PART_BYTES // CHUNK_BYTES]
    assert all(len(chunk) == HASH_BYTES for chunk in chunks)
    return Sidecar(compute_dataset_root(blob) + b"".join(chunks), blob[start : start + PART_BYTES])


@dataclass(frozen=True, slots=True)
class Upload:
    """A blob on its way to the network, for a data set that is registered."""

    url: str
    signer: SigningKey
    fee: int
    dataset: Hash
    blob: bytes
    wait_s: float

    def send(self, on_progress: Callable[[str, int, int], None]) -> DatasetView:
        """Send what the network lacks until all has come, and return the data set then.

        Tells how many bytes have come. Raises CommandError when nothing moves for `wait_s`, and what `RpcClient.call`
        does.
        """
        client, count, end_s = RpcClient(self.url), count_parts(len(self.blob)), time.monotonic() + self.wait_s
        seen = -1
        while True:
            # Before the parts: what waits no longer has come by the time they are listed.
            account = client.call(GET_ACCOUNT, AccountParams(format_address(self.signer.public_key)))
            found = client.call(GET_DATASET, DatasetParams(to_hex(self.dataset)))
            held = [] if found.content is None else found.content.parts
            on_progress("parts", min(len(held) * PART_BYTES, len(self.blob)), len(self.blob))
            if len(held) == count:
                return found
            if len(held) != seen:
                seen, end_s = len(held), time.monotonic() + self.wait_s
            elif time.monotonic() >= end_s:
                message = (
                    f"{len(held)} of {count} parts have come, none for {self.wait_s:g} s; the same command goes on"
                )
                raise CommandError(ExitCode.FAILURE, message)
            # What still waits may be a part that was sent before: another copy of it would only be refused.
            if account.next_nonce == account.nonce:
                for index in [each for each in range(count) if each not in held][:BATCH]:
                    self._send_part(index)
            time.sleep(POLL_S)

    def _send_part(self, index: int) -> None:
        part = make_part(self.blob, index)
        terms = AddDatasetPart(self.dataset, len(self.blob), index, compute_sidecar_hash(part))
        send_action(self.url, self.signer, terms, self.fee, part)
