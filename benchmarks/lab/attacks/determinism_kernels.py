"""Threat 33 below the source: compiles the CPU's kernels anew and looks for floats in their types and in their code.

`python -m benchmarks.lab.attacks.determinism_kernels [small]` prints one JSON object. It runs in a process of its own,
as kernels that come from the disk's cache have nothing to read. What is compiled is what training, checks, hashing and
the lottery call, for the types they call it with; `small` takes the elementwise ops alone.
"""

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Protocol

import numba

ARITHMETIC = re.compile(
    r"= (?:\w+ )*(?:fadd|fsub|fmul|fdiv|frem|fneg)\b"
    r"|\bcall (?!double @llvm\.(?:log10|floor)\.f64\()[^#]*(?<![.@\w])(?:half|bfloat|float|double|fp128|x86_fp80)\b"
)
"""Instructions of LLVM that compute with floating-point numbers, or call what does."""

OF_SHAPES = re.compile(r"= (?:\w+ )*(?:fcmp|sitofp|uitofp|fptosi|fptoui)\b|@llvm\.(?:log10|floor)\.f64\(double %")
"""What Numba's own code leaves where an array is assigned or reshaped: the digits of a length, for the text of an error
that is not raised, and lengths that turn into a double and back. It stands in no kernel's source."""


class Typing(Protocol):
    """What Numba keeps of one compilation."""

    @property
    def typemap(self) -> Mapping[str, object]:
        """Return the type of every variable and expression."""


class Compilation(Protocol):
    """A kernel for one signature."""

    @property
    def type_annotation(self) -> Typing:
        """Return what was inferred."""


class Kernel(Protocol):
    """A compiled function, as Numba has it."""

    @property
    def overloads(self) -> Mapping[object, Compilation]:
        """Return all compilations, by signature."""

    def inspect_llvm(self) -> Mapping[object, str]:
        """Return the code of all compilations."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was read of one kernel."""

    name: str
    lines: int
    types: tuple[str, ...]
    """Variables and expressions of its source that have a float's type."""
    arithmetic: tuple[str, ...]
    """Lines of its code that compute with floats."""
    of_shapes: int
    """Lines of its code that convert or compare lengths."""


def find_arithmetic(code: str) -> tuple[str, ...]:
    """Return the lines of LLVM code that compute with floats."""
    return tuple(line.strip() for line in code.splitlines() if ARITHMETIC.search(line))


def find_types(types: Mapping[str, object]) -> tuple[str, ...]:
    """Return the names whose type, or whose elements' type, is a float or complex one."""
    return tuple(f"{name}: {kind}" for name, kind in types.items() if re.search("float|complex", str(kind)))


def exercise(is_small: bool) -> None:
    """Run what compiles the kernels."""
    from benchmarks.lab.attacks import algebra_backends  # noqa: PLC0415 - only after the cache is off
    from benchmarks.lab.attacks.case import Effort  # noqa: PLC0415

    if is_small:
        algebra_backends.judge_ops(Effort(1, 1), algebra_backends.run_elementwise)
        return
    for attack in algebra_backends.ATTACKS:
        attack.run(Effort(2, 1))
    from benchmarks.lab.attacks.determinism import exercise_everything  # noqa: PLC0415

    exercise_everything()


def list_kernels() -> dict[str, Kernel]:
    """Return every compiled function of the CPU's modules that are loaded, by name."""
    package = import_module("ml.backends.cpu")
    modules: list[ModuleType] = [
        sys.modules[name]
        for module in iter_modules(package.__path__)
        if (name := f"{package.__name__}.{module.name}") in sys.modules
    ]
    return {
        f"{function.__module__}.{name}": function
        for module in modules
        for name, function in vars(module).items()
        if hasattr(function, "inspect_llvm")
    }


def read_kernel(name: str, function: Kernel) -> Finding:
    """Return what stands in one kernel, compiled for all types that it was called with."""
    codes = list(function.inspect_llvm().values())
    types = [item for each in function.overloads.values() for item in find_types(each.type_annotation.typemap)]
    return Finding(
        name,
        sum(code.count("\n") for code in codes),
        tuple(types),
        tuple(line for code in codes for line in find_arithmetic(code)),
        sum(bool(OF_SHAPES.search(line)) for code in codes for line in code.splitlines()),
    )


def main() -> int:
    """Print what was found, a kernel each; return the exit code: 1 where there is a float."""
    plain = numba.njit
    numba.njit = partial(_compile_uncached, plain)  # type: ignore[assignment]  # for this process alone
    exercise("small" in sys.argv)
    findings = [read_kernel(name, function) for name, function in list_kernels().items()]
    read = [finding for finding in findings if finding.lines]
    print(json.dumps([asdict(finding) for finding in read]))
    return int(any(finding.types or finding.arithmetic for finding in read))


def _compile_uncached(plain: object, *arguments: object, **options: object) -> object:
    return plain(*arguments, **(options | {"cache": False}))  # type: ignore[operator]


if __name__ == "__main__":
    sys.exit(main())
