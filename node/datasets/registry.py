"""From a name to a data set: finds the manifest, gets the source, makes the blob, keeps it by root.

A name is that of a manifest of this package, the path of a manifest, or the path of a text. Nothing is kept of a fetch
that fails. It blocks while it downloads; callers with an event loop run it in a thread.
"""

from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from chain.errors import DecodeError
from chain.primitives import Hash
from ml.dataset import Dataset, build_dataset, compute_dataset_root
from ml.manifest import (
    MANIFEST_BYTES_MAX,
    Manifest,
    Parser,
    Source,
    encode_members,
    parse_manifest,
    read_builtin_manifests,
)
from node.datasets.archive import read_members, unpack_gzip
from node.datasets.cache import Cache, get_cache_directory
from node.datasets.errors import DatasetError
from node.datasets.progress import OnProgress, ignore_progress
from node.datasets.sources import read_local, read_remote

HERE = Path()


def find_manifest(name_or_path: str) -> tuple[Manifest, Path]:
    """Return the manifest that is meant, and the folder its local path is relative to; raises DatasetError.

    The path of a file that is no .json stands for a text made of that file alone.
    """
    for manifest in read_builtin_manifests():
        if manifest.name == name_or_path:
            return manifest, HERE
    path = Path(name_or_path).expanduser()
    if not path.is_file():
        names = ", ".join(manifest.name for manifest in read_builtin_manifests())
        raise DatasetError(
            "unknown-dataset", f"found no {name_or_path!r}, expected one of {names}, a manifest (.json) or a text file"
        )
    if path.suffix != ".json":
        return _make_text_manifest(path), path.parent
    try:
        with path.open("rb") as file:
            return parse_manifest(file.read(MANIFEST_BYTES_MAX + 1)), path.parent
    except DecodeError as error:
        raise DatasetError("malformed", f"{path}: {error}") from None


def fetch(
    manifest: Manifest,
    cache_directory: Path | None = None,
    on_progress: OnProgress = ignore_progress,
    base: Path = HERE,
) -> bytes:
    """Return the canonical blob of a manifest, from the cache when it is there; raises DatasetError or OSError.

    The source's hash is checked before it is opened, the blob's root before it is kept.
    """
    if manifest.source is Source.BUILTIN:
        return _make_blob(manifest, read_local(manifest, base), on_progress)
    cache = Cache(cache_directory or get_cache_directory())
    if manifest.root:
        blob = cache.read_blob(Hash(bytes.fromhex(manifest.root)))
        if blob is not None:
            return blob
    with cache.open_staging() as staging:
        if manifest.source is Source.FILE:
            data = read_local(manifest, base)
        else:
            data = read_remote(manifest, cache, staging, on_progress)
        blob = _make_blob(manifest, data, on_progress)
        cache.write_blob(staging, compute_dataset_root(blob), blob)
    return blob


def load_dataset(name_or_path: str, heldout: int, on_progress: OnProgress = ignore_progress) -> Dataset:
    """Return a data set with `heldout` records kept out of training; raises DatasetError, DecodeError or OSError."""
    manifest, base = find_manifest(name_or_path)
    return build_dataset(fetch(manifest, on_progress=on_progress, base=base), heldout)


def load_dataset_by_root(root: Hash, heldout: int, on_progress: OnProgress = ignore_progress) -> Dataset:
    """Return the data set of a root with `heldout` records kept out; raises what `find_blob` does, and DecodeError."""
    return build_dataset(find_blob(root, on_progress), heldout)


def find_blob(root: Hash, on_progress: OnProgress = ignore_progress) -> bytes:
    """Return the canonical blob of a root, from the cache or by a manifest of this package that has this root.

    Raises DatasetError (unknown-dataset where neither has it) or OSError.
    """
    for manifest in read_builtin_manifests():
        if manifest.root == root.hex():
            return fetch(manifest, on_progress=on_progress)
    cache = Cache(get_cache_directory())
    blob = cache.read_blob(root)
    if blob is None:
        raise DatasetError(
            "unknown-dataset",
            f"found no data of root {root.hex()} in {cache.directory}, expected it there;"
            " run `mathesis dataset fetch` with its manifest",
        )
    return blob


def _make_blob(manifest: Manifest, data: bytes, on_progress: OnProgress) -> bytes:
    if manifest.members:
        contents = read_members(data, manifest.members, on_progress)
    else:
        name = manifest.path or PurePosixPath(urlsplit(manifest.url).path).name
        contents = [unpack_gzip(data, name) if name.endswith(".gz") else data]
    try:
        blob = encode_members(manifest.parser, contents)
    except DecodeError as error:
        raise DatasetError("malformed", f"{manifest.name}: {error}") from None
    root = compute_dataset_root(blob).hex()
    if manifest.root and root != manifest.root:
        raise DatasetError(
            "wrong-root", f"{manifest.name}: found root {root}, expected {manifest.root}; correct the manifest"
        )
    return blob


def _make_text_manifest(path: Path) -> Manifest:
    return Manifest(name=path.name, source=Source.FILE, parser=Parser.TEXT, licence="NOASSERTION", path=path.name)
