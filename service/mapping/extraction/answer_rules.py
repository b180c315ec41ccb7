"""Rules for what a mapping takes as an answer, beside its guards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from service.domain.errors import ReplyRejectedError
from service.domain.model import Json
from service.mapping.extraction.methods import Method
from service.mapping.replies.html_pages import is_page, page_in, page_words
from service.mapping.replies.normalise import ReplyView
from service.mapping.replies.objections.failed_envelopes import find_failed_envelopes
from service.mapping.replies.objections.finder import find_objections
from service.mapping.replies.objections.finish_reasons import find_reasons_on_paths
from service.mapping.replies.objections.objection import Objection, in_words

_ANSWERS = ("choices", "candidates")
"""Keys of several answers to one request (`n`, `candidateCount`)."""


@dataclass(frozen=True, slots=True)
class AnswerRules:
    """The settings `allow_truncated`, `accept_errors` and `accept_html` of an output mapping."""

    allow_truncated: bool = False
    accept_errors: bool = False
    accept_html: bool = False

    def objection(self, view: ReplyView, methods: Sequence[Method]) -> Objection | None:
        """The first objection of a reply that counts for these methods."""
        for objection in find_objections(_without_unread(view, methods)):
            if objection.is_truncation:
                if not self.allow_truncated:
                    return objection
            elif not self.accept_errors and not any(
                _takes(key, view, methods) for key in (objection.key, objection.other_key)
            ):
                return objection
        return None

    def check_values(
        self, view: ReplyView, values: Mapping[str, Json], winners: Mapping[str, Method]
    ) -> None:
        """Raise the error of values that are no answer; `winners` are the methods that gave them.

        They may stand beside a finish reason that says so, in any wrapper, or in an envelope of failed work.
        """
        keys = [
            winner.keys[name]
            for name, winner in winners.items()
            if name in values and winner.reads_whole_reply
        ]
        tokens = view.transcript.usage.output_tokens
        root = _without_unread(view, list(winners.values())).root
        named = frozenset().union(*keys)
        for objection in chain(
            find_reasons_on_paths(root, named, tokens), find_failed_envelopes(root, named)
        ):
            if not (self.allow_truncated if objection.is_truncation else self.accept_errors):
                raise objection.error
        self._check_page(view, values)

    def _check_page(self, view: ReplyView, values: Mapping[str, Json]) -> None:
        """Raise ReplyRejectedError for a value that is the whole HTML page that came as the reply.

        Agents that are no web sites send none, and a wrong address gives the pages of whatever answers there.
        What a mapping takes out of a page is its own choice.
        """
        if self.accept_html or self.accept_errors:
            return
        if any(isinstance(value, str) and is_page(value) for value in values.values()):
            page = next((found for document in view.documents if (found := page_in(document))), "")
            if page:
                reason = "the reply is an HTML page (check the url; accept_html: true takes such pages)"
                raise ReplyRejectedError(in_words(reason, page_words(page)))


def _without_unread(view: ReplyView, methods: Sequence[Method]) -> ReplyView:
    """The view of a reply without the answers that no field reads: a second choice, beside `choices[0]`."""
    root = view.root
    if view.documents != (root,) or not isinstance(root, dict):
        return view
    for key in _ANSWERS:
        answers = root.get(key)
        if isinstance(answers, list) and len(answers) > 1 and (read := _items_read(key, methods)):
            left = [answer for index, answer in enumerate(answers) if index in read]
            return ReplyView.of({**root, key: left}) if left else view
    return view


def _items_read(key: str, methods: Sequence[Method]) -> frozenset[int]:
    """The items that the fields read of the list under a key; none if they may read any."""
    found: set[int] = set()
    for method in methods:
        for field in method.fields:
            item = field.expression.item_of_root(key) if field.each is None else None
            if not method.reads_whole_reply or (item is None and field.expression.root_key in {"", key}):
                return frozenset()
            if item is not None:
                found.add(item)
    return frozenset(found)


def _takes(key: str, view: ReplyView, methods: Sequence[Method]) -> bool:
    """True if a field has a value by an expression that names the key, so that the key is data."""
    return bool(key) and any(
        method.reads_whole_reply
        and key in field.expression.named_keys()
        and field.value(view.root) is not None
        for method in methods
        for field in method.fields
    )
