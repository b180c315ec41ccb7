"""HTML pages that are no answer, by their titles: those of gateways, of logins and of bot checks.

| the page is titled | it is |
| --- | --- |
| `502 Bad Gateway`, `Error 503`, `example.com | 522: Connection timed out` | the error of that status |
| `Bad Gateway`, `Too Many Requests`, `Access denied`, `Page not found` | the same |
| `Site under maintenance`, `Application error`, `Welcome to nginx!` | like status 503, 500 and 404 |
| `Sign in`, `Log in to Acme`, `Acme - Sign In`, `Anmelden` | wrong credentials |
| `Just a moment...`, `Attention Required! | Cloudflare`, `Captcha` | a refusal, like status 403 |

An agent may answer in HTML, so words count only as the whole title of a page, or as one of its parts between
dashes or bars. A page without a title is judged by its first heading, or by its whole text. Every other page
is refused where a mapping takes it whole for a value (`AnswerRules.check_page`).

Sources: the default pages of nginx, Apache, IIS, HAProxy, Envoy, AWS's load balancers, CloudFront,
Cloudflare, Akamai, F5 and Imperva; the logins of Microsoft, Google, Okta, GitHub, GitLab, Atlassian,
WordPress and Keycloak.
"""

from __future__ import annotations

import re
from http import HTTPStatus

from service.domain.errors import AgentCredentialsError
from service.domain.model import Json
from service.domain.provider_errors import classify_error
from service.mapping.replies.html_pages import page_heading, page_in
from service.mapping.replies.objections.objection import Objection, Objections, in_words

_SEPARATOR = re.compile(r"\s+[|·\u2013\u2014-]\s+|\s*\|\s*")
"""Between the parts of a title: the page and its site."""

_STATUS = re.compile(r"(?:http |status )?(error )?(?:code )?:? ?([45][0-9]{2})\b(?: error)?[ :.,-]*(.*)")

_OF_PHP = re.compile(r"\s*(?:<br ?/?>\s*)?<b>(?:Fatal|Parse) error</b>:\s")
"""PHP prints its errors as HTML, with status 200 if the page has begun."""

_MAX_PHP_CHARS = 500

_END = re.compile(r"!+1$")
"""Google ends the titles of its error pages so."""

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
    "request rejected": 403,  # F5
    "request blocked": 403,
    "access blocked": 403,
    "access to this page has been denied": 403,  # PerimeterX
    "you have been blocked": 403,
    "error: the request could not be satisfied": 503,  # CloudFront
    **dict.fromkeys(("error", "application error", "runtime error", "unexpected error"), 500),
    **dict.fromkeys(("an error occurred", "an error has occurred", "something went wrong", "oops"), 500),
    **dict.fromkeys(("page not found", "file not found", "object not found", "seite nicht gefunden"), 404),
    **dict.fromkeys(("page introuvable", "página no encontrada", "pagina non trovata"), 404),
    **dict.fromkeys(("welcome to nginx", "welcome to openresty", "it works", "iis windows server"), 404),
    **dict.fromkeys(("iis windows", "apache http server test page"), 404),
}
"""Words for a status, beside its number."""

_NOT_ALONE = {"conflict", "gone", "locked", "not acceptable", "method not allowed", "length required"}
_ALONE = _PHRASES.keys() - _NOT_ALONE
"""Words for a status that are a whole title."""

