"""The house rules hold in every file, and each check is seen failing on a planted violation.

Consensus code is what decides a byte that others must reproduce: chain, consensus and ml. The checks themselves live in
`tests.support.tidy`; what is exempt stands here, with the reason.
"""

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import tidy

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("chain", "consensus", "ml", "p2p", "node")
CONSENSUS = ("chain", "consensus", "ml")
PURE = ("chain", "consensus", "ml", "p2p")
SELF = {"tests/support/tidy.py", "tests/test_tidy.py"}

FLOATS_ALLOWED: dict[str, str] = {}
"""Files of consensus code that may hold a float, and why."""

TWINS = ("reference", "from blake3 import")
"""What a test file mentions that compares with the NumPy authority, or with the BLAKE3 package."""

ORDER_ALLOWED = {
    "consensus/header_chain.py": "entries come back as first seen, which is the rule for ties and decides no byte",
    "chain/storage": "the order of writes inside one atomic batch decides no byte",
}
"""Prefixes of paths that may follow the order of a dict, and why."""

IMPURE_ALLOWED = {
    "chain/storage": "the one part of chain that owns files",
    "ml/backends/warm.py": "a command that compiles kernels and says how long each took; nothing imports it",
}
"""Prefixes of paths that may touch a disk or a clock, and why."""


def list_files(*folders: str) -> list[str]:
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return [path.relative_to(ROOT).as_posix() for path in paths]


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def is_exempt(path: str, exempt: dict[str, str]) -> bool:
    return any(path == prefix or path.startswith(prefix + "/") for prefix in exempt)


def assert_clean(paths: list[str], check: tidy.Check) -> None:
    findings = [f"{path}:{found.line}: {found.message}" for path in paths for found in check(ast.parse(read(path)))]
    assert not findings, "\n".join(findings)


def test_consensus_code_knows_no_float() -> None:
    assert_clean([path for path in list_files(*CONSENSUS) if not is_exempt(path, FLOATS_ALLOWED)], tidy.find_floats)


def test_no_order_of_a_set_or_dict_reaches_a_sequence() -> None:
    paths = [path for path in list_files(*CONSENSUS) if not is_exempt(path, ORDER_ALLOWED)]
    assert_clean(paths, tidy.find_unordered_iterations)


def test_cores_touch_no_clock_socket_or_thread() -> None:
    assert_clean([path for path in list_files(*PURE) if not is_exempt(path, IMPURE_ALLOWED)], tidy.find_impure_imports)


def test_functions_are_short() -> None:
    assert_clean(list_files(*PACKAGES, "tests", "benchmarks"), tidy.find_long_functions)


def test_modules_say_what_they_are() -> None:
    modules = [path for path in list_files(*PACKAGES) if not path.endswith(("__init__.py", "__main__.py"))]
    assert_clean(modules, tidy.find_short_docstring)


@pytest.mark.parametrize("check", [tidy.find_long_file, tidy.find_markers])
def test_text_rules(check: Callable[[str], list[tidy.Finding]]) -> None:
    paths = [path for path in list_files(*PACKAGES, "tests", "benchmarks") if path not in SELF]
    findings = [f"{path}:{found.line}: {found.message}" for path in paths for found in check(read(path))]
    assert not findings, "\n".join(findings)


def test_each_kernel_is_compared_with_its_twin() -> None:
    """A public kernel is used by a function that a test names, where that test compares with a slower twin."""
    tests = [read(path) for path in list_files("tests") if path not in SELF]
    words = {word for text in tests if any(twin in text for twin in TWINS) for word in re.findall(r"\w+", text)}
    modules = {path: ast.parse(read(path)) for path in list_files("ml/backends/cpu")}
    reached = tidy.find_reached(modules.values(), words)
    alone = [f"{path}: {name}" for path in modules for name in tidy.get_kernels(modules[path]) if name not in reached]
    assert not alone, "no test compares these with a reference:\n" + "\n".join(alone)


