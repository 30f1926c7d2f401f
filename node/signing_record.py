"""The blocks that a node's key has signed, on disk before anyone sees them: one content for one ticket, for ever.

Whoever signs two headers for one ticket loses its bond, and a miner that starts again finds the same ticket again. So
the record lies beside the key and outlives the database. It keeps the last heights whole; what it has forgotten lies
so deep that nothing is signed there any more. It judges no block.
"""

from collections.abc import Callable
from pathlib import Path

from chain.block import BLOCK_BYTES_MAX, Block
from chain.codec import decode, encode
from chain.errors import DecodeError, InvalidBlock, StorageError
from chain.header import compute_trunk_hash
from chain.primitives import Hash
from chain.storage.files import DiskFiles, Files
from chain.storage.seals import SEAL_BYTES, DamagedFile, seal, unseal

KEPT_HEIGHTS = 64
"""Heights below the highest signed one at which a reorganisation may still have us sign."""


class SigningRecord:
    """One key's signed blocks on one network, by height and trunk."""

    def __init__(self, root: Path, files: Files | None = None) -> None:
        """Keep one file a block under `root` of this machine's file system, or of `files`; raises StorageError."""
        self._root = root
        self._files = files or DiskFiles()
        try:
            self._files.make_folder(root)
            paths = [path for path in self._files.iter_paths(root) if path.suffix == ".block"]
            self._heights = {path: int(path.name[:16], 16) for path in paths}
        except (OSError, ValueError) as error:
            raise StorageError(f"cannot read the signing record {root}: {error}") from None

    def get(self, height: int, trunk_hash: Hash) -> Block | None:
        """Return the block that was signed for a trunk, if any.

        Raises StorageError when it cannot be read, InvalidBlock where the record no longer reaches.
        """
        oldest = max(self._heights.values(), default=0) - KEPT_HEIGHTS
        if height < oldest:
            raise InvalidBlock("signing-height", f"found height {height}, expected at least {oldest}: sync first")
        path = self._path(height, trunk_hash)
        if path not in self._heights:
            return None
        try:
            data = unseal(path.name.encode(), self._files.read(path, SEAL_BYTES + BLOCK_BYTES_MAX + 1))
            return decode(Block, data, BLOCK_BYTES_MAX)
        except (OSError, DecodeError, DamagedFile) as error:
            raise StorageError(f"the signing record {path} cannot be read: {error}") from None

    def sign_once(self, height: int, trunk_hash: Hash, sign: Callable[[], Block]) -> Block:
        """Return the block that was signed for a trunk before, else what `sign` makes, once it is on disk.

        Nothing runs in between, so of two callers the second gets the first one's block. Raises as `get` does.
        """
        before = self.get(height, trunk_hash)
        if before is not None:
            return before
        block, path = sign(), self._path(height, trunk_hash)
        assert (block.header.height, compute_trunk_hash(block.header.trunk)) == (height, trunk_hash)
        try:
            self._files.write(path, seal(path.name.encode(), encode(block)))
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}") from None
        self._heights[path] = height
        self._forget(max(self._heights.values()) - KEPT_HEIGHTS)
        return block

    def _forget(self, oldest: int) -> None:
        try:
            for path in [path for path, height in self._heights.items() if height < oldest]:
                self._files.delete(path)
                del self._heights[path]
        except OSError as error:
            raise StorageError(f"cannot write the signing record {self._root}: {error.strerror}") from None

    def _path(self, height: int, trunk_hash: Hash) -> Path:
        return self._root / f"{height:016x}-{trunk_hash.hex()}.block"
