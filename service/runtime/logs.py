"""Logs: structlog lines on standard error, as JSON unless that is a terminal.

A line has `timestamp`, `level`, `event` in snake_case, and `batch_id` and `row_id` bound by context.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

import orjson
import structlog


def configure_logging(level: str, *, as_json: bool, stream: TextIO | None = None) -> None:
    """Set up structlog, and the standard library's loggers, which show warnings only."""
    out = stream or sys.stderr
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if as_json:
        processors += [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_render),
        ]
    else:
        # The default tracebacks (rich) show the values of variables, which may be secrets or payloads.
        plain = structlog.dev.plain_traceback
        processors.append(structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=plain))
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(
        level=logging.WARNING, stream=out, force=True, format="%(levelname)s %(name)s %(message)s"
    )
    logging.getLogger("asyncio").setLevel(logging.ERROR)


def _render(event: Any, **_: object) -> str:
    return orjson.dumps(event, default=str).decode()
