"""Headers on old, nearly free branches: counted and not kept; the heaviest chain is found all the same. Threat 30."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from chain.header import Header, compute_header_hash, compute_signing_hash
from chain.ledger.learning import LearningEngine
from chain.primitives import Hash, PublicKey
from consensus.header_chain import ChainEntry, HeaderChain
from consensus.side_branches import choose_lightest
from node import chain as node_chain
from node.chain import SIDE_HEADERS_MAX, Chain
from node.chain_port import NodeChainPort
from node.gate import TransactionGate
from node.importer import Importer
from node.mempool import Mempool
from node.outcomes import ImportResult
from node.presyncs import PRESYNCS_MAX
from node.signatures import Signatures
from node.threads import spread_in_line
from p2p.messages import HEADERS_MAX
from p2p.view import Outcome
from tests.support.header_peers import (
    OPENING,
    HeaderPeer,
    SyncBench,
    grow_late,
    make_headers,
    make_node_context,
    name_peer,
    open_chain,
)
from tests.support.headers import KEYS, NOW_MS, grow, make_child
from tests.support.importing import make_importer

CONTEXT = make_node_context()
HELD = 400
"""Headers on schedule that a node holds: more than a fork may be deep that is followed."""

LATE_MS = 800_000_000
"""A branch that begins so late is behind the clock for 400,000 blocks."""

SLOW_MS = 8_200_000
"""A branch that begins so late costs next to nothing for 4,000 blocks and catches up with the clock at 4,100."""

HEAVY = 4_200
ANN, BEN, CAT, LIAR = map(name_peer, "abcl")


@dataclass
class Follower:
    """A node's chain without blocks, its door and what the network sees of it."""

    chain: Chain
    importer: Importer
    port: NodeChainPort

    async def show(self, headers: tuple[Header, ...], source: PublicKey = LIAR) -> ImportResult:
        """Hand headers in with the openings of the first and the last."""
        outcome = await self.importer.import_headers(headers, {0: OPENING, len(headers) - 1: OPENING}, source)
        return outcome.result

    def is_at(self, tip: ChainEntry) -> bool:
        """Say whether the heaviest header is that one."""
        return self.chain.get_heaviest_header().hash == tip.hash

    def hold(self, tip: ChainEntry) -> None:
        """Take all headers up to `tip` as held before."""
        for height in range(1, tip.height + 1):
            self.chain.insert_header(tip.get_ancestor(height).header)


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    # No block comes here, so nothing of learning is asked.
    chain, learning, mempool = open_chain(CONTEXT, tmp_path), cast(LearningEngine, None), Mempool()
    importer = make_importer(chain, learning, lambda: NOW_MS)
    signatures = Signatures(CONTEXT.chain_id, spread_in_line)
    gate = TransactionGate(chain, mempool, learning, signatures, lambda: NOW_MS)
    return Follower(chain, importer, NodeChainPort(chain, importer, mempool, gate))


def list_headers(tip: ChainEntry, start: int = 1) -> tuple[Header, ...]:
    return tuple(tip.get_ancestor(height).header for height in range(start, tip.height + 1))


def split(headers: tuple[Header, ...], count: int = HEADERS_MAX) -> list[tuple[Header, ...]]:
    return [headers[start : start + count] for start in range(0, len(headers), count)]


def sign_again(header: Header) -> Header:
    """Return what the same miner could publish for the same ticket at another time."""
    foliage = replace(header.foliage, timestamp_ms=header.foliage.timestamp_ms + 1)
    key = next(key for key in KEYS if key.public_key == foliage.miner)
    return Header(header.trunk, foliage, key.sign(compute_signing_hash(CONTEXT.chain_id, foliage)))


@pytest.fixture(scope="module")
def main() -> ChainEntry:
    headers = make_headers(CONTEXT)
    return grow(CONTEXT, headers, headers.genesis, HELD)


