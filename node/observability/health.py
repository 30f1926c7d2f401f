"""Whether a node lives and whether it is of use: two verdicts over facts that somebody else collects.

Alive: it would answer and could import a block; a supervisor restarts what is not. Ready: its answers are about the
network's present; a balancer sends callers elsewhere until they are. It reads no clock, no disk and no socket.
"""

from dataclasses import dataclass

HEAD_AGE_INTERVALS = 30
"""Block intervals without a new head after which answers are about the past."""

STALL_MS = 60_000
"""How long one import may take before the importer counts as stuck."""

LAG_MS = 5_000
"""How late the event loop may be before callers are better served elsewhere."""

FREE_BYTES_MIN = 64 * 1024 * 1024
"""Room left on the disk below which the next blocks may not fit."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a node at one moment; durations in milliseconds."""

    is_importer_running: bool
    import_age_ms: int
    """How long the import under way has taken; 0 when there is none."""
    is_store_writable: bool
    free_bytes: int
    loop_lag_ms: int
    head_age_ms: int
    """Negative when the head's timestamp lies ahead of this machine's clock."""
    future_ms_max: int
    """How far ahead another node's clock takes it."""
    block_interval_ms: int
    is_syncing: bool
    peers: int
    is_alone: bool
    """Whether the node was told of nobody to connect to, so that having no peer is no fault."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Good, or the reasons why not."""

    reasons: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.reasons


def judge_life(facts: Facts) -> Verdict:
    """Say whether the node can do its work at all."""
    stuck = f"an import has taken {facts.import_age_ms // 1000} s, at most {STALL_MS // 1000} s are expected"
    room = f"{facts.free_bytes} bytes are free on the disk, at least {FREE_BYTES_MIN} are needed"
    return _judge(
        (not facts.is_importer_running, "the importer has stopped"),
        (facts.import_age_ms > STALL_MS, stuck),
        (not facts.is_store_writable, "an earlier write failed; nothing is written until a restart"),
        (facts.free_bytes < FREE_BYTES_MIN, room),
    )


def judge_readiness(facts: Facts) -> Verdict:
    """Say whether the node's answers are about the network's present."""
    age_max_ms = HEAD_AGE_INTERVALS * facts.block_interval_ms
    old = f"the head is {facts.head_age_ms // 1000} s old, at most {age_max_ms // 1000} s are expected"
    early = f"the head is {-facts.head_age_ms // 1000} s ahead of this machine's clock, too far for others"
    lag = f"the event loop is {facts.loop_lag_ms} ms late, at most {LAG_MS} ms are expected"
    return Verdict(
        judge_life(facts).reasons
        + _judge(
            (facts.peers == 0 and not facts.is_alone, "no peer is connected"),
            (facts.is_syncing, "heavier headers are known than blocks"),
            (facts.head_age_ms > age_max_ms, old),
            (-facts.head_age_ms > facts.future_ms_max, early),
            (facts.loop_lag_ms > LAG_MS, lag),
        ).reasons
    )


def _judge(*findings: tuple[bool, str]) -> Verdict:
    return Verdict(tuple(reason for is_bad, reason in findings if is_bad))
