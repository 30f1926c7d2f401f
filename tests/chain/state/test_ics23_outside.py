"""Another project's verifier, npm's @confio/ics23, accepts proofs from this tree and refuses altered ones.

It looks for the package in the folder that MATHESIS_NODE_MODULES names or in `node_modules` here, and else asks npm for
the pinned version. In that version's spec a key is its path, SHA-256 of ours. It does not know that a child may be
empty, which proofs of absence by two neighbours rest on; those are held against ICS-23's own vectors instead.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from chain.primitives import Hash
from chain.state.proof import prove_key
from chain.state.tree import EMPTY_ROOT, MemoryNodes, compute_path, get_bit
from chain.state.update import update_tree

PACKAGE = "@confio/ics23@0.6.8"
ROOT = Path(__file__).resolve().parents[3]
PAIRS = {b"key %d" % number: b"value %d" % number for number in range(300)}

VERIFIER = """
const { ics23, verifyMembership } = require("@confio/ics23");
const { smtSpec } = require("@confio/ics23/build/proofs");
const bytes = (text) => Uint8Array.from(Buffer.from(text, "hex"));
const leaf = smtSpec.leafSpec;
const exist = (p) => ({ key: bytes(p.key), value: bytes(p.value), leaf, path: p.path.map(([prefix, suffix]) => ({
  hash: ics23.HashOp.SHA256, prefix: bytes(prefix), suffix: bytes(suffix) })) });
const results = JSON.parse(require("fs").readFileSync(0, "utf8")).map((c) =>
  verifyMembership({ exist: exist(c.proof) }, smtSpec, bytes(c.root), bytes(c.proof.key), bytes(c.value)));
console.log(JSON.stringify(results));
"""

Case = dict[str, object]


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a node_modules folder that holds the package."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    for place in (os.environ.get("MATHESIS_NODE_MODULES"), ROOT / "node_modules"):
        if place is not None and (Path(place) / "@confio" / "ics23").is_dir():
            return Path(place)
    folder = tmp_path_factory.mktemp("npm")
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder), PACKAGE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"{PACKAGE} is not installed and npm cannot get it: {error}")
    if done.returncode:
        pytest.skip(f"{PACKAGE} is not installed and npm cannot get it: {done.stderr[-200:]}")
    return folder / "node_modules"


def verify(modules: Path, cases: list[Case]) -> list[bool]:
    done = subprocess.run(
        ["node", "-e", VERIFIER],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, "NODE_PATH": str(modules)},
    )
    results: list[bool] = json.loads(done.stdout)
    assert len(results) == len(cases)
    return results


def convert(nodes: MemoryNodes, root: Hash, key: bytes) -> dict[str, object]:
    """Return our proof of a key as the other project's existence proof, from the leaf up."""
    path, siblings = compute_path(key), prove_key(nodes, root, key).siblings
    steps = [
        ("01" + sibling.hex(), "") if get_bit(path, depth) else ("01", sibling.hex())
        for depth, sibling in enumerate(siblings)
    ]
    return {"key": path.hex(), "value": PAIRS[key].hex(), "path": steps[::-1]}


def build() -> tuple[Hash, MemoryNodes]:
    update = update_tree(MemoryNodes(), EMPTY_ROOT, PAIRS)
    return update.root, MemoryNodes(update.nodes)


def test_presence_is_verified_outside(modules: Path) -> None:
    root, nodes = build()
    honest: list[Case] = [
        {"root": root.hex(), "value": PAIRS[key].hex(), "proof": convert(nodes, root, key)} for key in PAIRS
    ]
    assert all(verify(modules, honest))
    forged: list[Case] = [{**case, "value": "00"} for case in honest]
    forged += [{**case, "root": compute_path(root).hex()} for case in honest]
    for case in honest:
        proof = case["proof"]
        assert isinstance(proof, dict)
        forged.append({**case, "proof": {**proof, "path": proof["path"][1:]}})
    assert not any(verify(modules, forged))
