"""What is watched of a running node: which numbers its metrics are, and which facts its health is judged by.

The one place that knows both the parts and the names under which they are seen. It changes nothing.
"""

import json
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from chain.ledger.transition import ContributionStatus
from chain.primitives import ATOMS_PER_COIN
from node.importer import HeadChange
from node.observability.health import Facts, Verdict, judge_life, judge_readiness
from node.observability.heartbeat import Heartbeat
from node.observability.metrics import Count, Gauge, Metrics, Source, Spread
from node.observability.tally import Tally
from node.queries import NodeQueries
from node.rpc.server import Page, ReadPage
from node.validator import Validator


class Watch:
    """Reads one node; `pages` are what callers see of it."""

    def __init__(self, validator: Validator, queries: NodeQueries, database_path: Path, *, is_alone: bool) -> None:
        """Watch a validator whose database is a folder; `is_alone` says that it was told of no other node."""
        self._validator = validator
        self._queries = queries
        self._database_path = database_path
        self._is_alone = is_alone
        self._moves = Tally(("connected_blocks", "disconnected_blocks", "connected_transactions", "reorgs"))
        self.heartbeat = Heartbeat()
        self._metrics = Metrics(self._list_sources())
        validator.parts.importer.listeners.append(self._on_head)

    @property
    def pages(self) -> Mapping[str, ReadPage]:
        """The pages by their paths."""
        return {
            "/metrics": lambda: Page(self._metrics.expose(), CONTENT_TYPE_PLAIN_0_0_4),
            "/health": lambda: _show(judge_life(self.collect_facts())),
            "/ready": lambda: _show(judge_readiness(self.collect_facts())),
        }

    def collect_facts(self) -> Facts:
        """Return what health is judged by, now."""
        parts = self._validator.parts
        return Facts(
            is_importer_running=parts.importer.is_running,
            import_age_ms=parts.importer.busy_ms,
            is_store_writable=parts.chain.store.is_writable,
            free_bytes=shutil.disk_usage(self._database_path).free,
            loop_lag_ms=self.heartbeat.get_lag_ms(),
            head_age_ms=self._get_head_age_ms(),
            future_ms_max=parts.chain.parameters.future_ms_max,
            block_interval_ms=parts.chain.parameters.interval_ms,
            is_syncing=self._queries.is_syncing(),
            peers=len(self._validator.network.get_peers()),
            is_alone=self._is_alone,
        )

    def _on_head(self, change: HeadChange) -> None:
        self._moves.add("connected_blocks", len(change.connected))
        self._moves.add("connected_transactions", sum(len(block.transactions) for _, block, _ in change.connected))
        self._moves.add("disconnected_blocks", len(change.disconnected))
        self._moves.add("reorgs", bool(change.disconnected))

    def _get_head_age_ms(self) -> int:
        parts = self._validator.parts
        return parts.get_time_ms() - parts.chain.head.header.foliage.timestamp_ms

    def _list_sources(self) -> tuple[Source, ...]:
        return (*self._list_chain(), *self._list_pool(), *self._list_network(), *self._list_task(), *self._list_disk())

    def _list_chain(self) -> tuple[Source, ...]:
        chain, importer = self._validator.parts.chain, self._validator.parts.importer
        return (
            Gauge("chain_height", "Height of the head.", lambda: chain.head.height),
            Gauge(
                "chain_head_age_seconds",
                "Time since the head's timestamp.",
                lambda: max(0, self._get_head_age_ms()) / 1000,
            ),
            Gauge("chain_work_macs", "Expected MACs behind the head.", lambda: float(chain.head.total_work)),
            Gauge("chain_header_height", "Height of the heaviest header.", lambda: chain.get_heaviest_header().height),
            Count("chain_moves", "What head changes did.", "kind", self._moves),
            Count("import_blocks", "Blocks offered to the importer.", "result", importer.results),
            Spread("import_seconds", "Time an import takes.", "phase", importer.phases),
            Gauge("import_queue_length", "Imports that wait.", lambda: importer.queue_length),
            Gauge("loop_lag_seconds", "Worst recent lateness of the event loop.", self._get_lag_s),
        )

    def _list_pool(self) -> tuple[Source, ...]:
        parts = self._validator.parts
        return (
            Gauge("pool_transactions", "Transactions that wait for a block.", lambda: len(parts.mempool)),
            Gauge("pool_bytes", "Their bytes.", lambda: parts.mempool.size_bytes),
            Count("pool_admissions", "Transactions offered to the pool.", "result", parts.gate.admissions),
            Count("pool_departures", "Transactions that left the pool.", "reason", parts.mempool.drops),
            Count(
                "signature_lookups",
                "Signatures looked up before verification.",
                "result",
                parts.signatures.lookups,
            ),
        )

    def _list_network(self) -> tuple[Source, ...]:
        network = self._validator.network
        return (
            Gauge("peers", "Connected peers.", self._count_peers, "direction"),
            Gauge("network_deliveries_waiting", "Pieces of content to be judged.", lambda: network.deliveries_waiting),
            Count("network_bytes", "Bytes of peers' messages.", "direction", network.traffic_bytes),
            Count("peer_charges", "Faults that peers were charged with.", "fault", network.charges),
        )

    def _list_task(self) -> tuple[Source, ...]:
        queries, auditor = self._queries, self._validator.auditor
        return (
            Gauge("task_round", "The running round.", lambda: queries.get_task().round),
            Gauge("task_pot_coins", "Coins in the round's pot.", lambda: queries.get_task().pot / ATOMS_PER_COIN),
            Gauge("task_heldout_accuracy", "Held-out examples answered well, 0 to 1.", self._get_accuracy),
            Gauge("contributions", "Contributions of the running round.", self._count_contributions, "status"),
            Count("audits", "Segments executed again by the auditor.", "result", auditor.audits),
            Count("audit_duties", "Proofs and answers that the auditor sent.", "kind", auditor.duties.counts),
            Gauge("miner_tickets_per_second", "What the node's miner reported.", lambda: self._get_rate("tickets")),
            Gauge("miner_macs_per_second", "What the node's miner reported.", lambda: self._get_rate("macs")),
        )

    def _list_disk(self) -> tuple[Source, ...]:
        path, number = self._database_path, {version("mathesis"): 1.0}
        return (
            Gauge("database_bytes", "Size of the database's files.", lambda: _measure_folder(path)),
            Gauge("disk_free_bytes", "Room left on its disk.", lambda: shutil.disk_usage(path).free),
            Gauge("node", "Always 1; the version that runs.", lambda: number, "version"),
        )

    def _get_lag_s(self) -> float:
        return self.heartbeat.get_lag_ms() / 1000

    def _count_peers(self) -> dict[str, float]:
        inbound = [peer.is_inbound for peer in self._validator.network.get_peers()]
        return {"inbound": sum(inbound), "outbound": len(inbound) - sum(inbound)}

    def _get_accuracy(self) -> float:
        checkpoint = self._queries.get_task().checkpoint
        return checkpoint.correct / checkpoint.total if checkpoint.total else 0.0

    def _count_contributions(self) -> dict[str, float]:
        counts = Tally(tuple(status.name.lower() for status in ContributionStatus))
        for contribution in self._queries.get_contributions(None):
            counts.add(contribution.status)
        return {status: float(count) for status, count in sorted(counts.counts.items())}

    def _get_rate(self, name: str) -> float:
        rates = self._queries.rates
        return 0.0 if rates is None else float({"tickets": rates.tickets, "macs": rates.macs}[name])


def _show(verdict: Verdict) -> Page:
    body = json.dumps({"is_good": verdict.is_good, "reasons": verdict.reasons})
    return Page(body.encode(), is_good=verdict.is_good)


def _measure_folder(path: Path) -> int:
    sizes = []
    for file in path.iterdir():
        try:
            sizes.append(file.stat().st_size)
        except FileNotFoundError:
            # LevelDB deletes tables at any moment.
            continue
    return sum(sizes)
