"""Imports of a state that are killed: what is half done is no database, and goes on to the right one.

After a death a copy is started as a node starts: it must refuse, be as empty as before, or hold the whole state. Then
the import is run again to its end.
"""

import asyncio
import shutil
import signal
from pathlib import Path
from random import Random

from benchmarks.lab.reliability.chains import Rules, make_rules
from benchmarks.lab.reliability.deaths import Death, run_life
from benchmarks.lab.reliability.directories import Prepared, open_node, prepare
from benchmarks.lab.reliability.disks import Site
from benchmarks.lab.reliability.lives import Life, Opened, describe
from benchmarks.lab.reliability.part import Result, Setup, tell
from chain.errors import StorageError
from node.data_directory import DataDirectory
from node.database.exporting import export_state

HEIGHT = 40
CALLS_MAX = 6
"""Progress that an import of this size reports, and one more."""
DELAY_S_MAX = 0.15
END_S = 60.0


def run_imports(setup: Setup) -> Result:
    """Kill imports, look at what is left, and finish them."""
    rules, result = make_rules(setup.root / "rules"), Result()
    base, export = prepare(rules, setup.root / "base", HEIGHT), setup.root / "export"
    asyncio.run(_export(rules, base, export))
    counts = dict.fromkeys(("empty", "refused", "whole"), 0)
    for seed in setup.seeds:
        root = setup.root / f"import {seed}"
        found = _run_case(rules, base, Life(root, export=export), seed, result)
        counts[found] += 1
        result.reached += 1
        tell(setup, result, "imports")
        shutil.rmtree(root, ignore_errors=True)
    result.figures["left behind by the death"] = ", ".join(f"{what} {number}" for what, number in counts.items())
    return result


async def _export(rules: Rules, base: Prepared, folder: Path) -> None:
    async with open_node(base.directory, rules.setting.miners[0]) as node:
        export_state(node.parts.chain, folder, None, lambda *_: None)


def _run_case(rules: Rules, base: Prepared, life: Life, seed: int, result: Result) -> str:
    """Kill one import, finish it, and return what the death had left."""
    random = Random(seed)
    site = Site("progress", random.randrange(1, CALLS_MAX)) if random.random() < 0.5 else None
    death = Death(random.uniform(0, DELAY_S_MAX) if site is None else END_S, is_early=True)
    ended = run_life(Life(life.root, export=life.export, site=site), death)
    if ended.exit_code not in (-signal.SIGKILL, 0):
        result.fail(seed, f"the import ended with exit code {ended.exit_code}")
    found = _inspect(rules, base, life.root, seed, result)
    if found != "whole":
        again = run_life(life, Death(END_S, is_early=True))
        if again.exit_code != 0:
            result.fail(seed, f"the import that went on ended with exit code {again.exit_code}")
        if _inspect(rules, base, life.root, seed, result) != "whole":
            result.fail(seed, "the import that went on made no database")
    return found


def _inspect(rules: Rules, base: Prepared, root: Path, seed: int, result: Result) -> str:
    """Start a copy of a directory and say what it holds."""
    if not DataDirectory(root).genesis_path.exists():
        return "empty"
    copy = root.with_name(f"{root.name} copy")
    shutil.copytree(root, copy)
    try:
        opened = asyncio.run(_open(rules, DataDirectory(copy)))
    except StorageError:
        return "refused"
    finally:
        shutil.rmtree(copy)
    if opened.head == rules.setting.genesis_hash:
        return "empty"
    if opened.head != base.head or opened.balances != base.truth.get_balances(base.head):
        result.fail(seed, f"found {opened.head.hex()[:16]} {opened.balances}, expected the exported state")
    return "whole"


async def _open(rules: Rules, directory: DataDirectory) -> Opened:
    async with open_node(directory, rules.setting.miners[0]) as node:
        return describe(node, rules.setting, 0)