@pytest.mark.parametrize(
    "planted",
    [
        "x = 0.5", "x = 1e3", "x = a / b", "x /= 2", "x = float(3)", "def f(x: float) -> None: ...", "x = 2**-7",
        "import math\nx = math.sqrt(2)", "from math import log", "x = np.float32(1)", "x = a.astype(np.float64)",
        "x = np.zeros(3, dtype='float32')", "x = torch.bfloat16", "x = a.mean()", "x = 1j",
    ],
)  # fmt: skip
def test_a_planted_float_is_found(planted: str) -> None:
    assert tidy.find_floats(ast.parse(planted))


@pytest.mark.parametrize(
    "sound",
    [
        "x = a // b",
        "x = 1 << 7",
        "import math\nx = math.isqrt(2)",
        "x = 'a/b'",
        "x = 2**7",
        "x = pow(a, -1, p)",
        "p = q / 'a'",
    ],
)
def test_integers_are_left_alone(sound: str) -> None:
    assert not tidy.find_floats(ast.parse(sound))


@pytest.mark.parametrize(
    "planted",
    [
        "for x in {1, 2}: pass", "for x in set(a): pass", "x = [y for y in {z for z in a}]", "x = list(set(a))",
        "s = set(a)\nfor x in s: pass", "def f(s: frozenset[int]) -> None:\n    for x in s: pass",
        "for k, v in d.items(): pass", "x = tuple(d.values())", "x = [k for k in d.keys()]",
        "x = b''.join(set(a))", "for i, x in enumerate({1} | b): pass", "x = [*set(a)]", "x = {y: 1 for y in set(a)}",
    ],
)  # fmt: skip
def test_a_planted_order_is_found(planted: str) -> None:
    assert tidy.find_unordered_iterations(ast.parse(planted))


@pytest.mark.parametrize(
    "sound",
    [
        "for x in sorted(set(a)): pass", "x = 3 in {1, 2}", "x = any(y for y in set(a))", "x = {y for y in set(a)}",
        "for k, v in sorted(d.items()): pass", "x = sum(v for v in d.values())", "x = {k: v + 1 for k, v in d.items()}",
    ],
)  # fmt: skip
def test_order_free_uses_of_sets_are_left_alone(sound: str) -> None:
    assert not tidy.find_unordered_iterations(ast.parse(sound))


@pytest.mark.parametrize(
    "planted", ["import time", "import asyncio", "from random import randint", "def f() -> None:\n    import socket"]
)
def test_a_planted_clock_or_socket_is_found(planted: str) -> None:
    assert tidy.find_impure_imports(ast.parse(planted))
    assert not tidy.find_impure_imports(ast.parse("from chain import codec\nimport hashlib"))


def test_a_planted_long_function_is_found() -> None:
    body = "    x = 1\n" * 50
    assert not tidy.find_long_functions(ast.parse('def f() -> None:\n    """Say."""\n' + body))
    assert tidy.find_long_functions(ast.parse("def f() -> None:\n" + body + body))


def test_a_planted_long_file_is_found() -> None:
    assert tidy.find_long_file("x = 1\n" * 401)
    assert not tidy.find_long_file("x = 1\n" * 400)


def test_a_planted_thin_docstring_is_found() -> None:
    assert tidy.find_short_docstring(ast.parse('"""One line."""\n'))
    assert tidy.find_short_docstring(ast.parse("x = 1\n"))
    assert not tidy.find_short_docstring(ast.parse('"""One.\n\nTwo.\n"""\n'))


def test_a_planted_marker_is_found() -> None:
    assert tidy.find_markers("x = 1  # " + "TO" + "DO later")


def test_a_planted_kernel_is_found() -> None:
    module = ast.parse(
        "@kernel\ndef fold(x): ...\n@kernel(parallel=True)\ndef fuse(x): ...\n@kernel\ndef _inner(x): ..."
    )
    assert tidy.get_kernels(module) == ["fold", "fuse"]


def test_a_planted_kernel_without_a_test_is_found() -> None:
    modules = [ast.parse("def multiply(a): return _fast(a)\ndef _fast(a): return a\ndef forgotten(a): return _fast(a)")]
    assert tidy.find_reached(modules, {"multiply", "elsewhere"}) == {"multiply", "_fast"}
