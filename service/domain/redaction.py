"""Redaction: masks in the place of values that must not be seen, in texts that an agent sent. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from service.domain.model import Json

Redactions = tuple[tuple[str, str], ...]
"""Pairs of a mask and a value that it replaces, longest value first."""

MIN_REPLY_CHARS = 8
"""Shorter values are not redacted in replies: they may occur by chance as part of a word of the data."""


def redacted(value: Json, redactions: Sequence[tuple[str, str]]) -> Json:
    """A JSON value with masks for the values in its texts and keys; the value itself without redactions."""
    return _redacted(value, redactions) if redactions else value


def for_replies(redactions: Redactions) -> Redactions:
    """The redactions of values that are long enough to be told from data."""
    return tuple(pair for pair in redactions if len(pair[1]) >= MIN_REPLY_CHARS)


def _redacted(value: Json, redactions: Sequence[tuple[str, str]]) -> Json:
    if isinstance(value, str):
        for mask, hidden in redactions:
            value = value.replace(hidden, mask)
        return value
    if isinstance(value, list):
        return [_redacted(item, redactions) for item in value]
    if isinstance(value, dict):
        return {str(_redacted(key, redactions)): _redacted(item, redactions) for key, item in value.items()}
    return value
