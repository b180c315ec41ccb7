"""HTML pages in place of an answer: gateways, logins and bot checks, and pages that are answers."""

import json

import pytest

from service.domain.errors import (
    AgentCredentialsError,
    AgentRejectedError,
    AgentThrottledError,
    AgentUnavailableError,
    FailureClass,
    ReplyRejectedError,
    RowfleetError,
)
from service.mapping import Catalog

NGINX = (
    "<html>\r\n<head><title>{0}</title></head>\r\n<body>\r\n<center><h1>{0}</h1></center>\r\n"
    "<hr><center>nginx/1.25.3</center>\r\n</body>\r\n</html>\r\n"
)
CLOUDFLARE = (
    '<!DOCTYPE html>\n<!--[if lt IE 7]> <html class="no-js ie6 oldie" lang="en-US"> <![endif]-->\n'
    '<!--[if gt IE 8]><!--> <html class="no-js" lang="en-US"> <!--<![endif]-->\n<head>\n'
    '<title>{0}</title>\n<meta charset="UTF-8" />\n</head>\n<body><div id="cf-wrapper">Ray ID: 8a1</div>'
    "</body></html>"
)
CHALLENGE = (
    '<!DOCTYPE html><html lang="en-US"><head><title>Just a moment...</title><meta http-equiv="refresh" '
    'content="390"></head><body class="no-js"><div class="main-wrapper" role="main"><noscript>Enable '
    "JavaScript and cookies to continue</noscript></div><script>(function(){window._cf_chl_opt={};}());"
    "</script></body></html>"
)
LOGIN = (
    '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{0}</title>\n'
    '<link rel="stylesheet" href="/assets/a.css">\n</head>\n<body><form action="/session" method="post">'
    '<input name="login"><input type="password" name="password"></form></body>\n</html>\n'
)
AKAMAI = (
    "<HTML><HEAD>\n<TITLE>Access Denied</TITLE>\n</HEAD><BODY>\n<H1>Access Denied</H1>\nYou don't have "
    'permission to access "http&#58;&#47;&#47;a&#47;" on this server.<P>\nReference&#32;&#35;18&#46;3\n'
    "</BODY>\n</HTML>\n"
)
HAPROXY = (
    "<html><body><h1>503 Service Unavailable</h1>\nNo server is available to handle this request.\n"
    "</body></html>"
)
"""Has no title, and its heading is the status."""
F5 = (
    "<html><head><title>Request Rejected</title></head><body>The requested URL was rejected. Please consult "
    "with your administrator.<br><br>Your support ID is: 123</body></html>"
)
IMPERVA = (
    '<html><head><META NAME="ROBOTS" CONTENT="NOINDEX, NOFOLLOW"></head><iframe '
    'src="/_Incapsula_Resource?x">Request unsuccessful. Incapsula incident ID: 1</iframe></html>'
)

