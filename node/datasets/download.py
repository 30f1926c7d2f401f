"""A file by http or https, in bounded pieces, with no more of it kept than was promised.

Other schemes, such as file:, have no handler here, not even behind a redirect. It checks sizes; hashes are checked by
the caller before the file is read.
"""

import http.client
from pathlib import Path
from urllib import request
from urllib.error import HTTPError, URLError

from ml.dataset import BLOB_BYTES_MAX
from ml.manifest import Manifest
from node.datasets.errors import DatasetError
from node.datasets.progress import OnProgress

PIECE_BYTES = 1 << 18
SILENCE_S_MAX = 30
"""A server that sends nothing for so long counts as gone."""

_HANDLERS = (
    request.ProxyHandler,
    request.HTTPHandler,
    request.HTTPSHandler,
    request.HTTPRedirectHandler,
    request.HTTPDefaultErrorHandler,
    request.HTTPErrorProcessor,
    request.UnknownHandler,
)


def download_url(manifest: Manifest, staging: Path, on_progress: OnProgress) -> Path:
    """Return the file in `staging` that the manifest's address gave; raises DatasetError."""
    opener = request.OpenerDirector()
    for handler in _HANDLERS:
        opener.add_handler(handler())
    try:
        with opener.open(manifest.url, timeout=SILENCE_S_MAX) as response:
            return _save(response, manifest, staging / "download", on_progress)
    except HTTPError as error:
        raise DatasetError(
            "no-source", f"{manifest.url}: found status {error.code}, expected 200; check the address"
        ) from None
    except (URLError, http.client.HTTPException, ConnectionError, TimeoutError, ValueError) as error:
        # A name with an empty or a long part, and half an IPv6 address, are ValueErrors; a server may redirect there.
        reason = error.reason if isinstance(error, URLError) else error
        raise DatasetError(
            "no-network", f"{manifest.url}: cannot be reached ({reason}); try again with a network, or use a file"
        ) from None


def _save(response: http.client.HTTPResponse, manifest: Manifest, target: Path, on_progress: OnProgress) -> Path:
    limit = manifest.source_bytes or BLOB_BYTES_MAX
    promised, done = response.length, 0
    if promised is not None and promised > limit:
        raise DatasetError("too-large", f"{manifest.url}: found {promised} bytes, expected at most {limit}")
    with target.open("wb") as file:
        while piece := response.read(PIECE_BYTES):
            done += len(piece)
            if done > limit:
                raise DatasetError("too-large", f"{manifest.url}: found more than {limit} bytes, expected no more")
            file.write(piece)
            on_progress("download", done, promised or manifest.source_bytes)
    if promised is not None and done < promised:
        raise DatasetError(
            "truncated", f"{manifest.url}: found {done} bytes, expected the {promised} that were promised; try again"
        )
    return target
