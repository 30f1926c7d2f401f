"""Files that rot: bits flipped, runs zeroed, ends cut off, files gone or in each other's place, in all a node keeps.

A node that starts on such a directory refuses, or stands on a head of its own past and answers nothing that is not so:
blocks, balances and transactions are compared with what was executed in memory, blobs and signed blocks with what lay
there. A node that starts goes on for a block.
"""

import asyncio
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from benchmarks.lab.reliability.chains import Rules, make_rules, read_balances
from benchmarks.lab.reliability.directories import Prepared, open_node, prepare, produce
from benchmarks.lab.reliability.part import Result, Setup, tell
from chain.errors import MathesisError, StorageError
from chain.primitives import Hash
from chain.storage.seals import SEAL_BYTES
from chain.transaction import compute_transaction_hash
from node.data_directory import DataDirectory
from node.peer_files import PeerFiles
from node.run import Node
from node.signing_record import SigningRecord
from p2p.address_file import VERSION, Ban, BansRecord

HEIGHT, PRODUCED = 60, 6
ZEROS = 64
BANS = BansRecord(VERSION, (Ban(b"\x07" * 32, 2_000_000_000_000),))

KINDS = ("flip", "flip", "zero", "cut", "remove", "swap")


class WrongAnswer(Exception):
    """A node answers what never was so."""


@dataclass(frozen=True, slots=True)
class Pristine:
    """A whole directory and its files by group."""

    base: Prepared
    groups: dict[str, tuple[Path, ...]]


def run_corruptions(setup: Setup) -> Result:
    """Damage a copy of a directory for each seed and start a node on it."""
    rules, result, counts = make_rules(setup.root / "rules"), Result(), Counter[tuple[str, str]]()
    pristine = _make_pristine(rules, setup.root / "base")
    for seed in setup.seeds:
        root = setup.root / f"damaged {seed}"
        shutil.copytree(pristine.base.directory.root, root)
        group, what = _damage(pristine, root, Random(seed))
        try:
            counts[group, asyncio.run(_start(rules, pristine, DataDirectory(root)))] += 1
        except MathesisError:
            counts[group, "refused"] += 1
        except Exception as error:  # whatever else it is, no person can act on it
            result.fail(seed, f"{what}: {type(error).__name__}: {error}")
        result.reached += 1
        tell(setup, result, "corruptions")
        shutil.rmtree(root)
    for group in pristine.groups:
        ends = ", ".join(f"{end} {counts[group, end]}" for end in ("refused", "older", "whole"))
        result.figures[group] = ends
    return result


def _make_pristine(rules: Rules, root: Path) -> Pristine:
    base = prepare(rules, root, HEIGHT, PRODUCED)
    PeerFiles(base.directory.peers_path).save(BANS)
    database = base.directory.database_path
    patterns = {
        "tables": database.glob("*.ldb"),
        "log": database.glob("*.log"),
        "MANIFEST": database.glob("MANIFEST-*"),
        "CURRENT": database.glob("CURRENT"),
        "blobs": base.directory.blobs_path.rglob("*"),
        "signing record": base.directory.signed_path.glob("*.block"),
        "peers": base.directory.peers_path.glob("*"),
        "genesis": root.glob("genesis.bin"),
    }
    groups = {name: tuple(sorted(filter(_has_content, found))) for name, found in patterns.items()}
    empty = [name for name, paths in groups.items() if not paths]
    assert not empty, f"nothing to damage in {empty}"
    return Pristine(base, groups)


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _damage(pristine: Pristine, root: Path, random: Random) -> tuple[str, str]:
    """Damage one file of a copy; return its group and what was done."""
    group = random.choice(sorted(pristine.groups))
    victim = random.choice(pristine.groups[group])
    path = root / victim.relative_to(pristine.base.directory.root)
    kind, data = random.choice(KINDS), bytearray(path.read_bytes())
    place = random.randrange(len(data))
    if kind == "remove":
        path.unlink()
        return group, f"{path.name} removed"
    if kind == "swap":
        data = bytearray(random.choice(pristine.groups[random.choice(sorted(pristine.groups))]).read_bytes())
    elif kind == "cut":
        data = data[:place]
    elif kind == "flip":
        data[place] ^= 1 << random.randrange(8)
    else:
        data[place : place + ZEROS] = bytes(len(data[place : place + ZEROS]))
    path.write_bytes(data)
    return group, f"{path.name} {kind} at {place}"


async def _start(rules: Rules, pristine: Pristine, directory: DataDirectory) -> str:
    """Start a node, compare its answers, go on for a block; raises MathesisError or WrongAnswer."""
    directory.read_genesis()
    async with open_node(directory, rules.setting.miners[0]) as node:
        head = node.parts.chain.head
        _compare_chain(rules, pristine.base, node)
        _compare_files(pristine, node, directory)
        await produce(node, rules.setting)
    return "whole" if head.hash == pristine.base.head else "older"


def _compare_chain(rules: Rules, base: Prepared, node: Node) -> None:
    chain, truth = node.parts.chain, base.truth
    past = truth.list_branch(base.head)
    _expect("the head", chain.head.hash in past, True)
    branch = truth.list_branch(chain.head.hash)
    _expect("the balances", read_balances(chain.view(), rules.setting), truth.get_balances(chain.head.hash))
    for name in branch[:-1]:
        known = truth[name]
        assert known.block is not None
        _expect("a block", chain.get_existing_block(name), known.block)
        _expect("an index", chain.store.get_hash_at_height(known.height), name)
        for transaction in known.block.transactions:
            found = chain.store.get_transaction_block(compute_transaction_hash(transaction))
            _expect("a transaction's block", found, name)
    for name in past[: len(past) - len(branch)]:
        known = truth[name]
        assert known.block is not None
        for transaction in known.block.transactions:
            found = chain.store.get_transaction_block(compute_transaction_hash(transaction))
            _expect("a lost transaction's block", found, None)


def _compare_files(pristine: Pristine, node: Node, directory: DataDirectory) -> None:
    for name, data in _iter_blobs(pristine):
        try:
            _expect("a blob", node.parts.chain.blobs.get(name) in (None, data), True)
        except StorageError:
            continue
    whole, record = SigningRecord(pristine.base.directory.signed_path), SigningRecord(directory.signed_path)
    for path in pristine.groups["signing record"]:
        height, trunk = int(path.name[:16], 16), Hash(bytes.fromhex(path.stem[17:]))
        try:
            _expect("a signed block", record.get(height, trunk) in (None, whole.get(height, trunk)), True)
        except StorageError:
            continue
    _expect("the bans", PeerFiles(directory.peers_path).load_bans() in (None, BANS), True)


def _iter_blobs(pristine: Pristine) -> Iterator[tuple[Hash, bytes]]:
    for path in pristine.groups["blobs"]:
        yield Hash(bytes.fromhex(path.parent.name + path.name)), path.read_bytes()[SEAL_BYTES:]


def _expect(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise WrongAnswer(f"{what}: found {found!r:.80}, expected {expected!r:.80}")
