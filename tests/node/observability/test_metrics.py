"""What a real node exposes: numbers that move with what happens, and every name that the dashboard asks for."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from chain.errors import InvalidTransaction
from chain.signature import SigningKey
from chain.transaction import Transaction, TransactionBody, Transfer, compute_signing_hash
from node.observability.metrics import PREFIX
from node.observability.tally import DURATION_EDGES_MS, Durations
from tests.support.live_node import HOLDER, LiveNode, run_live_node

DASHBOARD = Path(__file__).resolve().parents[3] / "docs/grafana/mathesis.json"
OUTSIDER = SigningKey(b"\x77" * 32)

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]

on_one_loop = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveNode]:
    async with run_live_node(tmp_path_factory.mktemp("node")) as node:
        yield node


async def fetch(live: LiveNode, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(live.url + path, headers=headers) as response:
        return response.status, await response.text()


async def scrape(live: LiveNode) -> Samples:
    status, text = await fetch(live, "/metrics")
    assert status == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def get(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"{PREFIX}_{name}", tuple(sorted(labels.items()))]


@on_one_loop
async def test_mining_and_paying_move_the_numbers(live: LiveNode) -> None:
    before = await scrape(live)
    body = TransactionBody(HOLDER.public_key, 0, 1_000, Transfer(OUTSIDER.public_key, 5))
    chain_id = live.node.parts.chain.header_context.chain_id
    await live.node.parts.gate.admit(Transaction(body, HOLDER.sign(compute_signing_hash(chain_id, body))))
    waiting = await scrape(live)
    assert get(waiting, "pool_transactions") == get(before, "pool_transactions") + 1
    assert get(waiting, "pool_bytes") > get(before, "pool_bytes")
    await live.mine(2)
    after = await scrape(live)
    assert get(after, "chain_height") == get(before, "chain_height") + 2
    assert get(after, "chain_work_macs") > get(before, "chain_work_macs")
    assert get(after, "pool_transactions") == get(before, "pool_transactions")
    for name, labels, difference in (
        ("import_blocks_total", {"result": "extended"}, 2),
        ("chain_moves_total", {"kind": "connected_blocks"}, 2),
        ("chain_moves_total", {"kind": "connected_transactions"}, 1),
        ("chain_moves_total", {"kind": "reorgs"}, 0),
        ("pool_admissions_total", {"result": "added"}, 1),
        ("import_seconds_count", {"phase": "commit"}, 2),
        ("import_seconds_bucket", {"phase": "execution", "le": "+Inf"}, 2),
    ):
        assert get(after, name, **labels) - get(before, name, **labels) == difference, name


@on_one_loop
async def test_a_refused_transaction_is_counted(live: LiveNode) -> None:
    before = await scrape(live)
    body = TransactionBody(OUTSIDER.public_key, 0, 1, Transfer(HOLDER.public_key, 10**18))
    chain_id = live.node.parts.chain.header_context.chain_id
    transaction = Transaction(body, OUTSIDER.sign(compute_signing_hash(chain_id, body)))
    with pytest.raises(InvalidTransaction, match="balance"):
        await live.node.parts.gate.admit(transaction)
    after = await scrape(live)
    assert get(after, "pool_admissions_total", result="refused") == 1 + get(
        before, "pool_admissions_total", result="refused"
    )


@on_one_loop
async def test_the_dashboard_asks_for_nothing_that_a_node_does_not_expose(live: LiveNode) -> None:
    samples = await scrape(live)
    labels_of: dict[str, set[str]] = {}
    for name, labels in samples:
        labels_of.setdefault(name, {"instance"}).update(label for label, _ in labels)
    expressions = find_expressions()
    assert len(expressions) > 20
    for expression in expressions:
        assert not find_unknown(expression, labels_of), expression


@pytest.mark.parametrize(
    ("expression", "unknown"),
    [
        ("mathesis_chain_heigth", {"mathesis_chain_heigth"}),
        ("sum by (colour) (mathesis_chain_height)", {"colour"}),
        ('mathesis_chain_height{colour="red"}', {"colour"}),
        ("rate(mathesis_chain_height[5m])", set()),
    ],
)
def test_an_unknown_name_would_be_found(expression: str, unknown: set[str]) -> None:
    assert find_unknown(expression, {"mathesis_chain_height": {"instance"}}) == unknown


def find_expressions() -> list[str]:
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


def find_unknown(expression: str, labels_of: dict[str, set[str]]) -> set[str]:
    """Return names of metrics and labels in an expression that are not exposed."""
    names = set(re.findall(r"\b(?:mathesis|process)_\w+", expression))
    grouped = {label for group in re.findall(r"by \(([^)]*)\)", expression) for label in re.split(r",\s*", group)}
    matched = set(re.findall(r'[{,]\s*(\w+)\s*(?:=|=~|!=|!~)\s*"', expression))
    known = set().union(*(labels_of.get(name, set()) for name in names))
    return (names - set(labels_of)) | ((grouped | matched) - known - ({"le"} if "_bucket" in expression else set()))


@on_one_loop
async def test_health_and_readiness_answer_with_reasons(live: LiveNode) -> None:
    assert await fetch(live, "/health") == (200, '{"is_good": true, "reasons": []}')
    importer = live.node.parts.importer
    await importer.stop()
    try:
        for path in ("/health", "/ready"):
            status, text = await fetch(live, path)
            assert status == 503
            assert "the importer has stopped" in json.loads(text)["reasons"]
    finally:
        importer.start()
    assert (await fetch(live, "/health"))[0] == 200


@pytest.mark.parametrize("path", ["/metrics", "/health", "/ready"])
@on_one_loop
async def test_strangers_see_no_page(live: LiveNode, path: str) -> None:
    status, text = await fetch(live, path, {"Host": "evil.example"})
    assert status == 403
    assert "host" in text
    assert (await fetch(live, path, {"Origin": "http://evil.example"}))[0] == 403


@on_one_loop
async def test_other_paths_and_methods_are_refused(live: LiveNode) -> None:
    assert (await fetch(live, "/metrics/more"))[0] == 404
    async with aiohttp.ClientSession() as session, session.post(live.url + "/metrics") as response:
        assert response.status == 405


def test_durations_fall_into_their_buckets() -> None:
    durations = Durations()
    for duration_us in (1, 1_000, 1_001, DURATION_EDGES_MS[-1] * 1_000, DURATION_EDGES_MS[-1] * 1_000 + 1):
        durations.add_us(duration_us)
    assert durations.counts[0] == 2, "an edge belongs to its bucket"
    assert durations.counts[1] == 1
    assert durations.counts[-2:] == [1, 1]
    assert sum(durations.counts) == 5