PAGES = [
    (NGINX.format("502 Bad Gateway"), AgentUnavailableError),
    (NGINX.format("503 Service Temporarily Unavailable"), AgentUnavailableError),
    (NGINX.format("504 Gateway Time-out"), AgentUnavailableError),
    (NGINX.format("429 Too Many Requests"), AgentThrottledError),
    (NGINX.format("403 Forbidden"), AgentCredentialsError),
    (NGINX.format("401 Authorization Required"), AgentCredentialsError),
    (NGINX.format("404 Not Found"), AgentRejectedError),
    (NGINX.format("Error 500"), AgentUnavailableError),
    (NGINX.format("HTTP Error 503. Service unavailable."), AgentUnavailableError),
    (NGINX.format("500 - Internal server error."), AgentUnavailableError),
    (CLOUDFLARE.format("example.com | 502: Bad gateway"), AgentUnavailableError),
    (CLOUDFLARE.format("example.com | 522: Connection timed out"), AgentUnavailableError),
    (CLOUDFLARE.format("Attention Required! | Cloudflare"), AgentCredentialsError),
    (
        CLOUDFLARE.format("Access denied | example.com used Cloudflare to restrict access"),
        AgentCredentialsError,
    ),
    (CHALLENGE, AgentCredentialsError),
    (AKAMAI, AgentCredentialsError),
    (LOGIN.format("Sign in"), AgentCredentialsError),
    (LOGIN.format("Sign in to your account"), AgentCredentialsError),
    (LOGIN.format("Sign in to GitHub · GitHub"), AgentCredentialsError),
    (LOGIN.format("Sign in · GitLab"), AgentCredentialsError),
    (LOGIN.format("Sign in - Google Accounts"), AgentCredentialsError),
    (LOGIN.format("Acme Inc - Sign In"), AgentCredentialsError),
    (LOGIN.format("Log in with Atlassian account"), AgentCredentialsError),
    (LOGIN.format("Log In"), AgentCredentialsError),
    (LOGIN.format("Login"), AgentCredentialsError),
    (LOGIN.format("Log In \u2039 Acme \u2014 WordPress"), AgentCredentialsError),
    (LOGIN.format("Anmelden"), AgentCredentialsError),
    (LOGIN.format("Acme | Iniciar sesión"), AgentCredentialsError),
    (LOGIN.format("Single Sign-On"), AgentCredentialsError),
    (HAPROXY, AgentUnavailableError),
    (F5, AgentCredentialsError),
    (IMPERVA, AgentCredentialsError),
    (NGINX.format("Please Wait... | Cloudflare"), AgentCredentialsError),
    (NGINX.format("Captcha"), AgentCredentialsError),
    (NGINX.format("Access to this page has been denied"), AgentCredentialsError),
    (NGINX.format("Error 404 (Not Found)!!1"), AgentRejectedError),
    (NGINX.format("Page not found"), AgentRejectedError),
    (NGINX.format("Welcome to nginx!"), AgentRejectedError),
    (NGINX.format("Apache2 Ubuntu Default Page: It works"), AgentRejectedError),
    (NGINX.format("Index of /agent"), AgentRejectedError),
    (NGINX.format("Temporarily Unavailable"), AgentUnavailableError),
    (NGINX.format("Site Under Maintenance"), AgentUnavailableError),
    (NGINX.format("Acme | Scheduled maintenance"), AgentUnavailableError),
    (NGINX.format("We'll be back soon!"), AgentUnavailableError),
    (NGINX.format("Wartungsarbeiten"), AgentUnavailableError),
    (NGINX.format("Application error"), AgentUnavailableError),
    (NGINX.format("Runtime Error"), AgentUnavailableError),
    (NGINX.format("Error"), AgentUnavailableError),
    (NGINX.format("ERROR: The request could not be satisfied"), AgentUnavailableError),
]

ANSWERS = [
    "<html><body><h1>Your order</h1><p>It was sent on Monday. Sign in to see it.</p></body></html>",
    "<!DOCTYPE html><title>Order 502</title><p>502 Bad Gateway is what they saw. Access denied, then.</p>",
    "<!DOCTYPE html><html><head><title>Report</title></head><body>Just a moment... Log in. 503</body></html>",
    "<html><head><title>500 Best Restaurants in Lyon</title></head><body>1. Chez A</body></html>",
    "<html><head><title>404 Main Street - Zillow</title></head><body>3 rooms</body></html>",
    "<html><head><title>How to sign in to a guest book</title></head><body>With a pen.</body></html>",
    "<html><head><title>Sign in sheet for visitors</title></head><body>Name, time</body></html>",
    "<html><head><title>Why 502 Bad Gateway happens</title></head><body>A proxy got no answer.</body></html>",
    "<html><head><title>Forbidden (1953) - Films</title></head><body>A film noir.</body></html>",
    "<html><head><title>Just a moment: poems</title></head><body>One.</body></html>",
    "<html><head><title>Maintenance of old clocks</title></head><body>Oil them.</body></html>",
    "<html><head><title>Errors in print</title></head><body>A history.</body></html>",
    "<!DOCTYPE html><html><head><title>Acme Portal</title></head><body><div id=root></div></body></html>",
]
TEXTS = [
    "<p>Access denied</p>",
    "502 Bad Gateway",
    "Use <html> first.",
    "```html\n<html></html>\n```",
]


