"""HTML pages that are no answer, by their titles: those of gateways, of logins and of bot checks.

| the page is titled | it is |
| --- | --- |
| `502 Bad Gateway`, `Error 503`, `example.com | 522: Connection timed out` | the error of that status |
| `Bad Gateway`, `Too Many Requests`, `Access denied` | the same |
| `Sign in`, `Log in to Acme`, `Acme - Sign In` | wrong credentials |
| `Just a moment...`, `Attention Required! | Cloudflare` | a refusal, like status 403 |

An agent may answer in HTML, so words count only as the whole title of a page, or as one of its parts between
dashes or bars. A page without a title is judged by its whole text.

Sources: the default pages of nginx, Apache, IIS, HAProxy, Envoy, AWS's load balancers, Cloudflare, Akamai and
Imperva; the logins of Microsoft, Google, Okta, GitHub, GitLab, Atlassian and Keycloak.
"""

from __future__ import annotations

import re
from http import HTTPStatus

from service.domain.errors import AgentCredentialsError
from service.domain.model import Json
from service.domain.provider_errors import classify_error
from service.mapping.replies.html_pages import page_words
from service.mapping.replies.objections.objection import Objection, Objections, in_words

_SEPARATOR = re.compile(r"\s+[|·\u2013\u2014-]\s+|\s*\|\s*")
"""Between the parts of a title: the page and its site."""

_STATUS = re.compile(r"(?:http |status )?(error )?(?:code )?:? ?([45][0-9]{2})\b(?: error)?[ :.,-]*(.*)")

_PHRASES = {
    **{status.phrase.casefold(): status.value for status in HTTPStatus if status >= HTTPStatus.BAD_REQUEST},
    "authorization required": 401,
    "access denied": 403,
    "access is denied": 403,
    "forbidden: access is denied": 403,
    "server error": 500,
    "internal error": 500,
    "service temporarily unavailable": 503,
    "temporarily unavailable": 503,
    "service is unavailable": 503,
    "backend fetch failed": 503,  # Varnish
    "gateway time-out": 504,
    "gateway timeout": 504,
    "web server is returning an unknown error": 520,  # Cloudflare, to 524
    "web server is down": 521,
    "connection timed out": 522,
    "origin is unreachable": 523,
    "a timeout occurred": 524,
}
"""Words for a status, beside its number."""

_ALONE = frozenset(
    {
        *("access denied", "access is denied", "forbidden", "unauthorized", "authorization required"),
        *("too many requests", "internal server error", "bad gateway", "service unavailable"),
        *("service temporarily unavailable", "gateway timeout", "gateway time-out", "web server is down"),
    }
)
"""Words for a status that are a whole title."""

_LOGIN = re.compile(
    r"(?:please )?(?:sign|log)[ -]?(?:in|on)"
    r"(?: (?:page|required|(?:to|with) (?:your )?[\w.]+(?: (?:account|workspace))?))?"
    r"|(?:please )?(?:sign|log)[ -]?(?:in|on) to continue|(?:authentication|login) required"
)
_CHALLENGE = re.compile(
    r"just a moment(?:\.\.\.|…)|one moment, please\.\.\.|attention required!?|pardon our interruption"
    r"|checking your browser(?: before accessing .*)?|verifying you are (?:a )?human|human verification"
    r"|are you a (?:robot|human)\??|robot or human\??|ddos-guard|(?:vercel )?security checkpoint"
)


def find_error_pages(document: Json) -> Objections:
    """The objection to a reply that is such a page."""
    if isinstance(document, dict) and "statusCode" in document:  # Lambda's reply to API Gateway
        document = document.get("body")
    title = page_words(document) if isinstance(document, str) else ""
    if not title:
        return
    folded = title.casefold()
    parts = _SEPARATOR.split(folded)
    if status := _status_of(folded, parts):
        text = in_words("the reply is an HTML page", title)
        yield Objection(classify_error({}, text, status=status))
    elif any(_LOGIN.fullmatch(part) for part in parts):
        text = in_words("the reply is the HTML page of a login; check the credentials and the url", title)
        yield Objection(AgentCredentialsError(text))
    elif _CHALLENGE.fullmatch(parts[0]):
        text = in_words(
            "the reply is an HTML page for browsers; the agent's site takes this for a bot", title
        )
        yield Objection(AgentCredentialsError(text))


def _status_of(title: str, parts: list[str]) -> int:
    """The status that a title states, 0 for none."""
    bare = title.rstrip(".!")
    if bare in _ALONE:
        return _PHRASES[bare]
    # "Access denied | example.com used Cloudflare to restrict access"
    if parts[0] in {"access denied", "access denied!"} and "cloudflare" in title:
        return HTTPStatus.FORBIDDEN
    # "500 - Internal server error" is one statement.
    for part in (title, *parts):
        match = _STATUS.fullmatch(part)
        if match and (match[3].strip("() .!") in _PHRASES or (match[1] and not match[3])):
            return int(match[2])
    return 0