@pytest.fixture(scope="module")
def heavy() -> tuple[HeaderChain, ChainEntry]:
    """A branch from genesis whose first 4,000 headers are nearly free, and which outweighs `main` in its last ones."""
    headers = make_headers(CONTEXT)
    return headers, grow_late(CONTEXT, headers, headers.genesis, HEAVY, SLOW_MS)


def make_liar(start: HeaderChain | None = None) -> HeaderPeer:
    """Return a peer that claims the most work of all and shows a light branch without an end."""
    headers = start or make_headers(CONTEXT)
    tip = grow_late(CONTEXT, headers, headers.genesis, HEADERS_MAX, LATE_MS)
    return HeaderPeer(headers, tip, 1 << 250, lambda tip: grow_late(CONTEXT, headers, tip, HEADERS_MAX, 1))


async def test_threat_30_light_headers_far_back_are_counted_and_not_kept(follower: Follower, main: ChainEntry) -> None:
    follower.hold(main)
    headers = make_headers(CONTEXT)
    tip = headers.genesis
    for number in range(4):
        first = tip.height + 1
        tip = grow_late(CONTEXT, headers, tip, HEADERS_MAX, 1 if number else LATE_MS)
        assert await follower.show(list_headers(tip, first)) is ImportResult.LIGHT
        assert len(follower.chain.headers) == HELD + 1
    assert tip.total_work < main.total_work // 64, "eight thousand of them weigh next to nothing"


