"""What happened, in order: a digest of every event, and the events themselves for whoever wants to read them.

Two runs are the same when their digests are. It knows no event's meaning.
"""

from collections import Counter
from collections.abc import Callable
from hashlib import blake2b


class Journal:
    """The events of one run."""

    def __init__(self, get_time_s: Callable[[], float], report: Callable[[str], object] | None = None) -> None:
        """Hash events, and hand each to `report` as a line."""
        self._get_time_s = get_time_s
        self._report = report
        self._hash = blake2b(digest_size=16)
        self.counts: Counter[str] = Counter()

    @property
    def digest(self) -> str:
        """The digest of all events so far."""
        return self._hash.hexdigest()

    def note(self, kind: str, *facts: object) -> None:
        """Take an event of a kind; facts that are equal in every run of a seed, none that is an address in memory."""
        line = f"{self._get_time_s():.6f} {kind} {' '.join(map(str, facts))}"
        self._hash.update(line.encode() + b"\n")
        self.counts[kind] += 1
        if self._report is not None:
            self._report(line)