def extractor(path="$.content", **keys):
    methods = [{"method": "direct", "field_mappings": {"page": path}}]
    text = json.dumps({"output_mappings": {"e": {"extraction_methods": methods, **keys}}})
    return Catalog.load({"e.yaml": text}, {}).extractor("e")


@pytest.mark.parametrize(("page", "error"), PAGES)
def test_a_page_of_an_error_or_a_login_is_no_answer(page: str, error: type[RowfleetError]) -> None:
    """It fails like the error it names; a wrapper of Lambda changes nothing."""
    for reply in (page, {"statusCode": 200, "headers": {}, "body": page}):
        with pytest.raises(error, match="HTML page") as raised:
            extractor().extract(reply)
        assert type(raised.value) is error


@pytest.mark.parametrize("page", [page for page, _ in PAGES] + ANSWERS)
def test_accept_errors_takes_every_page(page: str) -> None:
    """An agent whose answers are such pages."""
    assert extractor(accept_errors=True).extract(page).values == {"page": page}


@pytest.mark.parametrize("page", ANSWERS)
def test_a_page_is_an_answer_where_the_mapping_says_so(page: str) -> None:
    """Whatever its text mentions. Without the setting, it is no value of the row."""
    assert extractor(accept_html=True).extract(page).values == {"page": page}
    for reply in (page, {"statusCode": 200, "headers": {}, "body": page}):
        with pytest.raises(ReplyRejectedError, match="accept_html: true takes such pages"):
            extractor("$.content || body").extract(reply)
    assert isinstance(extractor("$.content || body").explain(page).error, ReplyRejectedError)
    with pytest.raises(ReplyRejectedError):
        extractor(allow_empty=True).extract(page)


@pytest.mark.parametrize(("page", "error"), PAGES)
def test_a_page_of_an_error_is_no_answer_either_way(page: str, error: type[RowfleetError]) -> None:
    """The setting is for answers in HTML."""
    with pytest.raises(error, match="HTML page"):
        extractor(accept_html=True).extract(page)


@pytest.mark.parametrize("page", ANSWERS)
def test_what_a_mapping_takes_out_of_a_page_is_a_value(page: str) -> None:
    """A page that is read by its parts is expected."""
    found = extractor("$.content | parse('<(?:title|h1)>([^<]+)')").extract(page).values["page"]
    assert f">{found}<" in page


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_with_tags_is_no_page(text: str) -> None:
    """A fragment, or a text that mentions a page."""
    assert extractor().extract(text).values == {"page": text}


def test_a_page_that_an_agent_has_written_is_an_answer() -> None:
    """The text of a message is the agent's own, not a page that came in its place."""
    page = LOGIN.format("Sign in")
    reply = {"choices": [{"message": {"role": "assistant", "content": page}, "finish_reason": "stop"}]}
    methods = [{"method": "direct", "field_mappings": {"page": "$.choices[0].message.content"}}]
    text = json.dumps({"output_mappings": {"e": {"extraction_methods": methods}}})
    assert Catalog.load({"e.yaml": text}, {}).extractor("e").extract(reply).values == {"page": page}


def test_the_class_of_a_login_stops_the_target_not_the_row() -> None:
    """Wrong credentials meet every row: the circuit breaker opens, and no row pays for it."""
    with pytest.raises(AgentCredentialsError) as raised:
        extractor().extract(LOGIN.format("Sign in"))
    assert raised.value.failure_class is FailureClass.UNAVAILABLE
