"""The house rules as checks over source text: each takes a parsed module and returns what breaks a rule.

The checks are pure and know no file, so that each can be shown a planted violation. They see syntax, not types: a
value that turns into a float or a set in another function is left to mypy and to the tests that compare bytes.
"""

import ast
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 50
DOCSTRING_LINES_MIN = 3

_INTEGER_MATH = {"isqrt", "gcd", "lcm", "comb", "perm", "factorial", "prod"}
_FLOAT_FUNCTIONS = {
    "average", "cos", "divide", "double", "exp", "exp2", "half", "linspace", "log", "log10", "log1p", "log2",
    "longdouble", "mean", "reciprocal", "rint", "sin", "sqrt", "std", "tan", "tanh", "true_divide", "var",
}  # fmt: skip
_CLOCKS_AND_SOCKETS = {
    "aiohttp", "asyncio", "multiprocessing", "plyvel", "random", "secrets", "select", "socket", "ssl", "subprocess",
    "threading", "time",
}  # fmt: skip
_ORDER_KEEPERS = {"enumerate", "iter", "list", "map", "tuple", "zip"}
_ORDER_FREE = {"all", "any", "frozenset", "len", "max", "min", "set", "sorted", "sum"}
_MARKERS = tuple(a + b for a, b in (("TO", "DO"), ("FIX", "ME"), ("XX", "X"), ("HA", "CK")))


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken rule and the line that breaks it."""

    line: int
    message: str


Check = Callable[[ast.Module], list[Finding]]


def find_floats(module: ast.Module) -> list[Finding]:
    """Return every float literal, true division and call or dtype that makes a float."""
    return [Finding(node.lineno, message) for node, message in _walk_floats(module)]


def _walk_floats(module: ast.Module) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    for node in ast.walk(module):
        match node:
            case ast.Constant(value=float() | complex()):
                yield node, f"a float literal {node.value!r}"
            case ast.BinOp(op=ast.Div()) | ast.AugAssign(op=ast.Div()) if not _is_path(node):
                yield node, "a true division"
            case ast.BinOp(op=ast.Pow(), right=ast.UnaryOp(op=ast.USub())):
                yield node, "a power with a negative exponent"
            case ast.Name(id="float" | "complex"):
                yield node, f"the type {node.id}"
            case ast.Attribute(value=ast.Name(id="math"), attr=name) if name not in _INTEGER_MATH:
                yield node, f"math.{name}"
            case ast.Attribute(attr=name) if name in _FLOAT_FUNCTIONS or name.startswith(
                ("float", "bfloat", "complex")
            ):
                yield node, f".{name}"
            case ast.ImportFrom(module="math", names=names) if any(a.name not in _INTEGER_MATH for a in names):
                yield node, "a float function of math"
            case ast.keyword(arg="dtype", value=ast.Constant(value=str() as name)) if "float" in name:
                yield node.value, f"dtype {name}"


def _is_path(node: ast.BinOp | ast.AugAssign) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.right, ast.Constant) and isinstance(node.right.value, str)


def find_unordered_iterations(module: ast.Module) -> list[Finding]:
    """Return every place where the order of a set, or of a dict's view, reaches a sequence or a loop."""
    sets = _names_of_sets(module)
    harmless = {id(inner) for node in ast.walk(module) for inner in _order_free_parts(node)}
    findings = []
    for node in ast.walk(module):
        if id(node) not in harmless:
            findings += [
                Finding(each.lineno, "the order of a set") for each in _ordered_sources(node) if _is_set(each, sets)
            ]
            if not isinstance(node, ast.DictComp):
                views = [each for each in _ordered_sources(node) if _is_dict_view(each)]
                findings += [Finding(view.lineno, "the order of a dict") for view in views]
    return findings


def _is_set(node: ast.expr, names: set[str]) -> bool:
    match node:
        case ast.Set() | ast.SetComp() | ast.Call(func=ast.Name(id="set" | "frozenset")):
            return True
        case ast.Name(id=name):
            return name in names
        case ast.BinOp(op=ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor(), left=left, right=right):
            return _is_set(left, names) or _is_set(right, names)
    return False


def _is_dict_view(node: ast.expr) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(attr="items" | "keys" | "values"), args=[]):
            return True
    return False


def _names_of_sets(module: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(module):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Set() | ast.SetComp()):
                names.add(name)
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=ast.Name(id="set" | "frozenset"))):
                names.add(name)
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation) if _is_set_annotation(annotation):
                names.add(name)
            case ast.arg(arg=name, annotation=ast.expr() as annotation) if _is_set_annotation(annotation):
                names.add(name)
    return names


