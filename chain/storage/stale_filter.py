"""A filter over the names of state nodes that went and still lie on disk: says of most others surely that they do not.

A node that comes is looked for on disk only where the filter does not rule it out, which spares a read for nearly every
node. Two tables of bits take turns, so what was deleted long ago fades; where too much is kept it rules out nothing. It
knows no row.
"""

from collections.abc import Sequence

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
        table = self._young
        self._young_count += len(names)
        for word in _read_words(names):
            table[word & _BYTE_MASK] |= 1 << (word >> _BIT_SHIFT)

    def find_candidates(self, names: Sequence[Hash]) -> list[Hash]:
        """Return those of `names` that may have been added, all that were among them."""
        if self.is_full:
            return list(names)
        young, old = self._young, self._old
        return [
            name
            for name, word in zip(names, _read_words(names), strict=True)
            if (young[word & _BYTE_MASK] | old[word & _BYTE_MASK]) >> (word >> _BIT_SHIFT) & 1
        ]

    def forget(self, pruned: int, last: int) -> None:
        """Let go of names added for transitions up to `pruned`, sooner or later; `last` is the newest there is."""
        if pruned >= self._young_start:
            self._old, self._young, self._young_start = self._young, _make_table(), last
            self._old_count, self._young_count = self._young_count, 0


def _make_table() -> bytearray:
    return bytearray(_TABLE_BYTES)


def _read_words(names: Sequence[Hash]) -> list[int]:
    """Return for each name 32 bits that choose a byte and a bit; hashes are as good as random, so their first serve."""
    words: list[int] = memoryview(b"".join(names)).cast("I")[::8].tolist()
    return words
