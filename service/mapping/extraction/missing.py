"""The error of a reply in which values are missing: the reason that the reply gives, else what it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from service.domain.errors import ExtractionError, ReplyRejectedError
from service.domain.truncation import truncate
from service.mapping.extraction.methods import Method
from service.mapping.extraction.reply_summary import summary
from service.mapping.replies.normalise import ReplyView
from service.mapping.replies.objections.without_values import find_pending, find_reasons, is_id, is_passing

MAX_MESSAGE_CHARS = 1_000
"""Limit for the text of an error, which is stored with every failed row."""


def check_stated_reasons(
    view: ReplyView, methods: Sequence[Method], winners: Mapping[str, Method], missing: Sequence[str]
) -> None:
    """Raise the error by which a reply itself says that a later call may find the `missing` values.

    `winners` are the methods of the values that were found. An id alone is none: a job has one from the
    start.
    """
    found = [
        one.expression.last_key
        for name, method in winners.items()
        for one in method.fields
        if one.name == name
    ]
    if not all(map(is_id, found)):
        return
    for objection in find_pending(view, has_id=bool(found)):
        raise objection.error
    for objection in find_reasons(view, _keys(methods, missing)):
        if not found and is_passing(objection):
            raise objection.error


def missing_error(
    view: ReplyView, methods: Sequence[Method], missing: Sequence[str], text: str, *, accept_errors: bool
) -> ExtractionError:
    """The error that `missing` fields have no value. `text` says so, and by which methods."""
    mapped = [field for method in methods for field in method.fields]
    tried = {path for field in mapped for path in field.expression.paths()}
    names = [
        {name, *(one.expression.last_key for one in mapped if one.name == name)} - {""} for name in missing
    ]
    # The summary comes last and whole: it is what shows the cause.
    shown = "; " + summary(view, names, tried)
    whole = truncate(text, max(0, MAX_MESSAGE_CHARS - len(shown) - 1)) + shown
    stated = () if accept_errors else find_reasons(view, _keys(methods, missing))
    for objection in stated:
        return ReplyRejectedError(truncate(f"{objection.error}; {whole}", MAX_MESSAGE_CHARS))
    return ExtractionError(whole)


def _keys(methods: Sequence[Method], names: Sequence[str]) -> frozenset[str]:
    """The keys that the expressions of these fields name."""
    found = [
        method.keys[name]
        for method in methods
        if method.reads_whole_reply
        for name in names
        if name in method.keys
    ]
    return frozenset().union(*found)
