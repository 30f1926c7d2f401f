"""A node's metrics in Prometheus' terms, read from its parts at the moment somebody asks.

Parts count in plain integers (`node.observability.tally`) and know nothing of this; names, units and labels stand here
and nowhere else. No label takes a value that a peer or caller can choose. Source: Prometheus, naming and exposition.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from node.observability.tally import DURATION_EDGES_MS, Durations, Tally

PREFIX = "mathesis"


@dataclass(frozen=True, slots=True)
class Gauge:
    """One number that goes up and down; with a `label`, one for each of its values."""

    name: str
    help: str
    read: Callable[[], float | dict[str, float]]
    label: str = ""


@dataclass(frozen=True, slots=True)
class Count:
    """Events since the start by the names of a tally."""

    name: str
    help: str
    label: str
    tally: Tally


@dataclass(frozen=True, slots=True)
class Spread:
    """How long things took, in seconds, by what they were."""

    name: str
    help: str
    label: str
    durations: dict[str, Durations]


Source = Gauge | Count | Spread


class Metrics:
    """One node's registry."""

    def __init__(self, sources: Iterable[Source]) -> None:
        """Expose `sources` and what the process itself uses."""
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Sources(tuple(sources)))
        ProcessCollector(registry=self._registry)

    def expose(self) -> bytes:
        """Return the text that Prometheus scrapes."""
        return generate_latest(self._registry)


class _Sources(Collector):
    def __init__(self, sources: tuple[Source, ...]) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        for source in self._sources:
            if isinstance(source, Gauge):
                yield _make_gauge(source)
            elif isinstance(source, Count):
                yield _make_count(source)
            else:
                yield _make_spread(source)


def _make_gauge(source: Gauge) -> Metric:
    found = source.read()
    labels = [source.label] if source.label else []
    family = GaugeMetricFamily(f"{PREFIX}_{source.name}", source.help, labels=labels)
    for name, value in found.items() if isinstance(found, dict) else [("", found)]:
        family.add_metric([name] if source.label else [], value)
    return family


def _make_count(source: Count) -> Metric:
    family = CounterMetricFamily(f"{PREFIX}_{source.name}", source.help, labels=[source.label])
    for name, count in sorted(source.tally.counts.items()):
        family.add_metric([name], count)
    return family


def _make_spread(source: Spread) -> Metric:
    family = HistogramMetricFamily(f"{PREFIX}_{source.name}", source.help, labels=[source.label])
    edges = [f"{edge_ms / 1_000:g}" for edge_ms in DURATION_EDGES_MS] + ["+Inf"]
    for name, durations in sorted(source.durations.items()):
        below, buckets = 0, []
        for edge, count in zip(edges, durations.counts, strict=True):
            below += count
            buckets.append((edge, below))
        family.add_metric([name], buckets, durations.total_us / 1_000_000)
    return family
