"""Writes the generated parts of docs/protocol.md: one table a record, from the annotations that the codec reads.

`python -m tests.support.protocol_page` rewrites them in place; a test compares them, so that the page cannot drift from
the code. What stands between the markers is generated, everything else is written by hand.
"""

import importlib
import inspect
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, get_args, get_origin, get_type_hints

from chain.codec import Bytes, Many, Tagged, Text, Uint

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "protocol.md"
PACKAGES = ("chain", "consensus", "ml", "p2p", "node")
_MARKER = re.compile(r"(<!-- records of ([\w.]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_TAG = re.compile(r"(?:tagged_hash|tagged_key|derive_key)\(\s*\"([^\"]+)\"")


def render_page(page: str) -> str:
    """Return `page` with every generated part written anew."""
    return _MARKER.sub(lambda found: found[1] + render_module(importlib.import_module(found[2])) + found[3], page)


def list_documented_modules(page: str) -> list[str]:
    """Return the modules whose records `page` has a place for."""
    return [found[2] for found in _MARKER.finditer(page)]


def list_record_modules() -> list[str]:
    """Return the modules that define records whose fields carry ranges, as far as their source shows.

    What `node` defines travels as JSON and describes itself.
    """
    paths = [path for package in PACKAGES if package != "node" for path in sorted((ROOT / package).rglob("*.py"))]
    pattern = re.compile(r"^    \w+: (?:U8|U16|U32|U64|U256|HashField|PublicKeyField|SignatureField|Annotated\[)", re.M)
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    found = [path for path, text in texts.items() if "from chain.codec import" in text and pattern.search(text)]
    return [path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for path in found]


def list_hash_tags() -> list[str]:
    """Return every purpose that the source gives to a keyed hash."""
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return sorted({tag for path in paths for tag in _TAG.findall(path.read_text(encoding="utf-8"))})


def render_module(module: ModuleType) -> str:
    """Return the tables of all records that `module` defines, in the order of its source."""
    classes = [cls for _, cls in inspect.getmembers(module, inspect.isclass) if cls.__module__ == module.__name__]
    records = [cls for cls in classes if is_dataclass(cls) and _is_record(cls)]
    records.sort(key=lambda cls: inspect.getsourcelines(cls)[1])
    return "\n" + "\n".join(_render_record(cls) for cls in records) + "\n"


def _is_record(cls: type) -> bool:
    hints = get_type_hints(cls, include_extras=True)
    names = [field.name for field in fields(cls)]
    return bool(names) and all(_is_ranged(hints[name]) for name in names)


def _is_ranged(hint: object) -> bool:
    if get_origin(hint) is Annotated:
        return any(isinstance(note, Uint | Bytes | Text | Many | Tagged) for note in get_args(hint)[1:])
    return isinstance(hint, type) and is_dataclass(hint) and _is_record(hint)


def _render_record(cls: type) -> str:
    hints = get_type_hints(cls, include_extras=True)
    summary = " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())
    rows = [f"| `{field.name}` | {_describe(hints[field.name])} |" for field in fields(cls)]
    return "\n".join([f"**{cls.__name__}**: {summary}", "", "| field | form |", "|---|---|", *rows, ""])


def _describe(hint: object) -> str:
    if get_origin(hint) is not Annotated:
        assert isinstance(hint, type)
        return hint.__name__
    base, *notes = get_args(hint)
    note = next(note for note in notes if isinstance(note, Uint | Bytes | Text | Many | Tagged))
    match note:
        case Uint(bits=bits):
            return f"u{bits}" if bits <= 64 else f"u{bits}, as {bits // 8} bytes big-endian"
        case Bytes(size_min=low, size_max=high):
            return f"{low} bytes" if low == high else f"{low} to {high} bytes"
        case Text(size_max=high):
            return f"text, at most {high} bytes"
        case Many(length_max=high):
            return f"array of at most {high}: {_describe(get_args(base)[0])}"
        case Tagged():
            return "choice: " + ", ".join(f"{tag} {choice.__name__}" for tag, choice in enumerate(get_args(base)))


if __name__ == "__main__":
    PAGE.write_text(render_page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
