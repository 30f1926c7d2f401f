"""A real node under floods: what honest others notice of a thousand bad blocks a second, and what the validation of a
block costs beside ten times the transactions that a network is made for.

The same node is measured idle before and after, so that what the machine does meanwhile is seen. The flood comes from
another process of the same machine and takes its share of it: what is shown is worse than on a machine of one's own.
"""

import asyncio
from collections.abc import Callable

from benchmarks.lab.reliability.chains import make_past_setting, make_rules
from benchmarks.lab.reliability.directories import Prepared, prepare
from benchmarks.lab.reliability.flooding import Flood, run_flood
from benchmarks.lab.reliability.live import Live, Seen, run_node, watch
from benchmarks.lab.reliability.part import Result, Setup, compute_quantile, tell
from chain.block import Block
from chain.codec import encode

HEIGHT = 12
TRANSFERS = 24
"""In each honest block."""
WARMING = 4
"""Honest blocks before the first measurement, in which code is loaded and compiled."""
INVALID_PER_S, TRANSFERS_PER_S = 1_000, 10_000
RATIO_MAX = 2.0
VALIDATION_RATIO_MAX = 1.25
PHASES = ("ticket", "execution", "commit")


def run_invalid_blocks(setup: Setup) -> Result:
    """Flood a node with bad blocks; a case is one honest block imported meanwhile."""
    return _flood(setup, "invalid blocks", _judge_latencies)


def run_transactions(setup: Setup) -> Result:
    """Flood a node with transfers; a case is one honest block imported meanwhile."""
    return _flood(setup, "transactions", _judge_validation)


class Turn:
    """One measurement: what was seen, and the node's own metrics before and after."""

    def __init__(self, seen: Seen, before: dict[str, float], after: dict[str, float]) -> None:
        """Keep what was measured."""
        self.seen = seen
        self._before, self._after = before, after

    def grow(self, name: str) -> float:
        """Return by how much a metric has grown."""
        return self._after.get(name, 0.0) - self._before.get(name, 0.0)

    def compute_phase_ms(self, phase: str) -> float:
        """Return the mean time that imports spent in a phase."""
        label = f'{{phase="{phase}"}}'
        count = self.grow(f"mathesis_import_seconds_count{label}")
        return 1000 * self.grow(f"mathesis_import_seconds_sum{label}") / max(1, count)


Judge = Callable[[list[Turn], Result, int], None]


def _flood(setup: Setup, name: str, judge: Judge) -> Result:
    rules, result, rates = make_rules(setup.root / "rules"), Result(), list[float]()
    base = prepare(rules, setup.root / "base", HEIGHT)
    bad = encode(base.maker.fork(1).make_block()) if judge is _judge_latencies else None
    blocks = [base.maker.make_block(TRANSFERS) for _ in range(WARMING + 3 * setup.count)]
    turns = asyncio.run(_take_turns(base, blocks, bad, rates))
    result.reached = setup.count
    result.figures["taken by the node from the flood, a second"] = f"{rates[0]:,.0f}"
    judge(turns, result, setup.seed)
    tell(setup, result, name)
    return result


async def _take_turns(base: Prepared, blocks: list[Block], bad: bytes | None, rates: list[float]) -> list[Turn]:
    """Measure one node idle, flooded and idle again, with a third of the blocks each."""
    size, turns = len(blocks[WARMING:]) // 3, list[Turn]()
    async with run_node(base.directory) as live:
        await _measure(live, blocks[:WARMING])
        blocks = blocks[WARMING:]
        turns.append(await _measure(live, blocks[:size]))
        with run_flood(Flood(live.p2p, INVALID_PER_S if bad else TRANSFERS_PER_S, bad), rates):
            turns.append(await _measure(live, blocks[size : 2 * size]))
        turns.append(await _measure(live, blocks[2 * size :]))
    return turns


async def _measure(live: Live, blocks: list[Block]) -> Turn:
    before = await live.read_metrics()
    seen = await watch(live, make_past_setting(), blocks)
    return Turn(seen, before, await live.read_metrics())


def _judge_latencies(turns: list[Turn], result: Result, seed: int) -> None:
    refused = 'mathesis_import_blocks_total{result="invalid"}'
    result.figures["refused as invalid beside the honest blocks"] = f"{turns[1].grow(refused):,.0f}"
    calls, blocks = ([turn.seen.calls for turn in turns], [turn.seen.blocks for turn in turns])
    for what, seen in (("a call", calls), ("a block's way in", blocks)):
        found = [compute_quantile(latencies, 0.99) for latencies in seen]
        base = max(found[0], found[2])
        result.figures[f"{what}, 99 %, idle, flooded, idle again"] = _show(found)
        if found[1] > RATIO_MAX * base:
            result.fail(seed, f"{what}: 99 % within {found[1]:.0f} ms, expected {RATIO_MAX} times {base:.0f} ms")


def _judge_validation(turns: list[Turn], result: Result, seed: int) -> None:
    found = [sum(turn.compute_phase_ms(phase) for phase in PHASES) for turn in turns]
    base = max(found[0], found[2])
    result.figures["validating a block, mean, idle, flooded, idle again"] = _show(found)
    admitted = turns[1].grow('mathesis_pool_admissions_total{result="refused"}')
    result.figures["refused by the pool beside the honest blocks"] = f"{admitted:,.0f}"
    if found[1] > VALIDATION_RATIO_MAX * base:
        result.fail(seed, f"validation took {found[1]:.1f} ms, expected {VALIDATION_RATIO_MAX} times {base:.1f} ms")


def _show(values_ms: list[float]) -> str:
    return ", ".join(f"{value:,.1f} ms" for value in values_ms)
