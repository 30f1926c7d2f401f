"""Members out of a zip archive that is held in memory, and streams out of gzip, bounded before they are unpacked.

Nothing is ever extracted to disk. What an archive says of its sizes is added up before the first member is read, and a
member that is longer than it says is refused by its CRC. It knows no manifest; patterns are `ml.manifest`'s.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Sequence

from ml.dataset import BLOB_BYTES_MAX
from ml.manifest import is_safe_path, match_member
from node.datasets.errors import DatasetError
from node.datasets.progress import OnProgress

_ENCRYPTED = 1
_UNTYPED = (ValueError, IndexError, NotImplementedError, RuntimeError, OverflowError, struct.error)
"""What zipfile raises besides its own error: offsets before the start, names that are none, versions to come."""
_PLAIN_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read_members(archive: bytes, patterns: Sequence[str], on_progress: OnProgress) -> list[bytes]:
    """Return the contents of the members that `patterns` mean, in the order of their names; raises DatasetError.

    A member whose name ends in .gz is unpacked.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as zipped:
            chosen = _choose(zipped.infolist(), patterns)
            return _read_all(zipped, chosen, on_progress)
    except (zipfile.BadZipFile, *_UNTYPED) as error:
        raise DatasetError(
            "truncated", f"found {len(archive)} bytes that are no whole zip archive ({error}); get the source again"
        ) from None


def unpack_gzip(data: bytes, name: str, size_bytes_max: int = BLOB_BYTES_MAX) -> bytes:
    """Return what one gzip stream holds; raises DatasetError when it is cut short, damaged or too large."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        content = unpacker.decompress(data, size_bytes_max + 1)
    except zlib.error as error:
        raise DatasetError("malformed", f"{name}: found no gzip stream ({error}), expected one") from None
    if len(content) > size_bytes_max:
        raise DatasetError("too-large", f"{name}: found more than {size_bytes_max} bytes unpacked, expected no more")
    if not unpacker.eof:
        raise DatasetError(
            "truncated",
            f"{name}: found a gzip stream that stops after {len(content)} bytes, expected its end; get it again",
        )
    if unpacker.unused_data:
        rest = len(unpacker.unused_data)
        raise DatasetError("malformed", f"{name}: found {rest} bytes behind the gzip stream, expected none")
    return content


def _choose(entries: Sequence[zipfile.ZipInfo], patterns: Sequence[str]) -> list[zipfile.ZipInfo]:
    files = [entry for entry in entries if not entry.is_dir()]
    chosen: dict[str, zipfile.ZipInfo] = {}
    for pattern in patterns:
        matches = [entry for entry in files if match_member(pattern, entry.filename)]
        if not matches:
            raise DatasetError(
                "missing-member",
                f"found no {pattern} among {len(files)} files of the archive, expected at least one;"
                " correct the manifest's members",
            )
        for entry in matches:
            if chosen.setdefault(entry.filename, entry) is not entry:
                raise DatasetError("malformed", f"found {entry.filename!r} twice in the archive, expected it once")
    for entry in chosen.values():
        _validate_entry(entry)
    size = sum(entry.file_size for entry in chosen.values())
    if size > BLOB_BYTES_MAX:
        raise DatasetError("too-large", f"found members of {size} bytes unpacked, expected at most {BLOB_BYTES_MAX}")
    return [chosen[name] for name in sorted(chosen)]


def _validate_entry(entry: zipfile.ZipInfo) -> None:
    if not is_safe_path(entry.filename):
        raise DatasetError("malformed", f"found the member {entry.filename!r:.80}, expected a path inside the archive")
    if entry.flag_bits & _ENCRYPTED or entry.compress_type not in _PLAIN_METHODS:
        raise DatasetError(
            "malformed", f"{entry.filename}: found encryption or another compression, expected stored or deflated"
        )


def _read_all(zipped: zipfile.ZipFile, entries: Sequence[zipfile.ZipInfo], on_progress: OnProgress) -> list[bytes]:
    total, done, left, contents = sum(entry.file_size for entry in entries), 0, BLOB_BYTES_MAX, []
    for entry in entries:
        content = _read_entry(zipped, entry)
        if entry.filename.endswith(".gz"):
            content = unpack_gzip(content, entry.filename, left)
        contents.append(content)
        left -= len(content)
        done += entry.file_size
        on_progress("unpack", done, total)
    return contents


def _read_entry(zipped: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    try:
        with zipped.open(entry) as file:
            # Asked for no size, zipfile would unpack two gibibytes before it looks at what the archive promised.
            content = file.read(entry.file_size)
    except EOFError:
        content = b""
    except (zipfile.BadZipFile, zlib.error, *_UNTYPED) as error:
        raise DatasetError(
            "malformed", f"{entry.filename}: found a damaged member ({error}); get the source again"
        ) from None
    if len(content) != entry.file_size:
        raise DatasetError(
            "truncated", f"{entry.filename}: found fewer than the {entry.file_size} bytes that the archive promises"
        )
    return content
