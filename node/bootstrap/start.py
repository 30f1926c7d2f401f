"""`mathesis node --sync snapshot`: bootstrap an empty directory before its node starts; a full one is left alone.

It turns options and failures into a bootstrap's terms; progress goes to the journal.
"""

import asyncio
import time

from chain.signature import SigningKey
from chain.storage.leveldb import LevelDb
from chain.storage.snapshot_import import get_import_name
from node.bootstrap.run import BootstrapFailed, Listener, Origin, StateUnavailable, bootstrap
from node.data_directory import DataDirectory
from node.database.opening import make_context
from node.exit_codes import CommandError, ExitCode
from node.observability.journal import get_log
from node.options import NodeOptions
from node.surroundings import make_surroundings
from p2p.dialling import Endpoint
from p2p.limits import Limits

log = get_log("bootstrap")

REPORT_S = 2.0
"""Between two events about the same thing."""


def start_from_peers(options: NodeOptions, directory: DataDirectory, key: SigningKey) -> None:
    """Fetch a recent state if the directory holds no chain; raises CommandError, StorageError, DecodeError."""
    if not needs_bootstrap(directory):
        return
    endpoints = tuple(Endpoint(each.host, each.port) for each in (*options.peers, *options.seeds))
    if not endpoints:
        raise CommandError(ExitCode.USAGE, "a state has to come from somebody: name a node with --peer or --seed")
    context, task = make_context(directory)
    origin = Origin(endpoints, key, make_surroundings(Limits()))
    listener = Listener(_Progress().report, lambda reason: log.warning("peer left out", reason=reason))
    try:
        height = asyncio.run(bootstrap(directory, context, task, origin, listener))
    except (BootstrapFailed, StateUnavailable) as error:
        raise CommandError(ExitCode.NODE_UNREACHABLE, f"no state to start from: {error}") from None
    log.info("state taken", height=height)


def needs_bootstrap(directory: DataDirectory) -> bool:
    """Say whether a directory holds no chain yet, or a bootstrap that was cut off; raises StorageError."""
    if not (directory.database_path / "CURRENT").exists():
        return True
    engine = LevelDb(directory.database_path)
    try:
        return get_import_name(engine) is not None
    finally:
        engine.close()


class _Progress:
    """Events about progress, not too many of them."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def report(self, what: str, done: int, total: int) -> None:
        now_s = time.monotonic()
        if done == total or now_s - self._said.get(what, 0.0) >= REPORT_S:
            self._said[what] = now_s
            log.info("fetching", what=what, done=done, total=total)
