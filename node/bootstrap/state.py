"""The state under one root and the blobs it needs, from many peers at once, each piece verified before it is kept.

Paths are cut into 256 ranges. A range is on disk whole or is fetched again, so what was cut off goes on where it was.
Chunks prove themselves, so it does not matter who sends which; a peer that sends a wrong one is left out.
"""

import asyncio
from collections.abc import Callable, Sequence

from chain.codec import decode
from chain.errors import MathesisError
from chain.primitives import Hash
from chain.state.snapshot import CHUNK_BYTES_MAX, LAST_PATH, StateChunk, compute_next_path, is_full, verify_chunk
from chain.storage.blob_store import BLOB_BYTES_MAX, BlobStore
from chain.storage.snapshot_import import SnapshotImport
from node.bootstrap.client import Client, PeerLost
from node.bootstrap.headers import REFUSALS
from p2p.messages import CHUNK_BYTES_MAX as PART_BYTES_MAX
from p2p.messages import BlobPart, GetBlobPart, GetStateChunk, StateChunkMessage

RANGES = 256
_PARTIAL = 1 << 16
"""Numbers of chunks that do not end a range, above those of ranges."""


class StateUnavailable(MathesisError):
    """No peer is left that has the state or a blob it needs."""


class StateFetch:
    """Chunks of the state under `root` into a half-done database."""

    def __init__(self, root: Hash, snapshot: SnapshotImport, on_progress: Callable[[int, int], None]) -> None:
        """Report (ranges done, all ranges)."""
        self._root = root
        self._snapshot = snapshot
        self._on_progress = on_progress
        self._open = [number for number in range(RANGES) if not snapshot.has_chunk(number)]
        self._taken: set[int] = set()

    async def fetch(self, clients: Sequence[Client]) -> None:
        """Fetch every range; raises StateUnavailable."""
        await asyncio.gather(*(self._work(client) for client in clients if client.is_good))
        if self._open:
            raise StateUnavailable(f"no peer has the rest of the state under {self._root.hex()}")

    async def _work(self, client: Client) -> None:
        while client.is_good:
            number = next((number for number in self._open if number not in self._taken), None)
            if number is None:
                if not self._taken:
                    return
                # Another peer may yet fail and leave its range to this one.
                await asyncio.sleep(0.05)
                continue
            self._taken.add(number)
            try:
                await self._fetch_range(client, number)
            except REFUSALS as error:
                client.refuse(str(error))
            finally:
                self._taken.discard(number)

    async def _fetch_range(self, client: Client, number: int) -> None:
        first, part, before = Hash(bytes([number]) + bytes(31)), 0, None
        while True:
            answer = await client.ask(GetStateChunk(self._root, first), StateChunkMessage)
            if answer is None:
                raise PeerLost(f"{client.place} does not keep the state under {self._root.hex()}")
            chunk = decode(StateChunk, answer.chunk, CHUNK_BYTES_MAX)
            if chunk.first != first:
                raise PeerLost(f"{client.place} sent a chunk from {chunk.first.hex()}, not {first.hex()}")
            nodes = await asyncio.to_thread(verify_chunk, self._root, chunk)
            if before is not None and not is_full(before, chunk):
                raise PeerLost(f"{client.place} cuts the state finer than into chunks, and so might never end")
            covered = [n for n in range(number, RANGES) if _get_end(n) <= chunk.last]
            key = number if covered else _PARTIAL * (number + 1) + part
            await asyncio.to_thread(self._snapshot.put_chunk, key, nodes)
            if covered:
                self._close_ranges(covered)
                return
            first, part, before = compute_next_path(chunk.last), part + 1, chunk

    def _close_ranges(self, numbers: Sequence[int]) -> None:
        for number in numbers[1:]:
            if not self._snapshot.has_chunk(number):
                self._snapshot.put_chunk(number, {})
        self._open = [number for number in self._open if number not in set(numbers)]
        self._on_progress(RANGES - len(self._open), RANGES)


def _get_end(number: int) -> Hash:
    return LAST_PATH if number == RANGES - 1 else Hash(bytes([number]) + b"\xff" * 31)


async def fetch_blob(
    clients: Sequence[Client], name: Hash, blobs: BlobStore, compute_names: Callable[[bytes], Sequence[Hash]]
) -> None:
    """Keep the blob called `name` from the first peer that has it right; raises StateUnavailable."""
    for client in clients:
        if not client.is_good or blobs.has(name):
            continue
        try:
            data = await _fetch_parts(client, name)
        except REFUSALS as error:
            client.refuse(str(error))
            continue
        if data is None:
            continue
        if name in await asyncio.to_thread(compute_names, data):
            await asyncio.to_thread(blobs.put, name, data)
        else:
            client.refuse(f"{client.place} sent other bytes as the blob {name.hex()}")
    if not blobs.has(name):
        raise StateUnavailable(f"no peer has the blob {name.hex()}, which the running round needs")


async def _fetch_parts(client: Client, name: Hash) -> bytes | None:
    data = bytearray()
    while True:
        part = await client.ask(GetBlobPart(name, len(data)), BlobPart)
        if part is None:
            return None
        left = part.size_bytes - len(data)
        is_asked = part.name == name and part.offset == len(data) and part.size_bytes <= BLOB_BYTES_MAX
        # Whoever sent a byte at a time might never end.
        if not is_asked or len(part.data) != min(left, PART_BYTES_MAX):
            raise PeerLost(f"{client.place} sent another part than the one at {len(data)} of {name.hex()}")
        data += part.data
        if len(data) == part.size_bytes:
            return bytes(data)
