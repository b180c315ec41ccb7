"""HTML pages that come where a reply or an error is expected: those of proxies, load balancers and logins."""

from __future__ import annotations

import html
import re

_PAGE = re.compile(
    r"\ufeff?\s*(?:<\?xml[^>]*>\s*)?(?:<!--(?:(?!-->).)*-->\s*)*<(?:!doctype\s+html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)
_TITLE = re.compile(r"<title[^>]*>([^<]{1,300})", re.IGNORECASE)
_UNSEEN = re.compile(r"<!--.*?-->|<(script|style|head)\b.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_MAX_CHARS = 8 * 2**10


def is_page(text: str) -> bool:
    """True if a text is an HTML page."""
    return _PAGE.match(text[:_MAX_CHARS]) is not None


def page_words(text: str) -> str:
    """The title of a page, or without one its text, in one line; "" for a text that is no page."""
    if not is_page(text):
        return ""
    text = text[:_MAX_CHARS].removeprefix("\ufeff")
    title = _TITLE.search(text)
    words = title[1] if title and title[1].strip() else _TAG.sub(" ", _UNSEEN.sub(" ", text))
    return " ".join(html.unescape(words).split())