def _is_set_annotation(annotation: ast.expr) -> bool:
    base = annotation.value if isinstance(annotation, ast.Subscript) else annotation
    return isinstance(base, ast.Name) and base.id in {"set", "frozenset", "AbstractSet"}


def _ordered_sources(node: ast.AST) -> list[ast.expr]:
    match node:
        case ast.For(iter=source):
            return [source]
        case (
            ast.ListComp(generators=generators)
            | ast.GeneratorExp(generators=generators)
            | ast.DictComp(generators=generators)
        ):
            return [generator.iter for generator in generators]
        case ast.Call(func=ast.Name(id=name), args=arguments) if name in _ORDER_KEEPERS:
            return list(arguments)
        case ast.Call(func=ast.Attribute(attr="join" | "extend" | "fromiter"), args=arguments):
            return list(arguments)
        case ast.Starred(value=source):
            return [source]
    return []


def _order_free_parts(node: ast.AST) -> list[ast.AST]:
    match node:
        case ast.Call(func=ast.Name(id=name), args=[ast.GeneratorExp() | ast.ListComp() as inner, *_]) if (
            name in _ORDER_FREE
        ):
            return [inner]
        case ast.Set(elts=parts):
            return [part for part in parts if isinstance(part, ast.Starred)]
    return []


def find_impure_imports(module: ast.Module) -> list[Finding]:
    """Return every import of a clock, a socket, a thread or a source of chance."""
    findings = []
    for node in ast.walk(module):
        match node:
            case ast.Import(names=names):
                roots = [alias.name.split(".")[0] for alias in names]
            case ast.ImportFrom(module=str() as name, level=0):
                roots = [name.split(".")[0]]
            case _:
                continue
        findings += [Finding(node.lineno, f"import of {root}") for root in roots if root in _CLOCKS_AND_SOCKETS]
    return findings


def find_long_functions(module: ast.Module) -> list[Finding]:
    """Return every function of more than 50 lines, decorators and docstring left out."""
    findings = []
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1] if ast.get_docstring(node) is not None and len(node.body) > 1 else node
            lines = (node.end_lineno or node.lineno) - first.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                findings.append(Finding(node.lineno, f"{node.name} has {lines} lines, at most {FUNCTION_LINES_MAX}"))
    return findings


def find_short_docstring(module: ast.Module) -> list[Finding]:
    """Return a finding when the module says in fewer than three lines what it is and what it refuses to know."""
    found = len((ast.get_docstring(module) or "").splitlines())
    message = f"a module docstring of {found} lines, expected {DOCSTRING_LINES_MIN} or more"
    return [] if found >= DOCSTRING_LINES_MIN else [Finding(1, message)]


def find_markers(source: str) -> list[Finding]:
    """Return every line of `source` that puts work off."""
    lines = enumerate(source.splitlines(), start=1)
    return [Finding(number, f"a {word}") for number, line in lines for word in _MARKERS if word in line]


def find_long_file(source: str) -> list[Finding]:
    """Return a finding when `source` has more than 400 lines."""
    found = len(source.splitlines())
    return [] if found <= FILE_LINES_MAX else [Finding(found, f"{found} lines, at most {FILE_LINES_MAX}")]


def get_kernels(module: ast.Module) -> list[str]:
    """Return the names of the public functions that the `kernel` decorator compiles."""
    functions = [node for node in module.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    return [node.name for node in functions if any(_is_kernel(decorator) for decorator in node.decorator_list)]


def find_reached(modules: Iterable[ast.Module], starts: set[str]) -> set[str]:
    """Return the functions of `modules`, by name, that those among `starts` use, themselves included."""
    uses: dict[str, set[str]] = {}
    for module in modules:
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef):
                uses.setdefault(node.name, set()).update(_list_names(node))
    reached: set[str] = set()
    pending = sorted(starts & uses.keys())
    while pending:
        name = pending.pop()
        if name not in reached:
            reached.add(name)
            pending += sorted(uses[name] & uses.keys())
    return reached


def _list_names(function: ast.FunctionDef) -> set[str]:
    nodes = list(ast.walk(function))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return names | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def _is_kernel(decorator: ast.expr) -> bool:
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(target, ast.Name) and target.id in {"kernel", "njit", "parallel_kernel"}
