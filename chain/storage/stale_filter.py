"""A filter over the names of state nodes that went and still lie on disk: says of most others surely that they do not.

A node that comes is looked for on disk only where the filter does not rule it out, which spares a read for nearly every
node. Two tables of bits take turns, so what was deleted long ago fades; where too much is kept it rules out nothing. It
knows no row.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from chain.primitives import Hash

_TABLE_BYTES = 1 << 22
"""4 MB a table, of which memory is taken only where something stands."""

_BYTE_MASK, _BIT_SHIFT = _TABLE_BYTES - 1, 29

NAMES_MAX = 1 << 23
"""Names beyond which nothing is ruled out: more than 288 full blocks leave, and less than an archive has in the end."""


class StaleFilter:
    """Names of nodes that went with transitions which are not pruned yet, and some others."""

    def __init__(self) -> None:
        """Start with no name."""
        self._young, self._old = _make_table(), _make_table()
        self._young_count = self._old_count = 0
        self._young_start = 0

    @property
    def is_full(self) -> bool:
        """Whether more was added than can be told apart."""
        return self._young_count + self._old_count > NAMES_MAX

    def add(self, names: Sequence[Hash]) -> None:
        """Take the names of what went."""
        self._young_count += len(names)
        places, bits_u8 = _find_bits(names)
        np.bitwise_or.at(self._young, places, bits_u8)

    def find_candidates(self, names: Sequence[Hash]) -> list[Hash]:
        """Return those of `names` that may have been added, all that were among them."""
        if self.is_full:
            return list(names)
        places, bits_u8 = _find_bits(names)
        hits_u8 = (self._young[places] | self._old[places]) & bits_u8
        return [names[position] for position in np.flatnonzero(hits_u8).tolist()]

    def forget(self, pruned: int, last: int) -> None:
        """Let go of names added for transitions up to `pruned`, sooner or later; `last` is the newest there is."""
        if pruned >= self._young_start:
            self._old, self._young, self._young_start = self._young, _make_table(), last
            self._old_count, self._young_count = self._young_count, 0


def _make_table() -> npt.NDArray[np.uint8]:
    return np.zeros(_TABLE_BYTES, np.uint8)


def _find_bits(names: Sequence[Hash]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8]]:
    """Return the byte and the bit of each name; hashes are as good as random, so their first four bytes serve."""
    words_u32 = np.frombuffer(b"".join(names), np.uint32)[::8]
    return words_u32 & np.uint32(_BYTE_MASK), np.uint8(1) << (words_u32 >> np.uint32(_BIT_SHIFT)).astype(np.uint8)
