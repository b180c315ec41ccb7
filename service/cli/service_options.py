"""Roles, logs and metrics of a process that runs the service."""

from __future__ import annotations

import sys

from service.app.serve import ROLES
from service.app.settings import Settings
from service.domain.errors import UsageError
from service.runtime.logs import configure_logging
from service.runtime.metrics import Metrics


def parse_roles(text: str) -> list[str]:
    """The roles in `all`, `none`, or names separated by commas. Raises UsageError."""
    if text == "all":
        return list(ROLES)
    names = [] if text == "none" else [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in ROLES:
            raise UsageError(f"--roles: {name!r} is not a role; there are {', '.join(ROLES)}")
    return names


def log_as_service(settings: Settings) -> None:
    """Log to stderr: JSON, or lines for people on a terminal."""
    configure_logging(settings.log_level, as_json=_as_json(settings))


def service_metrics(settings: Settings, roles: list[str]) -> Metrics:
    """Metrics that are written to stdout for CloudWatch Logs, or kept in memory on a terminal."""
    emit = _print_line if _as_json(settings) else None
    return Metrics({"service": settings.prefix, "role": "+".join(sorted(roles))}, emit)


def _as_json(settings: Settings) -> bool:
    # logs go to stderr, so it decides whether a person reads them
    return settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())


def _print_line(line: str) -> None:
    print(line, flush=True)  # noqa: T201 -- the metric line itself
