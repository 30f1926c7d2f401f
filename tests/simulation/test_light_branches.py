"""Whole networks that are shown light branches without an end: real tickets, pages and bounds made small."""

from collections import Counter

import pytest

import node.beside
import node.chain
import p2p.messages
import p2p.serve
import p2p.sync
from benchmarks.lab.simulator.malice import COSTLY_MALICE
from benchmarks.lab.simulator.schedule import LONG_EVERY
from benchmarks.lab.simulator.simulation import Focus, run_seed
from chain.primitives import PublicKey
from consensus.header_chain import ChainEntry
from consensus.side_branches import list_beside
from node.chain import Chain
from node.presyncs import Presyncs

REORG_BLOCKS, SIDE_HEADERS, PAGE = 8, 24, 10


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (node.chain, node.beside):
        monkeypatch.setattr(module, "REORG_BLOCKS", REORG_BLOCKS)
    monkeypatch.setattr(node.chain, "SIDE_HEADERS_MAX", SIDE_HEADERS)
    for module in (p2p.messages, p2p.sync, p2p.serve):
        monkeypatch.setattr(module, "HEADERS_MAX", PAGE)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kinds", [(), ("partition", "crash")])
def test_threat_30_networks_hold_little_of_light_branches_and_find_one_tip(
    kinds: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that comes late, too, finds the heaviest chain among rogues that claim more than anybody."""
    beside, passes = [0], Counter[bool]()
    trim, note = Chain.trim, Presyncs.note

    def trim_and_look(chain: Chain, *kept: ChainEntry) -> None:
        trim(chain, *kept)
        beside.append(len(list_beside(chain.headers, (chain.head, chain.get_heaviest_header(), *kept))))

    def note_and_count(
        presyncs: Presyncs, source: PublicKey, parent: ChainEntry, end: ChainEntry, *, is_enough: bool
    ) -> None:
        passes[is_enough] += 1
        note(presyncs, source, parent, end, is_enough=is_enough)

    monkeypatch.setattr(Chain, "trim", trim_and_look)
    monkeypatch.setattr(Presyncs, "note", note_and_count)
    result = run_seed(2 * LONG_EVERY, focus=Focus(kinds, tuple(COSTLY_MALICE)))
    assert result.failure is None
    assert result.height > 5 * REORG_BLOCKS
    assert result.counts["malice"] > 0
    assert passes[False] > 0, "light pages were shown, and not kept"
    assert 0 < max(beside) <= SIDE_HEADERS
