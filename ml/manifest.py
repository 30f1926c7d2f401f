"""What a data set is made of: where its bytes come from, which members count, and how they become a blob.

A manifest is JSON with no field that is not needed; the hash of the source and the root of the result are part of it,
so that neither can change unseen. It knows how to read bytes that are handed in, never how to get them. The manifests
that ship with this package stand beside the digits in `ml/data/`.
"""

import re
from collections.abc import Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources

import msgspec

from chain.errors import DecodeError
from ml.dataset import BLOB_BYTES_MAX, BYTE_SCALE, DIGITS_SCALE, encode_csv, encode_text

MANIFEST_BYTES_MAX = 64 << 10
MEMBERS_MAX = 64
MEMBER_CHARACTERS_MAX = 256
ATTRIBUTION_CHARACTERS_MAX = 1024


class Source(StrEnum):
    """Where the bytes come from."""

    BUILTIN = "builtin"
    WHEEL = "wheel"
    FILE = "file"
    URL = "url"


class Parser(StrEnum):
    """How members become a blob."""

    DIGITS_CSV = "digits_csv"
    LABELLED_CSV = "labelled_csv"
    TEXT = "text"

    @property
    def kind(self) -> str:
        """Say what comes out: examples or text."""
        return "text" if self is Parser.TEXT else "examples"


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One data set; hashes are hex, sizes bytes, and an empty field is one that its source does not have.

    `members` are paths within an archive, with `*` and `?` inside a part and one `**` for any depth; without members
    the source itself is the content. `licence` is an SPDX expression. `root` is that of the canonical blob.
    """

    name: str
    source: Source
    parser: Parser
    licence: str
    attribution: str = ""
    package: str = ""
    version: str = ""
    url: str = ""
    path: str = ""
    sha256: str = ""
    members: tuple[str, ...] = ()
    source_bytes: int = 0
    blob_bytes: int = 0
    root: str = ""


_NEEDED = {
    Source.BUILTIN: ("path", "sha256", "root"),
    Source.WHEEL: ("package", "version", "sha256", "members"),
    Source.FILE: ("path",),
    Source.URL: ("url", "sha256"),
}
_PLACES = ("package", "version", "url", "path")
"""Fields that say where; a manifest has those of its source and no other."""

_FORMS = {
    "name": (r"[a-z0-9][a-z0-9_.-]{0,63}", "up to 64 of a-z, 0-9, _, . and -"),
    "licence": (r"[A-Za-z0-9(][A-Za-z0-9.+() -]{0,127}", "an SPDX expression such as BSD-3-Clause"),
    "package": (r"[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?", "the name of a package"),
    "version": (r"[0-9][0-9A-Za-z.!+]{0,63}", "one exact version such as 1.14.0"),
    "url": (r"https?://[!-~]{1,2000}", "an address that starts with https:// or http://"),
    "sha256": (r"[0-9a-f]{64}", "64 hex digits"),
    "root": (r"[0-9a-f]{64}", "64 hex digits"),
}


def parse_manifest(data: bytes) -> Manifest:
    """Return the manifest that JSON text describes; raises DecodeError with what was found and expected."""
    if len(data) > MANIFEST_BYTES_MAX:
        raise DecodeError(f"manifest: found {len(data)} bytes, expected at most {MANIFEST_BYTES_MAX}")
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DecodeError(f"manifest: {error}") from None
    validate_manifest(manifest)
    return manifest


def validate_manifest(manifest: Manifest) -> None:
    """Check every field against its form and its source; raises DecodeError."""
    for field, (pattern, expected) in sorted(_FORMS.items()):
        text: str = getattr(manifest, field)
        if text and not re.fullmatch(pattern, text):
            raise DecodeError(f"manifest: {field}: found {text!r:.80}, expected {expected}")
    _validate_fields(manifest)
    if len(manifest.attribution) > ATTRIBUTION_CHARACTERS_MAX:
        found = len(manifest.attribution)
        raise DecodeError(f"manifest: attribution: found {found} characters, expected {ATTRIBUTION_CHARACTERS_MAX}")
    for size in (manifest.source_bytes, manifest.blob_bytes):
        if not 0 <= size <= BLOB_BYTES_MAX:
            raise DecodeError(f"manifest: found a size of {size} bytes, expected 0 to {BLOB_BYTES_MAX}")
    if manifest.path:
        _validate_path("path", manifest.path)
    _validate_members(manifest.members)


def match_member(pattern: str, member: str) -> bool:
    """Say whether a path within an archive is one that `pattern` means."""
    head, depth, tail = pattern.partition("**/")
    parts = member.split("/")
    if not depth:
        return _match_parts(pattern.split("/"), parts)
    first, last = head.split("/")[:-1], tail.split("/")
    if len(parts) < len(first) + len(last):
        return False
    return _match_parts(first, parts[: len(first)]) and _match_parts(last, parts[-len(last) :])


def is_safe_path(path: str) -> bool:
    """Say whether a path stays below the folder it is relative to."""
    parts = path.split("/")
    return not any(part in ("", ".", "..") for part in parts) and not re.search(r"[\\:\x00-\x1f\x7f]", path)


def encode_members(parser: Parser, contents: Sequence[bytes]) -> bytes:
    """Return the canonical blob of members' contents, given in the order of their names; raises DecodeError.

    A text is the members with one newline between each two; a CSV parser takes exactly one member.
    """
    if parser is Parser.TEXT:
        return encode_text(b"\n".join(contents))
    if len(contents) != 1:
        raise DecodeError(f"{parser.value}: found {len(contents)} members, expected 1")
    return encode_csv(contents[0], DIGITS_SCALE if parser is Parser.DIGITS_CSV else BYTE_SCALE)


@cache
def read_builtin_manifests() -> tuple[Manifest, ...]:
    """Return the manifests that ship with this package, by name."""
    files = (file for file in (resources.files("ml") / "data").iterdir() if file.name.endswith(".json"))
    return tuple(sorted((parse_manifest(file.read_bytes()) for file in files), key=lambda found: found.name))


def _match_parts(patterns: Sequence[str], parts: Sequence[str]) -> bool:
    if len(patterns) != len(parts):
        return False
    return all(fnmatchcase(part, pattern) for pattern, part in zip(patterns, parts, strict=True))


def _validate_fields(manifest: Manifest) -> None:
    for field in ("name", "licence", *_NEEDED[manifest.source]):
        if not getattr(manifest, field):
            raise DecodeError(f"manifest: found no {field}, expected one for the source {manifest.source.value}")
    for field in _PLACES:
        if getattr(manifest, field) and field not in _NEEDED[manifest.source]:
            raise DecodeError(f"manifest: found {field}, expected none for the source {manifest.source.value}")


def _validate_members(members: tuple[str, ...]) -> None:
    if len(members) > MEMBERS_MAX:
        raise DecodeError(f"manifest: found {len(members)} members, expected at most {MEMBERS_MAX}")
    for member in members:
        _validate_path("members", member)
        rest = member.partition("**/")[2] if re.match(r"([^*]*/)?\*\*/", member) else member
        if "**" in rest or "[" in member or "]" in member:
            raise DecodeError(f"manifest: members: found {member!r}, expected * and ? and one ** as a folder")


def _validate_path(field: str, path: str) -> None:
    if len(path) > MEMBER_CHARACTERS_MAX or not is_safe_path(path):
        raise DecodeError(
            f"manifest: {field}: found {path!r:.80}, expected a relative path of at most {MEMBER_CHARACTERS_MAX}"
            " characters that leads nowhere above"
        )