_DEFAULT_PAGE = re.compile(
    r"apache2? .{0,20}default page(?:: it works)?|test page for the .{0,60}|index of /.*"
)
_MAINTENANCE = re.compile(
    r"(?:(?:the |this |our )?(?:web ?site|site|system|server|service|page|portal|app|application|store)"
    r"(?: is)?(?: currently| temporarily)? )?(?:(?:down|closed) for |under(?:going)? |in )?"
    r"(?:(?:scheduled|planned|routine) )?maintenance(?: mode| break)?"
    r"|we(?:'|\u2019)(?:ll be (?:right )?back(?: soon| shortly)?|re down for maintenance)|be right back"
    r"|wartung(?:sarbeiten|smodus)?|(?:site )?en maintenance|en mantenimiento|in manutenzione|em manutenção"
    r"|(?:the |this )?(?:web ?site|site|service|page) (?:is )?(?:temporarily |currently )?"
    r"(?:unavailable|offline|down)"
)
_LOGIN = re.compile(
    r"(?:please )?(?:sign|log)[ -]?(?:in|on)"
    r"(?: (?:page|required|(?:to|with) (?:your )?[\w.]+(?: (?:account|workspace))?))?"
    r"|(?:please )?(?:sign|log)[ -]?(?:in|on) to continue|(?:authentication|login) required"
    r"|(?:log|sign) in \u2039 .*|single sign[ -]?on|sso(?: login)?|session expired|user login|account login"
    r"|anmelden|anmeldung|einloggen|inloggen|aanmelden|connexion|se connecter|s'identifier"
    r"|iniciar sesión|inicio de sesión|acceder|accedi|accesso|entrar|iniciar sessão|fazer login"
    r"|logga in|logg inn|log ind|kirjaudu sisään|zaloguj się|logowanie|přihlášení|přihlásit se|bejelentkezés"
    r"|oturum aç|giriş yap|вход|войти|ログイン|サインイン|로그인|登录|登入|登錄"
)
_CHALLENGE = re.compile(
    r"just a moment(?:\.\.\.|…)|one moment, please(?:\.\.\.|…)|please wait(?:\.\.\.|…)|attention required!?"
    r"|pardon our interruption"
    r"|checking your browser(?: before accessing .*)?|verify(?:ing)? (?:that )?you are (?:a )?human"
    r"|human verification|(?:bot|robot|security) (?:check|verification)"
    r"|are you a (?:robot|human)\??|robot or human\??|ddos-guard|(?:vercel )?security checkpoint"
    r"|(?:re)?captcha"
)
_OF_BOT_CHECKS = re.compile(
    r"_Incapsula_Resource|Incapsula incident ID|/cdn-cgi/challenge-platform/|captcha-delivery\.com|px-captcha"
)
"""Scripts and words of Imperva, Cloudflare, DataDome and PerimeterX, whose pages may have no title."""

_MAX_CHARS = 8 * 2**10


def find_error_pages(document: Json) -> Objections:
    """The objection to a reply that is such a page."""
    if isinstance(document, str) and _OF_PHP.match(document):
        text = in_words("the reply is an error of PHP", re.sub("<[^>]*>", "", document[:_MAX_PHP_CHARS]))
        yield Objection(classify_error({}, text, status=HTTPStatus.INTERNAL_SERVER_ERROR))
    page = page_in(document)
    title = page_heading(page)
    if not page:
        return
    folded = title.casefold()
    parts = _SEPARATOR.split(folded)
    if status := _status_of(folded, parts):
        text = in_words("the reply is an HTML page", title)
        yield Objection(classify_error({}, text, status=status))
    elif any(_LOGIN.fullmatch(part) for part in parts):
        text = in_words("the reply is the HTML page of a login; check the credentials and the url", title)
        yield Objection(AgentCredentialsError(text))
    elif _CHALLENGE.fullmatch(parts[0]) or _OF_BOT_CHECKS.search(page[:_MAX_CHARS]):
        text = in_words(
            "the reply is an HTML page for browsers; the agent's site takes this for a bot", title
        )
        yield Objection(AgentCredentialsError(text))


def _status_of(title: str, parts: list[str]) -> int:
    """The status that a title states, 0 for none."""
    bare = title.rstrip(".!")
    if bare in _ALONE:
        return _PHRASES[bare]
    if any(_MAINTENANCE.fullmatch(part.rstrip(".!")) for part in parts):
        return HTTPStatus.SERVICE_UNAVAILABLE
    if _DEFAULT_PAGE.fullmatch(bare):
        return HTTPStatus.NOT_FOUND
    # "Access denied | example.com used Cloudflare to restrict access"
    if parts[0] in {"access denied", "access denied!"} and "cloudflare" in title:
        return HTTPStatus.FORBIDDEN
    # "500 - Internal server error" is one statement.
    for part in (title, *parts):
        match = _STATUS.fullmatch(part)
        if match and (_END.sub("", match[3]).strip("() .!") in _PHRASES or (match[1] and not match[3])):
            return int(match[2])
    return 0
