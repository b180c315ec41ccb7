"""HTML pages that come where a reply or an error is expected: those of proxies, load balancers and logins."""

from __future__ import annotations

import html
import re

from service.domain.model import Json

_PAGE = re.compile(
    r"\ufeff?\s*(?:<\?xml[^>]*>\s*)?(?:<!--(?:(?!-->).)*-->\s*)*<(?:!doctype\s+html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)
_TITLE = re.compile(r"<title[^>]*>([^<]{1,300})", re.IGNORECASE)
_HEADING = re.compile(r"<h1[^>]*>(.{1,300}?)</h1\s*>", re.IGNORECASE | re.DOTALL)
_UNSEEN = re.compile(r"<!--.*?-->|<(script|style|head)\b.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_MAX_CHARS = 8 * 2**10


def is_page(text: str) -> bool:
    """True if a text is an HTML page."""
    return _PAGE.match(text[:_MAX_CHARS]) is not None


def page_in(document: Json) -> str:
    """The page that a document is: a text, or the body of Lambda's reply to API Gateway; "" for any other."""
    if isinstance(document, dict) and "statusCode" in document:
        document = document.get("body")
    return document if isinstance(document, str) and is_page(document) else ""


def page_heading(text: str) -> str:
    """The title of a page, without one its first heading, else its text; "" for a text that is no page."""
    words = page_words(text)
    beginning = text[:_MAX_CHARS]
    heading = None if _has_title(beginning) or not words else _HEADING.search(_UNSEEN.sub(" ", beginning))
    return " ".join(html.unescape(_TAG.sub(" ", heading[1])).split()) if heading else words


def _has_title(text: str) -> bool:
    title = _TITLE.search(text)
    return title is not None and bool(title[1].strip())


def page_words(text: str) -> str:
    """The title of a page, or without one its text, in one line; "" for a text that is no page."""
    if not is_page(text):
        return ""
    text = text[:_MAX_CHARS].removeprefix("\ufeff")
    title = _TITLE.search(text)
    words = title[1] if title and _has_title(text) else _TAG.sub(" ", _UNSEEN.sub(" ", text))
    return " ".join(html.unescape(words).split())