async def test_threat_30_side_branches_are_bounded_and_the_heaviest_stay(
    follower: Follower, main: ChainEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that knows no better yet keeps what is heavier than all it has; the next branch leaves it aside."""
    monkeypatch.setattr(node_chain, "SIDE_HEADERS_MAX", 60)
    headers = make_headers(CONTEXT)
    for salt in range(40):
        tip = grow_late(CONTEXT, headers, headers.genesis, 20 + salt, LATE_MS, salt)
        await follower.show(list_headers(tip))
        assert len(follower.chain.headers) <= 1 + tip.height + 60
    follower.hold(main)
    near = main.get_ancestor(HELD - 3)
    fork = make_headers(CONTEXT)
    for height in range(1, near.height + 1):
        fork.insert(main.get_ancestor(height).header)
    sibling = make_child(CONTEXT, fork.get_entries()[-1], 2)
    assert await follower.show((sibling,)) is ImportResult.SIDE_BRANCH
    for salt in range(40, 50):
        await follower.show((make_child(CONTEXT, fork.get_entries()[200], salt),))
    assert compute_header_hash(sibling) in follower.chain.headers, "what lies near the head goes last"
    assert len(follower.chain.headers) <= 1 + HELD + 60
    assert len(follower.chain.contents._by_winner) <= 1 + HELD + 60


@pytest.mark.parametrize("bound", [SIDE_HEADERS_MAX, 60])
async def test_a_heavier_branch_that_begins_light_is_found(
    follower: Follower,
    main: ChainEntry,
    heavy: tuple[HeaderChain, ChainEntry],
    bound: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However few headers may stand beside the heaviest: what comes again is on its way to be that."""
    monkeypatch.setattr(node_chain, "SIDE_HEADERS_MAX", bound)
    follower.hold(main)
    headers, tip = heavy
    assert 64 * tip.get_ancestor(4_000).total_work < main.total_work < tip.total_work
    bench = SyncBench(follower.port, {ANN: HeaderPeer(headers, tip, tip.total_work)})
    await bench.run(lambda: follower.is_at(tip), 10)
    first_pass, second_pass = [Outcome.LIGHT, Outcome.LIGHT, Outcome.PROVEN], [Outcome.ACCEPTED] * 3
    assert [outcome for _, outcome in bench.outcomes] == first_pass + second_pass
    assert follower.is_at(tip)
    assert bench.charges == []
    assert len(follower.importer.admission._presyncs) == 0
    assert len(follower.chain.headers) <= 1 + HEAVY + min(bound, HELD)


async def test_a_branch_that_has_come_again_is_not_let_go_before_it_outweighs_the_heaviest(
    follower: Follower, main: ChainEntry, heavy: tuple[HeaderChain, ChainEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its work was enough at the end of a page that weighs less than the heaviest; the page behind it decides."""
    monkeypatch.setattr(node_chain, "SIDE_HEADERS_MAX", 60)
    follower.hold(main)
    tip = heavy[1]
    enough = next(h for h in range(4_000, HEAVY) if follower.chain.is_recent(tip.get_ancestor(h).total_work))
    assert tip.get_ancestor(enough).total_work < main.total_work < tip.total_work
    *counted, last = (*split(list_headers(tip.get_ancestor(enough))), list_headers(tip, enough + 1))
    assert [await follower.show(page) for page in counted] == [ImportResult.LIGHT] * 2 + [ImportResult.PROVEN]
    assert [await follower.show(page) for page in counted] == [ImportResult.SIDE_BRANCH] * 3
    assert await follower.show(last) is ImportResult.SIDE_BRANCH
    assert follower.is_at(tip)
    assert len(follower.chain.headers) <= 1 + HEAVY + 60, "then the lighter one is"


async def test_a_long_branch_on_its_way_does_not_have_all_others_looked_at_for_each_header(
    follower: Follower, main: ChainEntry, heavy: tuple[HeaderChain, ChainEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its peer may stop there for ever; what is kept for its sake is no reason to let others go."""
    monkeypatch.setattr(node_chain, "SIDE_HEADERS_MAX", 60)
    looks = list[int]()

    def choose(*arguments: Any) -> tuple[ChainEntry, ...]:
        looks.append(1)
        return choose_lightest(*arguments)

    monkeypatch.setattr(node_chain, "choose_lightest", choose)
    follower.hold(main)
    shown = split(list_headers(heavy[1]))
    assert [await follower.show(page) for page in shown][-1] is ImportResult.PROVEN
    assert [await follower.show(page) for page in shown[:2]] == [ImportResult.SIDE_BRANCH] * 2
    fork = make_headers(CONTEXT)
    for header in list_headers(main):
        fork.insert(header)
    for salt in range(2, 62):
        near = fork.get(main.get_ancestor(HELD - 3).hash)
        assert near is not None
        assert await follower.show((make_child(CONTEXT, near, salt),), BEN) is ImportResult.SIDE_BRANCH
    assert looks == []
    assert len(follower.chain.headers) == 1 + HELD + 2 * HEADERS_MAX + 60


async def test_what_comes_again_is_what_was_counted_or_is_not_kept(
    follower: Follower, main: ChainEntry, heavy: tuple[HeaderChain, ChainEntry]
) -> None:
    follower.hold(main)
    shown = split(list_headers(heavy[1]))
    other = make_headers(CONTEXT)
    light = split(list_headers(grow_late(CONTEXT, other, other.genesis, 2 * HEADERS_MAX, LATE_MS, 2)))
    for _ in range(2):
        results = [await follower.show(page) for page in shown]
        assert results == [ImportResult.LIGHT, ImportResult.LIGHT, ImportResult.PROVEN]
        assert await follower.show(light[0]) is ImportResult.LIGHT
        assert len(follower.chain.headers) == HELD + 1
    for page in shown:
        await follower.show(page)
    assert await follower.show(shown[0]) is ImportResult.SIDE_BRANCH
    assert await follower.show(light[1]) is ImportResult.ORPHAN, "it does not go on from what was kept"
    assert await follower.show(shown[1]) is ImportResult.SIDE_BRANCH
    assert await follower.show(shown[2], BEN) is ImportResult.SIDE_BRANCH, "it is recent now, whoever brings it"
    assert follower.is_at(heavy[1])


async def test_threat_30_a_branch_without_end_holds_up_no_honest_peer(
    follower: Follower, main: ChainEntry, heavy: tuple[HeaderChain, ChainEntry]
) -> None:
    """After a long partition: three honest peers on a branch that begins light, and a liar that claims the most."""
    follower.hold(main)
    honest = {peer: HeaderPeer(*heavy, heavy[1].total_work) for peer in (ANN, BEN, CAT)}
    bench = SyncBench(follower.port, {LIAR: make_liar(), **honest})
    await bench.run(lambda: follower.is_at(heavy[1]), 40)
    assert follower.is_at(heavy[1])
    assert bench.charges == []
    assert bench.asked[LIAR] <= 8
    assert len(follower.chain.headers) <= 1 + HELD + HEAVY


async def test_threat_30_a_node_without_blocks_follows_no_light_branch_before_all_are_heard(
    follower: Follower, main: ChainEntry
) -> None:
    """A liar alone would lead it away from genesis, deeper than states are kept, before another was asked."""
    headers = make_headers(CONTEXT)
    for header in list_headers(main):
        headers.insert(header)
    tip = headers.get_tips()[0]
    honest = {peer: HeaderPeer(headers, tip, tip.total_work) for peer in (ANN, BEN)}
    bench = SyncBench(follower.port, {LIAR: make_liar(), **honest})
    await bench.run(lambda: bench.asked.total() > 4 and bool(bench.wanted), 12)
    assert follower.is_at(tip)
    assert bench.wanted
    assert bench.wanted <= {tip.get_ancestor(height).hash for height in range(1, HELD + 1)}
    assert len(follower.chain.headers) <= 1 + HELD + SIDE_HEADERS_MAX


async def test_an_honest_chain_is_fetched_once(follower: Follower, heavy: tuple[HeaderChain, ChainEntry]) -> None:
    """Whatever is heavier than all that is held needs no first pass, and no peer brings what another has brought."""
    headers, tip = heavy
    bench = SyncBench(follower.port, {peer: HeaderPeer(headers, tip, tip.total_work) for peer in (ANN, BEN, CAT)})
    await bench.run(lambda: follower.is_at(tip), 10)
    assert [outcome for _, outcome in bench.outcomes] == [Outcome.ACCEPTED] * 3
    assert bench.asked == {ANN: 1, BEN: 1, CAT: 1}


def test_missing_blocks_are_found_by_few_looks_into_the_store(
    follower: Follower, main: ChainEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are looked up behind every block: each look at all that is missing would make a first sync quadratic."""
    follower.hold(main)
    looks, has_block = list[Hash](), follower.chain.store.has_block

    def look(name: Hash) -> bool:
        looks.append(name)
        return has_block(name)

    monkeypatch.setattr(follower.chain.store, "has_block", look)
    expected = tuple(main.get_ancestor(height).hash for height in range(1, HELD + 1))
    assert follower.chain.get_missing_blocks(10) == expected[:10]
    assert len(looks) <= HELD.bit_length()
    assert follower.chain.get_missing_blocks(HELD + 10) == expected


async def test_peers_without_number_leave_few_first_passes(follower: Follower, main: ChainEntry) -> None:
    follower.hold(main)
    headers = make_headers(CONTEXT)
    page = list_headers(grow_late(CONTEXT, headers, headers.genesis, 3, LATE_MS))
    for number in range(2 * PRESYNCS_MAX):
        assert await follower.show(page, PublicKey(number.to_bytes(32, "big"))) is ImportResult.LIGHT
    assert len(follower.importer.admission._presyncs) == PRESYNCS_MAX


async def test_evidence_in_a_light_run_is_told(follower: Follower, main: ChainEntry) -> None:
    follower.hold(main)
    told: list[tuple[Header, Header]] = []
    follower.importer.admission.equivocation_listeners.append(lambda *pair: told.append(pair))
    first = main.get_ancestor(50).header
    second = sign_again(first)
    assert await follower.show((second,)) is ImportResult.LIGHT
    assert told == [(first, second)]
    assert len(follower.chain.headers) == HELD + 1
