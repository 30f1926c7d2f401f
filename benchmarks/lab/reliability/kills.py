"""Nodes that are killed while they write: at random moments, and right before, in the middle of and after a write.

After every death the node is started again the way a node starts. Its head must be the last one it had told of, or the
one it was about to tell of; its blocks and balances must be those that were executed outside of it. When a directory
has been through all its lives, everything in it is read and checked.
"""

import asyncio
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from benchmarks.lab.reliability.chains import Rules, Truth, make_diamonds, make_rules
from benchmarks.lab.reliability.deaths import Death, run_life
from benchmarks.lab.reliability.directories import Prepared, open_node, prepare
from benchmarks.lab.reliability.disks import POINTS, Site
from benchmarks.lab.reliability.lives import Life, Opened, describe
from benchmarks.lab.reliability.part import Result, Setup, compute_quantile, tell
from chain.block import BLOCK_BYTES_MAX, Block
from chain.codec import decode, encode
from chain.errors import MathesisError
from chain.hashing import sha256
from chain.primitives import Hash
from node.data_directory import DataDirectory
from node.database.checking import verify_database
from node.database.opening import OpenChain

RESTART_MS_MAX = 5_000
LIVES = 20
"""Deaths that one directory sees before its last check."""
SHORT, TALL = 24, 300
"""Heights at which directories begin; states are pruned from 288 on."""
DIAMONDS, DEPTH = 12, 3
DELAY_S_MAX = 0.5
EARLY_CHANCE, SITE_CHANCE = 0.1, 0.5


@dataclass(slots=True)
class Story:
    """One directory through its lives."""

    kind: str
    directory: DataDirectory
    truth: Truth
    told: Hash
    """The last head that the node has told of."""
    script: tuple[Block, ...] = ()
    signed: dict[str, bytes] = field(default_factory=dict)
    """Digests of the files of the signing record by name."""


def run_kills(setup: Setup) -> Result:
    """Kill nodes while they make blocks and reorganise, with and without pruning."""
    rules, result, starts_ms = make_rules(setup.root / "rules"), Result(), list[int]()
    stories = _iter_stories(rules, setup.root)
    lives = max(1, min(LIVES, setup.count // 4))
    story = next(stories)
    for seed in setup.seeds:
        if result.reached and result.reached % lives == 0:
            _close(rules, story, seed, result)
            story = next(stories)
        _run_life(story, seed, result, starts_ms)
        result.reached += 1
        result.figures[f"deaths while {story.kind}"] = str(int(result.figures.get(f"deaths while {story.kind}", 0)) + 1)
        tell(setup, result, "kills")
    _close(rules, story, setup.seed + result.reached - 1, result)
    if starts_ms:
        shown = f"{compute_quantile(starts_ms, 0.5)} ms, most {max(starts_ms)} ms, of {len(starts_ms):,}"
        result.figures["a start after a death, median"] = shown
    return result


def _iter_stories(rules: Rules, root: Path) -> Iterator[Story]:
    bases = [prepare(rules, root / f"base {height}", height) for height in (SHORT, TALL)]
    number = 0
    while True:
        for base in bases:
            for is_forking in (False, True):
                number += 1
                yield _begin(base, root / f"story {number}", is_forking=is_forking)


def _begin(base: Prepared, root: Path, *, is_forking: bool) -> Story:
    shutil.copytree(base.directory.root, root)
    script: tuple[Block, ...] = ()
    if is_forking:
        script = tuple(make_diamonds(base.maker.fork(0), DIAMONDS, DEPTH))
        for block in script:
            base.truth.learn(block)
    pruned = ", states pruned" if base.maker.tip.height >= TALL else ""
    kind = f"reorganising{pruned}" if is_forking else f"making blocks{pruned}"
    return Story(kind, DataDirectory(root), base.truth, base.head, script)


def _run_life(story: Story, seed: int, result: Result, starts_ms: list[int]) -> None:
    random = Random(seed)
    site = Site(random.choice(("database", "signed")), random.randrange(1, 8), random.choice(POINTS))
    is_at_site = random.random() < SITE_CHANCE
    death = Death(random.uniform(0, DELAY_S_MAX) * (4 if is_at_site else 1), random.random() < EARLY_CHANCE)
    script = tuple(encode(block) for block in story.script)
    ended = run_life(Life(story.directory.root, script, site=site if is_at_site else None), death)
    if ended.exit_code not in (-signal.SIGKILL, 0):
        result.fail(seed, f"{story.kind}: the node ended with exit code {ended.exit_code}")
    if ended.opened is not None:
        starts_ms.append(ended.opened.took_ms)
        _check_opened(story, ended.opened, seed, result)
    for data in ended.blocks:
        story.told = story.truth.learn(decode(Block, data, BLOCK_BYTES_MAX))
    _check_signed(story, seed, result)


def _check_opened(story: Story, opened: Opened, seed: int, result: Result) -> None:
    """Compare what a node found with what was told, and with what is known."""
    before, truth = story.told, story.truth
    for data in reversed(opened.recent):
        block = decode(Block, data, BLOCK_BYTES_MAX)
        if block.header.foliage.parent_hash in truth:
            truth.learn(block)
    if opened.head not in truth or opened.head not in (before, *_list_next(story, opened.head)):
        height = truth[before].height
        result.fail(seed, f"{story.kind}: told of height {height} {before.hex()[:16]}, found {opened.head.hex()[:16]}")
        return
    story.told = opened.head
    shown = [encode(truth[name].block) for name in truth.list_branch(opened.head)[: len(opened.recent)]]
    if list(opened.recent) != shown:
        result.fail(seed, f"{story.kind}: other blocks than were executed outside")
    if opened.balances != truth.get_balances(opened.head):
        result.fail(seed, f"{story.kind}: balances {opened.balances}, expected {truth.get_balances(opened.head)}")
    if opened.took_ms > RESTART_MS_MAX:
        result.fail(seed, f"{story.kind}: a start of {opened.took_ms} ms, expected at most {RESTART_MS_MAX}")


def _list_next(story: Story, found: Hash) -> tuple[Hash, ...]:
    """Return the heads that the node may have been about to tell of: the next of the script, or its own next block."""
    if not story.script:
        return (found,) if story.truth[found].parent == story.told else ()
    best, heads = story.truth[story.told], list[Hash]()
    for block in story.script:
        name = story.truth.learn(block)
        known = best.block
        if known is None or block.header.trunk.total_work > known.header.trunk.total_work:
            heads.append(name)
            break
    return tuple(heads)


def _check_signed(story: Story, seed: int, result: Result) -> None:
    """Check that no file of the signing record has ever changed."""
    for path in sorted(story.directory.signed_path.glob("*.block")):
        digest = sha256(path.read_bytes())
        if story.signed.setdefault(path.name, digest) != digest:
            result.fail(seed, f"{story.kind}: another block was signed for {path.name}")


def _close(rules: Rules, story: Story, seed: int, result: Result) -> None:
    """Open the directory a last time, read all of it, and remove it."""
    try:
        opened = asyncio.run(_audit(rules, story))
        _check_opened(story, opened, seed, result)
    except MathesisError as error:
        result.fail(seed, f"{story.kind}: after all lives: {error}")
    shutil.rmtree(story.directory.root)


async def _audit(rules: Rules, story: Story) -> Opened:
    async with open_node(story.directory, rules.setting.miners[0]) as node:
        verify_database(OpenChain(node.parts.chain, rules.setting.task), lambda *_: None)
        return describe(node, rules.setting, 0)
