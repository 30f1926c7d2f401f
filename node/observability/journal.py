"""The journal: events with fields, for a person at a terminal or for a machine, on standard error.

Everything goes through the standard library's logging, so that what aiohttp and asyncio say appears in the same form.
Fields whose names speak of secrets are hidden, bytes are shortened, and no text steers a terminal. It knows no part of
a node.
"""

import logging
import sys
from typing import TextIO

import structlog
from structlog.stdlib import BoundLogger
from structlog.typing import EventDict, Processor, WrappedLogger

from node.terminal import clean

LEVELS = ("debug", "info", "warning", "error")
HIDDEN = "[hidden]"
SHOWN_BYTES = 8

_SECRET_WORDS = ("token", "cookie", "passphrase", "password", "secret", "mnemonic", "private", "authorization")


def get_log(name: str) -> BoundLogger:
    """Return the logger of one part; its events name what happened, its fields with what."""
    log: BoundLogger = structlog.stdlib.get_logger(f"mathesis.{name}")
    return log


def start_journal(level: str = "info", *, is_json: bool = False, stream: TextIO | None = None) -> None:
    """Write events of at least `level` to `stream`, standard error if none is named: lines of JSON, or for people."""
    target = stream or sys.stderr
    renderer = (
        structlog.processors.JSONRenderer(default=_show)
        if is_json
        else structlog.dev.ConsoleRenderer(
            colors=target.isatty(),
            pad_event_to=0,
            # The rich one prints local variables, and some of them are secrets.
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    handler = logging.StreamHandler(target)
    ending: list[Processor] = [structlog.processors.format_exc_info] if is_json else []
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("mathesis").setLevel(level.upper())


def _make_safe(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for name, value in event.items():
        if any(word in name.lower() for word in _SECRET_WORDS):
            event[name] = HIDDEN
        elif isinstance(value, bytes):
            event[name] = _show(value)
        elif isinstance(value, str):
            event[name] = clean(value)
    return event


def _show(value: object) -> str:
    return value[:SHOWN_BYTES].hex() if isinstance(value, bytes) else str(value)


_SHARED: list[Processor] = [
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    _make_safe,
]

structlog.configure(
    processors=[structlog.stdlib.filter_by_level, *_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
    wrapper_class=structlog.stdlib.BoundLogger,
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=True,
)
